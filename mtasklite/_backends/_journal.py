"""The journal: outcomes that a worker has finished and not sent yet, where the parent can read them after its death.

It is a piece of memory that both share, in two halves: while what is in one is being sent, the other takes what is
finished meanwhile. Each half has a *turn*, a number that grows; a run that was sent says the turn that it covers, so
the parent knows which halves it has had already.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

HALF_BYTES = 1 << 14
JOURNAL_BYTES = 2 * HALF_BYTES

_HEADER = struct.Struct("=qqq")  # turn, sequence number of the first outcome, bytes used
_USED_WORD = 2  # written last, by one store: a death in between leaves a journal without the last record
_RECORD = struct.Struct("=?i")  # whether it is a failure, bytes


class Entry(NamedTuple):
    """Outcomes side by side, as a half of the journal has them.

    Attributes:
        first: Sequence number of the first.
        records: For each whether it is a failure, and its pickle.
    """

    first: int
    records: list[tuple[bool, bytes]]


class Journal:
    """The worker's side.

    Args:
        memory: `JOURNAL_BYTES` of shared memory.
    """

    def __init__(self, memory: Any) -> None:
        halves = memory[:HALF_BYTES], memory[HALF_BYTES:]
        self._halves = [(half, half.cast("q")) for half in halves]
        self._half, self._words = self._halves[0]
        self._turn = 0
        self._used = _HEADER.size

    def turn(self, first: int) -> int:
        """Go on in the other half, with the outcome of this item; return the turn that has ended.

        What the other half had must have been sent.
        """
        self._turn += 1
        self._half, self._words = self._halves[self._turn % 2]
        self._used = self._words[_USED_WORD] = _HEADER.size
        _HEADER.pack_into(self._half, 0, self._turn, first, _HEADER.size)
        return self._turn - 1

    def add(self, is_failure: bool, blob: bytes) -> bool:
        """Add the next outcome; return false, and do not, if there is no room for it."""
        start = self._used + _RECORD.size
        end = start + len(blob)
        if end > HALF_BYTES:
            return False
        _RECORD.pack_into(self._half, self._used, is_failure, len(blob))
        self._half[start:end] = blob
        self._used = end
        self._words[_USED_WORD] = end
        return True


def read_journal(memory: Any, last_turn: int) -> list[Entry]:
    """Return what a dead worker's journal has from the turns after `last_turn`, in their order."""
    found: list[tuple[int, Entry]] = []
    for half in (memory[:HALF_BYTES], memory[HALF_BYTES:JOURNAL_BYTES]):
        turn, first, used = _HEADER.unpack_from(half)
        records: list[tuple[bool, bytes]] = []
        at = _HEADER.size
        while turn > last_turn and at < used:
            is_failure, n_bytes = _RECORD.unpack_from(half, at)
            at += _RECORD.size
            records.append((is_failure, bytes(half[at : at + n_bytes])))
            at += n_bytes
        if records:
            found.append((turn, Entry(first, records)))
    return [entry for _, entry in sorted(found, key=lambda one: one[0])]


def clear_journal(memory: Any) -> None:
    """Make a journal empty, for the next worker in its slot."""
    for start in (0, HALF_BYTES):
        _HEADER.pack_into(memory, start, 0, 0, _HEADER.size)
