"""The status board: memory that all processes of a pool share. No message, no cost.

Each worker has a few numbers on it, which say what it is at, and a journal of what it has finished.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any

from mtasklite._backends._journal import JOURNAL_BYTES, clear_journal
from mtasklite._messages import NOWHERE
from mtasklite._status import AT, BOARD_FIELDS, IS_HELD, SINCE, TAKEN

FLOAT_SIZE = 8


class Board:
    """Numbers and journals of `n_slots` workers, which each writes for itself and the parent reads.

    Args:
        n_slots: Number of workers.
        arena: Shared memory that can be sent to a process that was not forked; ``None``: forks inherit it.
    """

    def __init__(self, n_slots: int, arena: Any = None) -> None:
        self._n_slots = n_slots
        self._arena = arena
        self._memory = mmap.mmap(-1, size_of(n_slots)) if arena is None else arena.buffer
        self._bytes = memoryview(self._memory)
        self._journals_at = n_slots * BOARD_FIELDS * FLOAT_SIZE
        self._numbers = self._bytes[: self._journals_at].cast("d")

    def __reduce__(self) -> Any:
        return Board, (self._n_slots, self._arena)

    def of(self, slot: int) -> Any:
        """Return one worker's numbers, to be read and written in place."""
        return self._numbers[slot * BOARD_FIELDS : (slot + 1) * BOARD_FIELDS]

    def journal_of(self, slot: int) -> Any:
        """Return the memory of one worker's journal."""
        start = self._journals_at + slot * JOURNAL_BYTES
        return self._bytes[start : start + JOURNAL_BYTES]

    def clear(self, slot: int) -> None:
        """Make all as it is before a worker has begun."""
        numbers = self.of(slot)
        numbers[AT], numbers[SINCE], numbers[IS_HELD], numbers[TAKEN] = NOWHERE, -1.0, 0.0, 0.0
        clear_journal(self.journal_of(slot))

    def close(self) -> None:
        """Give the memory back."""
        self._numbers.release()
        self._bytes.release()
        with suppress(BufferError):  # a frame of what was raised amid a start holds a view; with that it goes
            self._memory.close()
        self._arena = None


def size_of(n_slots: int) -> int:
    """Return the bytes that a board of so many slots takes."""
    return n_slots * (BOARD_FIELDS * FLOAT_SIZE + JOURNAL_BYTES)
