"""Workers in processes, each with a private channel: no lock is shared, so no death can block the others.

    driver (the caller's thread)                        worker process k
      send ──pickle──> channel k ──────> attendant thread ──inbox──> main thread: unpickle, call, pickle
      poll <─unpickle─ channel k <──────────────────────────────────────┘    │  │
      poll <────────── death handle k                                        │  │
      running <─────── status board, row k <── number of the item, its start ┘  │
      (its death) <─── journal, row k <─────── outcomes that are not sent yet ──┘

The parent writes and reads the channels in the caller's thread, and never blocks in it: what a worker does not take
waits in its channel's outbox. Where the platform has only pipes that block, a busy worker is sent what surely fits in
the pipe's buffer; what is larger waits here until it is idle, when its attendant surely reads.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Optional
from weakref import WeakSet

import multiprocess
import multiprocess.connection
import multiprocess.heap
import multiprocess.util

from mtasklite import _wire
from mtasklite._backends import _channel
from mtasklite._backends._board import Board, size_of
from mtasklite._backends._orphan import HAS_LIFELINES
from mtasklite._backends._process import GRACE_SECONDS, HAS_PIDFDS, LEAVE_SECONDS, WorkerProcess
from mtasklite._backends._process_worker import Assignment, main
from mtasklite._backends._starting import no_process_starts, start_helpers, undisturbed
from mtasklite._backends._waiting import make_waiter
from mtasklite._byvalue import names_in_main
from mtasklite._faults import GUARD_HINT, death_in_making_error, init_error
from mtasklite._interrupts import interrupts_put_off
from mtasklite._messages import LEAVING, NOWHERE, Batch, Event, Receipt
from mtasklite._output import Output
from mtasklite._status import AT, SINCE
from mtasklite._stdio import current_levels
from mtasklite._window import MAX_BATCH_BYTES, MAX_WINDOW_BYTES
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import PoolClosedError

EXIT_PRIORITY = 100
"""At interpreter exit: before ``multiprocess`` joins what still runs, which would be for ever."""

ASK_SECONDS = 0.1
"""Where only a pipe says that a process has ended, which its own children may hold open, all are asked this often."""

WAIT_SECONDS = 1.0
"""Waits are cut in pieces of no more: a Ctrl-C that comes in the instant before one begins does not end it."""

ROWS_PER_SLOT = 2
"""Processes that one slot may have: a worker that has done all that it may, and is still leaving, and the next."""

_parent_ends: WeakSet[Any] = WeakSet()
"""This process's ends of all channels and lifelines. A forked child, a worker or the user's own, must close its copies:
while they are open, the worker at the other end does not learn that this process is gone."""


def _close_parent_ends() -> None:
    for end in list(_parent_ends):
        with suppress(OSError):
            end.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_parent_ends)


class ProcessBackend:
    """Runs workers in processes of their own.

    Args:
        workers: One worker for each slot.
        argument_type: How an item becomes arguments.
        task_timeout: Seconds that one item, or a constructor, may run.
        start_method: ``'fork'``, ``'spawn'``, ``'forkserver'``, or ``None``: the default of ``multiprocess``.
        output: Shows what workers print; ``None``: that goes where it goes.
    """

    max_batch_items: Optional[int] = None
    max_message_bytes: Optional[int] = None
    batch_scale = 1.0

    def __init__(
        self,
        workers: Sequence[Any],
        argument_type: ArgumentPassing,
        task_timeout: Optional[float],
        start_method: Optional[str] = None,
        output: Optional[Output] = None,
    ) -> None:
        # What fits in a pipe for sure, where writes block.
        self.max_ahead_bytes = MAX_BATCH_BYTES if _channel.HAS_SOCKETS else 4 << 10
        self._workers = workers
        self._argument_type = argument_type
        self._task_timeout = task_timeout
        self._output = output
        self._context = multiprocess.get_context(start_method)
        method = self._context.get_start_method()
        self._is_forking = method == "fork"
        start_helpers(self._context, method)
        self._waiter = make_waiter(multiprocess.connection.wait)
        n_rows = ROWS_PER_SLOT * len(workers)
        with interrupts_put_off():  # an arena has a name for a moment
            arena = None if self._is_forking else multiprocess.heap.Arena(size_of(n_rows))
        self._board = Board(n_rows, arena)
        self._free_rows = list(range(n_rows))
        # Its end says that this process is gone: to the kernel, which kills the workers, whatever they are at.
        self._lifeline: Any = None
        self._held_end: Any = None
        if HAS_LIFELINES:
            with interrupts_put_off():
                self._lifeline, self._held_end = self._context.Pipe(duplex=False)
            _parent_ends.add(self._held_end)
        self._by_slot: dict[int, WorkerProcess] = {}
        self._living: set[WorkerProcess] = set()  # those that were retired too
        self._overstaying: set[WorkerProcess] = set()  # those that have a time to be killed at
        self._ask_at = 0.0
        self._codec = _wire.Codec()
        self._peaks: dict[int, int] = {}  # of workers that have ended
        self._owner = os.getpid()
        self._finalize = multiprocess.util.Finalize(
            self,
            _terminate,
            args=(self._living, [self._waiter, self._board, self._lifeline, self._held_end]),
            exitpriority=EXIT_PRIORITY,
        )

    # ---- starting and sending

    def start(self, slot: int) -> bool:
        self._check_ours()
        if not self._free_rows:
            return False
        row = self._free_rows[-1]
        self._board.clear(row)
        assignment = Assignment(
            row,
            self._argument_type,
            self._task_timeout,
            os.getpid(),
            names_in_main(),
            self._is_forking,
            MAX_WINDOW_BYTES // 2 // len(self._workers),
            self._workers[slot] if self._is_forking else None,
            None if self._output is None else current_levels(),
        )
        with undisturbed():
            ours, theirs = _channel.make_channel(self._context)
            _parent_ends.add(ours)
            process = self._context.Process(
                target=main,
                args=(theirs, self._board, assignment, self._lifeline),
                name=f"mtasklite-worker-{slot}",
                daemon=False,  # it may have children of its own
            )
            try:
                process.start()
            except (EOFError, ConnectionError):  # newer Pythons import `__main__` in the forkserver
                ours.close()
                death = death_in_making_error(slot, f"the forkserver ended; {GUARD_HINT}")
                raise init_error(slot, death, is_any_left=False) from death
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            # Before a Ctrl-C that came meanwhile is raised, at the end of this block.
            worker = WorkerProcess(slot, row, process, ours, self._board, self._waiter, self._output, self._codec)
            if self._is_forking:
                worker.know(assignment.parent_main)
            else:
                worker.to_be_sent = self._workers[slot]
            self._free_rows.pop()
            self._by_slot[slot] = worker
            self._living.add(worker)
        return True

    def freeze(self, value: Any) -> Any:
        return self._codec.freeze(value)

    def send(self, slot: int, batch: Batch) -> Receipt:
        return Receipt(*self._by_slot[slot].send(batch.first, batch.items, self.max_ahead_bytes))

    def cancel(self, slot: int) -> None:
        if os.getpid() == self._owner:
            self._by_slot[slot].cancel()

    def take_back(self, slot: int) -> None:
        self._by_slot[slot].take_back()

    def resume(self, slot: int) -> None:
        worker = self._by_slot.get(slot)
        if worker is not None:
            worker.resume()

    def running(self) -> list[tuple[int, int, float]]:
        board = ((worker.slot, self._board.of(worker.row)) for worker in self._by_slot.values())
        return [(slot, int(numbers[AT]), numbers[SINCE]) for slot, numbers in board if numbers[AT] != NOWHERE]

    def peaks(self) -> list[tuple[int, int]]:
        living = list(self._living)
        for worker in living:
            with suppress(ValueError):  # closed meanwhile by the thread that uses this pool
                worker.note_peak()
        return [*self._peaks.items(), *((worker.slot, worker.peak_bytes) for worker in living)]

    def poll(self, seconds: Optional[float]) -> list[Event]:
        __tracebackhide__ = True
        self._check_ours()
        end = math.inf if seconds is None else time.monotonic() + seconds
        try:
            n_living = len(self._living)
            events = self._poll(seconds)
            while self._output is not None and not events and len(self._living) == n_living and time.monotonic() < end:
                # Nothing has happened but that something was printed.
                events = self._poll(None if seconds is None else max(0.0, end - time.monotonic()))
            return events
        except Exception:
            self._check_ours()  # the exit of the interpreter may have ended all of it amid this
            raise

    def _poll(self, seconds: Optional[float]) -> list[Event]:
        __tracebackhide__ = True
        events: list[Event] = []
        seconds = self._until_overdue(seconds)
        seconds = _shorter(seconds, WAIT_SECONDS if HAS_PIDFDS else ASK_SECONDS)
        for worker, is_dead in self._waiter.wait(seconds):
            if worker not in self._living:
                continue
            if is_dead:
                self._bury(worker, events)
                continue
            worker.take_in(events)
            if worker.kill_at is not None:
                self._overstaying.add(worker)
        if not HAS_PIDFDS and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_SECONDS
            for worker in [worker for worker in self._living if worker.is_ended_unseen]:
                self._bury(worker, events)
        return events

    def _check_ours(self) -> None:
        if os.getpid() != self._owner:
            raise PoolClosedError("this pool belongs to the process that this one was forked from: make a new one here")
        if not self._finalize.still_active():
            while threading.current_thread().daemon:
                time.sleep(1.0)  # the interpreter exits and has ended the workers: no time for errors in daemon threads
            raise PoolClosedError("the interpreter is exiting, which has ended the workers")

    def _bury(self, worker: WorkerProcess, events: list[Event]) -> None:
        with interrupts_put_off():
            self._living.discard(worker)
            self._overstaying.discard(worker)
            if not worker.is_leaving:
                del self._by_slot[worker.slot]
            try:
                worker.bury(events)
            finally:
                worker.release()
                self._free_rows.append(worker.row)
                self._peaks[worker.slot] = max(self._peaks.get(worker.slot, 0), worker.peak_bytes)

    def _until_overdue(self, seconds: Optional[float]) -> Optional[float]:
        """Kill what should have ended, and return how long to wait so as to kill the next of these in time."""
        for worker in self._overstaying:
            seconds_left = (worker.kill_at or 0.0) - time.monotonic()
            if seconds_left > 0:
                seconds = _shorter(seconds, seconds_left)
            elif not worker.kill(LEAVING, self._task_timeout):
                worker.process.kill()
        return seconds

    # ---- the end

    def kill(self, slot: int, number: int) -> bool:
        return self._by_slot[slot].kill(number, self._task_timeout)

    def retire(self, slot: int) -> None:
        worker = self._by_slot.pop(slot)
        worker.retire()
        if self._task_timeout is not None:  # for its `__exit__`, which is all that it has to do
            worker.kill_at = time.monotonic() + self._task_timeout + LEAVE_SECONDS
            self._overstaying.add(worker)

    def close(self, seconds: Optional[float]) -> list[Event]:
        events: list[Event] = []
        if os.getpid() != self._owner:
            return []  # a copy in a forked child: the workers are not its own
        for worker in self._by_slot.values():
            worker.retire()
        self._by_slot.clear()
        end = None if seconds is None else time.monotonic() + seconds
        while self._living:
            seconds_left = self._until_late()
            if end is not None:
                seconds_left = _shorter(seconds_left, end - time.monotonic())
                if time.monotonic() >= end:
                    break
            events += self.poll(seconds_left)
        self.terminate()
        return events

    def _until_late(self) -> Optional[float]:
        """Kill leaving workers past `task_timeout`; return the seconds until another could be."""
        limit, now = self._task_timeout, time.monotonic()
        if limit is None:
            return None
        seconds_left = limit
        for worker in self._living:
            numbers = self._board.of(worker.row)
            at, since = int(numbers[AT]), numbers[SINCE]
            if at == NOWHERE or math.isinf(since):
                continue
            if now - since >= limit:
                worker.kill(at, limit)
            else:
                seconds_left = min(seconds_left, since + limit - now)
        return seconds_left

    def terminate(self) -> None:
        if os.getpid() != self._owner or not self._finalize.still_active():
            return
        with interrupts_put_off():
            self._finalize()
        self._by_slot.clear()
        self._overstaying.clear()


def _shorter(seconds: Optional[float], others: float) -> float:
    return others if seconds is None else min(seconds, others)


def _terminate(living: set[WorkerProcess], held: list[Any]) -> None:
    """End processes at once, with SIGTERM, or SIGKILL if that is not enough, and give back what they held."""
    ending = list(living)
    end = time.monotonic() + GRACE_SECONDS
    with suppress(ValueError):  # a daemon thread is at work with them while the interpreter exits, and has buried one
        for worker in ending:
            worker.process.terminate()
        for worker in ending:
            worker.process.join(max(0.0, end - time.monotonic()))
    for worker in ending:
        with suppress(ValueError):
            worker.process.kill()
            worker.reap()
        worker.release()
    living.clear()
    with no_process_starts():
        for one in held:
            if one is not None:
                one.close()
