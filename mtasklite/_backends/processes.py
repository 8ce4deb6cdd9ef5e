"""Workers in processes, each with a private channel: no lock is shared, so no death can block the others.

    driver (the caller's thread)                        worker process k
      send ──pickle──> duplex pipe k ──> attendant thread ──inbox──> main thread: unpickle, call, pickle
      poll <─unpickle─ duplex pipe k <───────────────────────────────────┘    │
      poll <────────── process sentinel k                                     │
      running <─────── status board, slot k <──── number of the item, its start

The parent writes and reads the pipes in the caller's thread. So that a write can never block on a worker that is
busy, a busy worker is sent only what fits in the pipe's buffer; what is larger waits here until it is idle, when
its attendant surely reads.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Optional
from weakref import WeakSet

import multiprocess
import multiprocess.connection
import multiprocess.heap
import multiprocess.resource_tracker
import multiprocess.util

from mtasklite import _wire
from mtasklite._backends import _process_worker as protocol
from mtasklite._backends._board import Board, size_of
from mtasklite._backends._process import GRACE_SECONDS, WorkerProcess, how_it_ended
from mtasklite._backends._starting import no_process_starts, undisturbed
from mtasklite._backends._waiting import make_waiter
from mtasklite._byvalue import names_in_main
from mtasklite._messages import Batch, Event, InitFailed, Lost, Ready, Receipt, Run
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import WorkerDiedError

EXIT_PRIORITY = 100
"""At interpreter exit: before ``multiprocess`` joins what still runs, which would be for ever."""

_parent_ends: WeakSet[Any] = WeakSet()
"""This process's ends of all pipes, which a forked child must close."""


class ProcessBackend:
    """Runs workers in processes of their own.

    Args:
        workers: One worker for each slot.
        argument_type: How an item becomes arguments.
        is_timed: Whether the status board must tell when each item was started.
        start_method: ``'fork'``, ``'spawn'``, ``'forkserver'``, or ``None``: the default of ``multiprocess``.
    """

    max_ahead_bytes = (64 if sys.platform == "linux" else 4) << 10
    max_batch_items: Optional[int] = None

    def __init__(
        self,
        workers: Sequence[Any],
        argument_type: ArgumentPassing,
        is_timed: bool,
        start_method: Optional[str] = None,
    ) -> None:
        self._workers = workers
        self._argument_type = argument_type
        self._is_timed = is_timed
        self._context = multiprocess.get_context(start_method)
        method = self._context.get_start_method()
        self._is_forking = method == "fork"
        if method == "spawn" and os.name == "posix":
            # Not amid the first start, where it would unblock SIGINT.
            multiprocess.resource_tracker.ensure_running()
        self._waiter = make_waiter(multiprocess.connection.wait)
        arena = None if self._is_forking else multiprocess.heap.Arena(size_of(len(workers)))
        self._board = Board(len(workers), arena)
        self._by_slot: dict[int, WorkerProcess] = {}
        self._living: set[WorkerProcess] = set()  # those that were retired too
        self._owner = os.getpid()
        self._finalize = multiprocess.util.Finalize(self, _terminate, args=(self._living,), exitpriority=EXIT_PRIORITY)

    # ---- starting and sending

    def start(self, slot: int) -> None:
        self._board.clear(slot)
        contract = protocol.Contract(
            slot,
            self._argument_type,
            self._is_timed,
            names_in_main(),
            self._is_forking,
            self._workers[slot] if self._is_forking else None,
        )
        with undisturbed():
            ours, theirs = self._context.Pipe(duplex=True)
            _parent_ends.add(ours)
            not_ours = list(_parent_ends) if self._is_forking else []
            process = self._context.Process(
                target=protocol.main,
                args=(theirs, self._board, contract, not_ours),
                name=f"mtasklite-worker-{slot}",
                daemon=False,  # it may have children of its own
            )
            try:
                process.start()
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
            # Before a Ctrl-C that came meanwhile is raised, at the end of this block.
            worker = WorkerProcess(slot, process, ours)
            self._by_slot[slot] = worker
            self._living.add(worker)
        self._waiter.add(ours, (worker, False))
        self._waiter.add(worker.death_handle, (worker, True))

    def send(self, slot: int, batch: Batch) -> Receipt:
        worker = self._by_slot[slot]
        message, failures = worker.codec.pack(protocol.BATCH, batch.first, batch.items)
        if worker.held_back or (worker.n_open > 0 and len(message) > self.max_ahead_bytes):
            worker.held_back.append((message, len(batch.items)))
        else:
            worker.n_open += len(batch.items)
            worker.tell(message)
        return Receipt(len(message), failures)

    def cancel(self, slot: int) -> None:
        if os.getpid() != self._owner:
            return
        worker = self._by_slot[slot]
        worker.n_open = 0
        worker.held_back.clear()
        worker.tell(protocol.CANCEL)

    def running(self) -> list[tuple[int, int, float]]:
        board = ((slot, self._board.of(slot)) for slot in self._by_slot)
        return [(slot, int(numbers[0]), numbers[1]) for slot, numbers in board if numbers[0] >= 0]

    # ---- what comes back

    def poll(self, seconds: Optional[float]) -> list[Event]:
        events: list[Event] = []
        for worker, is_dead in self._waiter.wait(seconds):
            if worker not in self._living:
                continue
            if is_dead:
                self._bury(worker, events)
            else:
                self._take_in(worker, events)
        return events

    def _take_in(self, worker: WorkerProcess, events: list[Event]) -> None:
        message = worker.receive()
        if message is None:
            self._waiter.remove(worker.connection)
            worker.process.kill()  # it closed its end; with nobody to talk to it is as good as dead
            with no_process_starts():
                worker.connection.close()
        else:
            self._understand(worker, message, events)

    def _understand(self, worker: WorkerProcess, message: bytes, events: list[Event]) -> None:
        tag = _wire.tag_of(message)
        if worker.is_leaving and tag != protocol.INIT_FAILED:
            return
        head, values, failures = _wire.unpack(message)
        if tag == protocol.RUN:
            first, busy_seconds, packed = head
            failures.update({offset: _wire.unpack_error(error) for offset, error in packed.items()})
            self._count_answered(worker, len(values))
            events.append(Run(worker.slot, first, values, failures, busy_seconds, len(message)))
        elif tag == protocol.HELLO:
            worker.codec = _wire.Codec(head)
            self._send_worker(worker)
        elif tag == protocol.READY:
            worker.is_up = True
            worker.n_open = 0
            events.append(Ready(worker.slot))
        elif tag == protocol.INIT_FAILED:
            worker.init_error = _wire.unpack_error(head)

    def _send_worker(self, worker: WorkerProcess) -> None:
        if self._is_forking:
            return
        message, failures = worker.codec.pack(protocol.WORKER, None, [self._workers[worker.slot]])
        if failures:
            worker.init_error = failures[0]
            worker.process.kill()
        else:
            worker.tell(message)

    def _count_answered(self, worker: WorkerProcess, n_items: int) -> None:
        worker.n_open -= n_items
        if worker.n_open <= 0 and worker.held_back:
            message, worker.n_open = worker.held_back.popleft()
            worker.tell(message)

    def _bury(self, worker: WorkerProcess, events: list[Event]) -> None:
        while not worker.connection.closed and worker.connection.poll():
            message = worker.receive()
            if message is None:
                break
            self._understand(worker, message, events)
        exitcode = worker.reap()
        self._forget(worker)
        if not worker.is_leaving:
            del self._by_slot[worker.slot]
        # One that was told to leave before it was made leaves with 0, or nobody knows with what.
        if not worker.is_up and not (worker.is_leaving and exitcode in (0, None)):
            error = worker.init_error or self._death_error(worker.slot, exitcode)
            events.append(InitFailed(worker.slot, error))
        elif not worker.is_leaving:
            current = int(self._board.of(worker.slot)[0])
            reason = how_it_ended(exitcode)
            events.append(Lost(worker.slot, current if current >= 0 else None, exitcode, reason))

    def _death_error(self, slot: int, exitcode: Optional[int]) -> WorkerDiedError:
        text = f"worker {slot} died while it was being made: {how_it_ended(exitcode)}"
        if not self._is_forking:
            text += "; a script that starts workers by spawn or forkserver must do so under"
            text += ' `if __name__ == "__main__":`, for each worker imports it'
        return WorkerDiedError(text, exitcode, slot)

    def _forget(self, worker: WorkerProcess) -> None:
        self._living.discard(worker)
        if not worker.connection.closed:
            self._waiter.remove(worker.connection)
        self._waiter.remove(worker.death_handle)
        worker.release()

    # ---- the end

    def kill(self, slot: int) -> None:
        self._by_slot[slot].process.kill()

    def retire(self, slot: int) -> None:
        worker = self._by_slot.pop(slot)
        worker.is_leaving = True
        worker.tell(protocol.STOP)

    def close(self, seconds: Optional[float]) -> list[InitFailed]:
        events: list[Event] = []
        if os.getpid() != self._owner:
            return []  # a copy in a forked child: the workers are not its own
        for slot in list(self._by_slot):
            self.retire(slot)
        end = None if seconds is None else time.monotonic() + seconds
        while self._living:
            seconds_left = None if end is None else end - time.monotonic()
            if seconds_left is not None and seconds_left <= 0:
                break
            events += self.poll(seconds_left)
        self.terminate()
        return [event for event in events if isinstance(event, InitFailed)]

    def terminate(self) -> None:
        if os.getpid() != self._owner or not self._finalize.still_active():
            return
        self._finalize()
        self._by_slot.clear()
        self._waiter.close()
        self._board.close()


def _terminate(living: set[WorkerProcess]) -> None:
    """End processes at once, with SIGTERM, or SIGKILL if that is not enough, and give back what they held."""
    for worker in living:
        worker.process.terminate()
    end = time.monotonic() + GRACE_SECONDS
    for worker in living:
        worker.process.join(max(0.0, end - time.monotonic()))
    for worker in living:
        worker.process.kill()
        worker.reap()
        worker.release()
    living.clear()
