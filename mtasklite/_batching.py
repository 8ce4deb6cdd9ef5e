"""How many items the next batch of a worker takes, and how many it has done soon: from its measured speed alone."""

from __future__ import annotations

from collections import deque
from statistics import median_low
from typing import Optional

BATCH_SECONDS = 0.008
"""Work that one batch aims at: long against the 0.1 ms that a message costs, short against a person's patience."""

AHEAD_SECONDS = 0.020
"""Work for each worker that may be read ahead of the item that it is at, when the user gave no `chunk_size`."""

PREFETCH_SECONDS = 0.050
"""A worker whose items take longer than this gets no second batch: it would only wait behind the first."""

MAX_BATCH_ITEMS = 1 << 15
GROWTH = 4

_MEMORY_SECONDS = 0.25
_MEMORY_RUNS = 32
_MEDIAN_EVERY = 4


class Pace:
    """What one worker has shown of its speed, and what follows for its next batch.

    Only the latest runs count, about 0.25 s of work, so that a lasting change is noticed within a few batches in
    either direction. Batches go by the mean, because a batch takes as long as all its items; the look ahead goes by
    the median, because one slow item at the head must not shrink what keeps the other workers busy.

    Attributes:
        scale: How many times as long batches, and what is read ahead, are as where a message costs 0.1 ms.
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[int, float]] = deque()
        self._n_runs = 0
        self._items = 0
        self._seconds = 0.0
        self.scale = 1.0
        self.batch_size = 1
        self.items_ahead = 0

    @property
    def seconds_per_item(self) -> Optional[float]:
        """Mean seconds an item, or ``None`` before the first is done."""
        return self._seconds / self._items if self._items else None

    @property
    def is_quick(self) -> bool:
        """Whether a second batch may be queued behind the one the worker is at."""
        seconds = self.seconds_per_item
        return seconds is not None and seconds <= PREFETCH_SECONDS

    def record(self, n_items: int, busy_seconds: float) -> None:
        """Take in that so many items, at least one, were done in so many seconds."""
        busy_seconds = max(busy_seconds, 1e-7 * n_items)
        self._runs.append((n_items, busy_seconds))
        self._items += n_items
        self._seconds += busy_seconds
        while len(self._runs) > 1 and (self._seconds > _MEMORY_SECONDS or len(self._runs) > _MEMORY_RUNS):
            old_items, old_seconds = self._runs.popleft()
            self._items -= old_items
            self._seconds -= old_seconds
        self.batch_size = min(self.batch_size, self._items_in_a_batch())
        self._n_runs += 1
        if self._n_runs < _MEMORY_RUNS or self._n_runs % _MEDIAN_EVERY == 0:
            typical_seconds = median_low([seconds / items for items, seconds in self._runs])
            self.items_ahead = 1 + round(self.scale * AHEAD_SECONDS / typical_seconds)

    def grow(self) -> None:
        """Allow larger batches, up to fourfold, after one was done whole."""
        if self._items:
            self.batch_size = min(self.batch_size * GROWTH, self._items_in_a_batch(), MAX_BATCH_ITEMS)

    def _items_in_a_batch(self) -> int:
        return max(1, int(self.scale * BATCH_SECONDS * self._items / self._seconds))
