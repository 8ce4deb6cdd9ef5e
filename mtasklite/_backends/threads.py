"""Workers in threads: one inbox a worker, one queue of events for all.

    driver ──put──> inbox 0 ──get──> worker 0 ──put──┐
           ──put──> inbox 1 ──get──> worker 1 ──put──┴──> events ──get──> driver

A thread cannot be killed. One that should be is abandoned: what it was at may run on, as a daemon thread, but
nothing that it says is listened to any more.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any, Optional

from mtasklite._messages import Batch, Event, InitFailed, Lost, Ready, Receipt, Run
from mtasklite._worker import BOARD_FIELDS, FLUSH_SECONDS, Inbox, WorkerLoop, hire
from mtasklite.constants import ArgumentPassing


class _Worker:
    """One thread and what belongs to it."""

    def __init__(self, slot: int, worker: Any, argument_type: ArgumentPassing, is_timed: bool, events: Any) -> None:
        self.slot = slot
        self.inbox = Inbox()
        self.board: list[Any] = [-1] * BOARD_FIELDS
        self.loop: Optional[WorkerLoop] = None
        self._worker = worker
        self._argument_type = argument_type
        self._is_timed = is_timed
        self._events = events
        self.thread = threading.Thread(target=self._main, name=f"mtasklite-worker-{slot}", daemon=True)

    def tell(self, event: Event) -> None:
        self._events.put((self, event))

    def _main(self) -> None:
        with ExitStack() as stack:  # what leaving it raises is shown by threading.excepthook
            try:
                call = hire(self._worker, self._argument_type, stack)
            except BaseException as error:
                self.tell(InitFailed(self.slot, error))
                return
            self.loop = WorkerLoop(call, self.inbox, self.board, self._send_run, self._is_timed)
            try:
                self.loop.serve(lambda: self.tell(Ready(self.slot)), self._unpack)
            except BaseException as error:
                self.tell(self.lost(f"it raised {error!r}"))

    def lost(self, reason: str) -> Lost:
        current = int(self.board[0])
        return Lost(self.slot, current if current >= 0 else None, None, reason)

    def _send_run(self, first: int, values: list[Any], failures: dict[int, Exception], seconds: float) -> None:
        self.tell(Run(self.slot, first, values, failures, seconds))

    @staticmethod
    def _unpack(batch: Batch) -> tuple[int, list[Any], dict[int, Exception]]:
        return batch.first, batch.items, {}


class ThreadBackend:
    """Runs workers in daemon threads.

    Args:
        workers: One worker for each slot.
        argument_type: How an item becomes arguments.
        is_timed: Whether the status board must tell when each item was started.
    """

    max_ahead_bytes = 0
    max_batch_items: Optional[int] = None

    def __init__(self, workers: Sequence[Any], argument_type: ArgumentPassing, is_timed: bool) -> None:
        self._workers = workers
        self._argument_type = argument_type
        self._is_timed = is_timed
        self._by_slot: dict[int, _Worker] = {}
        self._leaving: list[_Worker] = []
        self._events: SimpleQueue[tuple[_Worker, Event]] = SimpleQueue()
        weakref.finalize(self, _stop_all, self._by_slot).atexit = False

    def start(self, slot: int) -> None:
        worker = _Worker(slot, self._workers[slot], self._argument_type, self._is_timed, self._events)
        self._by_slot[slot] = worker
        worker.thread.start()

    def send(self, slot: int, batch: Batch) -> Receipt:
        self._by_slot[slot].inbox.put(batch)
        return Receipt()

    def poll(self, seconds: Optional[float]) -> list[Event]:
        events: list[Event] = []
        end = None if seconds is None else time.monotonic() + seconds
        while not events:
            seconds_left = None if end is None else max(0.0, end - time.monotonic())
            self._collect(events, seconds_left)
            if end is not None and time.monotonic() >= end:
                break
        return events

    def _collect(self, events: list[Event], seconds: Optional[float]) -> None:
        if self._events.empty() and seconds != 0 and not self._wait_for_one(events, seconds):
            self._flush_old()
        for _ in range(self._events.qsize()):
            self._note(events, *self._events.get_nowait())

    def _wait_for_one(self, events: list[Event], seconds: Optional[float]) -> bool:
        """Wait for an event, no longer than a result may lie unsent; return whether there was one."""
        if any(worker.loop and worker.loop.is_amid_batch for worker in self._by_slot.values()):
            seconds = FLUSH_SECONDS if seconds is None else min(seconds, FLUSH_SECONDS)
        try:
            worker, event = self._events.get(timeout=seconds)
        except Empty:
            return False
        self._note(events, worker, event)
        return True

    def _note(self, events: list[Event], worker: _Worker, event: Event) -> None:
        if self._by_slot.get(worker.slot) is not worker:
            return  # it was abandoned, or has left
        if isinstance(event, (InitFailed, Lost)):
            del self._by_slot[worker.slot]
        events.append(event)

    def _flush_old(self) -> None:
        for worker in self._by_slot.values():
            if worker.loop is not None:
                worker.loop.flush_if_old()

    def running(self) -> list[tuple[int, int, float]]:
        return [
            (slot, int(worker.board[0]), float(worker.board[1]))
            for slot, worker in self._by_slot.items()
            if worker.board[0] >= 0
        ]

    def kill(self, slot: int) -> None:
        worker = self._by_slot[slot]
        if worker.loop is not None:
            worker.loop.flush()  # what it has finished stands
        worker.tell(worker.lost("it was abandoned"))
        worker.inbox.stop()

    def retire(self, slot: int) -> None:
        worker = self._by_slot.pop(slot)
        worker.inbox.stop()
        self._leaving.append(worker)

    def cancel(self, slot: int) -> None:
        self._by_slot[slot].inbox.cancel()

    def close(self, seconds: Optional[float]) -> list[InitFailed]:
        for slot in list(self._by_slot):
            self.retire(slot)
        end = None if seconds is None else time.monotonic() + seconds
        for worker in self._leaving:
            if worker.thread is threading.current_thread():
                continue  # the pool was dropped, and collected in one of its own workers
            worker.thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self._leaving.clear()
        said = [self._events.get_nowait()[1] for _ in range(self._events.qsize())]
        return [event for event in said if isinstance(event, InitFailed)]

    def terminate(self) -> None:
        self.close(0)


def _stop_all(by_slot: dict[int, _Worker]) -> None:
    """Let the threads of a backend end that was dropped without being closed."""
    for worker in by_slot.values():
        worker.inbox.stop()
