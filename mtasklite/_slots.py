"""What the engine knows of one worker: what it holds, how fast it is, how much more it may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from mtasklite._batching import Pace
from mtasklite._ledger import Tally
from mtasklite._messages import SOMEWHERE, Batch, Receipt, Run


@dataclass
class Sent:
    """A batch that a worker holds.

    Attributes:
        batch: The batch.
        receipt: What the backend said when it sent it.
        n_received: Outcomes that have come back, from the front.
    """

    batch: Batch
    receipt: Receipt
    n_received: int = 0

    @property
    def next_number(self) -> int:
        """Sequence number of the first item without an outcome."""
        return self.batch.first + self.n_received

    @property
    def end_number(self) -> int:
        """Sequence number after the last item."""
        return self.batch.first + len(self.batch.items)

    def holds(self, number: int) -> bool:
        """Whether this item is among those without an outcome."""
        return self.next_number <= number < self.end_number

    def items(self, start: int, end: int) -> Sequence[Any]:
        """Return the items with these sequence numbers, the last excluded."""
        return self.batch.items[start - self.batch.first : end - self.batch.first]

    def receive(self, run: Run) -> tuple[Sequence[Any], dict[int, Exception]]:
        """Take in a run, and return its items and all its failures, by offset.

        Those that the receipt foretold are among the failures.
        """
        failures = dict(run.failures)
        for offset, error in self.receipt.failures.items():
            if self.n_received <= offset < self.n_received + len(run.values):
                failures[offset - self.n_received] = error
        items = self.items(run.first, run.first + len(run.values)) if failures else []
        self.n_received += len(run.values)
        return items, failures


class Slot:
    """One worker's place, which outlives the worker and the iteration.

    Args:
        index: Its place in the list of workers.
        max_tasks: Items after which its worker is replaced; ``None``: never.

    Attributes:
        is_live: False once it was given up.
        is_ready: Whether its worker is up and may be given batches.
        batches: What the worker holds, in the order in which it works on it.
        pace: Its speed.
        quota: Items that its worker may still be given; ``None``: any number.
        is_asked: Whether its worker was asked for what it has not begun, and has not answered that.
        is_cut: Whether its worker gave back a part of the batch that it is at.
        idle_deaths: Deaths in a row without any item done.
        late_item: Sequence number of the item for which its worker is being killed.
        tally: What its workers have done, all of them.
    """

    def __init__(self, index: int, max_tasks: Optional[int] = None, tally: Optional[Tally] = None) -> None:
        self.index = index
        self._max_tasks = max_tasks
        self.is_live = True
        self.is_ready = False
        self.batches: list[Sent] = []
        self.pace = Pace()
        self.quota = max_tasks
        self.is_asked = False
        self.is_cut = False
        self.idle_deaths = 0
        self.late_item: Optional[int] = None
        self.tally = tally or Tally()

    @property
    def may_be_given_a_batch(self) -> bool:
        """Whether the worker is up and a batch would not have to wait long behind another."""
        if not self.is_live or not self.is_ready or self.is_asked or self.is_cut or self.quota == 0:
            return False
        return not self.batches or (len(self.batches) == 1 and self.pace.is_quick)

    @property
    def may_be_asked(self) -> bool:
        """Whether the worker holds more than the item that it is at, and was not asked for that."""
        if self.is_asked or self.is_cut or not self.batches:
            return False
        return len(self.batches) > 1 or self.batches[0].next_number + 1 < self.batches[0].end_number

    @property
    def is_spent(self) -> bool:
        """Whether the worker has done all that it may do."""
        return self.is_live and self.is_ready and self.quota == 0 and not self.batches

    @property
    def known_errors(self) -> dict[int, Exception]:
        """By sequence number the errors of those items that the worker holds and that could not be sent to it."""
        return {
            sent.batch.first + offset: error for sent in self.batches for offset, error in sent.receipt.failures.items()
        }

    def holds(self, number: int) -> bool:
        """Whether the worker holds this item and has not answered it."""
        return any(sent.holds(number) for sent in self.batches)

    def add(self, sent: Sent) -> None:
        """Take in that the worker was given a batch."""
        self.batches.append(sent)
        if self.quota is not None:
            self.quota -= len(sent.batch.items)

    def end_batch(self, sent: Sent) -> None:
        """Take in that the worker has answered all of a batch, and may have a larger one."""
        self.batches.remove(sent)
        self.is_cut = self.is_cut and bool(self.batches)
        self.pace.grow()

    def take_back(self, n_batches: int, first: int) -> list[Batch]:
        """Take in what the worker gives back, and return it in the order of the input.

        Args:
            n_batches: How many of its batches it gives back whole, from the last.
            first: Sequence number from which on it gives back the items of another one too, if it has that.
        """
        n_kept = len(self.batches) - n_batches
        returned = [sent.batch for sent in self.batches[n_kept:]]
        del self.batches[n_kept:]
        self.is_asked = False
        for sent in self.batches:
            self.is_cut = self.is_cut or sent.batch.first < first <= sent.end_number
            if sent.batch.first < first < sent.end_number:
                returned.insert(0, Batch(first, sent.items(first, sent.end_number)))
                sent.batch = Batch(sent.batch.first, sent.items(sent.batch.first, first))
        if self.quota is not None:
            self.quota += sum(len(batch.items) for batch in returned)
        return returned

    def batch_of(self, run: Run) -> Sent:
        """Return the batch that a run belongs to."""
        for sent in self.batches:
            if sent.next_number == run.first:
                return sent
        raise LookupError(f"worker {self.index} answered item {run.first}, which it does not hold")

    def split(self, current: int) -> tuple[list[tuple[int, Any]], list[Batch]]:
        """Divide what the worker holds into what may have run and what surely has not.

        Args:
            current: Sequence number of the item that it started last; negative if there is none; `SOMEWHERE`: any
                of them. It works in the order in which it was given the batches.

        Returns:
            The items that it had started and not answered, each with its sequence number; and batches of those
            that it had not started.
        """
        may_have_run: list[tuple[int, Any]] = []
        not_started: list[Batch] = []
        # A worker may have been struck while it learnt that it must not begin the item after a cut.
        is_before_current = self.holds(current) or (self.is_cut and current == self.batches[0].end_number)
        for sent in self.batches:
            split_at = sent.next_number
            if current == SOMEWHERE:
                split_at = sent.end_number
            elif is_before_current:
                is_here = sent.holds(current)
                split_at = current + 1 if is_here else sent.end_number
                is_before_current = not is_here
            numbers = range(sent.next_number, split_at)
            may_have_run += zip(numbers, sent.items(sent.next_number, split_at))
            if split_at < sent.end_number:
                not_started.append(Batch(split_at, sent.items(split_at, sent.end_number)))
        return may_have_run, not_started

    def let_go(self) -> None:
        """Forget the batches; the worker must say again that it is ready."""
        self.is_ready = False
        self.is_asked = self.is_cut = False
        self.batches = []

    def restart(self) -> None:
        """Start over with a new worker."""
        self.let_go()
        self.quota = self._max_tasks
        self.late_item = None
