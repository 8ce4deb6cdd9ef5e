"""Reading the input, in the thread that consumes the results: a batch at a time, and never too long at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Callable, Optional

from mtasklite._plain import HELD, NUMBERS, is_plain
from mtasklite._window import UNLIMITED
from mtasklite._wire import Packed, PackedTogether, secure

READ_SECONDS = 0.005
"""A batch is closed so long after its first item was read, so that a slow input holds nothing up."""

INSTANT_TYPES = (list, tuple, range, str, bytes)
"""Inputs of these very types can neither take time nor raise."""


class Reader:
    """Reads an input a batch at a time.

    Args:
        iterable: The input.
        freeze: Makes of an item, as soon as it is read, what no later change reaches; ``None``: items stay as they are.

    Attributes:
        error: What the input raised, if it did.
        is_instant: Whether reading surely takes no time.
        is_slow: Whether the last read took longer than a batch should.
    """

    def __init__(self, iterable: Iterable[Any], freeze: Optional[Callable[[Any], Any]] = None) -> None:
        self.error: Optional[Exception] = None
        self.is_instant = type(iterable) in INSTANT_TYPES
        self.is_slow = False
        # Of these, an item is a number or a character.
        self._freeze = None if type(iterable) in (range, str, bytes) else freeze
        try:
            self._iterator: Iterator[Any] = iter(iterable)
        except Exception as error:
            self.error = error
            self._iterator = iter(())

    def read(self, n_items: int) -> tuple[Sequence[Any], bool]:
        """Read at most so many items, fewer if that takes long.

        Returns:
            The items, and whether the input has ended.
        """
        items: list[Any] = []
        if self.error is not None:
            return items, True
        if self.is_instant:
            items = list(islice(self._iterator, n_items))
            return self._frozen(items), len(items) < n_items
        has_ended = self._read_into(items, n_items)
        return items, has_ended

    def _read_into(self, items: list[Any], n_items: int) -> bool:
        clock, freeze = time.monotonic, self._freeze
        closes_at = clock() + (READ_SECONDS if n_items < UNLIMITED else float("inf"))
        try:
            for item in self._iterator:
                is_large = False
                if freeze is not None and not is_plain(item):
                    item = freeze(item)
                    is_large = type(item) is Packed and bool(item.buffers)
                items.append(item)
                now = clock()
                if len(items) >= n_items or now >= closes_at:
                    self.is_slow = now >= closes_at
                    return False
                if is_large:
                    secure([item])  # before the input can use its memory again
        except Exception as error:
            self.error = error
        return True

    def _frozen(self, items: list[Any]) -> Sequence[Any]:
        """Freeze items that the user holds, too; no code of the user's can run meanwhile."""
        freeze = self._freeze
        if freeze is None or NUMBERS.issuperset(map(type, items)):
            return items
        if all(is_plain(item, HELD) for item in items) and _are_distinct(items):
            return PackedTogether(items)
        return [item if type(item) in NUMBERS else freeze(item) for item in items]


def _are_distinct(items: list[Any]) -> bool:
    return len(set(map(id, items))) == len(items)
