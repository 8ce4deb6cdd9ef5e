"""What runs inside a worker process: two threads around the worker loop.

The *attendant* reads the channel at all times, so that the parent is rid of what it sends however busy the worker is,
sends for the loop what has lain too long, and ends the process once the parent is gone. The main thread unpacks, calls
and packs.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import sys
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Optional

from mtasklite import _wire
from mtasklite._backends import _tags as tags
from mtasklite._backends._board import Board
from mtasklite._backends._channel import HAS_SOCKETS, WorkerEnd
from mtasklite._backends._journal import Journal
from mtasklite._backends._life import IMPORT_SECONDS, Life, StoppedBeforeHireError
from mtasklite._backends._orphan import ParentWatch, hang_on
from mtasklite._backends._process_output import Printing, Senders
from mtasklite._byvalue import freeze_inheritance, names_in_main
from mtasklite._inbox import Inbox
from mtasklite._messages import UNPACKING
from mtasklite._status import TAKEN, note_start
from mtasklite._stdio import Levels
from mtasklite._worker import FLUSH_SECONDS
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import note_worker_process

IDLE_CHECKS = 10


@dataclass(frozen=True)
class Assignment:
    """What a worker process is told at its start.

    Attributes:
        row: Its place on the board.
        argument_type: How an item becomes arguments.
        task_timeout: Seconds that one item may run.
        parent: Process id of the parent.
        parent_main: Names that the parent's ``__main__`` has.
        is_forked: Whether `worker` came by fork; else it follows as a message.
        max_bytes_ahead: It pauses when more of what it has sent waits for room in the parent.
        worker: The worker.
        levels: Which log records are to be sent, with what is printed; ``None``: neither.
    """

    row: int
    argument_type: ArgumentPassing
    task_timeout: Optional[float]
    parent: int
    parent_main: frozenset[str]
    is_forked: bool
    max_bytes_ahead: int
    worker: Any = None
    levels: Optional[Levels] = None


def main(channel: WorkerEnd, board: Board, assignment: Assignment, lifeline: Any) -> None:
    """Work until told to stop.

    Args:
        channel: This end of the channel.
        board: The status board.
        assignment: What it is to do.
        lifeline: What ends when the parent does, as a connection; or ``None``.
    """
    note_worker_process()
    if assignment.is_forked:
        freeze_inheritance()
    if lifeline is not None:
        hang_on(lifeline)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=channel.close)  # a child of the task would hold it open
    if HAS_SOCKETS:
        # Where the parent finds it. Off in children, lest they write to what has this number there.
        faulthandler.enable(channel.waitable.fileno(), all_threads=False)
        os.register_at_fork(after_in_child=faulthandler.disable)
    # The parent gets it too, and decides. Not SIG_IGN, which the programs that a task starts would inherit.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked handler would do the parent's clean-up here
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        exitcode = _ProcessWorker(channel, board, assignment).run()
    except OSError:
        os._exit(1)  # the parent is gone, and with it whoever could be told
    if exitcode:
        sys.exit(exitcode)


class _ProcessWorker(Life):
    unspeakable = (OSError,)

    def __init__(self, channel: WorkerEnd, board: Board, assignment: Assignment) -> None:
        codec = _wire.Codec(assignment.parent_main)
        super().__init__(codec, board.of(assignment.row), Journal(board.journal_of(assignment.row)))
        self._max_bytes_ahead = assignment.max_bytes_ahead
        self._channel = channel
        self._assignment = assignment
        self._task_timeout = assignment.task_timeout
        self._lock = threading.Lock()  # one message at a time
        self._replies: deque[_wire.Message] = deque()  # the attendant's
        self._sending = Senders()
        if assignment.levels is not None:
            self._printing = Printing(self._send_printed, self._sending, self._time_stopped)

    def run(self) -> int:
        """Work, and return the code to exit with."""
        if not self._assignment.is_forked:  # else it has what the parent has
            self._tell(tags.HELLO, names_in_main())
        _thread.start_new_thread(self._attend, ())  # without the wait for its start, and unknown to `threading`
        if self._printing is not None and self._assignment.levels is not None:
            name = sys.modules["multiprocess"].current_process().name
            self._printing.start(self._assignment.levels, name)
        return self._live()

    def _receive_worker(self) -> tuple[Any, ArgumentPassing]:
        if self._assignment.is_forked:
            return self._assignment.worker, self._assignment.argument_type
        message = self._inbox.get()
        if message is Inbox.STOP:
            raise StoppedBeforeHireError
        note_start(self._board, UNPACKING, IMPORT_SECONDS)
        _, (worker,), failures = _wire.unpack(message)
        if failures:
            raise failures[0]
        if self._printing is not None:
            self._printing.take_handlers()  # of what was imported
        return worker, self._assignment.argument_type

    def _bytes_taken(self) -> float:
        return float(self._board[TAKEN])

    def _send(self, message: _wire.Message) -> None:
        with self._sending, self._lock:
            self._send_pending()
            self._channel.send(message)
        self._send_replies()

    def _send_replies(self) -> None:
        # The attendant must not wait for a message of the main thread, which may be long: it leaves its own to that.
        while self._replies and self._lock.acquire(blocking=False):
            try:
                with self._sending:
                    while self._replies:
                        self._channel.send(self._replies.popleft())
            finally:
                self._lock.release()

    def _send_printed(self) -> None:
        with self._sending, self._lock:
            self._send_pending()
        self._send_replies()

    def _send_pending(self) -> None:
        while self._printing is not None:
            pieces = self._printing.take()
            if not pieces:
                break
            self._channel.send(self._codec.pack_frozen(tags.PRINTED, pieces, []))

    def _attend(self) -> None:  # pragma: no cover - runs in every worker, in a thread that is not measured
        watch = ParentWatch(self._assignment.parent, self._channel.waitable)
        n_idle_checks = 0
        has_batch = False  # one item alone is sent at once: there is nothing to look after
        try:  # whatever ends this thread must end the process, which could not be spoken to any more
            while True:
                loop = self._loop
                is_amid_batch = loop is not None and loop.is_amid_batch
                is_working = is_amid_batch or (has_batch and not self._inbox.empty())
                n_idle_checks = 0 if is_working else n_idle_checks + 1
                has_input = watch.wait(FLUSH_SECONDS if n_idle_checks < IDLE_CHECKS else None)
                if n_idle_checks == IDLE_CHECKS:
                    has_batch = False
                if has_input:
                    for message in self._channel.receive():
                        if self._take_in(message) == tags.BATCH:
                            n_idle_checks, has_batch = 0, True
                elif watch.is_orphan:
                    break
                if loop is not None:
                    loop.flush_if_old()
        except (EOFError, OSError):
            pass  # the parent is gone: nobody is left to work for
        finally:
            os._exit(1)

    def _take_in(self, message: Any) -> bytes:  # pragma: no cover - as above
        tag = _wire.tag_of(message)
        if tag == tags.CANCEL:
            self._inbox.cancel()
        elif tag == tags.STOP:
            self._inbox.stop()
        elif tag == tags.TAKE_BACK:
            self._replies.append(self._codec.pack_frozen(tags.RETURNED, self._inbox.take_back(self._board), []))
            self._send_replies()
        else:
            self._inbox.put(message)
        return tag
