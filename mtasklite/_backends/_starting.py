"""The short time in which a process starts: nothing may disturb it, and nobody else's pipe may slip into it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mtasklite._interrupts import interrupts_put_off

UNCHOSEN = ["__main__"]
"""What the server of `multiprocess` imports if nobody says anything."""

WORKER_MODULE = "mtasklite._backends._process_worker"

_lock = threading.RLock()
# Reentrant: a garbage collection amid a start may end another pool in this very thread.


def _renew_lock() -> None:
    """Replace the lock in a forked child, which is born while it is held and has nobody to release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def no_process_starts() -> Iterator[None]:
    """Close descriptors inside of this: a child forked amid it would close them again, or another's in their place."""
    with _lock:
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Start a process inside of this.

    One thread at a time, so that no fork of another thread copies a pipe end that is about to be closed. With SIGINT
    blocked, which the child inherits, so that a Ctrl-C waits until the child ignores it. And without the warning
    of Python 3.12 about forks with threads: the child runs nothing that takes a lock of this library.
    """
    has_masks = hasattr(signal, "pthread_sigmask")
    with interrupts_put_off(), _lock, _without_false_file(), _without_warning_of_forks():
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if has_masks else None
        try:
            yield
        finally:
            if old_mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def start_helpers(context: Any, method: str) -> None:
    """Start what `multiprocess` starts once for all processes, and say what the server that forks them is to import.

    It imports what workers need, once for all of them, unless the user chose something for it.

    Args:
        context: What ``multiprocess.get_context(method)`` returns.
        method: The start method.
    """
    if method == "forkserver":
        from multiprocess import forkserver

        if getattr(forkserver._forkserver, "_preload_modules", None) == UNCHOSEN:
            context.set_forkserver_preload([*UNCHOSEN, WORKER_MODULE])
    if method != "fork" and os.name == "posix":
        from multiprocess import resource_tracker

        resource_tracker.ensure_running()  # not amid the first start, where it would unblock SIGINT


@contextmanager
def _without_warning_of_forks() -> Iterator[None]:
    if sys.version_info < (3, 12):
        yield  # there is none, and to change filters has effects elsewhere
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*multi-threaded, use of fork\(\)", DeprecationWarning)
        yield


@contextmanager
def _without_false_file() -> Iterator[None]:
    """Hide the file of a ``__main__`` that came from standard input: a spawned process would look for it in vain."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or os.path.exists(file):
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = file
