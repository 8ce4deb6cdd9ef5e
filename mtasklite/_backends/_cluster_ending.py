"""The end of a cluster's backend in whichever thread it comes: one of the engine's own must not wait for the engine.

A pool that lies in a reference cycle is collected by the thread that happens to run the garbage collector. In a thread
in which the engine calls back, an answer that is waited for would never come.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, Optional
from weakref import WeakSet

from mtasklite._backends._adapter import Adapter, Answer, Then
from mtasklite._backends._cluster_worker import RemoteWorker


class EngineThreads:
    """Knows in which threads the engine calls back."""

    def __init__(self) -> None:
        self._threads: WeakSet[threading.Thread] = WeakSet()

    def noting(self, then: Then) -> Then:
        """Return a callback that also notes its thread, unless it comes at once, in the thread of whoever calls."""
        caller = threading.current_thread()

        def on_end(answer: Optional[Answer], error: Optional[BaseException]) -> None:
            thread = threading.current_thread()
            if thread is not caller:
                self._threads.add(thread)
            then(answer, error)

        return on_end

    def hand_over(self, function: Callable[..., Any], *args: Any) -> bool:
        """Let another thread do something, if this is one of the engine's; return whether it was."""
        if threading.current_thread() not in self._threads:
            return False
        threading.Thread(target=function, args=args, name="mtasklite-end", daemon=True).start()
        return True


_of_parent: list[set[RemoteWorker]] = []
"""In a forked child: Ray's handles of actors, whose deletion would wait for threads that are not there."""


def on_dropped(owner: int, adapter: Adapter, living: set[RemoteWorker]) -> None:
    """End what is left of a backend that was dropped without being closed, or that is open when the interpreter exits.

    Any thread may have collected it, also one of the engine's own, which must not wait for what only it could do.
    """
    if os.getpid() != owner:
        _of_parent.append(living)
        return
    left = list(living)
    living.clear()
    if threading.current_thread() is threading.main_thread():
        end_all(adapter, left)
    else:
        threading.Thread(target=end_all, args=(adapter, left), name="mtasklite-end", daemon=True).start()


def end_all(adapter: Adapter, living: Iterable[RemoteWorker]) -> None:
    for worker in living:
        with suppress(Exception):
            adapter.kill(worker.actor)
    adapter.close()
