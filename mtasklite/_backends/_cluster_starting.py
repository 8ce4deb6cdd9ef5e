"""Workers of a cluster's backend that are not up yet: how many are asked for at once, how long they are waited for."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection

from mtasklite._backends._adapter import Adapter, Shortage
from mtasklite._backends._cluster_worker import RemoteWorker
from mtasklite._frames import level_of_user

NO_PLACE_REMEDY = "end what holds its places, another pool of this program perhaps, or ask for less (`resources`)"

WARN_SECONDS, PLACE_SECONDS = 30.0, 600.0
"""When no actor of a pool is up for so long, there is a warning, and then an error; an adapter may know better."""

LOOK_SECONDS = 0.5
"""A pool of which no actor is up asks its adapter why, after so long."""

YOUNG_SECONDS = 5.0
"""One that is not up after so long waits for a place, and keeps no other from being asked for."""


class Starting:
    """Knows which workers are not up yet.

    Args:
        adapter: The engine.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._young: set[RemoteWorker] = set()
        self._has_put_off = False
        self._has_warned = False
        self._up_at = 0.0  # when an actor was last known to be up

    def may_start(self) -> bool:
        """Return whether another worker may be asked for now; else later, when `has_room_again`."""
        self._has_put_off = len(self._young) >= self._adapter.most_starting
        return not self._has_put_off

    @property
    def has_room_again(self) -> bool:
        """Whether workers were put off that may be asked for now."""
        return self._has_put_off and len(self._young) < self._adapter.most_starting

    def add(self, worker: RemoteWorker) -> None:
        """Note that a worker was asked for."""
        self._young.add(worker)

    def end(self) -> None:
        """Note that no other is wanted."""
        self._has_put_off = False

    def note_end(self, worker: RemoteWorker) -> None:
        """Note that a worker is no more."""
        if worker.has_greeted:
            self._up_at = time.monotonic()

    def look_after(self, workers: Collection[RemoteWorker]) -> tuple[list[RemoteWorker], str]:
        """Warn if none of these has found a place for long; in the end return whom to give up, and why."""
        now = time.monotonic()
        if self._young:
            self._young = {
                worker
                for worker in self._young
                if not (worker.has_greeted or worker.is_over) and now - worker.begun_at < YOUNG_SECONDS
            }
        waiting = [worker for worker in workers if not worker.has_greeted]
        if len(waiting) < len(workers):
            self._up_at = now
        elif waiting:
            seconds = now - max(self._up_at, min(worker.begun_at for worker in waiting))
            if seconds >= LOOK_SECONDS:
                lack = self._told_after(seconds)
                return (waiting if lack else []), lack
        return [], ""

    def _told_after(self, seconds: float) -> str:
        lack = self._adapter.shortage() or Shortage(
            f"the {self._adapter.name} cluster had no place for it", NO_PLACE_REMEDY, WARN_SECONDS, PLACE_SECONDS
        )
        text = f"{lack.reason}, for {seconds:.0f} s: {lack.remedy}"
        if seconds >= lack.limit_seconds:
            return text
        if seconds >= lack.warn_seconds and not self._has_warned:
            self._has_warned = True
            warnings.warn(f"no worker of this pool is up: {text}", RuntimeWarning, stacklevel=level_of_user())
        return ""
