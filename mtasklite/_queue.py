"""Items that were read and are with no worker, as batches: in the order in which they are to be given out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Optional

from mtasklite._batching import MAX_BATCH_ITEMS
from mtasklite._messages import Batch


class Queue:
    """Takes items in, and gives them out in batches of a wanted size.

    Attributes:
        n_items: Items in it.
    """

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self.n_items = 0

    def feed(self, first: int, items: Sequence[Any]) -> None:
        """Add items that were read, the first with this sequence number."""
        if 0 < len(items) <= MAX_BATCH_ITEMS:
            self._batches.append(Batch(first, items))
            self.n_items += len(items)
            return
        for start in range(0, len(items), MAX_BATCH_ITEMS):  # pieces, for a cut copies the rest of one
            self._batches.append(Batch(first + start, items[start : start + MAX_BATCH_ITEMS]))
        self.n_items += len(items)

    def put_back(self, batches: list[Batch]) -> None:
        """Add what is to be given out again, before all else."""
        self._batches.extendleft(reversed(batches))
        self.n_items += sum(len(batch.items) for batch in batches)

    def cut(self, n_items: int) -> Optional[Batch]:
        """Take a batch of at most so many items; ``None`` if there is none."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        if len(batch.items) > n_items:
            self._batches.appendleft(Batch(batch.first + n_items, batch.items[n_items:]))
            batch = Batch(batch.first, batch.items[:n_items])
        self.n_items -= len(batch.items)
        return batch
