"""The rules of a pool: what to read, whom to give it, what to hand out, what is late, when it is over.

Everything that affects an iteration's course is decided here, and nothing is done here: no process, thread, pipe
or clock is touched; time is a parameter. The driver asks what to do, does it through a backend, and reports what
came of it:

    next_want  ──> read items, feed them, cut a batch, send it, on_sent
    take_back  ──> ask workers for what they have not begun
    take_resumable ──> let workers go on that wait until the consumer has caught up
    take       ──> hand values to the consumer
    on_ready, on_run, on_returned, on_init_failed, on_lost  <── what the backend reports

An item's way: *read* (feed), *sent* (cut), *answered* (on_run, on_lost), *handed out* (take). From read to handed
out it is *held*, and counts in the window. Each item read gets one outcome, whatever becomes of its worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from mtasklite._deadlines import At, late_slots
from mtasklite._faults import Failures, death_error, found_late_error, init_error, late_error
from mtasklite._ledger import END, OVERHEAD, WINDOW
from mtasklite._messages import SOMEWHERE, UNPACKING, Batch, FoundLate, InitFailed, Lost, Ready, Receipt, Returned, Run
from mtasklite._outlet import AsTheyCome, InOrder, Outlet
from mtasklite._queue import Queue
from mtasklite._roster import Roster
from mtasklite._rules import MAX_DEATHS_OVER_AN_ITEM, MAX_IDLE_DEATHS, Rules, Want
from mtasklite._slots import Sent, Slot
from mtasklite._window import MAX_BATCH_BYTES, UNLIMITED, Window
from mtasklite.constants import ExceptionBehaviour
from mtasklite.errors import DeferredExceptions, WorkerInitError, set_cause


class Engine:
    """One iteration over one input.

    Args:
        rules: What the user chose.
        slots: The workers' places, as the last iteration left them.
        first: Sequence number that the first item gets.

    Attributes:
        failures: Of the items that have failed for good.
    """

    def __init__(self, rules: Rules, slots: Sequence[Slot], first: int = 0) -> None:
        self._rules = rules
        self._slots = Roster(slots)
        self._base = first
        self._read_up_to = first
        self._input_ended = False
        self._input_error: Optional[BaseException] = None
        self._failure: Optional[BaseException] = None
        self._deferred: dict[int, Exception] = {}
        self._attempts: dict[int, int] = {}
        self._deaths_over: dict[int, int] = {}
        self._suspects: set[int] = set()  # held when a worker was lost nobody knows where
        self.failures = Failures()
        self._queue = Queue()
        self._outlet: Outlet = AsTheyCome() if rules.is_unordered else InOrder(first)
        self._window = Window(rules.window, rules.is_bounded, rules.max_waiting)
        # Workers that are not told to go on yet; some may have been paused at the end of the last iteration.
        self._paused: dict[int, None] = dict.fromkeys(range(len(slots)))
        if not self._slots.n_live:
            self._failure = WorkerInitError("no worker of this pool is left: none could be made")

    # ---- what to do next

    def next_want(self) -> Optional[Want]:
        """Say which worker should be given a batch next, or ``None`` if none should."""
        must_read = not self._queue.n_items
        if self._failure is not None or (must_read and self._input_ended):
            return None
        room = self._room(self._slots.items_ahead) if must_read else UNLIMITED
        slot = self._slots.next_hungry if room > 0 else None
        if slot is None or (slot.batches and self._suspects):
            return None  # an item that was suspected is alone with its worker
        n_items = min(room, self._batch_size(slot, must_read))
        if must_read:
            return Want(slot.index, n_items, UNLIMITED if self._window.has_no_end else n_items)
        return Want(slot.index, n_items, 0)

    @property
    def may_read_ahead(self) -> bool:
        """Whether to read one item that no worker wants yet: where items take long, reading them may, too.

        Not where items may be late, for nobody looks after the workers amid a read; and not while another waits here,
        on whose result the input may depend.
        """
        n_live = self._slots.n_live
        if self._input_ended or self._failure is not None or self._rules.task_timeout is not None:
            return False
        are_slow = n_live > 1 and self._slots.items_ahead <= n_live
        return are_slow and not self._queue.n_items and self._window.n_held > 0 and self._room(0) > 0

    def feed(self, items: Sequence[Any]) -> None:
        """Take in items that were read."""
        self._queue.feed(self._read_up_to, items)
        self._read_up_to += len(items)
        self._window.on_read(len(items))

    def end_input(self, error: Optional[BaseException] = None) -> None:
        """Take in that the input has ended, or has raised."""
        self._input_ended = True
        self._input_error = error

    def cut(self, want: Want) -> Optional[Batch]:
        """Take the batch for a worker off the queue; ``None`` if the input ended where there should be more."""
        return self._queue.cut(want.n_items)

    def on_sent(self, index: int, batch: Batch, receipt: Receipt) -> None:
        """Take in that a batch is on its way to a worker."""
        self._slots[index].add(Sent(batch, receipt))
        self._window.on_sent(len(batch.items), receipt.n_bytes)
        self._slots.place(self._slots[index])

    @property
    def may_take_back(self) -> bool:
        """Whether workers that have nothing to do wait for others that have more than they can be at."""
        return self.next_want() is None and bool(self._slots.holders)

    def take_back(self) -> list[int]:
        """Return the workers that are to be asked for what they have not begun."""
        holders = self._slots.holders
        for slot in holders:
            slot.is_asked = True
            self._slots.place(slot)
        return [slot.index for slot in holders]

    def take(self, most: int = UNLIMITED) -> list[Any]:
        """Hand out at most so many outcomes."""
        values = self._outlet.take(most)
        self._window.on_handed_out(len(values), self._outlet.bytes_taken)
        return values

    @property
    def has_outcomes(self) -> bool:
        """Whether `take` would hand out any."""
        return self._outlet.has_some

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, once `has_outcomes` is false."""
        return self._failure is not None or (self._input_ended and not self._window.n_held)

    @property
    def what_idle_workers_wait_for(self) -> int:
        """What keeps workers without work waiting, while the driver waits for the others: see `_ledger`."""
        if self._queue.n_items:
            return OVERHEAD
        if self._input_ended:
            return END
        return OVERHEAD if self._room(self._slots.items_ahead) > 0 else WINDOW

    @property
    def n_waiting(self) -> int:
        """Outcomes that are finished and wait for that of an earlier item."""
        return 0 if self._outlet.has_some else self._window.n_waiting

    @property
    def n_finished(self) -> int:
        """Items of this iteration that have their outcome, handed out or not."""
        return self._read_up_to - self._base - self._window.n_held + self._window.n_waiting

    def take_resumable(self) -> list[int]:
        """Return the workers that may send more outcomes, each once for what it has sent.

        A worker that has sent much waits until it is told so. While what waits here is large, only the worker that has
        the item which the consumer waits for goes on; all do if that item is with none of them.
        """
        if not self._paused:
            return []
        going_on = list(self._paused)
        if self._window.is_heavy and self._failure is None:
            if self._outlet.has_some:
                return []
            head = self._outlet.head
            holders = [slot.index for slot in self._slots if head is not None and slot.holds(head)]
            going_on = [index for index in going_on if not holders or index in holders]
        for index in going_on:
            del self._paused[index]
        return going_on

    @property
    def next_sequence_number(self) -> int:
        """What the next iteration should start from."""
        return self._read_up_to

    @property
    def has_failed_throughout(self) -> bool:
        """Whether all items, more than one, have failed in one way, which nobody has been told by an exception."""
        is_silent = self._rules.behaviour is ExceptionBehaviour.IGNORE
        return is_silent and self.failures.is_all_of_one_kind(self._read_up_to - self._base)

    def final_error(self) -> Optional[BaseException]:
        """Return what is to be raised at the end, if anything."""
        if self._failure is not None:
            return self._failure
        deferred = None
        if self._deferred:
            deferred = DeferredExceptions(*(self._deferred[number] for number in sorted(self._deferred)))
        if self._input_error is not None and deferred is not None and self._input_error.__cause__ is None:
            set_cause(self._input_error, deferred)
        return deferred if self._input_error is None else self._input_error

    # ---- what happened

    def on_ready(self, event: Ready) -> None:
        """Take in that a worker waits for its first batch, or has dropped what it had."""
        slot = self._slots[event.slot]
        slot.is_ready = True
        self._slots.place(slot)

    def on_returned(self, event: Returned) -> None:
        """Take in what a worker has not begun, and gives back."""
        slot = self._slots[event.slot]
        if not slot.is_asked:
            return  # it was told to drop all of it meanwhile
        n_left = len(slot.batches) - event.n_batches
        for sent in slot.batches[n_left:]:
            self._window.on_batch_left(sent.receipt.n_bytes)
        self._queue.put_back(slot.take_back(event.n_batches, event.first))
        for sent in list(slot.batches):
            self._note_if_answered(slot, sent)
        self._slots.place(slot)

    def on_run(self, run: Run) -> None:
        """Take in outcomes from a worker."""
        if run.n_bytes:
            self._paused[run.slot] = None
        if run.first < self._base:
            return  # of an iteration that was given up
        slot = self._slots[run.slot]
        sent = slot.batch_of(run)
        items, failures = sent.receive(run)
        self._suspects.difference_update(range(run.first, run.first + len(run.values)) if self._suspects else ())
        slot.tally.n_items += len(run.values) - len(failures)
        slot.idle_deaths = 0
        if run.busy_seconds >= 0:
            self._slots.record(slot, len(run.values), run.busy_seconds)
        self._note_if_answered(slot, sent)
        self._slots.place(slot)
        self._window.on_received(len(run.values), run.n_bytes)
        if not failures:
            self._settle(run.first, run.values, run.n_bytes)
            return
        bytes_each = run.n_bytes // len(run.values)
        start = 0
        for offset in sorted(failures):
            self._settle(run.first + start, run.values[start:offset], bytes_each * (offset - start))
            number, error = run.first + offset, failures[offset]
            if isinstance(error, FoundLate):
                error = found_late_error(run.slot, number - self._base, self._rules.task_timeout)
            self._fail(slot, number, items[offset], error)
            start = offset + 1
        self._settle(run.first + start, run.values[start:], bytes_each * (len(run.values) - start))

    def on_init_failed(self, event: InitFailed) -> None:
        """Take in that a worker could not be made: its slot stays empty."""
        slot = self._slots[event.slot]
        self._slots.give_up(slot)
        if self._slots.n_live and self._rules.behaviour is not ExceptionBehaviour.IMMEDIATE:
            return
        self._end_with(init_error(slot.index, event.error, is_any_left=self._slots.n_live > 0))

    def on_lost(self, event: Lost) -> Optional[InitFailed]:
        """Take in that a worker is gone: what may have run fails, what had surely not started is queued again.

        Returns:
            That the slot was given up, if it was.
        """
        slot = self._slots[event.slot]
        may_have_run, not_started = slot.split(event.current)
        known_errors = slot.known_errors
        for sent in slot.batches:
            self._window.on_batch_left(sent.receipt.n_bytes)
        late_item = slot.late_item
        if event.current == SOMEWHERE:
            self._suspects.update(number for number, _ in may_have_run)
        if event.current < 0 and not_started and late_item in (None, UNPACKING):  # nor had it started any
            may_have_run, not_started = self._isolate(not_started)
        if may_have_run:
            slot.idle_deaths = 0
        elif late_item is None:  # else the death was ordered
            slot.idle_deaths += 1
        slot.restart()
        self._slots.place(slot)
        self._queue.put_back(not_started)
        # The item that it was at comes first: in mode `immediate` that is the one to name.
        for number, item in sorted(may_have_run, key=lambda one: one[0] != event.current):
            index = number - self._base
            if number in known_errors:
                error = known_errors[number]
            elif late_item in (number, UNPACKING):
                error = late_error(event, index, self._rules.task_timeout)
            else:
                error = death_error(event, index, number)
            self._fail(slot, number, item, error)
        if slot.idle_deaths < MAX_IDLE_DEATHS:
            return None
        given_up = InitFailed(slot.index, death_error(event))
        self.on_init_failed(given_up)
        return given_up

    def late_slots(self, running: Sequence[At], now: float) -> tuple[list[tuple[int, int]], float]:
        """Say which workers are past `task_timeout`, and when to ask again; see `late_slots`."""
        return late_slots(self._slots, self._base, self._rules.task_timeout, running, now)

    def on_killed(self, index: int, number: int) -> None:
        """Take in that a worker was killed because it was late with this."""
        self._slots[index].late_item = number

    def take_spent_slots(self) -> list[int]:
        """Return the workers that have done all they may do, each once; they are to be replaced."""
        if self._slots[0].quota is None:
            return []  # asked at each exchange: no pass over the workers where nobody limits them
        spent = [slot for slot in self._slots if slot.is_spent]
        for slot in spent:
            slot.restart()
        return [slot.index for slot in spent]

    def abandon(self) -> list[int]:
        """Forget what the workers hold, and return those that held anything.

        They are to be told, and to say again that they are ready.
        """
        holders = [slot for slot in self._slots if slot.batches]
        for slot in holders:
            slot.let_go()
        return [slot.index for slot in holders]

    # ---- inner rules

    def _batch_size(self, slot: Slot, must_read: bool) -> int:
        most = self._rules.max_message_bytes
        max_bytes = min(self._rules.max_ahead_bytes if slot.batches else MAX_BATCH_BYTES, most)
        by_size = min(self._window.weight_in.items_in(max_bytes), self._window.weight_out.items_in(most))
        size = min(slot.pace.batch_size, by_size, self._rules.max_batch_items)
        if not must_read:  # what is there may be the last, which is for all of them
            size = min(size, max(1, self._queue.n_items // (2 * self._slots.n_live)))
        if self._rules.window is not None:
            size = min(size, max(1, self._rules.window // (2 * len(self._slots))))
        return size if slot.quota is None else min(size, slot.quota)

    def _note_if_answered(self, slot: Slot, sent: Sent) -> None:
        if sent.next_number == sent.end_number:
            slot.end_batch(sent)
            self._window.on_batch_left(sent.receipt.n_bytes)

    def _settle(self, first: int, values: list[Any], n_bytes: int = 0) -> None:
        """Take in final outcomes, unless a failure has ended the iteration."""
        if self._failure is None:
            self._window.on_finished(len(values), n_bytes)
            self._outlet.put(first, values, n_bytes)

    def _end_with(self, failure: BaseException) -> None:
        """End the iteration with this, unless it has ended with another."""
        if self._failure is None:  # not `or`: an exception may be falsy
            self._failure = failure

    def _room(self, items_ahead: int) -> int:
        return self._window.room(self._slots.n_live, items_ahead, not self._outlet.has_some)

    def _isolate(self, batches: list[Batch]) -> tuple[list[tuple[int, Any]], list[Batch]]:
        """Divide what a worker died over before it started any of it: an item may kill by being unpickled.

        Its first batch is sent again item by item; an item that is alone and there again when a worker dies is the one.
        """
        head, *rest = batches
        if len(head.items) > 1:
            singles = [Batch(number, [item]) for number, item in enumerate(head.items, head.first)]
            return [], singles + rest
        self._deaths_over[head.first] = self._deaths_over.get(head.first, 0) + 1
        if self._deaths_over[head.first] < MAX_DEATHS_OVER_AN_ITEM:
            return [], batches
        return [(head.first, head.items[0])], rest

    def _fail(self, slot: Slot, number: int, item: Any, error: Exception) -> None:
        """Let an item be tried again if it may, else make the error its outcome."""
        attempts = self._attempts.get(number, 0)
        if attempts < self._rules.retries:
            self._attempts[number] = attempts + 1
            slot.tally.n_retries += 1
            self._queue.put_back([Batch(number, [item])])
            return
        self._suspects.discard(number)
        self.failures.add(error)
        slot.tally.n_items += 1
        slot.tally.n_errors += 1
        if self._rules.behaviour is ExceptionBehaviour.IMMEDIATE:
            self._end_with(error)
            return
        if self._rules.behaviour is ExceptionBehaviour.DEFERRED:
            self._deferred[number] = error
        self._settle(number, [error])
