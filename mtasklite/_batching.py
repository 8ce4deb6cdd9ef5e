"""How many items the next batch of a worker takes: from its measured speed alone."""

from __future__ import annotations

from typing import Optional

BATCH_SECONDS = 0.005
"""Work that one batch aims at: long against the 0.1 ms that a message costs, short against a person's patience."""

AHEAD_SECONDS = 0.020
"""Work for each worker that may be read ahead when the user gave no `chunk_size`."""

PREFETCH_SECONDS = 0.050
"""A worker whose items take longer than this gets no second batch: it would only wait behind the first."""

MAX_BATCH_ITEMS = 1 << 15
GROWTH = 4

_MEMORY_SECONDS = 0.1
"""After this much work, what was measured before counts half."""


class Pace:
    """What one worker has shown of its speed, and what follows for its next batch.

    Seconds and items are two sums that decay together, so that one slow item among many moves the mean by its
    true weight, while after a lasting change the past is forgotten within some 0.1 s of work.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._items = 0.0
        self._limit = 1

    @property
    def seconds_per_item(self) -> Optional[float]:
        """Mean seconds an item, or ``None`` before the first is done."""
        return self._seconds / self._items if self._items else None

    @property
    def is_quick(self) -> bool:
        """Whether a second batch may be queued behind the one the worker is at."""
        seconds = self.seconds_per_item
        return seconds is not None and seconds <= PREFETCH_SECONDS

    @property
    def batch_size(self) -> int:
        """Items that the next batch should take, as far as time says."""
        return self._limit

    @property
    def items_ahead(self) -> int:
        """Items that the worker does in `AHEAD_SECONDS`; 0 before the first is done."""
        return self._items_in(AHEAD_SECONDS) if self._items else 0

    def record(self, n_items: int, busy_seconds: float) -> None:
        """Take in that so many items were done in so many seconds."""
        kept = 0.5 ** (busy_seconds / _MEMORY_SECONDS)
        self._items = self._items * kept + n_items
        self._seconds = self._seconds * kept + max(busy_seconds, 1e-7 * n_items)
        self._limit = min(self._limit, self._items_in(BATCH_SECONDS))

    def grow(self) -> None:
        """Allow larger batches, up to fourfold, after one was done whole."""
        self._limit = min(self._limit * GROWTH, self._items_in(BATCH_SECONDS), MAX_BATCH_ITEMS)

    def _items_in(self, seconds: float) -> int:
        return max(1, int(seconds * self._items / self._seconds))
