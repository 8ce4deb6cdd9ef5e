"""Workers in threads: one inbox a worker, one queue of events for all.

    driver ──put──> inbox 0 ──get──> worker 0 ──put──┐
           ──put──> inbox 1 ──get──> worker 1 ──put──┴──> events ──get──> driver

A thread cannot be killed. One that should be is abandoned: what it was at may run on, as a daemon thread, but
nothing that it says is listened to any more.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any, Optional

from mtasklite._faults import death_in_making_error, late_exit_error, late_init_error
from mtasklite._inbox import Inbox
from mtasklite._interrupts import interrupts_put_off
from mtasklite._messages import (
    CONSTRUCTING,
    LEAVING,
    NOWHERE,
    Batch,
    Event,
    ExitFailed,
    InitFailed,
    Lost,
    Ready,
    Receipt,
    Returned,
    Run,
)
from mtasklite._output import Output, redirect
from mtasklite._status import AT, SINCE, hold, new_board, note_start
from mtasklite._stdio import Route, following
from mtasklite._worker import FLUSH_SECONDS, Finished, WorkerLoop, hire, how_it_raised
from mtasklite.constants import ArgumentPassing

WAIT_SECONDS = 1.0
"""Waits are cut in pieces of no more: a Ctrl-C that comes in the instant before one begins does not end it."""


class _Worker:
    """One thread and what belongs to it."""

    def __init__(
        self,
        slot: int,
        worker: Any,
        argument_type: ArgumentPassing,
        task_timeout: Optional[float],
        events: Any,
        route: Optional[Route],
    ) -> None:
        self.slot = slot
        self.inbox = Inbox()
        self.board: list[Any] = new_board()
        self.loop: Optional[WorkerLoop] = None
        self._worker = worker
        self._argument_type = argument_type
        self._task_timeout = task_timeout
        self._events = events
        self._route = route
        self.thread = threading.Thread(target=self._main, name=f"mtasklite-worker-{slot}", daemon=True)

    def tell(self, event: Event) -> None:
        try:
            if self._route is not None:
                # What was printed is shown before what came of it. The driver does not wait for a screen that is stuck.
                self._route.flush(may_wait=threading.current_thread() is self.thread)
        finally:
            self._events.put((self, event))

    def _main(self) -> None:
        with following(self._route):
            self._live()
        if self._route is not None:
            self._route.finish()

    def _live(self) -> None:
        stack = ExitStack()
        self._serve(stack)
        note_start(self.board, LEAVING)
        try:
            stack.close()
        except BaseException as error:
            self.tell(ExitFailed(self.slot, error))
        self.board[AT] = NOWHERE
        self._worker = self.loop = None  # while somebody may wait for it, nobody needs these

    def _serve(self, stack: ExitStack) -> None:
        try:
            call = hire(self._worker, self._argument_type, stack, self.board)
        except Exception as error:
            self.tell(InitFailed(self.slot, error))
            return
        except BaseException as error:
            death = death_in_making_error(self.slot, how_it_raised(error))
            death.__cause__ = error
            self.tell(InitFailed(self.slot, death))
            return
        finally:
            self.board[AT] = NOWHERE
        self.loop = WorkerLoop(call, self.inbox, self.board, self._send_finished, self._task_timeout)
        try:
            self.loop.serve(lambda: self.tell(Ready(self.slot, time.monotonic())), self._unpack)
        except BaseException as error:
            self.tell(Lost(self.slot, self.board[AT], None, how_it_raised(error)))

    def abandon(self, number: int) -> bool:
        """Give it up for being late, if it is still at this; return whether it was."""
        if not hold(self.board, number):
            return False
        self.inbox.stop()
        if number == CONSTRUCTING:
            self.tell(InitFailed(self.slot, late_init_error(self.slot, self._task_timeout)))
            return True
        if number == LEAVING:
            self.tell(ExitFailed(self.slot, late_exit_error(self.slot, self._task_timeout)))
            return True
        loop = self.loop
        if loop is not None:
            loop.flush()  # what it has finished stands
        self.tell(Lost(self.slot, number, None, "it was abandoned"))
        return True

    def _send_finished(self, finished: Finished) -> None:
        first, values, failures, busy_seconds, _, ended_at = finished
        self.tell(Run(self.slot, first, values, failures, busy_seconds, ended_at=ended_at))

    @staticmethod
    def _unpack(batch: Batch) -> tuple[int, Sequence[Any], dict[int, Exception]]:
        return batch.first, batch.items, {}


class ThreadBackend:
    """Runs workers in daemon threads.

    Args:
        workers: One worker for each slot.
        argument_type: How an item becomes arguments.
        task_timeout: Seconds that one item, or a constructor, may run.
        output: Shows what workers print; ``None``: that goes where it goes.
    """

    max_ahead_bytes = 0
    max_batch_items: Optional[int] = None
    max_message_bytes: Optional[int] = None
    batch_scale = 1.0
    freeze = None  # workers get the items themselves

    def __init__(
        self,
        workers: Sequence[Any],
        argument_type: ArgumentPassing,
        task_timeout: Optional[float],
        output: Optional[Output] = None,
    ) -> None:
        self._workers = workers
        self._argument_type = argument_type
        self._task_timeout = task_timeout
        self._by_slot: dict[int, _Worker] = {}
        self._leaving: list[_Worker] = []
        self._events: SimpleQueue[tuple[_Worker, Event]] = SimpleQueue()
        self._output = output
        self._redirection = redirect(self, output)
        weakref.finalize(self, _stop_all, self._by_slot).atexit = False

    def start(self, slot: int) -> bool:
        route = None if self._output is None else Route(self._output, slot)
        worker = _Worker(slot, self._workers[slot], self._argument_type, self._task_timeout, self._events, route)
        with interrupts_put_off():  # or a thread might be left that nobody knows of
            try:
                worker.thread.start()
            except RuntimeError as error:
                raise OSError(str(error)) from error  # as where there is no process left
            self._by_slot[slot] = worker
        return True

    def send(self, slot: int, batch: Batch) -> Receipt:
        self._by_slot[slot].inbox.put(batch)
        return Receipt()

    def poll(self, seconds: Optional[float]) -> list[Event]:
        __tracebackhide__ = True
        events: list[Event] = []
        end = None if seconds is None else time.monotonic() + seconds
        while not events:
            seconds_left = None if end is None else max(0.0, end - time.monotonic())
            self._collect(events, seconds_left)
            if end is not None and time.monotonic() >= end:
                break
        return events

    def _collect(self, events: list[Event], seconds: Optional[float]) -> None:
        __tracebackhide__ = True
        if self._events.empty() and seconds != 0 and not self._wait_for_one(events, seconds):
            self._flush_old()
        for _ in range(self._events.qsize()):
            self._note(events, *self._events.get_nowait())

    def _wait_for_one(self, events: list[Event], seconds: Optional[float]) -> bool:
        """Wait for an event, no longer than a result may lie unsent; return whether there was one."""
        __tracebackhide__ = True
        if any(loop.is_amid_batch for loop in self._loops()):
            seconds = FLUSH_SECONDS if seconds is None else min(seconds, FLUSH_SECONDS)
        seconds = WAIT_SECONDS if seconds is None else min(seconds, WAIT_SECONDS)
        try:
            worker, event = self._events.get(timeout=seconds)
        except Empty:
            return False
        self._note(events, worker, event)
        return True

    def _note(self, events: list[Event], worker: _Worker, event: Event) -> None:
        if isinstance(event, ExitFailed):
            events.append(event)
        elif self._by_slot.get(worker.slot) is worker:  # else it was abandoned, or is leaving
            if isinstance(event, (InitFailed, Lost)):
                del self._by_slot[worker.slot]
            events.append(event)

    def _flush_old(self) -> None:
        for loop in self._loops():
            loop.flush_if_old()

    def _loops(self) -> list[WorkerLoop]:
        # Each looked at once, for a thread that ends forgets its own.
        return [loop for loop in [worker.loop for worker in self._by_slot.values()] if loop is not None]

    def running(self) -> list[tuple[int, int, float]]:
        return [
            (slot, worker.board[AT], worker.board[SINCE])
            for slot, worker in self._by_slot.items()
            if worker.board[AT] != NOWHERE
        ]

    def kill(self, slot: int, number: int) -> bool:
        return self._by_slot[slot].abandon(number)

    def retire(self, slot: int) -> None:
        worker = self._by_slot.pop(slot)
        worker.inbox.stop()
        self._leaving = [other for other in self._leaving if other.thread.is_alive()]
        self._leaving.append(worker)

    def peaks(self) -> list[tuple[int, int]]:
        return []  # their memory is this process's

    def cancel(self, slot: int) -> None:
        self._by_slot[slot].inbox.cancel()

    def take_back(self, slot: int) -> None:
        worker = self._by_slot[slot]
        worker.tell(Returned(slot, *worker.inbox.take_back(worker.board)))

    def resume(self, slot: int) -> None:
        """Do nothing: no worker waits for room."""

    def close(self, seconds: Optional[float]) -> list[Event]:
        with interrupts_put_off():
            for slot in list(self._by_slot):
                self.retire(slot)
        end = math.inf if seconds is None else time.monotonic() + seconds
        for worker in self._leaving:
            if worker.thread is not threading.current_thread():  # a pool that is dropped may be collected in its worker
                self._join(worker, end)
        self._leaving.clear()
        self._redirection()
        said = [self._events.get_nowait()[1] for _ in range(self._events.qsize())]
        return [event for event in said if isinstance(event, (InitFailed, ExitFailed))]

    def _join(self, worker: _Worker, end: float) -> None:
        """Wait for a thread's end, no longer than until `end`, and no longer than its item may run."""
        limit = self._task_timeout
        while worker.thread.is_alive():
            now = time.monotonic()
            seconds_left = end - now
            if limit is not None and worker.board[AT] != NOWHERE:
                seconds_left = min(seconds_left, worker.board[SINCE] + limit - now)
                if seconds_left <= 0 and worker.abandon(worker.board[AT]):
                    return
            if end <= now:
                return
            worker.thread.join(max(0.0, min(seconds_left, limit or WAIT_SECONDS, WAIT_SECONDS)))

    def terminate(self) -> None:
        self.close(0)


def _stop_all(by_slot: dict[int, _Worker]) -> None:
    """Let the threads of a backend end that was dropped without being closed."""
    for worker in by_slot.values():
        worker.inbox.stop()
