"""What lives in an actor of a cluster: one worker, and what is said for it.

    driver ──exchange(n, messages)──> engine's thread ──inbox──> worker thread: unpickle, call, pickle
           <── what it has to say ─── engine's thread <──────────────────┘

The worker has a thread of its own, so the actor can be spoken to however busy it is. There is one method,
`Host.exchange`: it takes messages, and answers as soon as there is something to say, or when the next exchange comes.
So the driver has always one exchange pending, and a batch costs one call. A third thread, the *attendant*, sends what
has lain for a while, and says which item lasts.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextvars import copy_context
from functools import partial
from itertools import accumulate
from typing import Any, Optional

from mtasklite import _wire
from mtasklite._backends import _cluster_wire
from mtasklite._backends import _tags as tags
from mtasklite._backends._adapter import Answer, Frames
from mtasklite._backends._cluster_output import ThreadPrinting
from mtasklite._backends._cluster_wire import HEARTBEAT_SECONDS, SecuringCodec, joined, pack, size_of, to_frames
from mtasklite._backends._life import IMPORT_SECONDS, Life
from mtasklite._messages import NOWHERE, UNPACKING
from mtasklite._status import AT, IS_HELD, SINCE, hold, new_board, note_start
from mtasklite._stdio import Levels
from mtasklite._worker import FLUSH_SECONDS
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import note_worker_process

LASTING_SECONDS = 0.050
"""What a worker is at is said when it has lasted so long."""

MAX_PRINTED_BYTES = 64 << 10
"""A task that prints waits for the driver once so much was not taken, as it would wait for a pipe."""

IDLE_CHECKS = 10

SWITCH_SECONDS = 0.0005
"""A task that computes keeps the threads that speak with the driver waiting for so long, not for 5 ms each time."""


def own_process() -> None:
    """Make this process a worker's, where it is there for actors and for nothing else; to be called before a `Host`."""
    note_worker_process()
    sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))


OVERTAKEN_SECONDS = 0.1
"""An exchange that is to be answered, but has overtaken others, looks for these so often."""


class Host(Life):
    """One worker in an actor.

    Args:
        frames: The worker, and what it is to go by; see `ClusterBackend`.

    Attributes:
        has_left: Whether its worker has ended, and nothing of it runs any more.
    """

    def __init__(self, frames: Frames) -> None:
        super().__init__(_wire.Codec(), new_board())
        self._payload: Optional[Frames] = frames
        self._taking_in = threading.Lock()
        self._early: dict[int, list[Frames]] = {}  # messages of exchanges that overtook others
        self._changed = threading.Condition()
        self._number = -1  # of the exchange that is to be answered
        self._events: list[Frames] = [pack(self._codec, tags.HELLO)]
        self._printed_bytes = 0  # of the events
        self._told = (NOWHERE, 0.0)  # what it was last said to be at, and since when
        self.has_left = True  # nothing runs yet
        self._is_dismissed = False
        self._taken = 0  # bytes that the driver has room for
        self._stirred = threading.Event()

    # ---- the exchange

    def exchange(self, number: int, messages: list[Frames]) -> Answer:
        """Take in messages, and answer as soon as there is something to say, or the next exchange has come.

        Args:
            number: Of the exchange: they are taken in the order of their numbers, from 0 on.
            messages: As `_cluster_wire` has them.
        """
        self._deliver(number, messages)
        end = time.monotonic() + HEARTBEAT_SECONDS
        with self._changed:
            while True:
                answer = self._answer(number, is_due=time.monotonic() >= end)
                if answer is not None:
                    return answer
                self._changed.wait(max(OVERTAKEN_SECONDS, end - time.monotonic()))

    def _deliver(self, number: int, messages: list[Frames]) -> None:
        with self._taking_in:
            self._early[number] = messages
            while self._number + 1 in self._early:
                for frames in self._early.pop(self._number + 1):
                    self._take_in(joined(frames))
                with self._changed:
                    self._number += 1
                    self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()

    def _answer(self, number: int, is_due: bool = False) -> Optional[Answer]:
        """Return what is to be answered now, if anything."""
        events: list[Frames] = []
        at, since = int(self._board[AT]), self._board[SINCE]
        if number > self._number:
            return None  # it overtook another
        if number == self._number:
            if not self._events and not self._lasts and not is_due:
                return None
            events = self._take_events()
            self._told = (at, since)
            self._notify()  # whoever waits for what was printed to be taken
        return events, at, since, time.monotonic()

    def _take_events(self) -> list[Frames]:
        """Return what is to be said, from the first on; no more at once than `MAX_MESSAGE_BYTES`, if that can be."""
        sizes = accumulate(map(size_of, self._events))
        n_taken = max(1, sum(size <= _cluster_wire.MAX_MESSAGE_BYTES for size in sizes))
        events, self._events = self._events[:n_taken], self._events[n_taken:]
        self._printed_bytes = self._printed_bytes if self._events else 0
        return events

    @property
    def _lasts(self) -> bool:
        """Whether the worker is for long at something that was not said."""
        at, since = int(self._board[AT]), self._board[SINCE]
        counts = at < NOWHERE or (at > NOWHERE and self._task_timeout is not None)
        return counts and (at, since) != self._told and time.monotonic() - since >= LASTING_SECONDS

    @property
    def is_late(self) -> bool:
        """Whether the worker has been at one thing for longer than it may, or is held for that."""
        limit, is_busy = self._task_timeout, self._board[AT] != NOWHERE
        is_long = limit is not None and is_busy and time.monotonic() - self._board[SINCE] >= limit
        return is_long or bool(self._board[IS_HELD])

    def _take_in(self, message: _wire.Arrived) -> None:
        tag = _wire.tag_of(message)
        if tag == tags.BATCH:
            self._inbox.put(message)
        elif tag == tags.TAKE_BACK:
            self._tell(tags.RETURNED, self._inbox.take_back(self._board))
        elif tag == tags.CANCEL:
            self._inbox.cancel()
        elif tag == tags.STOP:
            self._inbox.stop()
        elif tag == tags.RESUME:
            self._taken = _wire.unpack(message)[0]
        elif tag == tags.HOLD:
            self._hold(_wire.unpack(message)[0])
        elif tag == tags.START and not self._is_dismissed:
            self.has_left = False
            main = partial(copy_context().run, self._main)  # by which an engine's own functions know where they are
            threading.Thread(target=main, name="mtasklite-worker", daemon=True).start()
            threading.Thread(target=self._attend, name="mtasklite-attendant", daemon=True).start()
        self._stirred.set()

    def _hold(self, number: int) -> None:
        """Keep the worker from beginning anything else if it is late with this item, for it is to be killed.

        The driver may have heard of it long ago; the clock here counts, which stops while the worker waits to print.
        """
        is_late = time.monotonic() - self._board[SINCE] >= (self._task_timeout or 0.0)
        is_held = is_late and hold(self._board, number)
        if is_held and self._loop is not None:
            self._loop.flush()  # what it has finished stands
        self._tell(tags.HELD, is_held)

    def dismiss(self) -> None:
        """Let the worker end after the item that it is at, though nobody listens any more; any thread may."""
        self._inbox.stop()
        with self._changed:
            self._is_dismissed = True
            self._notify()
        self._stirred.set()

    # ---- what is said

    def _bytes_taken(self) -> float:
        return self._taken

    def _send(self, message: _wire.Message) -> None:
        self._put(to_frames(message))

    def _put(self, *messages: Frames) -> None:
        with self._changed:
            while self._printing is not None:
                pieces = self._printing.take()
                if not pieces:
                    break
                frames = pack(self._codec, tags.PRINTED, pieces)
                self._events.append(frames)
                self._printed_bytes += size_of(frames)
            self._events += messages
            self._notify()

    def _send_printed(self) -> None:
        """Send what was printed; where much of it was not taken yet, wait for that, lest all of it gather here."""
        self._put()
        with self._changed:
            self._changed.wait_for(
                lambda: self._printed_bytes < MAX_PRINTED_BYTES or self._is_dismissed or self.has_left
            )

    # ---- the attendant

    def _attend(self) -> None:
        n_idle_checks = 0
        while not self.has_left:
            is_idle = self._board[AT] == NOWHERE and self._inbox.empty()
            n_idle_checks = n_idle_checks + 1 if is_idle else 0
            if n_idle_checks < IDLE_CHECKS:
                time.sleep(FLUSH_SECONDS)
            else:
                self._stirred.wait()
                self._stirred.clear()
                n_idle_checks = 0
            loop = self._loop
            if loop is not None:
                loop.flush_if_old()
            if self._lasts:
                with self._changed:
                    self._notify()

    # ---- the worker

    def _main(self) -> None:
        self._live()
        self._stirred.set()

    def _note_left(self) -> None:
        self.has_left = True

    def _receive_worker(self) -> tuple[Any, ArgumentPassing]:
        note_start(self._board, UNPACKING, IMPORT_SECONDS)
        payload, self._payload = self._payload or [], None
        head, (worker,), failures = _wire.unpack(joined(payload))
        name, argument_type, self._task_timeout, self._flush_seconds, names, levels, self._max_bytes_ahead = head
        self._codec = SecuringCodec(names)
        if levels is not None:
            self._take_over_output(Levels(*levels), name)
        if failures:
            raise failures[0]
        return worker, ArgumentPassing(argument_type)

    def _take_over_output(self, levels: Levels, name: str) -> None:
        """Take in all that this process prints and logs, which is the actor's own."""
        from mtasklite._backends._process_output import Printing, Senders

        self._printing = Printing(self._send_printed, Senders(), self._time_stopped)
        self._printing.start(levels, name)


class AsyncHost(Host):
    """A host for engines whose actors must not block: `exchange` is a coroutine."""

    def __init__(self, frames: Frames) -> None:
        super().__init__(frames)
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    def _take_over_output(self, levels: Levels, name: str) -> None:
        """Take in what the worker's thread prints and logs: there are others in this process."""
        self._printing = ThreadPrinting(self._send_printed, self._time_stopped)
        self._printing.start(levels, name)

    async def exchange(self, number: int, messages: list[Frames]) -> Answer:  # type: ignore[override]
        """Take in messages, and answer as soon as there is something to say, or the next exchange has come."""
        self._deliver(number, messages)
        end = time.monotonic() + HEARTBEAT_SECONDS
        event_loop = asyncio.get_running_loop()
        while True:
            waiter = (event_loop, event_loop.create_future())
            with self._changed:
                answer = self._answer(number, is_due=time.monotonic() >= end)
                if answer is not None:
                    return answer
                self._waiting.add(waiter)
            await asyncio.wait([waiter[1]], timeout=max(OVERTAKEN_SECONDS, end - time.monotonic()))
            with self._changed:
                self._waiting.discard(waiter)

    def _notify(self) -> None:
        super()._notify()
        for event_loop, future in self._waiting:
            event_loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
