"""Waiting for pipes and for the end of processes: with a lasting selector, or plainly where there is none for these."""

from __future__ import annotations

import itertools
import math
import os
import selectors
import time
from typing import Any, Optional, Protocol

MAX_HANDLES = 60
"""Windows waits for no more than 63 at once."""

PIECE_SECONDS = 0.010


class Waiter(Protocol):
    """Waits until something that was added is ready, and returns what it was added with."""

    def add(self, waitable: Any, data: Any) -> None: ...

    def watch_room(self, waitable: Any, data: Any, is_wanted: bool) -> None: ...

    def remove(self, waitable: Any) -> None: ...

    def wait(self, seconds: Optional[float]) -> list[Any]: ...

    def close(self) -> None: ...


class SelectorWaiter:
    """For POSIX: the kernel keeps the list, which costs 100 µs to make anew at each wait with 64 workers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, waitable: Any, data: Any) -> None:
        self._selector.register(waitable, selectors.EVENT_READ, data)

    def watch_room(self, waitable: Any, data: Any, is_wanted: bool) -> None:
        """Wait for room to write too, or no longer."""
        self._selector.modify(waitable, selectors.EVENT_READ | (selectors.EVENT_WRITE if is_wanted else 0), data)

    def remove(self, waitable: Any) -> None:
        self._selector.unregister(waitable)

    def wait(self, seconds: Optional[float]) -> list[Any]:
        __tracebackhide__ = True
        return [key.data for key, _ in self._selector.select(seconds)]

    def close(self) -> None:
        self._selector.close()


class PlainWaiter:
    """For any platform, Windows above all.

    Args:
        wait: ``multiprocess.connection.wait``.
    """

    def __init__(self, wait: Any) -> None:
        self._wait = wait
        self._data: dict[Any, Any] = {}

    def add(self, waitable: Any, data: Any) -> None:
        self._data[waitable] = data

    def watch_room(self, waitable: Any, data: Any, is_wanted: bool) -> None:
        """Do nothing: where this is used, writes block."""

    def remove(self, waitable: Any) -> None:
        del self._data[waitable]

    def wait(self, seconds: Optional[float]) -> list[Any]:
        if len(self._data) <= MAX_HANDLES:
            return self._wait_for(list(self._data), seconds)
        end = math.inf if seconds is None else time.monotonic() + seconds
        waitables = list(self._data)
        pieces = [waitables[start : start + MAX_HANDLES] for start in range(0, len(waitables), MAX_HANDLES)]
        for turn in itertools.count():
            found = [data for piece in pieces for data in self._wait_for(piece, 0)]
            seconds_left = end - time.monotonic()
            if found or seconds_left <= 0:
                return found
            self._wait_for(pieces[turn % len(pieces)], min(seconds_left, PIECE_SECONDS))
        raise AssertionError  # the count has no end

    def _wait_for(self, waitables: list[Any], seconds: Optional[float]) -> list[Any]:
        return [self._data[waitable] for waitable in self._wait(waitables, seconds)]

    def close(self) -> None:
        self._data.clear()


def make_waiter(wait: Any) -> Waiter:
    """Return the better of the two that works here."""
    return PlainWaiter(wait) if os.name == "nt" else SelectorWaiter()
