"""What a worker says of itself while it works: a few numbers, which others read without asking it."""

from __future__ import annotations

import time
from collections.abc import MutableSequence
from typing import Any

from mtasklite._messages import NOWHERE

BOARD_FIELDS = 4
"""Numbers that a worker has on the status board: what it is at, since when, whether it must begin nothing more, and how
many bytes of what it has sent its parent has room for."""
AT, SINCE, IS_HELD, TAKEN = 0, 1, 2, 3

HOLD_SECONDS = 0.001
"""A worker that is between two items sees within this time that it is held."""


def new_board() -> list[Any]:
    """Return numbers for a worker that shares this process's memory."""
    return [NOWHERE, -1.0, 0, 0.0]


def hold(board: MutableSequence[Any], number: int) -> bool:
    """Keep a worker that is at this item from beginning another; return whether it is still at it.

    If it is not, it goes on. Without this, a worker that ends a late item just before it is killed would be struck at
    the next one.
    """
    since = board[SINCE]
    is_still = False
    board[IS_HELD] = 1
    try:
        time.sleep(HOLD_SECONDS)
        is_still = bool(board[AT] == number and board[SINCE] == since)
    finally:
        board[IS_HELD] = int(is_still)
    return is_still


def note_start(board: MutableSequence[Any], what: int, grace_seconds: float = 0.0) -> None:
    """Say on the board what a worker begins that is not an item, and how much later its time begins to count."""
    board[SINCE] = time.monotonic() + grace_seconds
    board[AT] = what
