"""One worker process, as the parent sees it: what is said to it, what it says, how it ended."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Optional, cast

from mtasklite import _wire
from mtasklite._backends import _tags as tags
from mtasklite._backends._board import Board
from mtasklite._backends._channel import ParentEnd
from mtasklite._backends._journal import read_journal
from mtasklite._backends._memory import peak_of
from mtasklite._backends._starting import no_process_starts
from mtasklite._backends._unanswered import Unanswered
from mtasklite._backends._waiting import Waiter
from mtasklite._faults import GUARD_HINT, death_in_making_error, late_exit_error, late_init_error
from mtasklite._frames import without_our_frames
from mtasklite._messages import (
    CONSTRUCTING,
    LEAVING,
    NOWHERE,
    UNPACKING,
    Event,
    ExitFailed,
    InitFailed,
    Lost,
    Ready,
    Returned,
    Run,
)
from mtasklite._output import Output
from mtasklite._status import AT, TAKEN, hold
from mtasklite.errors import WorkerDiedError, signal_name

HAS_PIDFDS = os.name == "nt" or hasattr(os, "pidfd_open")
"""Whether the death of a process can be waited for; Windows has handles of processes, which are as good."""

GRACE_SECONDS = 0.5
"""For the exit code of a process that another thread is amid collecting; and between SIGTERM and SIGKILL."""

DYING_SECONDS = 60.0
"""For the `__exit__` of a worker object whose task raised what ends the worker."""

LEAVE_SECONDS = 2.0
"""For the end of a process whose work is done; threads or children that the user's code left may hold it up."""


class WorkerProcess:
    """One process and what belongs to it.

    Args:
        slot: Its place in the list of workers.
        row: Its place on the board.
        process: The process.
        channel: This end of the channel.
        board: The status board.
        waiter: What waits for it: it is added with `(self, False)` for what it says, `(self, True)` for its end.
        output: Shows what it prints; ``None``: it is not asked for that.
        codec: Packs for all workers of the pool.

    Attributes:
        to_be_sent: What it should work with, to be sent when it says that it is there; ``None`` if it came by fork.
        is_leaving: Whether its end is expected, and its outcomes do not matter.
        kill_at: When to end it that should have ended by itself.
        peak_bytes: The most memory that it is known to have had.
    """

    def __init__(
        self,
        slot: int,
        row: int,
        process: Any,
        channel: ParentEnd,
        board: Board,
        waiter: Waiter,
        output: Optional[Output],
        codec: _wire.Codec,
    ) -> None:
        self.slot = slot
        self.row = row
        self.process = process
        self._channel = channel
        self._death_handle = _death_handle(process)
        self._board = board
        self._waiter = waiter
        self._output = output
        self.to_be_sent: Any = None
        self._codec = codec
        self._bytes_received = 0  # of outcomes
        self._open = Unanswered()
        self._held_back: deque[tuple[_wire.Message, range]] = deque()  # for when it is idle
        self._is_behind = False  # whether something waits in the channel's outbox
        self._is_cut_off = False
        self._is_released = False
        self._last_turn = 0  # of its journal, that was sent whole
        self._has_greeted = False
        self._is_up = False
        self.is_leaving = False
        self._init_error: Optional[BaseException] = None
        self._exit_error: Optional[BaseException] = None
        self._last_words: Optional[tuple[int, str, str]] = None  # exit code it should have, reason, traceback
        self.kill_at: Optional[float] = None
        self.peak_bytes = 0
        waiter.add(channel.waitable, (self, False))
        waiter.add(self._death_handle, (self, True))

    # ---- what is said to it

    def send(self, first: int, items: Sequence[Any], max_ahead_bytes: int) -> tuple[int, Mapping[int, Exception]]:
        """Send a batch; return its size in bytes, and by offset the errors of items that could not be pickled."""
        tag = tags.SINGLE if len(items) == 1 else tags.BATCH
        message, failures = self._codec.pack_batch(tag, first, items)
        numbers = range(first, first + len(items))
        memory: Optional[_wire.Memory] = None
        if self._channel.may_block and (self._held_back or (self._open and len(message) > max_ahead_bytes)):
            if isinstance(message, _wire.Parts):
                message = message.joined()
                memory = _wire.Joined(message)
            self._held_back.append((message, numbers))
        else:
            self._open.add(numbers)
            memory = self._tell(message)
        if isinstance(message, _wire.Parts) or memory is not None:
            _wire.move(items, memory)
        return len(message), failures

    def resume(self) -> None:
        """Let it send more: there is room for all that it has sent."""
        self._board.of(self.row)[TAKEN] = self._bytes_received

    def take_back(self) -> None:
        """Ask for what it has not begun."""
        self._tell(tags.TAKE_BACK)

    def cancel(self) -> None:
        """Let it drop what it has not begun."""
        self._open.clear()
        self._held_back.clear()
        self._tell(tags.CANCEL)

    def retire(self) -> None:
        """Let it end after the item that it is at."""
        self.is_leaving = True
        self._tell(tags.STOP)

    def kill(self, number: int, limit: Optional[float]) -> bool:
        """End it for being late, if it is still at this; return whether it was."""
        if not hold(self._board.of(self.row), number):
            return False
        if number == CONSTRUCTING or (number == UNPACKING and not self._is_up):
            self._init_error = late_init_error(self.slot, limit)
        elif number == LEAVING:
            self._exit_error = late_exit_error(self.slot, limit)
        self.note_peak()
        self.process.kill()
        return True

    def note_peak(self) -> None:
        """Look how much memory it has had, while it runs."""
        self.peak_bytes = max(self.peak_bytes, peak_of(self.process.pid))

    def _tell(self, message: _wire.Message) -> Optional[_wire.Memory]:
        memory = self._channel.send(message)
        self._push()
        return memory

    def _push(self) -> None:
        """Send what waits, and hear of it when there is room for the rest."""
        is_behind = not self._channel.push()
        if is_behind != self._is_behind and not self._is_cut_off:
            self._waiter.watch_room(self._channel.waitable, (self, False), is_behind)
        self._is_behind = is_behind

    def know(self, names: frozenset[str]) -> None:
        """Take in which names its `__main__` has."""
        self._codec.add_peer(names)
        self._has_greeted = True

    def _send_worker(self) -> None:
        message, failures = self._codec.pack(tags.WORKER, None, [self.to_be_sent])
        if failures:
            self._init_error = failures[0]
            self.process.kill()
        else:
            self._tell(message)

    # ---- what it says

    def take_in(self, events: list[Event]) -> None:
        """Add to the events what it has said."""
        if self._is_behind:
            self._push()
        for message in self._channel.receive():
            self._understand(message, events)
        if self._channel.has_ended and not self._is_cut_off:
            self._is_cut_off = True
            self._waiter.remove(self._channel.waitable)
            if self.kill_at is None:
                self.process.kill()  # it closed its end; with nobody to talk to it is as good as dead

    def _understand(self, message: _wire.Arrived, events: list[Event]) -> None:
        tag = _wire.tag_of(message)
        if self.is_leaving and tag in (tags.RUN, tags.RETURNED):
            return
        head, values, failures = _wire.unpack(message)
        if tag == tags.RUN:
            first, busy_seconds, ended_at, self._last_turn, packed = head
            failures.update({offset: _wire.unpack_error(error) for offset, error in packed.items()})
            self._note_answered(first + len(values))
            self._bytes_received += len(message)
            events.append(Run(self.slot, first, values, failures, busy_seconds, len(message), ended_at))
        elif tag == tags.HELLO:
            self.know(head)
            self._send_worker()
        elif tag == tags.READY:
            self._is_up = True
            self._open.clear()
            if not self.is_leaving:
                events.append(Ready(self.slot, head))
        elif tag == tags.RETURNED:
            events.append(self._returned(*head))
        elif tag == tags.PRINTED:
            if self._output is not None:
                self._output.show(self.slot, head)
        elif tag == tags.INIT_FAILED:
            self._init_error = _wire.unpack_error(head)
        elif tag == tags.DYING:
            self._last_words = head[1:]  # where it was stands on the board
            self.kill_at = time.monotonic() + DYING_SECONDS
        elif tag == tags.LEFT:
            self.kill_at = time.monotonic() + LEAVE_SECONDS
            farewell, self.peak_bytes = head
            if farewell is not None:
                self._exit_error = _wire.unpack_error(farewell)

    def _returned(self, n_batches: int, first: int) -> Returned:
        n_held_back = len(self._held_back)
        self._held_back.clear()
        self._open.take_back(n_batches, first)
        return Returned(self.slot, n_batches + n_held_back, first)

    def _note_answered(self, end: int) -> None:
        self._open.answer(end)
        if not self._open and self._held_back:
            message, numbers = self._held_back.popleft()
            self._open.add(numbers)
            self._tell(message)

    # ---- its end

    @property
    def is_ended_unseen(self) -> bool:
        """Whether it has ended though its death handle does not say so, which its own children may hold open."""
        return self._death_handle == self.process.sentinel and self.process.exitcode is not None

    def bury(self, events: list[Event]) -> None:
        """Add to the events what it had still said, and how it ended."""
        for message in self._channel.drain():
            self._understand(message, events)
        if not self.is_leaving:
            self._read_journal(events)
        if self._death_handle == self.process.sentinel:
            # The sentinel may have been closed by the task's own code, or outlive the process in its children.
            self.process.join(GRACE_SECONDS)
            self.process.kill()
        exitcode, reason, traceback = self._how_it_ended(self.reap())
        current = int(self._board.of(self.row)[AT])
        if not self._is_cut_off:
            self._waiter.remove(self._channel.waitable)
        self._waiter.remove(self._death_handle)
        if self._exit_error is not None:
            events.append(ExitFailed(self.slot, self._exit_error))
        # What a signal struck before its constructor began is not the constructor's fault.
        is_before = current in (NOWHERE, UNPACKING)
        was_struck = self._init_error is None and is_before and exitcode is not None and exitcode < 0
        if self._is_up or was_struck:
            if not self.is_leaving:
                events.append(Lost(self.slot, current, exitcode, reason, traceback))
        # One that was told to leave before it was made leaves with 0, or nobody knows with what.
        elif self._init_error is not None or not self.is_leaving or exitcode not in (0, None):
            error = self._init_error
            if error is None:
                error = self._death_error(exitcode, reason, traceback)
            events.append(InitFailed(self.slot, error))

    def _read_journal(self, events: list[Event]) -> None:
        """Add to the events what it had finished and not come to say."""
        for first, records in read_journal(self._board.journal_of(self.row), self._last_turn):
            values: list[Any] = [blob for _, blob in records]
            failures = _wire.unpack_in_place(values)
            for offset, (is_failure, _) in enumerate(records):
                if is_failure and offset not in failures:
                    failures[offset] = _wire.unpack_error(values[offset])
            events.append(Run(self.slot, first, values, failures, busy_seconds=-1.0))

    def reap(self) -> Optional[int]:
        """Wait for the process's end, and return its exit code."""
        with no_process_starts():  # for a start asks all children how they are, and may spoil the answer here
            self.process.join()
        # Another thread that starts a process collects all that have ended, and may be amid collecting this one.
        end = time.monotonic() + (0 if _has_no_exit_codes() else GRACE_SECONDS)
        while self.process.exitcode is None and time.monotonic() < end:
            time.sleep(0.001)
        return cast("Optional[int]", self.process.exitcode)

    def _how_it_ended(self, exitcode: Optional[int]) -> tuple[Optional[int], str, Optional[str]]:
        """Return its exit code, why it ended in words, and its last traceback if there is one."""
        if self._last_words is not None:
            return self._last_words
        if exitcode is None:
            return None, "its exit code was taken by other code", None
        reason = signal_name(exitcode) or f"exit code {exitcode}"
        if reason == "SIGKILL":
            reason += ", which is also what the system sends when memory runs out"
        return exitcode, reason, without_our_frames(self._channel.fault) or None

    def _death_error(self, exitcode: Optional[int], reason: str, traceback: Optional[str]) -> WorkerDiedError:
        if not self._has_greeted:
            reason += f"; {GUARD_HINT}"
        return death_in_making_error(self.slot, reason, exitcode, traceback)

    def release(self) -> None:
        """Give back what the ended process held here."""
        with no_process_starts():
            if self._is_released:
                return  # at the interpreter's exit, by another thread
            self._is_released = True
            self._channel.close()
            if self._death_handle != self.process.sentinel:
                os.close(self._death_handle)
            if self.process.exitcode is None and _has_no_exit_codes():
                self.process._popen.returncode = 0  # or it would be taken for running, and kept
            with suppress(ValueError):  # its exit code was taken by other code
                self.process.close()


def _has_no_exit_codes() -> bool:
    """Whether SIGCHLD is ignored: then the system forgets children when they end."""
    return hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN


def _death_handle(process: Any) -> Any:
    """Return what becomes readable when a process ends.

    The sentinel of ``multiprocess`` is a pipe, which the worker's own forked children hold open; a pidfd is not.
    """
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):
            return os.pidfd_open(process.pid)
    return process.sentinel
