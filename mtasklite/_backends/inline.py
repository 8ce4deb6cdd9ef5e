"""The one worker that runs in the calling thread: no process, no thread, and a debugger just works.

Each poll works on one batch: one item where items take long, so that reading, calling and handing out alternate as in a
plain loop; some dozens where they are short, for a turn of the driver costs some 25 µs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Optional

from mtasklite._inbox import Inbox
from mtasklite._messages import NOWHERE, Batch, Event, ExitFailed, InitFailed, Ready, Receipt, Run
from mtasklite._output import Output, redirect
from mtasklite._status import AT, new_board
from mtasklite._stdio import Route, following
from mtasklite._worker import Finished, WorkerLoop, hire
from mtasklite.constants import ArgumentPassing

MAX_BATCH_ITEMS = 64


class InlineBackend:
    """Runs one worker in the thread that polls.

    Args:
        workers: A sequence of one worker.
        argument_type: How an item becomes arguments.
        output: Shows what the worker prints; ``None``: that goes where it goes.
    """

    max_ahead_bytes = 0
    max_batch_items: Optional[int] = MAX_BATCH_ITEMS
    max_message_bytes: Optional[int] = None
    batch_scale = 1.0
    freeze = None  # workers get the items themselves

    def __init__(self, workers: Sequence[Any], argument_type: ArgumentPassing, output: Optional[Output] = None) -> None:
        (self._worker,) = workers
        self._argument_type = argument_type
        self._stack = ExitStack()
        self._board = new_board()
        self._loop: Optional[WorkerLoop] = None
        self._is_to_be_made = False
        self._batches: list[Batch] = []
        self._events: list[Event] = []
        self._route = None if output is None else Route(output, 0)
        self._redirection = redirect(self, output)

    def start(self, slot: int) -> bool:
        self._is_to_be_made = True
        return True

    def _make_worker(self) -> Event:
        self._is_to_be_made = False
        try:
            with following(self._route):
                call = hire(self._worker, self._argument_type, self._stack, self._board)
        except Exception as error:
            return InitFailed(0, error)
        self._board[AT] = NOWHERE
        self._loop = WorkerLoop(call, Inbox(), self._board, self._note_finished, limit=None)
        return Ready(0, time.monotonic())

    def _note_finished(self, finished: Finished) -> None:
        if self._route is not None:
            self._route.flush()
        first, values, failures, busy_seconds, _, ended_at = finished
        self._events.append(Run(0, first, values, failures, busy_seconds, ended_at=ended_at))

    def send(self, slot: int, batch: Batch) -> Receipt:
        self._batches.append(batch)
        return Receipt()

    def poll(self, seconds: Optional[float]) -> list[Event]:
        if self._is_to_be_made:
            return [self._make_worker()]
        if self._loop is not None and not self._events and self._batches and seconds != 0:
            batch = self._batches.pop(0)
            if self._route is None:
                self._loop.work(batch.first, batch.items, {})
            else:
                with following(self._route):
                    self._loop.work(batch.first, batch.items, {})
        events, self._events = self._events, []
        return events

    def running(self) -> list[tuple[int, int, float]]:
        at, since, *_ = self._board  # seen by other threads
        return [(0, at, since)] if at != NOWHERE else []

    def peaks(self) -> list[tuple[int, int]]:
        return []  # its memory is this process's

    def kill(self, slot: int, number: int) -> bool:
        return False  # the only thread there is makes this very call

    def retire(self, slot: int) -> None:
        self._events += self._leave_worker()

    def cancel(self, slot: int) -> None:
        self._batches.clear()
        self._events = [Ready(0)]

    def take_back(self, slot: int) -> None:
        """Do nothing: there is nobody else to give it to."""

    def resume(self, slot: int) -> None:
        """Do nothing: no worker waits for room."""

    def close(self, seconds: Optional[float]) -> list[Event]:
        try:
            return self._leave_worker()
        finally:
            self._redirection()

    def terminate(self) -> None:
        self.close(0)

    def _leave_worker(self) -> list[Event]:
        self._batches.clear()
        self._loop = None
        try:
            with following(self._route):
                self._stack.close()
        except Exception as error:
            return [ExitFailed(0, error)]
        finally:
            if self._route is not None:
                self._route.finish()
        return []
