"""Plays a round of the soak: makes the pools, uses them, kills their workers meanwhile, and notes what is seen."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, Optional

import multiprocess
import psutil

from mtasklite import Pool, PoolClosedError
from mtasklite.tests.soak_plan import Kill, PoolPlan, Round
from mtasklite.tests.soak_record import Killed, PoolRecord, RoundRecord, UseRecord
from mtasklite.tests.soak_work import GATE, Journal, items_of, make_worker

LEAVE_SECONDS = 10.0
"""How long what a round leaves may take to go away."""


MOST_READY = 1 << 16
"""Outcomes that may have been on their way to the consumer when the pool was closed."""


class ConsumerError(Exception):
    """Raised by a consumer that breaks off."""


# ---- one use of a pool


class Consumer:
    """Takes the outcomes of one use, and breaks off as the plan says; there is a method for each way to do so.

    Attributes:
        record: What was seen.
        taken_at: When the last outcome was done with.
        open_results: The iterator that is left to the end of its pool to close.
    """

    def __init__(self, pool: Any, plan: PoolPlan, number: int) -> None:
        self.record = UseRecord()
        self.taken_at = time.monotonic()
        self.open_results: Any = None
        self._pool = pool
        self._plan = plan
        self._number = number
        self._use = plan.uses[number]
        self._thread = threading.get_ident()

    def consume(self) -> None:
        """Do it all; of what is raised only this consumer's own comes through."""
        try:
            getattr(self, f"_end_by_{self._use.end}")()
        except ConsumerError:
            raise
        except Exception as error:
            self.record.trace = traceback.format_exc()
            self.record.error = error.with_traceback(None)

    def expect_closed(self) -> None:
        """Note it if the iterator comes to a silent end after its pool was closed; what was ready it may hand out."""
        n_taken = len(self.record.outcomes)
        try:
            for _ in itertools.islice(self.open_results, MOST_READY):
                n_taken += 1
        except PoolClosedError:
            return
        if self.record.error is None and n_taken != self._use.n_items:
            self.record.notes.append("after its pool was closed, the iterator ended as if there were no more")

    def _results(self) -> Any:
        return self._pool(items_of(self._plan, self._number, self._note_read))

    def _note_read(self) -> None:
        record = self.record
        record.n_read += 1
        record.most_ahead = max(record.most_ahead, record.n_read - len(record.outcomes))
        record.is_read_elsewhere |= threading.get_ident() != self._thread

    def _take(self, results: Any) -> None:
        """Take outcomes until there are enough."""
        for outcome in results:
            self.record.outcomes.append(outcome)
            if isinstance(outcome, tuple) and isinstance(outcome[3], list):
                outcome[3].append("marked")  # which no other result may see
            if self._use.pause:
                time.sleep(self._use.pause)
            self.taken_at = time.monotonic()
            if len(self.record.outcomes) == self._use.n_taken:
                return

    def _end_by_all(self) -> None:
        self._take(self._results())

    _end_by_break = _end_by_all

    def _end_by_close(self) -> None:
        results = self._results()
        self._take(results)
        results.close()

    def _end_by_next(self) -> None:
        results = self._results()
        self._take(iter(lambda: next(results), self))  # ends as `results` does

    def _end_by_cycle(self) -> None:
        ring = [self._results()]
        self._take(ring[0])
        ring.append(ring)
        del ring
        gc.collect()

    def _end_by_raise(self) -> None:
        results = self._results()
        self._take(results)
        raise ConsumerError

    def _end_by_with(self) -> None:
        with self._results() as results:
            self._take(results)

    def _end_by_leave(self) -> None:
        self.open_results = self._results()
        self._take(self.open_results)


# ---- one pool


def _run_pool(plan: PoolPlan, journal: Journal, record: PoolRecord) -> None:
    """Make a pool, use it, and note what is seen."""
    workers = [make_worker(journal, plan, slot) for slot in range(len(plan.workers))]
    is_list = len(set(plan.workers)) > 1
    pool = Pool(workers if is_list else workers[0], len(workers), **plan.arguments())
    consumers: list[Consumer] = []
    try:
        with pool if plan.is_entered else contextlib.nullcontext():
            for number in range(len(plan.uses)):
                consumers.append(Consumer(pool, plan, number))
                record.uses.append(consumers[-1].record)
                is_last = number == len(plan.uses) - 1
                with contextlib.nullcontext() if is_last else contextlib.suppress(ConsumerError):
                    _consume(consumers[-1], record)
    except ConsumerError:
        pass
    except Exception as error:
        record.trace = traceback.format_exc()
        record.error = error.with_traceback(None)
    _note_end(consumers[-1], record)
    record.ended_at = time.monotonic()
    if consumers[-1].open_results is not None:
        consumers[-1].expect_closed()


def _consume(consumer: Consumer, record: PoolRecord) -> None:
    try:
        consumer.consume()
    finally:
        _note_end(consumer, record)


def _note_end(consumer: Consumer, record: PoolRecord) -> None:
    now = time.monotonic()
    record.slowest_end = max(record.slowest_end, now - consumer.taken_at)
    consumer.taken_at = now


# ---- one round


class Player:
    """Plays rounds, one after another.

    Args:
        folder: For what they write.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._strays: list[str] = []
        self._of_thread = threading.local()
        self._helpers = _start_helpers()
        warnings.simplefilter("always")
        warnings.showwarning = self._note_warning
        threading.excepthook = lambda args: self._note_stray(args.exc_value)  # type: ignore[assignment]
        sys.unraisablehook = lambda args: self._note_stray(args.exc_value)

    def play(self, plan: Round) -> RoundRecord:
        """Play a round, and return what was seen."""
        folder = tempfile.mkdtemp(dir=self._folder)
        journal = Journal(folder)
        record = RoundRecord([PoolRecord() for _ in plan.pools])
        self._strays = record.strays
        GATE.clear()
        before = self._census()
        with self._killing(plan, journal, record):
            if plan.is_in_threads:
                self._run_in_threads(plan, journal, record)
            else:
                self._run(plan, 0, journal, record)
        GATE.set()
        record.left = self._wait_for_none_left(before)
        record.lines = journal.lines()
        shutil.rmtree(folder)  # which lets the children of workers go
        return record

    def _run(self, plan: Round, number: int, journal: Journal, record: RoundRecord) -> None:
        self._of_thread.warnings = record.pools[number].warnings
        try:
            _run_pool(plan.pools[number], journal, record.pools[number])
        except BaseException as error:
            self._note_stray(error)
            if not isinstance(error, Exception):
                raise

    def _run_in_threads(self, plan: Round, journal: Journal, record: RoundRecord) -> None:
        numbers = range(len(plan.pools))
        threads = [threading.Thread(target=self._run, args=(plan, number, journal, record)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _note_warning(self, message: Any, *_: Any, **__: Any) -> None:
        getattr(self._of_thread, "warnings", self._strays).append(str(message))

    def _note_stray(self, error: Optional[BaseException]) -> None:
        self._strays.append("raised where nobody hears it: " + "".join(traceback.format_exception_only(None, error)))

    # ---- kills

    @contextlib.contextmanager
    def _killing(self, plan: Round, journal: Journal, record: RoundRecord) -> Iterator[None]:
        """Kill workers meanwhile, from a thread."""
        is_over = threading.Event()
        thread = threading.Thread(target=self._kill_all, args=(plan, journal, record, is_over))
        if plan.kills and any(pool.is_in_processes for pool in plan.pools):
            thread.start()
        try:
            yield
        finally:
            is_over.set()
            if thread.ident is not None:
                thread.join()

    def _kill_all(self, plan: Round, journal: Journal, record: RoundRecord, is_over: threading.Event) -> None:
        for kill in plan.kills:
            if is_over.wait(kill.pause):
                return
            victims: list[psutil.Process] = []
            while not victims and not is_over.wait(0.005):
                victims = self._victims(kill, journal)
            for victim in victims[int(kill.pick * len(victims)) :][:1]:
                now = time.monotonic()
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
                    record.kills.append(Killed(victim.pid, now))

    def _victims(self, kill: Kill, journal: Journal) -> list[psutil.Process]:
        """Return the workers that may be hit; the helpers of `multiprocess` and children of workers are none."""
        parents = {os.getpid(), *self._helpers}
        started = {line.pid for line in journal.lines()} if kill.is_of_started else None
        found = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                is_worker = child.pid not in self._helpers and child.ppid() in parents
                if is_worker and (started is None or child.pid in started) and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    # ---- what is left

    def _census(self) -> Counter[str]:
        """Count what there is: processes below this one, threads, descriptors, files."""
        children = psutil.Process().children(recursive=True)
        found = Counter(f"process {child.pid}" for child in children if child.pid not in self._helpers)
        found.update(f"thread {thread.name} {thread.ident}" for thread in threading.enumerate())
        found.update(f"file {name}" for name in os.listdir(self._folder))
        for number in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):  # that of the listing itself
                found[f"descriptor of {os.readlink(f'/dev/fd/{number}').partition(':')[0]}"] += 1
        return found

    def _wait_for_none_left(self, before: Counter[str]) -> list[str]:
        end = time.monotonic() + LEAVE_SECONDS
        while True:
            left = self._census() - before
            if not left or time.monotonic() > end:
                return list(left.elements())
            gc.collect()
            time.sleep(0.01)


def _start_helpers() -> set[int]:
    """Start what `multiprocess` starts once and keeps, and return the processes."""
    for method in multiprocess.get_all_start_methods():
        process = multiprocess.get_context(method).Process(target=int)
        process.start()
        process.join()
        process.close()
    return {child.pid for child in psutil.Process().children(recursive=True)}
