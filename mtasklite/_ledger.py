"""Keeps account of what the workers' time went into, for `report.py`: pure, time is a parameter.

A worker that has work says with each run when it ended and how long it was at it. What lies between two such times is
a *gap*, and what the worker waited for in it is known from what the driver did meanwhile: it read the input, waited for
the consumer, waited for other workers. The driver notes that as it goes (`Course`), a few times for each batch; a gap
is divided when its end is known. Nothing here is done for each item, and memory does not grow with their number.

While the pool is at work, both are only written down, for what runs seldom runs slowly; they are worked into the
account some hundreds at a time. Another thread may ask for a snapshot at any time, without a lock: it works what is
written down into a copy, and working in twice what was worked in already changes nothing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass
from operator import add

from mtasklite._messages import UNPACKING, Event, InitFailed, Lost, Ready, Run
from mtasklite.errors import TaskTimeoutError, WorkerDiedError

INPUT, OVERHEAD, END, CONSUMER, WINDOW, PAUSE = range(6)
"""What a worker that is up and has no work waits for: the input; the pool itself, which is handing over; others that do
the last items; the consumer; items before those that it has done, for which the window is kept open; an iteration."""

WORKING, CONSTRUCTING, REMAKING, ABSENT = range(6, 10)
"""What else a slot's time goes into: its worker works, is being made, or made anew after a death; or there is none."""

N_WAITS = 6
N_STATES = 10

MAX_WRITTEN = 256
"""So many runs are written down before they are worked in."""

MAX_ENTRIES = 2048
"""Of what the driver did, so much is kept; then older entries are thinned out."""

MAX_STEPS = 512
"""A lane is divided in no more steps; when they are used up, each two become one."""

FIRST_STEP_SECONDS = 0.002
MAX_DEATHS_KEPT = 256


@dataclass
class Tally:
    """What the worker of one slot has done.

    Attributes:
        n_items: Items that got their outcome from it.
        n_errors: Those of them that failed for good.
        n_retries: Items that failed with it and were tried again.
    """

    n_items: int = 0
    n_errors: int = 0
    n_retries: int = 0


class Course:
    """What workers without work have waited for, at any time since the beginning: seconds by kind, summed up."""

    def __init__(self, now: float, kind: int) -> None:
        self._entries: list[tuple[float, int, tuple[float, ...]]] = [(now, kind, (0.0,) * N_WAITS)]
        self._written: list[tuple[int, float]] = []

    def enter(self, kind: int, now: float) -> None:
        """Take in that from now on it is this that is waited for."""
        self._written.append((kind, now))
        if len(self._written) >= MAX_ENTRIES // 2:
            self.work_in()

    def work_in(self) -> None:
        """Work in what is written down."""
        entries = self._entries
        since, old_kind, sums = entries[-1]
        for kind, now in self._written:
            if kind != old_kind and now >= since:  # else it was worked in before
                sums = (*sums[:old_kind], sums[old_kind] + now - since, *sums[old_kind + 1 :])
                since, old_kind = now, kind
                entries.append((since, kind, sums))
        while len(entries) > MAX_ENTRIES:
            half = MAX_ENTRIES // 2
            entries = entries[:half:2] + entries[half:]
        self._entries = entries
        self._written = []

    def copied(self) -> Course:
        """Return a copy, all worked in."""
        other = copy(self)  # what is written down first, then what it was worked into
        other._entries = self._entries[:]
        other.work_in()
        return other

    def sums_at(self, moment: float) -> tuple[float, ...]:
        """Return the seconds by kind up to this moment."""
        entries = self._entries
        place = bisect_right(entries, (moment,))
        if place == 0:
            return entries[0][2]
        since, kind, sums = entries[place - 1]
        if place == len(entries):
            return (*sums[:kind], sums[kind] + moment - since, *sums[kind + 1 :])
        end, _, sums_then = entries[place]
        share = (moment - since) / (end - since)
        return tuple(before + share * (after - before) for before, after in zip(sums, sums_then))


class Timeline:
    """Seconds by state in steps of time, at most `MAX_STEPS` of them.

    Attributes:
        began_at: When the first step begins; 0: not yet.
        step_seconds: How long a step is.
        n_steps: Steps that are in use.
        cells: `N_STATES` numbers for each step; made at once, for an array that grows is copied again and again.
    """

    def __init__(self, began_at: float = 0.0) -> None:
        self.began_at = began_at
        self.step_seconds = FIRST_STEP_SECONDS
        self.n_steps = 0
        self.cells = array("f", bytes(4 * MAX_STEPS * N_STATES if began_at else 0))
        self._ends_at = began_at + MAX_STEPS * FIRST_STEP_SECONDS

    def _double(self) -> None:
        """Make one step of each two."""
        merged = array("f", bytes(4 * len(self.cells)))
        for state in range(N_STATES):
            sums = map(add, self.cells[state :: 2 * N_STATES], self.cells[state + N_STATES :: 2 * N_STATES])
            merged[state : len(merged) // 2 : N_STATES] = array("f", sums)
        self.cells = merged
        self.n_steps = (self.n_steps + 1) // 2
        self.step_seconds *= 2
        self._ends_at = self.began_at + MAX_STEPS * self.step_seconds

    def pieces(self, begin: float, end: float) -> list[tuple[int, float, float]]:
        """Divide a stretch of time at the steps: return for each piece where its cells begin, its begin, its end."""
        while end >= self._ends_at:
            self._double()
        step = max(0, int((begin - self.began_at) / self.step_seconds))
        pieces = []
        while begin < end:
            step_end = self.began_at + (step + 1) * self.step_seconds
            if step_end > begin:
                pieces.append((step * N_STATES, begin, min(end, step_end)))
                begin = step_end
            step += 1
        self.n_steps = max(self.n_steps, step)
        return pieces


class Lane:
    """One slot's time.

    Attributes:
        tally: What its workers have done.
        seconds: Seconds by state.
        timeline: The same in steps of time.
        n_restarts: Workers that were started in the place of another.
        n_deaths: Workers that died, or were killed for being late.
        died_at: When, the latest of them.
        bytes_in: Size of what was sent to it, pickled.
        bytes_out: Size of what came back, pickled.
        peak_bytes: The most memory that one of its processes had; 0: not known.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.seconds = [0.0] * N_STATES
        self.timeline = Timeline()
        self.n_restarts = self.n_deaths = 0
        self.died_at: deque[float] = deque(maxlen=MAX_DEATHS_KEPT)
        self.bytes_in = self.bytes_out = self.peak_bytes = 0
        self._known_until = 0.0
        self._given_at = 0.0  # when it got a batch, and had none
        self._phase = ABSENT  # or CONSTRUCTING, REMAKING, WORKING: which is up, at work or not
        self._is_new = True  # whether none was started here since the workers were
        self._has_died = False

    def open(self, now: float, began_at: float) -> None:
        """Begin at a start of all workers."""
        if not self.timeline.began_at:
            self.timeline = Timeline(began_at)
        self._known_until = now
        self._phase = CONSTRUCTING  # one after the other
        self._is_new = True
        self._has_died = False

    def on_start(self, now: float) -> None:
        """Take in that a worker is started here."""
        self._settle(now)
        self._phase = REMAKING if self._has_died else CONSTRUCTING
        self.n_restarts += not self._is_new
        self._is_new = self._has_died = False

    def on_ready(self, ready_at: float, now: float) -> None:
        """Take in that the worker is up, since `ready_at`, or just now if that is not known."""
        if self._phase in (CONSTRUCTING, REMAKING):
            self._settle(max(ready_at, self._known_until) if 0 <= ready_at < now else now)
            self._phase = WORKING
            self._given_at = 0.0

    def on_sent(self, n_bytes: int, had_none: bool, now: float) -> None:
        """Take in that the worker was given a batch."""
        self.bytes_in += n_bytes
        if had_none:
            self._given_at = now

    def on_work(self, began_at: float, ended_at: float, course: Course) -> None:
        """Take in when the worker was at some items."""
        self._settle_gap(began_at, course)
        self._settle(ended_at)

    def on_gone(self, was_at_work: bool, is_death: bool, now: float, course: Course) -> None:
        """Take in that there is no worker any more."""
        self.settle_all(was_at_work, now, course)
        self._phase = ABSENT
        self._given_at = 0.0
        self._has_died = is_death
        if is_death:
            self.n_deaths += 1
            self.died_at.append(now)

    def settle_all(self, is_at_work: bool, now: float, course: Course) -> None:
        """Account for all time up to now."""
        if self._phase == WORKING:
            self._settle_gap(self._given_at if is_at_work else now, course)
        self._settle(now)

    def copied(self) -> Lane:
        """Return a copy that can be settled for itself."""
        other = copy(self)
        other.seconds = self.seconds[:]
        other.timeline = copy(self.timeline)
        other.timeline.cells = self.timeline.cells[:]
        return other

    def _settle(self, end: float) -> None:
        """Account for the time up to `end`: the worker was in the phase that it is in."""
        seconds = end - self._known_until
        if seconds <= 0:
            return
        for cell, begin, until in self.timeline.pieces(self._known_until, end):
            self.timeline.cells[cell + self._phase] += until - begin
        self.seconds[self._phase] += seconds
        self._known_until = end

    def _settle_gap(self, end: float, course: Course) -> None:
        """Account for the time up to `end`: the worker had no work."""
        if end <= self._known_until:
            return
        before = course.sums_at(self._known_until)
        for cell, _, until in self.timeline.pieces(self._known_until, end):
            after = course.sums_at(until)
            for kind in range(N_WAITS):
                if after[kind] > before[kind]:
                    self.timeline.cells[cell + kind] += after[kind] - before[kind]
                    self.seconds[kind] += after[kind] - before[kind]
            before = after
        self._known_until = end


class Ledger:
    """All slots' time, over the whole life of a pool.

    Args:
        n_workers: Number of slots.

    Attributes:
        lanes: One for each slot.
        began_at: When workers were first started; 0: never yet.
        is_open: Whether there are workers.
    """

    def __init__(self, n_workers: int) -> None:
        self.lanes = [Lane() for _ in range(n_workers)]
        self.began_at = 0.0
        self.is_open = False
        self.course = Course(0.0, PAUSE)
        self._written: list[tuple[int, float, float]] = []  # slot, when its worker began, when it ended

    def open(self, now: float) -> None:
        """Take in that the workers are about to be started."""
        self.began_at = self.began_at or now
        self.course = Course(now, OVERHEAD)
        for lane in self.lanes:
            lane.open(now, self.began_at)
        self.is_open = True

    def note(self, event: Event, now: float) -> None:
        """Take in what a worker has said, or what has become of it."""
        lane = self.lanes[event.slot]
        if isinstance(event, Run):
            lane.bytes_out += event.n_bytes
            if event.busy_seconds >= 0:
                ended_at = event.ended_at if 0 <= event.ended_at < now else now
                self._written.append((event.slot, ended_at - event.busy_seconds, ended_at))
                if len(self._written) >= MAX_WRITTEN:
                    self._work_in()
            return
        self._work_in()
        if isinstance(event, Ready):
            lane.on_ready(event.since, now)
        elif isinstance(event, Lost):
            lane.on_gone(event.current >= 0 or event.current == UNPACKING, True, now, self.course)
        elif isinstance(event, InitFailed):
            lane.on_gone(False, isinstance(event.error, (WorkerDiedError, TaskTimeoutError)), now, self.course)

    def on_gone(self, index: int, now: float) -> None:
        """Take in that a worker has done all that it may do, and is leaving."""
        self._work_in()
        self.lanes[index].on_gone(False, False, now, self.course)

    def _work_in(self) -> None:
        self.course.work_in()
        for index, began_at, ended_at in self._written:
            self.lanes[index].on_work(began_at, ended_at, self.course)
        self._written = []

    def close(self, at_work: Collection[int], now: float) -> None:
        """Take in that the workers end, of whom these are at work."""
        if self.is_open:
            self.is_open = False
            self._work_in()
            for index, lane in enumerate(self.lanes):
                lane.settle_all(index in at_work, now, self.course)
            self.course = Course(now, PAUSE)  # the old one is large, and not asked any more

    def note_peaks(self, peaks: Sequence[tuple[int, int]]) -> None:
        """Take in how much memory the workers of some slots have had."""
        for index, n_bytes in peaks:
            self.lanes[index].peak_bytes = max(self.lanes[index].peak_bytes, n_bytes)

    def snapshot(self, at_work: Collection[int], now: float) -> list[Lane]:
        """Return the lanes as they stand now, with what is not known yet guessed from who is at work."""
        is_open, written = self.is_open, self._written[:]  # before what it may be worked into meanwhile
        course = self.course.copied()
        lanes = [lane.copied() for lane in self.lanes]
        if is_open:
            for index, began_at, ended_at in written:
                lanes[index].on_work(began_at, ended_at, course)
            for index, lane in enumerate(lanes):
                lane.settle_all(index in at_work, now, course)
        return lanes
