"""What the tests of the pure parts stand on: an engine driven by hand, a backend that follows a script, a clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional

from mtasklite._crew import Crew
from mtasklite._driver import Iteration
from mtasklite._engine import Engine, Rules
from mtasklite._messages import NOWHERE, Batch, Event, InitFailed, Lost, Ready, Receipt, Returned, Run
from mtasklite._slots import Sent, Slot
from mtasklite.constants import ExceptionBehaviour

MAX_POLLS = 20_000
"""A script that is asked more often than this is taken to run for ever."""


class FailedError(Exception):
    """What a scripted worker raises: its argument is the item."""


def done(item: Any) -> str:
    """Return the outcome of an item that went well."""
    return f"done {item}"


def make_rules(behaviour: str = "ignore", **rules: Any) -> Rules:
    """Build rules; the behaviour is given by its word."""
    return Rules(behaviour=ExceptionBehaviour(behaviour), **rules)


def make_batch(first: int, n_items: int) -> Batch:
    """Build a batch whose items are their own sequence numbers."""
    return Batch(first, list(range(first, first + n_items)))


def make_slot(*batches: Batch, is_quick: bool = False, max_tasks: Optional[int] = None) -> Slot:
    """Build a slot whose worker is up and holds these batches."""
    slot = Slot(0, max_tasks)
    slot.is_ready = True
    if is_quick:
        slot.pace.record(1, 0.001)
    for batch in batches:
        slot.add(Sent(batch, Receipt()))
    return slot


class FakeClock:
    """Stands where a module imported `time`, and moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Bench:
    """An engine with its slots and an input, driven by hand.

    Args:
        items: The input.
        n_slots: Number of workers.
        slots: The workers' places, if they are those of an earlier engine.
        first: Sequence number of the first item.
        max_tasks: Items after which a worker is replaced.
        is_ready: Whether the workers are up.
        item_bytes: Pickled size of each item.
        rules: As for `make_rules`.
    """

    def __init__(
        self,
        items: Iterable[Any] = range(1000),
        n_slots: int = 1,
        *,
        slots: Optional[Sequence[Slot]] = None,
        first: int = 0,
        max_tasks: Optional[int] = None,
        is_ready: bool = True,
        item_bytes: int = 0,
        **rules: Any,
    ) -> None:
        self.slots = [Slot(index, max_tasks) for index in range(n_slots)] if slots is None else list(slots)
        self.engine = Engine(make_rules(**rules), self.slots, first)
        self.n_read = 0
        self._input = iter(items)
        self._item_bytes = item_bytes
        for slot in self.slots if is_ready else []:
            self.engine.on_ready(Ready(slot.index))

    def supply(self, most: int = MAX_POLLS) -> list[tuple[int, list[Any]]]:
        """Give workers what the engine wants, at most so many batches; return each one's slot and items."""
        sent: list[tuple[int, list[Any]]] = []
        while len(sent) < most:
            want = self.engine.next_want()
            if want is None:
                break
            if want.must_read:
                self._read(want.n_to_read)
            batch = self.engine.cut(want)
            if batch is not None:
                self.engine.on_sent(want.slot, batch, Receipt(self._item_bytes * len(batch.items)))
                sent.append((want.slot, batch.items))
        return sent

    def _read(self, n_items: int) -> None:
        items: list[Any] = []
        try:
            while len(items) < n_items:
                items.append(next(self._input))
        except StopIteration:
            self.engine.end_input()
        except FailedError as error:
            self.engine.end_input(error)
        self.n_read += len(items)
        self.engine.feed(items)

    def answer(
        self,
        slot: int = 0,
        n_items: Optional[int] = None,
        failing: Iterable[int] = (),
        seconds_each: float = 1.0,
        bytes_each: int = 0,
    ) -> None:
        """Let a worker answer the next items of its first batch; those at the offsets `failing` have failed."""
        sent = self.slots[slot].batches[0]
        items = sent.items(sent.next_number, sent.end_number)[:n_items]
        failures: dict[int, Exception] = {offset: FailedError(items[offset]) for offset in failing}
        values = [None if offset in failures else done(item) for offset, item in enumerate(items)]
        seconds, n_bytes = seconds_each * len(items), bytes_each * len(items)
        self.engine.on_run(Run(slot, sent.next_number, values, failures, seconds, n_bytes))

    def lose(self, slot: int = 0, current: int = NOWHERE) -> None:
        """Let a worker be killed; the next one is up at once."""
        self.engine.on_lost(Lost(slot, current, -9, "SIGKILL"))
        if self.slots[slot].is_live:
            self.engine.on_ready(Ready(slot))

    def fail_init(self, slot: int = 0) -> FailedError:
        """Let a worker's constructor raise; return what it raised."""
        error = FailedError("constructor")
        self.engine.on_init_failed(InitFailed(slot, error))
        return error

    def take_all(self) -> list[Any]:
        """Hand out all that can be."""
        taken: list[Any] = []
        while self.engine.has_outcomes:
            taken += self.engine.take()
        return taken

    def finish(self, seconds_each: float = 1.0) -> list[Any]:
        """Let everything go well from here, and return all outcomes."""
        taken = self.take_all()
        while not self.engine.is_over:
            self.supply()
            for slot in self.slots:
                while slot.batches:
                    self.answer(slot.index, seconds_each=seconds_each)
            taken += self.take_all()
        return taken


class ScriptedWorker:
    """What a worker would be at: nothing runs, a script says how far it got."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.is_up = False
        self.held: list[tuple[int, Any]] = []  # sequence number and item, in the order of work
        self.ends: list[int] = []  # sequence numbers after which a batch ends
        self.current = NOWHERE
        self.since: Optional[float] = None  # while it is stuck
        self.dropped: list[int] = []  # sequence numbers of what it was told to drop


class ScriptedBackend:
    """Follows the protocol of backends, with workers that do what a script says.

    Args:
        play: Called with the backend whenever it is to wait and nothing has happened yet: the script. If it makes
            nothing happen, the wait lasts as long as it may.
        clock: Moves on when a wait ends with nothing.

    Attributes:
        workers: The workers, by slot.
        calls: Name and slot of each `start`, `kill`, `retire`, `cancel`, `take_back`; name alone of `close`,
            `terminate`.
        resumed: Slot of each `resume`.
        sent: Slot and items of each batch.
        waits: Seconds of each wait that was let happen.
        starts: How often an item may have been called with, by sequence number.
        seconds_each: How long the workers say that an item took.
        item_bytes: Pickled size of each item.
        peak_bytes: What each worker has had of memory.
        failed_at_close: What `close` says of workers that had still been under construction.
    """

    max_ahead_bytes = 1 << 16
    max_batch_items: Optional[int] = None
    max_message_bytes: Optional[int] = None
    batch_scale = 1.0
    freeze = None

    def __init__(
        self, play: Optional[Callable[[ScriptedBackend], None]] = None, clock: Optional[FakeClock] = None
    ) -> None:
        self._play = play or ScriptedBackend.do_all
        self._clock = clock or FakeClock()
        self._n_polls = 0
        self._events: list[Event] = []
        self.workers: dict[int, ScriptedWorker] = {}
        self.calls: list[Any] = []
        self.resumed: list[int] = []
        self.sent: list[tuple[int, list[Any]]] = []
        self.waits: list[Optional[float]] = []
        self.starts: Counter[int] = Counter()
        self.seconds_each = 1.0
        self.item_bytes = 0
        self.peak_bytes = 0
        self.failed_at_close: list[Event] = []

    # ---- the protocol

    def resume(self, slot: int) -> None:
        self.resumed.append(slot)

    def start(self, slot: int) -> bool:
        assert slot not in self.workers, "started in a slot that is taken"
        self.calls.append(("start", slot))
        self.workers[slot] = ScriptedWorker(slot)
        return True

    def send(self, slot: int, batch: Batch) -> Receipt:
        worker = self.workers[slot]
        assert worker.is_up, "sent to a worker that is not up"
        assert batch.items, "sent an empty batch"
        self.sent.append((slot, batch.items))
        worker.held += enumerate(batch.items, batch.first)
        worker.ends.append(batch.first + len(batch.items))
        return Receipt(self.item_bytes * len(batch.items))

    def poll(self, seconds: Optional[float]) -> list[Event]:
        self._n_polls += 1
        assert self._n_polls < MAX_POLLS, "runs for ever"
        if not self._events and seconds != 0:
            self.waits.append(seconds)
            self._play(self)
            if not self._events:
                assert seconds is not None, "waits for ever"
                self._clock.advance(seconds)
        events, self._events = self._events, []
        return events

    def running(self) -> list[tuple[int, int, float]]:
        return [
            (worker.slot, worker.current, worker.since)
            for worker in self.workers.values()
            if worker.current != NOWHERE and worker.since is not None
        ]

    def peaks(self) -> list[tuple[int, int]]:
        return [(slot, self.peak_bytes) for slot in self.workers]

    def kill(self, slot: int, number: int) -> bool:
        self.calls.append(("kill", slot))
        self.lose(slot, n_started=0)
        return True

    def retire(self, slot: int) -> None:
        self.calls.append(("retire", slot))
        assert not self.workers[slot].held, "retired a worker that holds items"
        del self.workers[slot]

    def cancel(self, slot: int) -> None:
        self.calls.append(("cancel", slot))
        worker = self.workers[slot]
        worker.is_up = False
        worker.dropped = [number for number, _ in worker.held]
        worker.held.clear()
        worker.ends.clear()

    def take_back(self, slot: int) -> None:
        self.calls.append(("take_back", slot))
        worker = self.workers[slot]
        if not worker.held:
            self._events.append(Returned(slot, 0, NOWHERE))
            return
        first = worker.held[0][0] + 1  # it has begun the one before
        self._events.append(Returned(slot, len(worker.ends) - 1, first))
        worker.held, worker.ends = worker.held[:1], [first]

    def close(self, seconds: Optional[float]) -> list[Event]:
        self.calls.append("close")
        return self.failed_at_close

    def terminate(self) -> None:
        self.calls.append("terminate")

    # ---- what a script makes happen

    def ready(self, slot: int) -> None:
        """Let a worker be up, or have dropped what it was told to drop."""
        self.workers[slot].is_up = True
        self._events.append(Ready(slot))

    def fail_init(self, slot: int) -> None:
        """Let a worker's constructor raise."""
        del self.workers[slot]
        self._events.append(InitFailed(slot, FailedError("constructor")))

    def answer(self, slot: int, n_items: Optional[int] = None, failing: Iterable[int] = ()) -> None:
        """Let a worker answer the next items of its first batch; those at the offsets `failing` have failed."""
        worker = self.workers[slot]
        n_left = self.n_in_first_batch(slot)
        n_items = n_left if n_items is None else n_items
        answered, worker.held = worker.held[:n_items], worker.held[n_items:]
        if n_items == n_left:
            del worker.ends[0]
        self.starts.update(number for number, _ in answered)
        failures: dict[int, Exception] = {offset: FailedError(answered[offset][1]) for offset in failing}
        values = [None if offset in failures else done(item) for offset, (_, item) in enumerate(answered)]
        worker.current = answered[-1][0]
        self._events.append(Run(slot, answered[0][0], values, failures, self.seconds_each * len(answered)))

    def say_late(self, slot: int) -> None:
        """Let an outcome arrive that was on its way when the worker was told to drop what it held."""
        self._events.append(Run(slot, self.workers[slot].dropped.pop(0), ["late"], {}, 1.0))

    def stick(self, slot: int) -> None:
        """Let a worker start its next item and not end it."""
        worker = self.workers[slot]
        worker.current = worker.held[0][0]
        worker.since = self._clock.monotonic()
        self.starts[worker.current] += 1

    def lose(self, slot: int, n_started: int = 1) -> None:
        """Let a worker die when it had started so many more of its items, and answered none of them."""
        worker = self.workers.pop(slot)
        started = [number for number, _ in worker.held[:n_started]]
        self.starts.update(started)
        current = started[-1] if started else worker.current
        self._events.append(Lost(slot, current, -9, "SIGKILL"))

    def n_in_first_batch(self, slot: int) -> int:
        """Return how many items of a worker's first batch are not answered."""
        worker = self.workers[slot]
        return worker.ends[0] - worker.held[0][0]

    def do_all(self) -> None:
        """Let every worker come up, and answer all that it holds, but for those that are stuck."""
        for slot, worker in list(self.workers.items()):
            if worker.since is not None:
                continue
            if not worker.is_up:
                self.ready(slot)
            while worker.held:
                self.answer(slot)


def make_crew(backend: ScriptedBackend, n_workers: int = 1, max_tasks: Optional[int] = None) -> Crew:
    """Build a crew that this backend runs."""
    return Crew(lambda: backend, n_workers, max_tasks)


def make_iteration(crew: Crew, items: Iterable[Any], leaves_crew: bool = True, **rules: Any) -> Iteration:
    """Build an iteration over these items."""
    return Iteration(crew, make_rules(**rules), items, None, leaves_crew)


def followed(*steps: Callable[[ScriptedBackend], Any]) -> Callable[[ScriptedBackend], None]:
    """Return a script: these steps, one for each wait, and then all goes well."""
    remaining = list(steps)

    def play(backend: ScriptedBackend) -> None:
        step = remaining.pop(0) if remaining else ScriptedBackend.do_all
        step(backend)

    return play
