"""A cluster within this process: actors are objects, calls are threads. It does what an engine may do to us."""

from __future__ import annotations

import threading
from typing import Any, Optional

from mtasklite._backends._adapter import Death, Frames, Then
from mtasklite._backends._cluster_host import Host


class ActorGoneError(Exception):
    """What this engine says of calls to an actor that is gone."""


class LocalActor:
    """An actor, and the calls to it that are under way.

    Attributes:
        is_mute: Whether it takes calls and answers none of them.
    """

    def __init__(self, payload: Frames) -> None:
        self.host = Host(payload)
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
        elif not self.is_mute:
            threading.Thread(target=self._run, args=(number, messages), daemon=True).start()

    def _run(self, number: int, messages: list[Frames]) -> None:
        answer = self.host.exchange(number, messages)
        with self._lock:
            then = None if self.is_mute else self._waiting.pop(number, None)
        if then is not None:
            then(answer, None)

    def end(self, error: Optional[Exception] = None) -> None:
        """Die: calls that are under way end with an error."""
        with self._lock:
            self.is_gone = True
            waiting, self._waiting = self._waiting, {}
        self.host._inbox.stop()  # its threads cannot be killed, and end when they can
        self.host._has_left = True
        self.host._stirred.set()
        with self.host._changed:
            self.host._number += 1000
            self.host._notify()
        for then in waiting.values():
            then(None, error or ActorGoneError("it was killed"))


class LocalAdapter:
    """Starts actors in this process.

    Attributes:
        actors: All that were started.
        n_open: How often it was joined and not left.
        n_places: What it says it can have.
    """

    name = "local"

    def __init__(self, n_places: int = 2) -> None:
        self.actors: list[LocalActor] = []
        self.n_open = 0
        self.n_places = n_places
        self.is_joined = True

    def open(self) -> None:
        self.n_open = 1

    def capacity(self) -> int:
        return self.n_places

    def start_actor(self, slot: int, payload: Frames) -> Any:
        self.actors.append(LocalActor(payload))
        return self.actors[-1]

    def call(self, actor: LocalActor, number: int, messages: list[Frames], then: Then) -> None:
        actor.call(number, messages, then)

    def kill(self, actor: LocalActor) -> None:
        actor.end()

    def death(self, error: BaseException) -> Death:
        return Death(str(error), is_from_outside="node" in str(error))

    def close(self) -> None:
        self.n_open = 0
