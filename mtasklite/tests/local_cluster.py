"""A cluster within this process: actors are objects, calls are threads. It does what an engine may do to us."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any, Optional

from mtasklite._backends._adapter import Death, Frames, Shortage, Then
from mtasklite._backends._cluster_host import AsyncHost, Host


class ActorGoneError(Exception):
    """What this engine says of calls to an actor that is gone."""


class LocalActor:
    """An actor, and the calls to it that are under way.

    Attributes:
        is_mute: Whether it takes calls and answers none of them.
    """

    def __init__(self, payload: Frames, is_async: bool) -> None:
        self.host = AsyncHost(payload) if is_async else Host(payload)
        self._loop: Any = None
        if is_async:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
        self.is_mute = False
        self.is_gone = False
        self._lock = threading.Lock()
        self._waiting: dict[int, Then] = {}

    def call(self, number: int, messages: list[Frames], then: Then) -> None:
        with self._lock:
            is_gone = self.is_gone
            if not is_gone:
                self._waiting[number] = then
        if is_gone:
            then(None, ActorGoneError("it is gone"))
        elif self.is_mute:
            return
        elif self._loop is None:
            run = self.host.exchange
            threading.Thread(target=lambda: self._pass_on(number, run(number, messages)), daemon=True).start()
        else:
            future = asyncio.run_coroutine_threadsafe(self._run(number, messages), self._loop)
            future.add_done_callback(lambda done: done.cancelled() or done.result())

    async def _run(self, number: int, messages: list[Frames]) -> None:
        self._pass_on(number, await self.host.exchange(number, messages))

    def _pass_on(self, number: int, answer: Any) -> None:
        with self._lock:
            then = None if self.is_mute else self._waiting.pop(number, None)
        if then is not None:
            then(answer, None)

    def end(self, error: Optional[Exception] = None, are_lost: bool = False) -> None:
        """Die: calls that are under way end with an error, or, if they are lost, never."""
        with self._lock:
            was_gone, self.is_gone = self.is_gone, True
            waiting, self._waiting = self._waiting, {}
        self.host._inbox.stop()  # its threads cannot be killed, and end when they can
        self.host.has_left = True
        self.host._stirred.set()
        with self.host._changed:
            self.host._number += 1000
            self.host._notify()
        for then in () if are_lost else waiting.values():
            then(None, error or ActorGoneError("it was killed"))
        if self._loop is not None and not was_gone:
            asyncio.run_coroutine_threadsafe(self._end_loop(), self._loop)
            self._thread.join()
            self._loop.close()

    async def _end_loop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=1.0) if others else None
        self._loop.call_soon(self._loop.stop)


class LocalAdapter:
    """Starts actors in this process.

    Attributes:
        actors: All that were started.
        n_open: How often it was joined and not left.
        n_places: What it says it can have.
        most_starting: Actors that may be asked for at once.
        lacks: What it says of why no actor is up.
    """

    name = "local"

    def __init__(self, n_places: int = 2) -> None:
        self.actors: list[LocalActor] = []
        self.n_open = 0
        self.n_places = n_places
        self.is_joined = True
        self.are_async = False
        self.most_starting = math.inf
        self.lacks: Optional[Shortage] = None

    def open(self, n_workers: int, must_kill: bool) -> None:
        self.n_open = 1

    def capacity(self) -> int:
        return self.n_places

    def start_actor(self, slot: int, payload: Frames) -> Any:
        self.actors.append(LocalActor(payload, self.are_async))
        return self.actors[-1]

    def call(self, actor: LocalActor, number: int, messages: list[Frames], then: Then) -> None:
        actor.call(number, messages, then)

    def kill(self, actor: LocalActor) -> None:
        actor.end()

    def death(self, error: BaseException) -> Death:
        return Death(str(error), is_from_outside="node" in str(error))

    def shortage(self) -> Optional[Shortage]:
        return self.lacks

    def close(self) -> None:
        self.n_open = 0
