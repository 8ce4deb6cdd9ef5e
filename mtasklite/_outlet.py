"""What came back and was not yet handed out, in input order or as it came: two small classes with one face."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol


class Outlet(Protocol):
    """Takes outcomes in as runs, hands them out as lists."""

    def put(self, first: int, values: list[Any]) -> None:
        """Take in outcomes that lie side by side in the input, the first with this sequence number."""

    def take(self, most: int) -> list[Any]:
        """Hand out at most so many outcomes; an empty list if none can be handed out now."""

    @property
    def has_some(self) -> bool:
        """Whether `take` would hand out any."""


class AsTheyCome:
    """Hands out in the order of arrival."""

    def __init__(self) -> None:
        self._runs: deque[list[Any]] = deque()

    def put(self, first: int, values: list[Any]) -> None:
        if values:
            self._runs.append(values)

    def take(self, most: int) -> list[Any]:
        if not self._runs:
            return []
        values = self._runs.popleft()
        if self._runs and len(values) < most:
            values = values[:]  # a run is its sender's
            while self._runs and len(values) < most:
                values += self._runs.popleft()
        if len(values) > most:
            self._runs.appendleft(values[most:])
            values = values[:most]
        return values

    @property
    def has_some(self) -> bool:
        return bool(self._runs)


class InOrder:
    """Hands out in input order, whatever the order of arrival.

    Args:
        first: Sequence number of the first item of the iteration.
    """

    def __init__(self, first: int) -> None:
        self._next = first
        self._runs: dict[int, list[Any]] = {}

    def put(self, first: int, values: list[Any]) -> None:
        if values:
            self._runs[first] = values

    def take(self, most: int) -> list[Any]:
        values = self._runs.pop(self._next, [])
        self._next += len(values)
        if self._next in self._runs and len(values) < most:
            values = values[:]  # a run is its sender's
            while self._next in self._runs and len(values) < most:
                run = self._runs.pop(self._next)
                self._next += len(run)
                values += run
        if len(values) > most:
            self._next -= len(values) - most
            self._runs[self._next] = values[most:]
            values = values[:most]
        return values

    @property
    def has_some(self) -> bool:
        return self._next in self._runs
