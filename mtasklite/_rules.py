"""What the engine goes by, and what it asks for: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from mtasklite._window import MAX_WAITING_ITEMS, UNLIMITED
from mtasklite.constants import ExceptionBehaviour

MAX_DEATHS_OVER_AN_ITEM = 2
"""So many workers may die with an item at hand that they had not started; then it is taken for the cause."""

MAX_IDLE_DEATHS = 10
"""A worker that dies this often in a row with no item done is given up, so that nothing respawns for ever. Not sooner,
for who kills workers at random strikes some while they start."""


@dataclass(frozen=True)
class Rules:
    """What the user chose, as far as the engine must know it.

    Attributes:
        is_unordered: Outcomes as they come, not in input order.
        behaviour: What becomes of failures.
        window: Items that may be held; ``None``: by time.
        is_bounded: Whether the window counts at all.
        max_waiting: Finished outcomes that may wait for an earlier one; ``None``: any number, for they are kept anyway.
        retries: How often a failed item is tried again.
        task_timeout: Seconds one item may run.
        max_ahead_bytes: Pickled bytes that may be queued behind what a worker is at.
        max_batch_items: Items that may be sent together.
        max_message_bytes: Pickled bytes of a batch, or of what comes of one, unless one item alone has more.
    """

    is_unordered: bool = False
    behaviour: ExceptionBehaviour = ExceptionBehaviour.IMMEDIATE
    window: Optional[int] = None
    is_bounded: bool = True
    max_waiting: Optional[int] = MAX_WAITING_ITEMS
    retries: int = 0
    task_timeout: Optional[float] = None
    max_ahead_bytes: int = 1 << 16
    max_batch_items: int = UNLIMITED
    max_message_bytes: int = UNLIMITED


@dataclass(frozen=True)
class Want:
    """What is to be done next: give a worker a batch.

    Attributes:
        slot: The worker.
        n_items: Items that the batch should take at most.
        n_to_read: Items that must be read from the input first, at most so many; 0: there are some in the queue.
    """

    slot: int
    n_items: int
    n_to_read: int

    @property
    def must_read(self) -> bool:
        """Whether the input must be read first."""
        return self.n_to_read > 0
