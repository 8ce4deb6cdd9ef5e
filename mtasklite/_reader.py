"""Reading the input, in the thread that consumes the results: a batch at a time, and never too long at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Optional

from mtasklite._window import UNLIMITED

READ_SECONDS = 0.005
"""A batch is closed so long after its first item was read, so that a slow input holds nothing up."""

INSTANT_TYPES = (list, tuple, range, str, bytes)
"""Inputs of these very types can neither take time nor raise."""


class Reader:
    """Reads an input a batch at a time.

    Args:
        iterable: The input.

    Attributes:
        error: What the input raised, if it did.
        is_instant: Whether reading surely takes no time.
        is_slow: Whether the last read took longer than a batch should.
    """

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.error: Optional[Exception] = None
        self.is_instant = type(iterable) in INSTANT_TYPES
        self.is_slow = False
        try:
            self._iterator: Iterator[Any] = iter(iterable)
        except Exception as error:
            self.error = error
            self._iterator = iter(())

    def read(self, n_items: int) -> tuple[list[Any], bool]:
        """Read at most so many items, fewer if that takes long.

        Returns:
            The items, and whether the input has ended.
        """
        items: list[Any] = []
        if self.error is not None:
            return items, True
        if self.is_instant:
            items = list(islice(self._iterator, n_items))
            return items, len(items) < n_items
        has_ended = self._read_into(items, n_items)
        return items, has_ended

    def _read_into(self, items: list[Any], n_items: int) -> bool:
        clock = time.monotonic
        closes_at = clock() + (READ_SECONDS if n_items < UNLIMITED else float("inf"))
        try:
            for item in self._iterator:
                items.append(item)
                now = clock()
                if len(items) >= n_items or now >= closes_at:
                    self.is_slow = now >= closes_at
                    return False
        except Exception as error:
            self.error = error
        return True
