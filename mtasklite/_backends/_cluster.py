"""Workers in the actors of a cluster, for any engine that has actors.

    driver (the caller's thread)                          actor k
      send ──pickle──> call k ──── the engine ────> Host.exchange ──inbox──> worker thread
      poll <─unpickle─ arrivals <─ the engine ─── its answer <──────────────────┘

The engine itself is behind an *adapter*: it starts an actor, calls it, kills it. What is said between driver and host
is ours, and pickled by us. The engine's threads only put the ends of calls into one queue, which `poll` reads.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Optional

from mtasklite._backends import _tags as tags
from mtasklite._backends._adapter import Adapter, Death, Frames, Then
from mtasklite._backends._cluster_ending import EngineThreads, end_all, on_dropped
from mtasklite._backends._cluster_starting import Starting
from mtasklite._backends._cluster_wire import MAX_MESSAGE_BYTES, SecuringCodec, to_frames
from mtasklite._backends._cluster_worker import Arrival, RemoteWorker
from mtasklite._batching import BATCH_SECONDS
from mtasklite._byvalue import names_in_main
from mtasklite._interrupts import interrupts_put_off
from mtasklite._messages import Batch, Event, ExitFailed, InitFailed, Receipt
from mtasklite._output import Output
from mtasklite._stdio import current_levels
from mtasklite._window import MAX_BATCH_BYTES, MAX_WINDOW_BYTES
from mtasklite._worker import FLUSH_SECONDS
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import PoolClosedError

WAIT_SECONDS = 1.0
"""Waits are cut in pieces of no more: a Ctrl-C that comes in the instant before one begins does not end it."""

SILENCE_SECONDS = 0.020
"""A worker with which no exchange is under way is listened to again after so long, though nobody waits for it."""

HOLD_ANSWER_SECONDS = 3.0
"""A late worker that does not answer within this holds the interpreter's lock, and is killed unheard."""

CALL_SECONDS = 0.0005
"""What an exchange costs the driver, until it was measured; on Ray 0.4 to 0.5 ms of a CPU, its threads included."""

THREADS_FACTOR = 2.5
"""How many times as much an exchange costs, the engine's threads included, as the call in the driver's own thread."""

DRIVER_SHARE = 0.25
"""Batches are so long that exchanges with all workers take no more of the driver's time, however many these are."""

LONGEST_SCALE = 32.0

GRACE_SECONDS = 10.0
"""For the engine to say that an actor is gone that was killed."""

ACTORS_PER_SLOT = 2
"""A worker that has done all that it may, and is still leaving, and the next."""


class Calls:
    """Starts exchanges, and measures what that costs: CPU time, for others may use the CPU meanwhile.

    What lives on where a backend was dropped holds this, and not the backend.

    Args:
        adapter: The engine.

    Attributes:
        seconds: What an exchange costs the driver.
        engine_threads: Where the engine calls back.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self.seconds = CALL_SECONDS
        self.engine_threads = EngineThreads()

    def __call__(self, actor: Any, number: int, messages: list[Frames], then: Then) -> None:
        started_at = time.thread_time()
        self._adapter.call(actor, number, messages, self.engine_threads.noting(then))
        seconds = THREADS_FACTOR * (time.thread_time() - started_at)
        self.seconds += 0.02 * (seconds - self.seconds)


class ClusterBackend:
    """Runs workers in actors.

    Args:
        adapter: The engine.
        workers: One worker for each slot.
        argument_type: How an item becomes arguments.
        task_timeout: Seconds that one item, or a constructor, may run.
        output: Shows what workers print; ``None``: that goes where it goes.
    """

    max_ahead_bytes = MAX_BATCH_BYTES
    max_batch_items: Optional[int] = None
    max_message_bytes: Optional[int] = MAX_MESSAGE_BYTES

    def __init__(
        self,
        adapter: Adapter,
        workers: Sequence[Any],
        argument_type: ArgumentPassing,
        task_timeout: Optional[float],
        output: Optional[Output] = None,
    ) -> None:
        self._adapter = adapter
        self._workers = workers
        self._argument_type = argument_type
        self._task_timeout = task_timeout
        self._output = output
        self._arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self._by_slot: dict[int, RemoteWorker] = {}
        self._living: set[RemoteWorker] = set()  # all whose actors are not known to be gone
        self._heard: list[Event] = []  # amid something else, for the next `poll`
        self._peaks: dict[int, int] = {}
        self._codec = SecuringCodec()  # the actors' `__main__` is not ours: what is defined there goes by value
        self._max_bytes_ahead = MAX_WINDOW_BYTES // 2 // len(workers)
        self._calls = Calls(adapter)
        self._starting = Starting(adapter)
        self._owner = os.getpid()
        adapter.open(len(workers), task_timeout is not None)
        self._finalize = weakref.finalize(self, on_dropped, self._owner, adapter, self._living)

    @property
    def batch_scale(self) -> float:
        wanted_seconds = len(self._workers) * self._calls.seconds / DRIVER_SHARE
        return min(max(1.0, wanted_seconds / BATCH_SECONDS), LONGEST_SCALE)

    # ---- starting and sending

    def start(self, slot: int) -> bool:
        self._check_ours()
        if len(self._living) >= ACTORS_PER_SLOT * len(self._workers):
            return False
        if not self._starting.may_start():
            return False
        payload, error = self._payload(slot)
        if error is not None:
            self._heard.append(InitFailed(slot, error))
            return True
        with interrupts_put_off():
            actor = self._adapter.start_actor(slot, payload)
            worker = RemoteWorker(
                slot, actor, self._calls, self._arrivals, self._output, self._codec, self._max_bytes_ahead
            )
            self._by_slot[slot] = worker
            self._living.add(worker)
            self._starting.add(worker)
            worker.exchange()
        return True

    def _payload(self, slot: int) -> tuple[Frames, Optional[Exception]]:
        """Return what a host is started with, and why the worker could not be pickled."""
        levels = None if self._output is None else tuple(current_levels())
        name = f"mtasklite-worker-{slot}"
        flush_seconds = self.batch_scale * FLUSH_SECONDS
        head = (
            name,
            self._argument_type.value,
            self._task_timeout,
            flush_seconds,
            names_in_main(),
            levels,
            self._max_bytes_ahead,
        )
        message, failures = self._codec.pack(tags.START, head, [self._workers[slot]])
        return to_frames(message), failures.get(0)

    def freeze(self, value: Any) -> Any:
        return self._codec.freeze(value)

    def send(self, slot: int, batch: Batch) -> Receipt:
        return Receipt(*self._by_slot[slot].send(batch.first, batch.items))

    def cancel(self, slot: int) -> None:
        if os.getpid() == self._owner:
            self._by_slot[slot].order(tags.CANCEL)

    def resume(self, slot: int) -> None:
        worker = self._by_slot.get(slot)
        if worker is not None:
            worker.resume()

    def take_back(self, slot: int) -> None:
        self._by_slot[slot].order(tags.TAKE_BACK)

    def running(self) -> list[tuple[int, int, float]]:
        places = [(slot, worker.position) for slot, worker in self._by_slot.items()]
        return [(slot, *place) for slot, place in places if place is not None]

    def peaks(self) -> list[tuple[int, int]]:
        return list(self._peaks.items())

    # ---- listening

    def poll(self, seconds: Optional[float]) -> list[Event]:
        __tracebackhide__ = True
        self._check_ours()
        events = self._wait(seconds)
        if not events and not self._adapter.is_joined:  # or the answers would be waited for that never come
            raise PoolClosedError(f"the program has left the {self._adapter.name} cluster that this pool is on")
        return events

    def _wait(self, seconds: Optional[float]) -> list[Event]:
        __tracebackhide__ = True
        events, self._heard = self._heard, []
        n_living = len(self._living)
        end = math.inf if seconds is None else time.monotonic() + seconds
        self._listen(is_waiting=end > time.monotonic())
        while True:
            self._hear(events, 0.0 if events else end - time.monotonic())
            self._end_late_leavers(events)
            self._look_after_places(events)
            is_done = (
                events or len(self._living) != n_living or self._starting.has_room_again or time.monotonic() >= end
            )
            if is_done or not self._adapter.is_joined:
                return events
            self._listen(is_waiting=True)

    def _check_ours(self) -> None:
        if os.getpid() != self._owner:
            raise PoolClosedError("this pool belongs to the process that this one was forked from: make a new one here")
        if not self._finalize.alive:
            raise PoolClosedError("this pool was ended, or the interpreter is exiting")

    def _listen(self, is_waiting: bool) -> None:
        """Begin an exchange with each worker that has none.

        If nobody waits, what is about to be sent will begin them, but for those that were not heard for a while.
        """
        now = time.monotonic()
        for worker in self._living:
            is_silent = not worker.is_pending and (is_waiting or now - worker.heard_at >= SILENCE_SECONDS)
            if is_silent or worker.is_overdue:
                worker.exchange()

    def _hear(self, events: list[Event], seconds: float) -> None:
        """Take in what has arrived; if nothing has, wait for it."""
        __tracebackhide__ = True
        if self._arrivals.empty() and seconds > 0:
            with suppress(Empty):
                self._take_in(self._arrivals.get(timeout=min(seconds, WAIT_SECONDS)), events)
        for _ in range(self._arrivals.qsize()):
            self._take_in(self._arrivals.get_nowait(), events)
        for worker in [worker for worker in self._living if worker.error_in_vain is not None]:
            self._end_gone(worker, worker.error_in_vain, events)

    def _take_in(self, arrival: Arrival, events: list[Event]) -> None:
        worker = arrival.worker
        error = worker.take_in(arrival, events)
        if error is not None:
            self._end_gone(worker, error, events)
        elif worker.is_over:
            self._bury(worker)

    def _end_gone(self, worker: RemoteWorker, error: Optional[BaseException], events: list[Event]) -> None:
        """Take in that an actor is gone."""
        if error is not None:
            death = self._adapter.death(error)
            worker.is_killed = worker.is_killed or death.is_certain
            worker.end(death, events)
        self._bury(worker)
        self._living.discard(worker)

    def _bury(self, worker: RemoteWorker) -> None:
        """Let nothing more be asked of a worker whose story is told."""
        self._starting.note_end(worker)
        self._peaks[worker.slot] = max(self._peaks.get(worker.slot, 0), worker.peak_bytes)
        if self._by_slot.get(worker.slot) is worker:
            del self._by_slot[worker.slot]
        self._kill(worker)

    def _kill(self, worker: RemoteWorker) -> None:
        if not worker.is_killed:
            worker.is_killed = True
            self._adapter.kill(worker.actor)
            worker.exchange()  # its end will say that the actor is gone

    # ---- the end

    def kill(self, slot: int, number: int) -> bool:
        self._hear(self._heard, 0.0)
        worker = self._by_slot.get(slot)
        place = worker.position if worker is not None else None
        if worker is None or place is None or place[0] != number:
            return False
        worker.order(tags.HOLD, number)
        end = time.monotonic() + HOLD_ANSWER_SECONDS
        while worker.is_held is None and not worker.is_over and time.monotonic() < end:
            self._listen(is_waiting=True)  # what it has finished may be more than one answer takes
            self._hear(self._heard, end - time.monotonic())
        if worker.is_over or worker.is_held is False:
            return False
        worker.end_late(number, self._task_timeout, self._heard)
        self._bury(worker)
        return True

    def retire(self, slot: int) -> None:
        worker = self._by_slot.pop(slot)
        worker.is_leaving = True
        if worker.has_greeted:
            worker.order(tags.STOP)
        else:
            worker.end(Death("it was not needed"), [])
            self._kill(worker)

    def _look_after_places(self, events: list[Event]) -> None:
        in_vain, lack = self._starting.look_after(self._by_slot.values())
        for worker in in_vain:
            worker.end(Death(lack), events)
            self._bury(worker)

    def _end_late_leavers(self, events: list[Event]) -> None:
        limit = self._task_timeout
        for worker in [worker for worker in self._living if worker.is_slow_to_die]:
            worker.end(Death("it did not end by itself"), events)
            self._bury(worker)
        if limit is None:
            return
        for worker in [worker for worker in self._living if worker.is_late_to_leave(limit)]:
            worker.end_late((worker.position or (0, 0.0))[0], limit, events)
            self._bury(worker)

    def close(self, seconds: Optional[float]) -> list[Event]:
        if os.getpid() != self._owner:
            return []  # a copy in a forked child: the workers are not its own
        if self._calls.engine_threads.hand_over(self.close, seconds):
            return []
        events: list[Event] = []
        self._starting.end()
        for slot in list(self._by_slot):
            self.retire(slot)
        end = math.inf if seconds is None else time.monotonic() + seconds
        while not all(worker.is_over for worker in self._living) and self._adapter.is_joined and time.monotonic() < end:
            events += self._wait(min(WAIT_SECONDS, end - time.monotonic(), self._task_timeout or math.inf))
        events += self._heard
        self.terminate()
        return [event for event in events if isinstance(event, (InitFailed, ExitFailed))]

    def terminate(self) -> None:
        if os.getpid() != self._owner or not self._finalize.alive:
            return
        if self._calls.engine_threads.hand_over(self.terminate):
            return
        with interrupts_put_off():
            for worker in self._living:
                worker.end(Death("it was terminated"), [])
                self._kill(worker)
            end = time.monotonic() + GRACE_SECONDS
            while self._living and self._adapter.is_joined and time.monotonic() < end:
                self._listen(is_waiting=True)  # what was under way may have ended well before the actor did
                self._hear([], end - time.monotonic())
            self._finalize.detach()
            end_all(self._adapter, self._living)
            self._living.clear()
        self._by_slot.clear()
