"""The loop inside every worker, whatever the backend: take a batch, call, collect, send.

A worker sends what it has at the end of a batch, or when 10 ms have gone since it last sent, so that a result is
never old and a crash loses no more than that much finished work. While one item takes long, whoever attends to the
worker sends for it what was finished before (`flush_if_old`), from another thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import MutableSequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Any, Callable

from mtasklite.constants import ArgumentPassing
from mtasklite.delayed_init import ShellObject

FLUSH_SECONDS = 0.010

BOARD_FIELDS = 2
"""Numbers that a worker has on the status board: sequence number of its item (-1: at none), its start."""

SendRun = Callable[[int, list[Any], dict[int, Exception], float], None]


def hire(worker: Any, argument_type: ArgumentPassing, stack: ExitStack) -> Callable[[Any], Any]:
    """Make the worker object if it is still to be made, and return what is to be called with each item.

    Args:
        worker: A callable, or a shell.
        argument_type: How an item becomes arguments.
        stack: Gets what is to be done after the last item: an instance that is a context manager is left.
    """
    call: Callable[..., Any] = worker
    if isinstance(worker, ShellObject):
        call = worker.make_instance()
        if hasattr(type(call), "__enter__") and hasattr(type(call), "__exit__"):
            stack.enter_context(call)  # type: ignore[arg-type]
    if argument_type is ArgumentPassing.AS_ARGS:
        return lambda item: call(*item)
    if argument_type is ArgumentPassing.AS_KWARGS:
        return lambda item: call(**item)
    return call


class Inbox:
    """What a worker is to do next; may be emptied from another thread."""

    STOP = object()
    CANCELLED = object()

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.is_cancelled = False
        self.put = self._queue.put
        self.get = self._queue.get
        self.empty = self._queue.empty

    def cancel(self) -> None:
        """Drop what waits; the worker stops after the item that it is at, and says that it is ready."""
        self._replace_all(self.CANCELLED)

    def stop(self) -> None:
        """Drop what waits; the worker ends after the item that it is at."""
        self._replace_all(self.STOP)

    def _replace_all(self, order: object) -> None:
        self.is_cancelled = True
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            self._queue.put(order)


class WorkerLoop:
    """Calls the worker on the items of one batch after another.

    Args:
        call: What to call with each item.
        inbox: Where batches come from; looked at for a cancellation before each item.
        board: This worker's numbers on the status board.
        send_run: Sends outcomes: sequence number of the first, values, failures by offset, busy seconds.
        is_timed: Whether the start of each item goes on the board.
    """

    def __init__(
        self,
        call: Callable[[Any], Any],
        inbox: Inbox,
        board: MutableSequence[Any],
        send_run: SendRun,
        is_timed: bool,
    ) -> None:
        self._call = call
        self._inbox = inbox
        self._board = board
        self._send_run = send_run
        self._is_timed = is_timed
        self._lock = threading.Lock()  # one sends at a time
        self._values: list[Any] = []
        self._failures: dict[int, Exception] = {}  # by sequence number; stands before its value does
        self._first = 0  # sequence number of the first of the values
        self._sent_at = 0.0
        self.is_amid_batch = False

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
                self._board[0] = -1
                say_ready()
                continue
            self.is_amid_batch = True  # as long as its size is not known
            batch, message = unpack(message), None  # one of the two is enough to hold
            self.work(*batch)
            del batch

    def work(self, first: int, items: list[Any], failures: dict[int, Exception]) -> None:
        """Work on one batch, and send all its outcomes, unless it is cancelled."""
        with self._lock:
            self._first = first
            self._sent_at = time.monotonic()
        self.is_amid_batch = len(items) > 1
        try:
            start = 0
            for offset in sorted(failures):
                self._work_on(first + start, items[start:offset])
                if self._inbox.is_cancelled:
                    return
                self._add_failure(first + offset, failures[offset])
                start = offset + 1
            self._work_on(first + start, items[start:] if start else items)
        finally:
            self.is_amid_batch = False
            if self._is_timed:
                self._board[1] = math.inf
            self.flush()
        self._board[0] = -1  # not where an exit of the worker ends the batch: its item must be known

    def _work_on(self, number: int, items: list[Any]) -> None:
        call, board, inbox, is_timed = self._call, self._board, self._inbox, self._is_timed
        add, clock = self._values.append, time.monotonic
        now = clock()
        for item in items:
            if inbox.is_cancelled:
                return
            if is_timed:
                board[1] = now  # first, so that no one sees the new item with the old time
            board[0] = number
            try:
                add(call(item))
            except Exception as error:
                self._add_failure(number, error)
            number += 1
            now = clock()
            if now - self._sent_at >= FLUSH_SECONDS:
                if is_timed:
                    board[1] = math.inf  # sending may block, and is not running
                self.flush()
                now = clock()

    def _add_failure(self, number: int, error: Exception) -> None:
        self._failures[number] = error
        self._values.append(None)

    def flush(self) -> None:
        """Send what is finished; any thread may."""
        with self._lock:
            count = len(self._values)
            if not count:
                return
            first, now = self._first, time.monotonic()
            values = self._values[:count]
            del self._values[:count]
            numbers = [number for number in list(self._failures) if number < first + count]
            failures = {number - first: self._failures.pop(number) for number in numbers}
            busy_seconds = now - self._sent_at
            self._first, self._sent_at = first + count, now
            self._send_run(first, values, failures, busy_seconds)

    def flush_if_old(self) -> None:
        """Send what is finished, if nothing was sent for a while; for another thread to call now and then."""
        if self.is_amid_batch and time.monotonic() - self._sent_at >= FLUSH_SECONDS and not self._lock.locked():
            self.flush()
