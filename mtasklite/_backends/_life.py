"""The life of a worker in a process or an actor: made, at work, left; and what is said of each step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Optional

from mtasklite import _wire
from mtasklite._backends import _tags as tags
from mtasklite._backends._memory import own_peak
from mtasklite._inbox import Inbox
from mtasklite._messages import LEAVING, NOWHERE
from mtasklite._status import AT, SINCE, note_start
from mtasklite._worker import FLUSH_SECONDS, Finished, Freezer, Keeper, WorkerLoop, exitcode_of, hire, how_it_raised
from mtasklite.constants import ArgumentPassing

IMPORT_SECONDS = 60.0
"""Beyond `task_timeout`, for a worker to be unpickled: that imports what it needs, which is no task's time."""


class StoppedBeforeHireError(Exception):
    """The worker was told to stop before it was sent what to work with."""


class Life:
    """One worker, where it works. Who inherits says how it is received, and how a message is sent.

    Args:
        codec: Packs what it says.
        board: Its numbers on the status board.
        keeper: Its journal, if there is one.
    """

    unspeakable: tuple[type[BaseException], ...] = ()
    """What is raised when nobody is there to be told of anything."""

    def __init__(self, codec: _wire.Codec, board: Any, keeper: Optional[Keeper] = None) -> None:
        self._codec = codec
        self._board = board
        self._keeper = keeper
        self._inbox = Inbox()
        self._loop: Optional[WorkerLoop] = None
        self._printing: Any = None
        self._task_timeout: Optional[float] = None
        self._flush_seconds = FLUSH_SECONDS
        self._bytes_sent = 0
        self._last_bytes = 0  # of the last message
        self._max_bytes_ahead = 0  # of what was sent and the parent has no room for

    def _receive_worker(self) -> tuple[Any, ArgumentPassing]:
        """Return the worker, and how it is to be called; `StoppedBeforeHireError`: there is none."""
        raise NotImplementedError

    def _send(self, message: _wire.Message) -> None:
        raise NotImplementedError

    def _note_left(self) -> None:
        """Do what is to be done before it is said that nothing of the worker runs any more."""

    def _tell(self, tag: bytes, head: Any = None) -> None:
        self._send(self._codec.pack_frozen(tag, head, []))

    def _live(self) -> int:
        """Make the worker, let it work until it is told to stop, and leave it; return the code to exit with."""
        stack = ExitStack()
        exitcode, is_dying = 0, False
        try:
            self._serve(stack)
            note_start(self._board, LEAVING)
        except self.unspeakable:
            raise  # of the channel: one that a task raises is its item's
        except BaseException as error:  # a task may raise what is no error: SystemExit, KeyboardInterrupt
            exitcode, is_dying = exitcode_of(error), True  # the board goes on saying which item that was
            reason = f"{how_it_raised(error)}, exit code {exitcode}"
            traceback = self._codec.pack_error(error).traceback
            self._tell(tags.DYING, (int(self._board[AT]), exitcode, reason, traceback))
        farewell = None
        try:
            stack.close()
        except BaseException as error:
            farewell = self._codec.pack_error(error)
        if not is_dying:
            self._board[AT] = NOWHERE
        if self._printing is not None:
            self._printing.finish()
        self._note_left()
        self._tell(tags.LEFT, (farewell, own_peak()))
        return exitcode

    def _serve(self, stack: ExitStack) -> None:
        try:
            call = hire(*self._receive_worker(), stack, self._board)
        except StoppedBeforeHireError:
            return
        except Exception as error:
            self._tell(tags.INIT_FAILED, self._codec.pack_error(error))
            return
        self._board[AT] = NOWHERE
        loop = WorkerLoop(
            call,
            self._inbox,
            self._board,
            self._send_finished,
            self._task_timeout,
            self._keeper,
            self._freezer(),
            self._has_room,
        )
        loop.flush_seconds = self._flush_seconds
        self._loop = loop
        loop.serve(lambda: self._tell(tags.READY, time.monotonic()), _wire.unpack)

    def _freezer(self) -> Freezer:
        """Return what freezes outcomes."""
        return self._codec

    def _bytes_taken(self) -> float:
        """Return how many bytes of what was sent the parent has room for."""
        raise NotImplementedError

    def _has_room(self) -> bool:
        # The last message does not count, so that the next item is begun however large the results are.
        return self._bytes_sent - self._last_bytes - self._bytes_taken() < self._max_bytes_ahead

    def _send_finished(self, finished: Finished) -> None:
        head = (finished.first, finished.busy_seconds, finished.ended_at, finished.turn, finished.failures)
        message = self._codec.pack_frozen(tags.RUN, head, finished.values)
        self._last_bytes = len(message)
        self._bytes_sent += self._last_bytes
        self._send(message)

    @contextmanager
    def _time_stopped(self) -> Iterator[None]:
        """Let the time not count that the task waits until what it prints is taken."""
        if self._task_timeout is None:
            yield
            return
        since, started_at = self._board[SINCE], time.monotonic()
        self._board[SINCE] = math.inf
        try:
            yield
        finally:
            self._board[SINCE] = since + time.monotonic() - started_at
