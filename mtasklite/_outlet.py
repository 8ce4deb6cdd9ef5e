"""What came back and was not yet handed out, in input order or as it came: two small classes with one face."""

from __future__ import annotations

from collections import deque
from typing import Any, Optional, Protocol


class Outlet(Protocol):
    """Takes outcomes in as runs, hands them out as lists.

    Attributes:
        bytes_taken: Size of what `take` has handed out last, as far as it is known.
    """

    bytes_taken: int

    def put(self, first: int, values: list[Any], n_bytes: int = 0) -> None:
        """Take in outcomes that lie side by side in the input.

        Args:
            first: Sequence number of the first.
            values: The outcomes.
            n_bytes: Their pickled size.
        """

    def take(self, most: int) -> list[Any]:
        """Hand out at most so many outcomes; an empty list if none can be handed out now."""

    @property
    def has_some(self) -> bool:
        """Whether `take` would hand out any."""

    @property
    def head(self) -> Optional[int]:
        """Sequence number of the item that is handed out next; ``None``: whichever comes."""


class AsTheyCome:
    """Hands out in the order of arrival."""

    def __init__(self) -> None:
        self._runs: deque[tuple[list[Any], int]] = deque()
        self.bytes_taken = 0

    def put(self, first: int, values: list[Any], n_bytes: int = 0) -> None:
        if values:
            self._runs.append((values, n_bytes))

    def take(self, most: int) -> list[Any]:
        self.bytes_taken = 0
        if not self._runs:
            return []
        values, self.bytes_taken = self._runs.popleft()
        last = self.bytes_taken, len(values)
        if self._runs and len(values) < most:
            values = values[:]  # a run is its sender's
            while self._runs and len(values) < most:
                run, n_bytes = self._runs.popleft()
                last = n_bytes, len(run)
                values += run
                self.bytes_taken += n_bytes
        if len(values) > most:
            n_bytes_left = _share(last, len(values) - most)
            self._runs.appendleft((values[most:], n_bytes_left))
            self.bytes_taken -= n_bytes_left
            values = values[:most]
        return values

    @property
    def has_some(self) -> bool:
        return bool(self._runs)

    @property
    def head(self) -> Optional[int]:
        return None


class InOrder:
    """Hands out in input order, whatever the order of arrival.

    Args:
        first: Sequence number of the first item of the iteration.
    """

    def __init__(self, first: int) -> None:
        self._next = first
        self._runs: dict[int, tuple[list[Any], int]] = {}
        self.bytes_taken = 0

    def put(self, first: int, values: list[Any], n_bytes: int = 0) -> None:
        if values:
            self._runs[first] = values, n_bytes

    def take(self, most: int) -> list[Any]:
        values, self.bytes_taken = self._runs.pop(self._next, ([], 0))
        last = self.bytes_taken, len(values)
        self._next += len(values)
        if self._next in self._runs and len(values) < most:
            values = values[:]  # a run is its sender's
            while self._next in self._runs and len(values) < most:
                run, n_bytes = self._runs.pop(self._next)
                last = n_bytes, len(run)
                self._next += len(run)
                values += run
                self.bytes_taken += n_bytes
        if len(values) > most:
            n_bytes_left = _share(last, len(values) - most)
            self._next -= len(values) - most
            self._runs[self._next] = values[most:], n_bytes_left
            self.bytes_taken -= n_bytes_left
            values = values[:most]
        return values

    @property
    def has_some(self) -> bool:
        return self._next in self._runs

    @property
    def head(self) -> Optional[int]:
        return self._next


def _share(run: tuple[int, int], n_items: int) -> int:
    """Return the bytes of so many items of a run, of which the size and the number of items are known."""
    n_bytes, n_all = run
    return n_bytes * n_items // n_all
