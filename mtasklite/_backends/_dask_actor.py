"""One Dask actor: what lives in the Dask worker process, and what is known of it here."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Mapping
from typing import Any, Optional

from mtasklite._backends._adapter import Answer, Frames, Then
from mtasklite._backends._cluster_host import SWITCH_SECONDS, AsyncHost

LEAVE_SECONDS = 0.2
"""An idle worker ends within this."""


class DaskHost:
    """The actor: thin around a host, so that the host ends when Dask drops this, say because the driver is gone.

    Its methods are coroutines, which run in the event loop of the process: others would share one thread with those
    of all other actors there, and hold them up by waiting.
    """

    def __init__(self) -> None:
        self._host: Optional[AsyncHost] = None

    async def begin(self, payload: Frames, owns_process: bool) -> None:
        """Make the host. The constructor is not told to, for its arguments travel through the scheduler.

        Args:
            payload: What the host is told.
            owns_process: Whether the process was started for the pool.
        """
        if owns_process:
            leave_interrupts()
        self._host = AsyncHost(payload)
        switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_SECONDS, switch_seconds))
        weakref.finalize(self, _end_of, self._host, switch_seconds).atexit = False

    async def exchange(self, number: int, messages: list[Frames]) -> Answer:
        """See `Host.exchange`."""
        if self._host is None:
            raise RuntimeError("this actor has not begun")
        return await self._host.exchange(number, messages)

    async def leave(self) -> tuple[bool, bool]:
        """Let the host end; return whether its worker has ended, and if not, whether what it is at is late."""
        if self._host is None:
            return True, False
        self._host.dismiss()
        end = time.monotonic() + LEAVE_SECONDS
        while not self._host.has_left and time.monotonic() < end:
            await asyncio.sleep(LEAVE_SECONDS / 100)
        return self._host.has_left, self._host.is_late


def leave_interrupts() -> None:
    """Let this process go on after a Ctrl-C, which comes to the driver too: that decides."""
    if threading.current_thread() is threading.main_thread():
        # Not SIG_IGN, which programs that a task starts inherit.
        signal.signal(signal.SIGINT, lambda number, frame: None)


def _end_of(host: AsyncHost, switch_seconds: float) -> None:
    """End a host whose actor is gone, and leave the process as it was before."""
    host.dismiss()
    sys.setswitchinterval(max(switch_seconds, sys.getswitchinterval()))


class ActorLostError(Exception):
    """An actor cannot be called any more, or could not be made."""


class DaskActor:
    """An actor as seen from here; but for `waiting`, in the client's event loop alone.

    Args:
        key: Its key on the scheduler.
        resources: What it needs of its process.

    Attributes:
        address: The process that it was given; ``None``: none yet.
        future: Holds it on the cluster; ``None`` while there is nothing to hold.
        is_placed: Set once it can be called, or never will; made in the event loop.
        is_up: Whether it can be called.
        is_known: Whether the scheduler has surely heard of it.
        is_stopped: Whether it was told to end.
        error: Why it cannot be called.
        ending: What ends it, once something does.
        waiting: Who waits for the end of a call, by number.
    """

    is_placed: asyncio.Event

    def __init__(self, key: str, resources: Mapping[str, float]) -> None:
        self.key = key
        self.resources = resources
        self.address: Optional[str] = None
        self.is_up = self.is_known = self.is_stopped = False
        self.future: Any = None
        self.error: Optional[Exception] = None
        self.ending: Optional[asyncio.Future[None]] = None
        self.waiting: dict[int, Then] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin something that ends with it at the latest."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def finish(self, number: int, answer: Optional[Answer], error: Optional[BaseException]) -> None:
        """Tell whoever waits for a call how it ended; any thread may."""
        then = self.waiting.pop(number, None)
        if then is not None:
            then(answer, error)

    def fail(self, error: BaseException) -> None:
        """End all calls with an error; any thread may."""
        for number in list(self.waiting):
            self.finish(number, None, error)

    def cancel(self) -> None:
        """End all that is under way."""
        self.is_stopped = True
        for task in list(self._tasks):
            task.cancel()

    def stop(self) -> None:
        """End all that is under way, and let it go."""
        self.cancel()
        self.let_go()
        self.fail(ActorLostError("it was killed"))

    def let_go(self) -> None:
        """Let the cluster drop it."""
        if self.future is not None:
            self.future.release()
            self.future = None
