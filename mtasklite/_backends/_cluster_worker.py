"""One worker in a cluster's actor, as the driver sees it: what it was told, what it has said, how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Callable, NamedTuple, Optional

from mtasklite import _wire
from mtasklite._backends import _tags as tags
from mtasklite._backends._adapter import Answer, Death, Frames
from mtasklite._backends._cluster_wire import HEARTBEAT_SECONDS, joined, pack, size_of, to_frames
from mtasklite._backends._unanswered import Unanswered
from mtasklite._faults import death_in_making_error, late_exit_error, late_init_error
from mtasklite._messages import (
    CONSTRUCTING,
    LEAVING,
    NOWHERE,
    SOMEWHERE,
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

OVERDUE_SECONDS = HEARTBEAT_SECONDS + 5.0
"""An exchange that lasts longer may have been lost with its machine: another one tells whether the actor lives."""

ENDING_SECONDS = 0.5
"""One that was told to end is asked again after so long."""

DYING_SECONDS = 60.0
"""For the `__exit__` of a worker object whose task raised what ends the worker."""

EARLIER_SECONDS = 2.0
"""When an actor is known to be gone, its earlier answers may still be under way for so long."""


class Arrival(NamedTuple):
    """The end of an exchange.

    Attributes:
        worker: Whose.
        number: Of the exchange.
        answer: What the host said.
        error: Why there is no answer: the actor is gone.
        at: When it came, by `time.monotonic`.
    """

    worker: RemoteWorker
    number: int
    answer: Optional[Answer]
    error: Optional[BaseException]
    at: float


class RemoteWorker:
    """One worker, and the exchanges with its host.

    Args:
        slot: Its place in the list of workers.
        actor: The engine's handle of its actor.
        call: Starts an exchange.
        arrivals: Where the ends of exchanges are put, from any thread.
        output: Shows what it prints; ``None``: it is not asked for that.
        codec: Packs for all workers of the pool.
        max_bytes_ahead: It pauses when more of what it has sent waits for room here.

    Attributes:
        is_leaving: Whether its end is expected, and its outcomes do not matter.
        is_over: Whether all was said that there is to say of it.
        is_killed: Whether its actor was told to end.
        is_held: What it answered when it was to be held; ``None``: nothing yet.
        peak_bytes: The most memory that it is known to have had.
        heard_at: When it last said anything, or was given something to do.
        has_greeted: Whether its host is up, and was told to make it.
        begun_at: When its actor was asked for.
    """

    def __init__(
        self,
        slot: int,
        actor: Any,
        call: Callable[..., None],
        arrivals: SimpleQueue[Arrival],
        output: Optional[Output],
        codec: _wire.Codec,
        max_bytes_ahead: int,
    ) -> None:
        self.slot = slot
        self.actor = actor
        self._call = call
        self._arrivals = arrivals
        self._output = output
        self._codec = codec
        self._max_bytes_ahead = max_bytes_ahead
        self._bytes_received = 0  # of outcomes
        self._bytes_resumed = 0  # of these, for which it was told that there is room
        self._n_begun = 0
        self._n_ended = 0
        self._early: dict[int, Arrival] = {}  # that overtook others
        self._gone: Optional[Arrival] = None  # of those the first that said that its actor is gone
        self._asked_at = self._listened_from = time.monotonic()
        self._open = Unanswered()
        self._at, self._since = NOWHERE, 0.0
        self.has_greeted = False
        self._is_up = False
        self.is_leaving = False
        self.is_over = False
        self.is_killed = False
        self.is_held: Optional[bool] = None
        self._init_error: Optional[BaseException] = None
        self._exit_error: Optional[BaseException] = None
        self._last_words: Optional[tuple[int, int, str, str]] = None  # where it was, exit code, reason, traceback
        self._dying_at = math.inf
        self.peak_bytes = 0
        self.heard_at = self.begun_at = time.monotonic()

    # ---- what is said to it

    @property
    def is_pending(self) -> bool:
        """Whether an exchange is under way."""
        return self._n_ended < self._n_begun

    @property
    def is_overdue(self) -> bool:
        """Whether a host that is up has answered nothing for longer than it ever takes.

        One that is to end may be gone, and its last answer lost: a Ctrl-C comes also when one was just taken.
        """
        limit = ENDING_SECONDS if self.is_over else OVERDUE_SECONDS
        return self.has_greeted and self.is_pending and time.monotonic() - self._asked_at >= limit

    def exchange(self, *messages: Frames) -> None:
        """Say something, or nothing, and listen."""
        number = self._n_begun
        now = time.monotonic()
        if not self.is_pending:
            self._listened_from = now
        self._n_begun += 1
        self._asked_at = now
        self._call(self.actor, number, list(messages), partial(self._on_end, number))

    def _on_end(self, number: int, answer: Optional[Answer], error: Optional[BaseException]) -> None:
        self._arrivals.put(Arrival(self, number, answer, error, time.monotonic()))

    def send(self, first: int, items: Sequence[Any]) -> tuple[int, Mapping[int, Exception]]:
        """Send a batch; return its size in bytes, and by offset the errors of items that could not be pickled."""
        message, failures = self._codec.pack_batch(tags.BATCH, first, items)
        if not self._open:
            self.heard_at = time.monotonic()
        self._open.add(range(first, first + len(items)))
        self.exchange(to_frames(message))
        return len(message), failures

    def resume(self) -> None:
        """Let it send more, if it may soon wait for that: there is room for all that it has sent."""
        if self._bytes_received - self._bytes_resumed >= self._max_bytes_ahead // 2:
            self._bytes_resumed = self._bytes_received
            self.order(tags.RESUME, self._bytes_received)

    def order(self, tag: bytes, head: Any = None) -> None:
        """Tell it something; see `_cluster_wire`."""
        if tag == tags.CANCEL:
            self._open.clear()
        if tag == tags.HOLD:
            self.is_held = None
        self.exchange(pack(self._codec, tag, head))

    # ---- what it is at

    @property
    def position(self) -> Optional[tuple[int, float]]:
        """What it is at, as far as is known, and since when; ``None``: nothing that takes time."""
        if not self.has_greeted or self.is_over:
            return None
        head = self._open.head
        if self._at < NOWHERE or (head is not None and self._at in head):
            return self._at, self._since
        if not self.is_pending:
            return None  # nobody has listened, so its silence tells nothing
        silent_from = max(self.heard_at, self._listened_from)
        if not self._is_up:
            return CONSTRUCTING, silent_from
        return (head.start, silent_from) if head is not None else None

    def is_late_to_leave(self, limit: Optional[float]) -> bool:
        """Whether it is told to leave, and has been at one thing for longer than this."""
        place = self.position if self.is_leaving else None
        return limit is not None and place is not None and time.monotonic() - place[1] >= limit

    @property
    def is_slow_to_die(self) -> bool:
        """Whether its task has raised what ends it, and its `__exit__` does not end."""
        return not self.is_over and time.monotonic() - self._dying_at >= DYING_SECONDS

    # ---- what it says

    def take_in(self, arrival: Arrival, events: list[Event]) -> Optional[BaseException]:
        """Add to the events what it has said; return the error that says that its actor is gone."""
        self._early[arrival.number] = arrival
        if arrival.error is not None and self._gone is None:
            self._gone = arrival
        while self._n_ended in self._early:
            arrival = self._early.pop(self._n_ended)
            self._n_ended += 1
            if arrival.answer is None:
                return arrival.error
            self._understand_all(arrival.answer, arrival.at, events)
        return None

    @property
    def error_in_vain(self) -> Optional[BaseException]:
        """Why its actor is gone, if that is known for so long that earlier answers will not come any more."""
        if self._gone is None or (not self.is_over and time.monotonic() - self._gone.at < EARLIER_SECONDS):
            return None
        return self._gone.error

    def _understand_all(self, answer: Answer, arrived_at: float, events: list[Event]) -> None:
        messages, at, since, now = answer
        self.heard_at = arrived_at
        self._at, self._since = at, since + arrived_at - now
        for frames in messages:
            message = joined(frames)
            if not self.is_over:
                self._understand(message, size_of(frames), arrived_at - now, events)

    def _understand(self, message: _wire.Arrived, n_bytes: int, clock_offset: float, events: list[Event]) -> None:
        tag = _wire.tag_of(message)
        if self.is_leaving and tag in (tags.RUN, tags.RETURNED):
            return
        head, values, failures = _wire.unpack(message)
        if tag == tags.RUN:
            first, busy_seconds, ended_at, _, packed = head
            failures.update({offset: _wire.unpack_error(error) for offset, error in packed.items()})
            self._open.answer(first + len(values))
            self._bytes_received += n_bytes
            events.append(Run(self.slot, first, values, failures, busy_seconds, n_bytes, ended_at + clock_offset))
        elif tag == tags.HELLO:
            self.has_greeted = True
            if not self.is_leaving:
                self.order(tags.START)
        elif tag == tags.READY:
            self._is_up = True
            self._open.clear()
            if not self.is_leaving:
                events.append(Ready(self.slot, head + clock_offset))
        elif tag == tags.RETURNED:
            self._open.take_back(*head)
            events.append(Returned(self.slot, *head))
        elif tag == tags.HELD:
            self.is_held = head
        elif tag == tags.PRINTED:
            if self._output is not None:
                self._output.show(self.slot, head)
        elif tag == tags.INIT_FAILED:
            self._init_error = _wire.unpack_error(head)
        elif tag == tags.DYING:
            self._last_words = head
            self._dying_at = time.monotonic()
        elif tag == tags.LEFT:
            farewell, self.peak_bytes = head
            if farewell is not None:
                self._exit_error = _wire.unpack_error(farewell)
            self.end(Death("it left"), events)

    # ---- its end

    def end(self, death: Death, events: list[Event]) -> None:
        """Add to the events how it ended; nothing that it says counts any more."""
        if self.is_over:
            return
        self.is_over = True
        if self._exit_error is not None:
            events.append(ExitFailed(self.slot, self._exit_error))
        current = SOMEWHERE if self._open else NOWHERE
        exitcode, reason, traceback = death.exitcode, death.reason, None
        if self._last_words is not None:
            current, exitcode, reason, traceback = self._last_words
        is_blameless = death.is_from_outside and self._last_words is None
        if self._init_error is not None:
            events.append(InitFailed(self.slot, self._init_error))
        elif self.is_leaving:
            return
        elif self._is_up or is_blameless:
            events.append(Lost(self.slot, current, exitcode, reason, traceback))
        else:
            error = death_in_making_error(self.slot, reason, exitcode, traceback)
            events.append(InitFailed(self.slot, error))

    def end_late(self, number: int, limit: Optional[float], events: list[Event]) -> None:
        """Add to the events that it was ended for being late with this."""
        if number == LEAVING:
            self._exit_error = late_exit_error(self.slot, limit)
        elif number == CONSTRUCTING or (number == UNPACKING and not self._is_up):
            self._init_error = late_init_error(self.slot, limit)
        elif not self.is_leaving:
            self.is_over = True
            # One that did not even answer may be at any of what it holds.
            events.append(Lost(self.slot, number if self.is_held else SOMEWHERE, None, "it was killed"))
            return
        self.end(Death("it was killed"), events)
