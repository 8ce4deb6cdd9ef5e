"""Waiting for pipes and for the end of processes: with a lasting selector, or plainly where there is none for these."""

from __future__ import annotations

import os
import selectors
from typing import Any, Optional, Protocol


class Waiter(Protocol):
    """Waits until something that was added is ready, and returns what it was added with."""

    def add(self, waitable: Any, data: Any) -> None: ...

    def remove(self, waitable: Any) -> None: ...

    def wait(self, seconds: Optional[float]) -> list[Any]: ...

    def close(self) -> None: ...


class SelectorWaiter:
    """For POSIX: the kernel keeps the list, which costs 100 µs to make anew at each wait with 64 workers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, waitable: Any, data: Any) -> None:
        self._selector.register(waitable, selectors.EVENT_READ, data)

    def remove(self, waitable: Any) -> None:
        self._selector.unregister(waitable)

    def wait(self, seconds: Optional[float]) -> list[Any]:
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

    def remove(self, waitable: Any) -> None:
        del self._data[waitable]

    def wait(self, seconds: Optional[float]) -> list[Any]:
        return [self._data[waitable] for waitable in self._wait(list(self._data), seconds)]

    def close(self) -> None:
        self._data.clear()


def make_waiter(wait: Any) -> Waiter:
    """Return the better of the two that works here."""
    return PlainWaiter(wait) if os.name == "nt" else SelectorWaiter()
