"""The loop inside every worker, whatever the backend: take a batch, call, collect, send.

A worker sends what it has at the end of a batch, or when 10 ms have gone since it last sent, so that a result is
never old and a crash loses no more than that much finished work. While one item takes long, whoever attends to the
worker sends for it what was finished before (`flush_if_old`), from another thread. Where a backend has a journal, what
is finished and not sent stands there too, unless items are so short that this would cost more than they do.
"""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections.abc import MutableSequence, Sequence
from contextlib import ExitStack
from typing import Any, Callable, NamedTuple, Optional, Protocol, cast
from weakref import WeakSet

from mtasklite._calls import bind, explain
from mtasklite._inbox import Inbox
from mtasklite._messages import CONSTRUCTING, NOWHERE, UNPACKING, FoundLate
from mtasklite._plain import NUMBERS, is_plain
from mtasklite._status import AT, HOLD_SECONDS, IS_HELD, SINCE, note_start
from mtasklite._wire import Unsendable
from mtasklite.constants import ArgumentPassing
from mtasklite.delayed_init import ShellObject
from mtasklite.errors import text_of

FLUSH_SECONDS = 0.010

LOOK_EVERY = 4
"""In a batch of many short items the worker looks at the clock after so many. If one takes long after all, what was
finished before it is sent by whoever attends to the worker."""

AT_ONCE = -math.inf
"""Stands instead of a time."""

MAX_UNSENT_BYTES = 1 << 20
"""A worker sends what it has when it is so much, however new it is."""

MAX_PAUSE_SECONDS = 0.002
"""A worker that waits until the parent has taken more looks so often."""

MAX_KEPT_BATCH = 64
"""Batches of no more items are kept in the journal: such items take 80 µs or longer, and keeping one about 2 µs."""


_loops: WeakSet[WorkerLoop] = WeakSet()


def _note_copies() -> None:
    for loop in _loops:
        loop.copied_to.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_copies)


class Finished(NamedTuple):
    """What is to be sent: outcomes that lie side by side.

    Attributes:
        first: Sequence number of the first.
        values: The values, frozen if they are to be sent.
        failures: By offset: the exceptions, packed if they are to be sent.
        busy_seconds: How long the worker was at them.
        turn: The turn of the journal that this covers.
        ended_at: When it had done them; the clock of all processes is one.
    """

    first: int
    values: list[Any]
    failures: dict[int, Any]
    busy_seconds: float
    turn: int
    ended_at: float


class Keeper(Protocol):
    """Keeps what is finished and not sent where others find it if this worker dies."""

    def add(self, is_failure: bool, blob: bytes) -> bool:
        """Keep the next outcome; return false if there is no room for it."""

    def turn(self, first: int) -> int:
        """Begin anew with the outcome of this item; return the turn that has ended."""


class Freezer(Protocol):
    """Makes of an outcome what no later change reaches: see `_wire`."""

    def freeze(self, value: Any) -> Any:
        """Return a value's pickle, or what stands for one that cannot be pickled."""

    def pack_error(self, error: BaseException) -> Any:
        """Return an exception as it is to be sent."""


def hire(
    worker: Any, argument_type: ArgumentPassing, stack: ExitStack, board: MutableSequence[Any]
) -> Callable[[Any], Any]:
    """Make the worker object if it is still to be made, and return what is to be called with each item.

    Args:
        worker: A callable, or a shell.
        argument_type: How an item becomes arguments.
        stack: Gets what is to be done after the last item: an instance that is a context manager is left.
        board: This worker's numbers on the status board.
    """
    note_start(board, CONSTRUCTING)
    call: Callable[..., Any] = worker
    if isinstance(worker, ShellObject):
        call = worker.make_instance()
        if hasattr(type(call), "__enter__") and hasattr(type(call), "__exit__"):
            stack.enter_context(call)  # type: ignore[arg-type]
    return bind(call, argument_type)


class WorkerLoop:
    """Calls the worker on the items of one batch after another.

    Args:
        call: What to call with each item.
        inbox: Where batches come from; looked at for a cancellation before each item.
        board: This worker's numbers on the status board.
        send: Sends outcomes.
        limit: Seconds that one item may run; then the start of each goes on the board.
        keeper: The journal, if there is one.
        freezer: Freezes outcomes; ``None``: the objects themselves are handed over.
        has_room: Whether so little of what was sent is still on its way that more may be; ``None``: always.

    Attributes:
        flush_seconds: What is finished lies unsent for no longer.
    """

    def __init__(
        self,
        call: Callable[[Any], Any],
        inbox: Inbox,
        board: MutableSequence[Any],
        send: Callable[[Finished], None],
        limit: Optional[float],
        keeper: Optional[Keeper] = None,
        freezer: Optional[Freezer] = None,
        has_room: Optional[Callable[[], bool]] = None,
    ) -> None:
        self._call = call
        self._inbox = inbox
        self._board = board
        self._send = send
        self._limit = limit
        self._is_timed = limit is not None
        self._keeper = keeper
        self._freezer = freezer
        self._has_room = has_room
        self._keeps = False
        self._n_bytes = 0  # of the values that are packed
        self._lock = threading.Lock()  # one sends at a time
        self._turning = threading.Lock()  # held while values and journal do not agree
        # In a child that the task forked, that child: if it comes back from the task, it must not go on as the worker.
        self.copied_to: list[int] = []
        _loops.add(self)
        self._values: list[Any] = []
        self._failures: dict[int, Any] = {}  # by sequence number; stands before its value does
        self._first = 0  # sequence number of the first of the values
        self._sent_at = 0.0
        self._send_at = 0.0  # when to send next; `AT_ONCE`
        self.is_amid_batch = False
        self.flush_seconds = FLUSH_SECONDS

    def serve(self, say_ready: Callable[[], None], unpack: Callable[[Any], tuple[int, Sequence[Any], Any]]) -> None:
        """Work until told to stop.

        Args:
            say_ready: Tells the parent that this worker waits.
            unpack: Makes of what came in the inbox: sequence number of the first item, items, and by offset the
                errors of those that cannot be called with.
        """
        say_ready()
        while True:
            message = self._inbox.get()
            if message is Inbox.STOP:
                return
            if message is Inbox.CANCELLED:
                self._inbox.is_cancelled = False
                self._board[AT] = NOWHERE
                say_ready()
                continue
            self.is_amid_batch = True  # as long as its size is not known
            note_start(self._board, UNPACKING)
            batch, message = unpack(message), None  # one of the two is enough to hold
            self.work(*batch)
            del batch

    def work(self, first: int, items: Sequence[Any], failures: dict[int, Exception]) -> None:
        """Work on one batch, and send all its outcomes, unless it is cancelled or cut short."""
        self._inbox.begin_batch()
        with self._lock:
            self._first = first
            self._note_sent(time.monotonic())
            self._keeps = self._keeper is not None and (len(items) <= MAX_KEPT_BATCH or self._is_timed)
            self._keeps = self._keeps and len(items) > 1  # one alone is sent at once
            if self._keeper is not None:
                self._keeper.turn(first)
        self.is_amid_batch = len(items) > 1
        self._wait_for_room(first)
        try:
            self._work_around(failures, first, items)
        finally:
            self.is_amid_batch = False
            self._send_now()
        self._board[AT] = NOWHERE  # not where an exit of the worker ends the batch: its item must be known

    def _work_around(self, failures: dict[int, Exception], first: int, items: Sequence[Any]) -> None:
        start = 0
        for offset in sorted(failures):
            if not self._work_on(first + start, items[start:offset]) or not self._may_begin(first + offset):
                return
            self._add_failure(first + offset, failures[offset])
            if self._send_at == AT_ONCE:
                self._send_now()
            start = offset + 1
        self._work_on(first + start, items[start:] if start else items)

    def _work_on(self, number: int, items: Sequence[Any]) -> bool:
        """Work on items that lie side by side; return false if the rest may not be begun."""
        call, board, inbox, is_timed = self._call, self._board, self._inbox, self._is_timed
        add, clock, numbers, is_shared = self._values.append, time.monotonic, NUMBERS, self._freezer is None
        copied_to, limit = self.copied_to, math.inf if self._limit is None else self._limit
        now = clock()
        rarely = LOOK_EVERY - 1 if len(items) > MAX_KEPT_BATCH and not is_timed else 0
        if self._keeps:
            numbers = frozenset()
        for item in items:
            if is_timed:
                self._begin_timed(number, now)
            else:
                board[AT] = number
            if number >= inbox.limit and not self._may_begin(number):
                return False
            try:
                value = call(item)
            except Exception as error:
                explain(error, item)
                self._add_failure(number, error)
            else:
                if copied_to:
                    os._exit(1)
                # Time that it waited for the parent to take what it printed does not count.
                if is_timed and clock() - now >= limit and clock() - board[SINCE] >= limit:
                    self._add_failure(number, FoundLate())  # and nobody came to kill it, being busy elsewhere
                elif is_shared or type(value) in numbers or (not self._keeps and is_plain(value)):
                    add(value)
                    if number & rarely:
                        number += 1
                        continue
                else:
                    self._add_frozen(number, value)
            number += 1
            now = clock()
            if now >= self._send_at:
                self._send_now()
                self._wait_for_room(number)
                now = clock()
        return True

    def _may_begin(self, number: int) -> bool:
        self._board[AT] = number
        if self._inbox.forbids(number):
            self._board[AT] = number - 1  # this one has not begun
            return False
        return True

    def _begin_timed(self, number: int, now: float) -> None:
        board = self._board
        while True:
            old_at, old_since = board[AT], board[SINCE]
            board[SINCE] = now  # first, so that no one sees the new item with the old time
            board[AT] = number
            if not board[IS_HELD]:
                return
            board[AT] = old_at  # it is held, and has not begun
            board[SINCE] = old_since
            self._wait_while_held()
            if self._inbox.is_cancelled:
                return

    def _wait_while_held(self) -> None:
        while self._board[IS_HELD] and not self._inbox.is_cancelled:
            time.sleep(HOLD_SECONDS / 10)

    def _send_now(self) -> None:
        if self._is_timed:
            self._board[SINCE] = math.inf  # sending may block, and is not running
        self.flush()

    def _wait_for_room(self, number: int) -> None:
        """Wait until the parent has taken most of what was sent, or does not want this item any more."""
        has_room, inbox = self._has_room, self._inbox
        if has_room is None or has_room():
            return
        if self._is_timed:
            self._board[SINCE] = math.inf
        seconds = 1e-4
        while not has_room() and not inbox.is_cancelled and number < inbox.limit:
            time.sleep(seconds)
            seconds = min(2 * seconds, MAX_PAUSE_SECONDS)
        self._note_sent(time.monotonic())  # it was not at work

    def _note_sent(self, now: float) -> None:
        self._sent_at = now
        self._send_at = now + self.flush_seconds

    def _add_frozen(self, number: int, value: Any) -> None:
        frozen = cast("Freezer", self._freezer).freeze(value)
        if type(frozen) is Unsendable:
            self._add_failure(number, frozen.error)
            return
        self._n_bytes += frozen.n_bytes
        # What has buffers apart must have left before its memory is used again.
        must_send = bool(frozen.buffers) or self._n_bytes >= MAX_UNSENT_BYTES
        with self._turning:
            self._values.append(frozen)
            if self._send_at == AT_ONCE or must_send or not self._keep(False, frozen.blob):
                self._send_at = AT_ONCE

    def _add_failure(self, number: int, error: Exception) -> None:
        if self.copied_to:
            os._exit(1)
        failure = error if self._freezer is None else self._freezer.pack_error(error)
        self._failures[number] = failure
        with self._turning:
            self._values.append(None)
            if self._keeps and (self._send_at == AT_ONCE or not self._keep(True, pickle.dumps(failure))):
                self._send_at = AT_ONCE

    def _keep(self, is_failure: bool, blob: bytes) -> bool:
        """Keep the next outcome in the journal, if outcomes are kept.

        Once one is missing there, no later one may be added in this turn, or it would take its place: so all must be
        sent if this returns false.
        """
        return not self._keeps or cast("Keeper", self._keeper).add(is_failure, blob)

    def flush(self) -> None:
        """Send what is finished; any thread may."""
        if self.copied_to:
            os._exit(1)
        with self._lock:
            finished = self._take()
            if finished is not None:
                self._send(finished)

    def _take(self) -> Optional[Finished]:
        with self._turning:
            count = len(self._values)
            if not count:
                return None
            first, now = self._first, time.monotonic()
            values = self._values[:count]
            del self._values[:count]
            numbers = [number for number in list(self._failures) if number < first + count]
            failures = {number - first: self._failures.pop(number) for number in numbers}
            busy_seconds = now - self._sent_at
            self._first = first + count
            self._note_sent(now)
            turn = self._keeper.turn(self._first) if self._keeper is not None else 0
            self._n_bytes = 0
            return Finished(first, values, failures, busy_seconds, turn, now)

    def flush_if_old(self) -> None:
        """Send what is finished, if nothing was sent for a while; for another thread to call now and then."""
        if self.is_amid_batch and time.monotonic() - self._sent_at >= self.flush_seconds and not self._lock.locked():
            self.flush()


def how_it_raised(error: BaseException) -> str:
    """Return in words that a worker was ended by what it raised."""
    return f"it raised {text_of(error, repr)}"


def exitcode_of(error: BaseException) -> int:
    """Return what a script would exit with that this ends."""
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1
