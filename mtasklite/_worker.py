"""The loop inside every worker, whatever the backend: take a batch, call, collect, send.

A worker sends what it has at the end of a batch, or when 10 ms have gone since it last sent, so that a result is
never old and a crash loses no more than that much finished work. While one item takes long, whoever attends to the
worker sends for it what was finished before (`flush_if_old`), from another thread. Where a backend has a journal, what
is finished and not sent stands there too, unless items are so short that this would cost more than they do.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import MutableSequence
from contextlib import ExitStack
from typing import Any, Callable, NamedTuple, Optional, Protocol, cast
from weakref import WeakSet

from mtasklite._calls import bind, explain
from mtasklite._inbox import Inbox
from mtasklite._messages import CONSTRUCTING, NOWHERE, UNPACKING, FoundLate
from mtasklite._status import AT, HOLD_SECONDS, IS_HELD, SINCE, note_start
from mtasklite.constants import ArgumentPassing
from mtasklite.delayed_init import ShellObject
from mtasklite.errors import text_of

FLUSH_SECONDS = 0.010

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
        values: The values.
        failures: By offset: the exceptions.
        busy_seconds: How long the worker was at them.
        turn: The turn of the journal that this covers.
        ended_at: When it had done them; the clock of all processes is one.
    """

    first: int
    values: list[Any]
    failures: dict[int, Exception]
    busy_seconds: float
    turn: int
    ended_at: float


class Keeper(Protocol):
    """Keeps what is finished and not sent where others find it if this worker dies."""

    def pack(self, outcome: Any, is_failure: bool) -> Optional[bytes]:
        """Pickle an outcome; return ``None`` if that cannot be done, or costs too much to be done twice."""

    def add(self, is_failure: bool, blob: bytes) -> bool:
        """Keep the next outcome; return false if there is no room for it."""

    def turn(self, first: int) -> int:
        """Begin anew with the outcome of this item; return the turn that has ended."""


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
    ) -> None:
        self._call = call
        self._inbox = inbox
        self._board = board
        self._send = send
        self._limit = limit
        self._is_timed = limit is not None
        self._keeper = keeper
        self._keeps = False
        self._must_send = False
        self._lock = threading.Lock()  # one sends at a time
        self._turning = threading.Lock()  # held while values and journal do not agree
        # In a child that the task forked, that child: if it comes back from the task, it must not go on as the worker.
        self.copied_to: list[int] = []
        _loops.add(self)
        self._values: list[Any] = []
        self._failures: dict[int, Exception] = {}  # by sequence number; stands before its value does
        self._first = 0  # sequence number of the first of the values
        self._sent_at = 0.0
        self.is_amid_batch = False
        self.flush_seconds = FLUSH_SECONDS

    def serve(self, say_ready: Callable[[], None], unpack: Callable[[Any], tuple[int, list[Any], Any]]) -> None:
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

    def work(self, first: int, items: list[Any], failures: dict[int, Exception]) -> None:
        """Work on one batch, and send all its outcomes, unless it is cancelled or cut short."""
        self._inbox.begin_batch()
        with self._lock:
            self._first = first
            self._sent_at = time.monotonic()
            self._keeps = self._keeper is not None and (len(items) <= MAX_KEPT_BATCH or self._is_timed)
            self._keeps = self._keeps and len(items) > 1  # one alone is sent at once
            if self._keeper is not None:
                self._keeper.turn(first)
        self.is_amid_batch = len(items) > 1
        try:
            self._work_around(failures, first, items)
        finally:
            self.is_amid_batch = False
            self._send_now()
        self._board[AT] = NOWHERE  # not where an exit of the worker ends the batch: its item must be known

    def _work_around(self, failures: dict[int, Exception], first: int, items: list[Any]) -> None:
        start = 0
        for offset in sorted(failures):
            if not self._work_on(first + start, items[start:offset]) or not self._may_begin(first + offset):
                return
            self._add_failure(first + offset, failures[offset])
            if self._must_send:
                self._send_now()
            start = offset + 1
        self._work_on(first + start, items[start:] if start else items)

    def _work_on(self, number: int, items: list[Any]) -> bool:
        """Work on items that lie side by side; return false if the rest may not be begun."""
        call, board, inbox, is_timed = self._call, self._board, self._inbox, self._is_timed
        add, clock = self._add_kept if self._keeps else self._values.append, time.monotonic
        copied_to, limit = self.copied_to, math.inf if self._limit is None else self._limit
        now, flush_seconds = clock(), self.flush_seconds
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
                else:
                    add(value)
            number += 1
            now = clock()
            if self._must_send or now - self._sent_at >= flush_seconds:
                self._send_now()
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

    def _add_kept(self, value: Any, is_failure: bool = False) -> None:
        keeper = cast("Keeper", self._keeper)
        blob = keeper.pack(value, is_failure)
        with self._turning:
            self._values.append(None if is_failure else value)
            # Once an outcome is missing there, no later one may be added in this turn, or it would take its place.
            self._must_send = self._must_send or blob is None or not keeper.add(is_failure, blob)

    def _add_failure(self, number: int, error: Exception) -> None:
        if self.copied_to:
            os._exit(1)
        self._failures[number] = error
        if self._keeps:
            self._add_kept(error, is_failure=True)
        else:
            self._values.append(None)

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
            self._first, self._sent_at = first + count, now
            turn = self._keeper.turn(self._first) if self._keeper is not None else 0
            self._must_send = False
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
