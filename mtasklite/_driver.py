"""The loop that joins an engine to a backend, in the thread of whoever consumes the results."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional

from mtasklite._crew import Crew
from mtasklite._engine import Engine
from mtasklite._faults import Failures, init_error
from mtasklite._frames import level_of_user, traceback_of
from mtasklite._interrupts import Interruptible
from mtasklite._ledger import CONSUMER, INPUT, OVERHEAD, PAUSE
from mtasklite._messages import Event, ExitFailed, InitFailed, Lost, Ready, Returned, Run
from mtasklite._reader import Reader
from mtasklite._rules import Rules
from mtasklite._window import UNLIMITED
from mtasklite._wire import secure
from mtasklite.constants import ExceptionBehaviour
from mtasklite.errors import PoolClosedError, RemoteTraceback, WorkerInitError, text_of

HAND_OUT_SECONDS = 0.005
"""Results are handed out in portions of about so much of the consumer's time; then the workers are looked after."""

TEND_SECONDS = 0.050
"""A consumer that takes longer over a portion than was to be expected keeps the workers waiting no longer than this,
and one piece."""

TAKE_BACK_SECONDS = 0.010
"""When nothing was heard for so long and some workers have nothing, others are asked for what they have not begun."""

TELL_SECONDS = 0.5
"""While workers start, or the consumer waits, whoever wants to know about it is told so at least this often."""

PIECE = 256
MAX_PORTION = 1 << 15
GROWTH = 4


class Iteration(Interruptible):
    """One input's way through a crew.

    Args:
        crew: The workers; started when the first result is asked for.
        rules: What the user chose.
        iterable: The input.
        join_timeout: Seconds that ending waits for running items.
        leaves_crew: Whether the workers live on after the end.

    Attributes:
        on_start: Is told now and then how many workers are up, until all are.
        on_waiting: Is told now and then, while the consumer waits, how many outcomes wait for an earlier one.
        on_finished: Is told how many items have their outcome, handed out or not, whenever that changes.
    """

    def __init__(
        self,
        crew: Crew,
        rules: Rules,
        iterable: Iterable[Any],
        join_timeout: Optional[float],
        leaves_crew: bool,
    ) -> None:
        self._crew = crew
        self._rules = rules
        self._iterable = iterable
        self._join_timeout = join_timeout
        self._leaves_crew = leaves_crew
        self._engine: Optional[Engine] = None
        self._n_errors = 0  # once the engine is gone
        self._unreported: list[Event] = []
        self.on_start: Optional[Callable[[int], None]] = None
        self.on_waiting: Optional[Callable[[int], None]] = None
        self.on_finished: Optional[Callable[[int], None]] = None
        self._ledger = crew.ledger

    @property
    def n_errors(self) -> int:
        """Items that have failed so far."""
        return self._engine.failures.n_errors if self._engine is not None else self._n_errors

    def results(self) -> Generator[Any, None, None]:
        """Do it all, and yield the outcomes."""
        __tracebackhide__ = True  # in IPython, here and below: a user who interrupts a cell has no use for these frames
        self._crew.check_free()
        self._crew.is_busy = True
        error: Optional[BaseException] = None
        try:
            engine = self._begin()
            portion = _Portion()
            while True:
                self._exchange(engine, wait=False)
                results_first = engine.has_outcomes and self._reader.is_slow
                has_supplied = self._supply(engine, may_read=not results_first)
                values = engine.take(portion.size)
                if values:
                    self._resume_workers(engine)
                    started_at = tended_at = time.monotonic()
                    self._ledger.course.enter(CONSUMER, started_at)
                    for start in range(0, len(values), PIECE):
                        yield from values[start : start + PIECE]
                        if time.monotonic() - tended_at >= TEND_SECONDS:
                            self._exchange(engine, wait=False)  # the consumer has become slow
                            tended_at = time.monotonic()
                    ended_at = time.monotonic()
                    self._ledger.course.enter(OVERHEAD, ended_at)
                    portion.adapt(len(values), ended_at - started_at)
                elif engine.is_over:
                    break
                elif not has_supplied and engine.may_read_ahead and not self._reader.is_instant:
                    # Rather than wait: what is ready waits no longer than for this.
                    self._read(engine, 1, is_all_sent=False)
                elif not has_supplied:
                    self._exchange(engine, wait=True)
            error = engine.final_error()
            if error is None and engine.has_failed_throughout:
                warn_of_failure(engine.failures)
        except BaseException as interruption:
            self._break_off(interruption)
            raise
        failures = self._unreported + self._end(is_abrupt=False)
        if error is None:
            report(failures, self._rules.behaviour)
        else:
            if not isinstance(error, WorkerInitError):
                warn_of(failures)
            try:
                raise error
            finally:
                del error, engine  # its traceback holds this frame, which need not hold it

    def _break_off(self, interruption: BaseException) -> None:
        with self.interrupted_later():
            # What is raised amid the exchange with the workers, by a signal handler say, may have cut a message in two.
            failures = self._end(is_abrupt=not isinstance(interruption, (GeneratorExit, Warning)))
            if isinstance(interruption, GeneratorExit):
                warn_of(self._unreported + failures)

    def _begin(self) -> Engine:
        self._backend = self._crew.start()
        self._ledger.course.enter(OVERHEAD, time.monotonic())
        rules = replace(
            self._rules,
            max_ahead_bytes=self._backend.max_ahead_bytes,
            max_batch_items=self._backend.max_batch_items or UNLIMITED,
            max_message_bytes=self._backend.max_message_bytes or UNLIMITED,
        )
        self._slots = self._crew.slots
        for slot in self._slots:
            slot.pace.scale = self._backend.batch_scale
        self._engine = Engine(rules, self._slots, self._crew.next_number)
        self._reader = Reader(self._iterable, self._backend.freeze)
        return self._engine

    def _end(self, is_abrupt: bool, is_exiting: Callable[[], bool] = sys.is_finalizing) -> list[Event]:
        """End the iteration, and return what befell workers at its end."""
        if is_exiting():
            return []  # the workers were ended when the exit began, and half the modules are gone
        crew, engine = self._crew, self._engine
        crew.is_busy = False
        self._ledger.course.enter(PAUSE, time.monotonic())
        self._engine = None
        if engine is not None:
            self._n_errors = engine.failures.n_errors
            crew.next_number = engine.next_sequence_number
        if is_abrupt:
            crew.terminate()
        elif not self._leaves_crew:
            return crew.close(self._join_timeout)
        elif engine is not None and crew.backend is self._backend:
            for index in engine.abandon():
                self._backend.cancel(index)
        return []

    def _supply(self, engine: Engine, may_read: bool) -> bool:
        """Give workers what they want; return whether any got something.

        After a read that may have taken time, results come first: one that is ready never waits for a second read.
        """
        has_supplied = False
        while True:
            want = engine.next_want()
            if want is None or (want.must_read and not may_read):
                return has_supplied
            if want.must_read:
                self._read(engine, want.n_to_read, is_all_sent=want.n_to_read == want.n_items)
                self._check_running()  # the input may have closed the pool
            batch = engine.cut(want)
            if batch is not None:
                receipt = self._backend.send(want.slot, batch)
                had_none = not self._slots[want.slot].batches
                self._ledger.lanes[want.slot].on_sent(receipt.n_bytes, had_none, time.monotonic())
                engine.on_sent(want.slot, batch, receipt)
            has_supplied = True
            if want.must_read and not self._reader.is_instant:
                return has_supplied

    def _check_running(self) -> None:
        if self._crew.backend is not self._backend:
            raise PoolClosedError("the pool was closed while this iterator was not at its end")

    def _read(self, engine: Engine, n_items: int, is_all_sent: bool) -> None:
        if not self._reader.is_instant:
            self._ledger.course.enter(INPUT, time.monotonic())
        items, has_ended = self._reader.read(n_items)
        if not is_all_sent:
            secure(items)  # before anybody can use their memory again
        self._ledger.course.enter(OVERHEAD, time.monotonic())
        engine.feed(items)
        if has_ended:
            engine.end_input(self._reader.error)

    def _exchange(self, engine: Engine, wait: bool) -> None:
        """Hear what has happened, and do what follows from it."""
        __tracebackhide__ = True
        backend = self._backend
        self._check_running()
        seconds = None if wait else 0.0
        if self._rules.task_timeout is not None:
            late, seconds_left = engine.late_slots(backend.running(), time.monotonic())
            for index, number in late:
                if backend.kill(index, number):
                    engine.on_killed(index, number)
            seconds = seconds_left if wait else 0.0
        if wait and engine.may_take_back:
            seconds = TAKE_BACK_SECONDS if seconds is None else min(seconds, TAKE_BACK_SECONDS)
        if wait and (self.on_start is not None or self.on_waiting is not None):
            seconds = TELL_SECONDS if seconds is None else min(seconds, TELL_SECONDS)
        if wait:
            self._ledger.course.enter(engine.what_idle_workers_wait_for, time.monotonic())
        events = backend.poll(seconds)
        for event in events:
            self._note(engine, event)
        self._resume_workers(engine)
        if wait:
            self._ledger.course.enter(OVERHEAD, time.monotonic())
        if wait and self.on_start is not None:
            self._tell_who_is_up(self.on_start)
        if wait and self.on_waiting is not None:
            self.on_waiting(engine.n_waiting)
        if self.on_finished is not None and events:
            self.on_finished(engine.n_finished)
        if wait and not events:
            for index in engine.take_back():
                backend.take_back(index)
        if self._unreported and any(slot.is_ready for slot in self._crew.slots) and not engine.is_over:
            unreported, self._unreported = self._unreported, []
            warn_of(unreported)
        for index in engine.take_spent_slots():
            backend.retire(index)
            self._ledger.on_gone(index, time.monotonic())
            self._crew.vacant.add(index)
        if self._crew.vacant and not engine.is_over:
            for event in self._crew.replace():
                self._note(engine, event)

    def _resume_workers(self, engine: Engine) -> None:
        for index in engine.take_resumable():
            self._backend.resume(index)

    def _tell_who_is_up(self, on_start: Callable[[int], None]) -> None:
        slots = self._crew.slots
        n_up = sum(slot.is_ready or not slot.is_live for slot in slots)
        if n_up == len(slots):
            self.on_start = None
        on_start(n_up)

    def _note(self, engine: Engine, event: Event) -> None:
        self._ledger.note(event, time.monotonic())
        if isinstance(event, Run):
            engine.on_run(event)
        elif isinstance(event, Ready):
            engine.on_ready(event)
        elif isinstance(event, Returned):
            engine.on_returned(event)
        elif isinstance(event, InitFailed):
            engine.on_init_failed(event)
            self._unreported.append(event)
        elif isinstance(event, Lost):
            given_up = engine.on_lost(event)
            if given_up is None:
                self._crew.vacant.add(event.slot)
            else:
                self._unreported.append(given_up)
        else:
            self._unreported.append(event)


def report(failures: Sequence[Event], behaviour: ExceptionBehaviour) -> None:
    """Say which workers could not be made, though others did all the work, and which could not be left in order.

    Raises:
        WorkerInitError: In mode ``immediate``.
    """
    for failure in failures:
        if isinstance(failure, InitFailed) and behaviour is ExceptionBehaviour.IMMEDIATE:
            raise init_error(failure.slot, failure.error, is_any_left=True)
    warn_of(failures)


def warn_of(failures: Iterable[Event]) -> None:
    """Warn of workers that could not be made, or raised when they were left."""
    for failure in failures:
        if not isinstance(failure, (InitFailed, ExitFailed)):
            continue
        cause = f"{type(failure.error).__name__}: {text_of(failure.error)}"
        text = f"worker {failure.slot} raised in its `__exit__`, after its last item: {cause}"
        if isinstance(failure, InitFailed):
            text = f"worker {failure.slot} could not be made, so the others do its work; the reason: {cause}"
        warnings.warn(text, RuntimeWarning, stacklevel=level_of_user())


def warn_of_failure(failures: Failures) -> None:
    """Warn that no item was done, for one reason as it seems: an exception in each place may pass unseen."""
    error = failures.first_error
    if error is None:
        return
    cause = error.__cause__
    told = cause.traceback if isinstance(cause, RemoteTraceback) else traceback_of(error)
    text = f"all {failures.n_errors} items failed with {type(error).__name__}; the first of them:\n{told}"
    warnings.warn(text, RuntimeWarning, stacklevel=level_of_user())


class _Portion:
    """How many results are handed out before the workers are looked after again."""

    def __init__(self) -> None:
        self.size = 1

    def adapt(self, n_items: int, seconds: float) -> None:
        wanted = int(n_items * HAND_OUT_SECONDS / seconds) if seconds > 0 else MAX_PORTION
        self.size = max(1, min(wanted, GROWTH * self.size, MAX_PORTION))
