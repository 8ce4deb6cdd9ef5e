"""A Ctrl-C when it must not be raised: amid what would be left half done, or in a generator that is dropped."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Optional
from weakref import ref

SECONDS_LATER = 0.02
"""Enough for the last steps of a generator that is being dropped."""


@contextmanager
def interrupts_put_off() -> Iterator[None]:
    """Do inside of this what must not be left half done: a Ctrl-C waits until it is.

    To block the signal in this thread would not be enough, for another may take it.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _interrupt_main() -> None:
    if hasattr(signal, "pthread_kill"):  # which ends a sleep, too
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


class Interruptible:
    """What closes in the end of a generator: knows whether somebody closes that, or nobody holds it any more."""

    _generator: Optional[ref[Generator[Any, None, None]]] = None

    def belong_to(self, generator: Generator[Any, None, None]) -> None:
        """Note which generator it is."""
        self._generator = ref(generator)

    @contextmanager
    def interrupted_later(self) -> Iterator[None]:
        """Close inside of this.

        A loop that is left with ``break`` may drop the generator that it went over, which is closed then, and may wait
        for running items. An exception could not leave it; so the interrupt is repeated when it is gone.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            if self._generator is None or self._generator() is not None:
                error.__context__ = None  # that a generator is being closed tells nobody anything
                raise
            timer = threading.Timer(SECONDS_LATER, _interrupt_main)
            timer.daemon = True
            timer.start()
