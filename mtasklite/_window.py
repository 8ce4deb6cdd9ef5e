"""How far the input may be read ahead: what is held, in items and in bytes, and how much more may be."""

from __future__ import annotations

from typing import Optional

MAX_WINDOW_BYTES = 64 << 20
MAX_BATCH_BYTES = 1 << 20
MIN_ITEMS_PER_WORKER = 2
UNLIMITED = 1 << 62


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
    """Counts what was read and not yet handed out, and says how much room is left.

    Args:
        n_items: Items that may be held; ``None``: by time, within `MAX_WINDOW_BYTES`.
        is_bounded: False: there is always room.
    """

    def __init__(self, n_items: Optional[int] = None, is_bounded: bool = True) -> None:
        self.n_items = n_items
        self._is_bounded = is_bounded
        self.n_held = 0
        self.weight_in = Weight()
        self.weight_out = Weight()
        self._bytes_sent = 0
        self._bytes_waiting = 0
        self._items_waiting = 0

    def room(self, n_workers: int, items_ahead: int) -> int:
        """Return how many items may be read now; none if not positive.

        Args:
            n_workers: Workers that live or start.
            items_ahead: Items that all of them together do in the time that may be read ahead.
        """
        if not self._is_bounded:
            return UNLIMITED
        size = self.n_items if self.n_items is not None else self._size_by_time(n_workers, items_ahead)
        return size - self.n_held

    def _size_by_time(self, n_workers: int, items_ahead: int) -> int:
        minimum = MIN_ITEMS_PER_WORKER * n_workers
        if self._bytes_sent + self._bytes_waiting >= MAX_WINDOW_BYTES:
            return minimum
        item_bytes = self.weight_in.bytes_per_item + self.weight_out.bytes_per_item
        most = int(MAX_WINDOW_BYTES / item_bytes) if item_bytes else UNLIMITED
        return max(minimum, min(items_ahead, most))

    def on_read(self, n_items: int) -> None:
        """Take in that items were read."""
        self.n_held += n_items

    def on_sent(self, n_items: int, n_bytes: int) -> None:
        """Take in that items were sent to a worker."""
        self.weight_in.record(n_items, n_bytes)
        self._bytes_sent += n_bytes

    def on_batch_left(self, n_bytes: int) -> None:
        """Take in that a batch of this size is no longer with its worker."""
        self._bytes_sent -= n_bytes

    def on_received(self, n_items: int, n_bytes: int) -> None:
        """Take in that outcomes came back and wait to be handed out."""
        self.weight_out.record(n_items, n_bytes)
        self._items_waiting += n_items
        self._bytes_waiting += n_bytes

    def on_handed_out(self, n_items: int) -> None:
        """Take in that outcomes were handed out."""
        self.n_held -= n_items
        if n_items >= self._items_waiting:
            self._items_waiting = self._bytes_waiting = 0
        else:
            self._bytes_waiting -= self._bytes_waiting * n_items // self._items_waiting
            self._items_waiting -= n_items
