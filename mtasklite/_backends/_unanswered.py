"""What a worker was sent and has not answered, as whoever sent it knows."""

from __future__ import annotations

from collections import deque
from typing import Optional


class Unanswered:
    """Sequence numbers of items, batch by batch, in the order in which the worker takes them."""

    def __init__(self) -> None:
        self._batches: deque[range] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def head(self) -> Optional[range]:
        """What is left of the batch that the worker is at, or is to take next."""
        return self._batches[0] if self._batches else None

    def add(self, numbers: range) -> None:
        """Take in that a batch was sent."""
        self._batches.append(numbers)

    def clear(self) -> None:
        """Take in that the worker holds nothing, or drops it."""
        self._batches.clear()

    def answer(self, end: int) -> None:
        """Take in that all before this was answered."""
        if self._batches:
            self._batches[0] = range(end, self._batches[0].stop)
            if not self._batches[0]:
                self._batches.popleft()

    def take_back(self, n_batches: int, first: int) -> None:
        """Take in that the worker gives back what it has not begun; see `Returned`."""
        for _ in range(min(n_batches, len(self._batches))):
            self._batches.pop()
        if self._batches and first in self._batches[0]:
            self._batches[0] = range(self._batches[0].start, first)
            self.answer(self._batches[0].start)
