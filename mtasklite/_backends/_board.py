"""The status board: memory that all processes of a pool share, a few numbers for each worker. No message, no cost."""

from __future__ import annotations

import mmap
from typing import Any

from mtasklite._worker import BOARD_FIELDS

FLOAT_SIZE = 8


class Board:
    """Numbers of `n_slots` workers, which each writes for itself and the parent reads.

    Args:
        n_slots: Number of workers.
        arena: Shared memory that can be sent to a process that was not forked; ``None``: forks inherit it.
    """

    def __init__(self, n_slots: int, arena: Any = None) -> None:
        self._n_slots = n_slots
        self._arena = arena
        self._memory = mmap.mmap(-1, size_of(n_slots)) if arena is None else arena.buffer
        self._numbers = memoryview(self._memory).cast("d")

    def __reduce__(self) -> Any:
        return Board, (self._n_slots, self._arena)

    def of(self, slot: int) -> Any:
        """Return one worker's numbers, to be read and written in place."""
        return self._numbers[slot * BOARD_FIELDS : (slot + 1) * BOARD_FIELDS]

    def clear(self, slot: int) -> None:
        """Say that this worker has started no item yet."""
        numbers = self.of(slot)
        numbers[0] = numbers[1] = -1.0

    def close(self) -> None:
        """Give the memory back."""
        self._numbers.release()
        self._memory.close()
        self._arena = None


def size_of(n_slots: int) -> int:
    """Return the bytes that a board of so many slots takes."""
    return n_slots * BOARD_FIELDS * FLOAT_SIZE
