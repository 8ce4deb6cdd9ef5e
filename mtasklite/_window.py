"""How far the input may be read ahead: what is held, in items and in bytes, and how much more may be."""

from __future__ import annotations

from typing import Optional

MAX_WINDOW_BYTES = 64 << 20
MAX_BATCH_BYTES = 1 << 20
MIN_ITEMS_PER_WORKER = 2
UNLIMITED = 1 << 62

MAX_WAITING_ITEMS = 100_000
"""Finished outcomes that may wait for an earlier one."""

MAX_WAITING_IN_THREADS = 10_000
"""The same where nobody knows how much memory they take."""


class Weight:
    """Pickled bytes an item: up at once, down by halves, for it is the surprise that fills the memory."""

    def __init__(self) -> None:
        self.bytes_per_item = 0.0

    def record(self, n_items: int, n_bytes: int) -> None:
        """Take in that so many items were so many bytes."""
        if n_items:
            latest = n_bytes / n_items
            self.bytes_per_item = max(latest, (self.bytes_per_item + latest) / 2)

    def items_in(self, n_bytes: int) -> int:
        """Items that fit in so many bytes, at least one."""
        return max(1, int(n_bytes / self.bytes_per_item)) if self.bytes_per_item else UNLIMITED


class Window:
    """Counts what was read and not yet handed out, and says how much more may be read.

    There are two limits. One is on items that are read and *unfinished*: about 20 ms of work for each worker. The
    other is on finished outcomes that wait, in order, for one that takes longer. Outcomes may gather only while the
    consumer waits for that one; while the consumer is away, both kinds together keep to the first limit.

    Args:
        n_items: Items that may be held, finished or not; ``None``: by time and by bytes, as above.
        is_bounded: False: there is always room.
        max_waiting: Finished outcomes that may wait; ``None``: any number, and any number of bytes.
    """

    def __init__(
        self, n_items: Optional[int] = None, is_bounded: bool = True, max_waiting: Optional[int] = MAX_WAITING_ITEMS
    ) -> None:
        self._n_items = n_items
        self._is_bounded = is_bounded
        self._max_waiting = max_waiting
        self.n_held = 0
        self.n_waiting = 0
        self.weight_in = Weight()
        self.weight_out = Weight()
        self._bytes_sent = 0
        self.bytes_waiting = 0

    @property
    def has_no_end(self) -> bool:
        """Whether the whole input is to be read at once."""
        return not self._is_bounded

    @property
    def is_heavy(self) -> bool:
        """Whether outcomes that wait take so much memory that workers should pause."""
        return self._max_waiting is not None and self.bytes_waiting >= MAX_WINDOW_BYTES // 2

    def room(self, n_workers: int, items_ahead: int, is_consumer_waiting: bool) -> int:
        """Return how many items may be read now; none if not positive.

        Args:
            n_workers: Workers that live or start.
            items_ahead: Items that all of them together do in the time that may be read ahead.
            is_consumer_waiting: Whether no outcome is ready to be handed out.
        """
        if not self._is_bounded:
            return UNLIMITED
        if self._n_items is not None:
            return self._n_items - self.n_held
        n_unfinished = self.n_held - self.n_waiting
        minimum = MIN_ITEMS_PER_WORKER * n_workers
        if self._max_waiting is None:
            return self._size_by_time(minimum, items_ahead, self._bytes_sent) - n_unfinished
        n_bytes = self._bytes_sent + self.bytes_waiting
        size = self._size_by_time(minimum, items_ahead, n_bytes)
        if not is_consumer_waiting or n_bytes >= MAX_WINDOW_BYTES:
            return size - self.n_held
        size = min(size, max(minimum, self._items_in_bytes(MAX_WINDOW_BYTES - self.bytes_waiting)))
        return min(size - n_unfinished, self._max_waiting - self.n_held)

    def _size_by_time(self, minimum: int, items_ahead: int, n_bytes: int) -> int:
        if n_bytes >= MAX_WINDOW_BYTES:
            return minimum
        return max(minimum, min(items_ahead, self._items_in_bytes(MAX_WINDOW_BYTES)))

    def _items_in_bytes(self, n_bytes: int) -> int:
        """Items that are no more than so many bytes, as they are and as what comes of them."""
        item_bytes = self.weight_in.bytes_per_item + self.weight_out.bytes_per_item
        return int(n_bytes / item_bytes) if item_bytes else UNLIMITED

    def on_read(self, n_items: int) -> None:
        """Items were read."""
        self.n_held += n_items

    def on_sent(self, n_items: int, n_bytes: int) -> None:
        """Items were sent to a worker."""
        self.weight_in.record(n_items, n_bytes)
        self._bytes_sent += n_bytes

    def on_batch_left(self, n_bytes: int) -> None:
        """A batch of this size is no longer with its worker."""
        self._bytes_sent -= n_bytes

    def on_received(self, n_items: int, n_bytes: int) -> None:
        """Outcomes came back from a worker."""
        self.weight_out.record(n_items, n_bytes)

    def on_finished(self, n_items: int, n_bytes: int) -> None:
        """Outcomes wait to be handed out."""
        self.n_waiting += n_items
        self.bytes_waiting += n_bytes

    def on_handed_out(self, n_items: int, n_bytes: int) -> None:
        """Outcomes were handed out."""
        self.n_held -= n_items
        self.n_waiting -= n_items
        self.bytes_waiting -= n_bytes
