"""Which workers are late: past `task_timeout` with an item, or with being made, unpickling or leaving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Protocol

from mtasklite._slots import Slot
from mtasklite._window import UNLIMITED

LOOK_SECONDS = 0.05
"""A worker whose time stands still is looked at again so soon: its time may go on at any moment."""

At = tuple[int, int, float]
"""What a worker is at: its slot, a sequence number or what stands instead (see `_messages`), when it started that."""


class Slots(Protocol):
    """Slots by index."""

    def __getitem__(self, index: int) -> Slot: ...


def late_slots(
    slots: Slots, base: int, limit: Optional[float], running: Sequence[At], now: float
) -> tuple[list[tuple[int, int]], float]:
    """Say which workers are late, and when to ask again.

    Args:
        slots: The workers' places.
        base: Sequence number of the iteration's first item.
        limit: Seconds that one item may run; ``None``: any number.
        running: What each worker at work is at.
        now: On the same clock, in seconds.

    Returns:
        The slots to kill, each with what it is at, and the seconds until another could be late.
    """
    late: list[tuple[int, int]] = []
    if limit is None:
        return late, float(UNLIMITED)
    seconds_left = limit
    for index, number, since in running:
        if not _counts(slots[index], base, number):
            continue
        if since == math.inf:  # it waits until something was sent, and its time stands still
            seconds_left = min(seconds_left, LOOK_SECONDS)
        elif now - since >= limit:
            late.append((index, number))
        else:
            seconds_left = min(seconds_left, since + limit - now)
    return late, seconds_left


def _counts(slot: Slot, base: int, number: int) -> bool:
    """Whether what a worker is said to be at is not done yet; the board may be older than the last run."""
    if number < 0:  # it is being made, or unpickles
        return not slot.is_ready or bool(slot.batches)
    return slot.holds(number) or (number < base and not slot.is_ready)
