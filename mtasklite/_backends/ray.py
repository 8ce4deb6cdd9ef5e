"""Actors of Ray, for `ClusterBackend`: all that imports Ray."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Optional

import ray
import ray.exceptions

from mtasklite._backends._adapter import Adapter, Death, Frames, Resources, Then
from mtasklite._backends._cluster_host import Host, own_process

OPTIONS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Resources that Ray has arguments of their own for, and what it calls them elsewhere; all others are custom ones."""

FROM_OUTSIDE = re.compile(r"\b[Nn]ode\b.{0,80}\b(died|dead|terminated|lost)\b|never ran|killed by .ray\.kill")
"""Words of Ray for what is no fault of the worker's."""

MAX_CONCURRENCY = 8
"""Exchanges of one actor that may be under way: the one that waits, and those that take its place."""


class RayHost(Host):
    """A host in a process of Ray, which is the actor's own."""

    def __init__(self, frames: Frames) -> None:
        own_process()
        super().__init__(frames)


_RemoteHost = ray.remote(RayHost)

_lock = threading.Lock()
_n_users = 0
_is_ours = False


def _join() -> None:
    """Use the Ray that this process is connected to; else connect, or start one."""
    global _n_users, _is_ours
    with _lock:
        if not ray.is_initialized():
            ray.init(include_dashboard=False)
            _is_ours = True
        _n_users += 1


def _leave() -> None:
    """Undo `_join`: the last one disconnects, and stops what was started, if that was us."""
    global _n_users, _is_ours
    with _lock:
        _n_users -= 1
        if not _n_users and _is_ours:
            _is_ours = False
            ray.shutdown()


def make_adapter(resources: Sequence[Resources]) -> Adapter:
    """Return what speaks to Ray; nothing is started yet.

    Args:
        resources: What each worker needs: one for all, or one for each slot.
    """
    return RayAdapter(resources)


class RayAdapter:
    """Starts actors of Ray, calls and kills them.

    Args:
        resources: What each worker needs: one for all, or one for each slot.
    """

    name = "Ray"

    def __init__(self, resources: Sequence[Resources]) -> None:
        self._resources = [{"num_cpus": 1, **needs} for needs in resources]
        self._leave: Optional[weakref.finalize[[], RayAdapter]] = None

    def open(self, n_workers: int, must_kill: bool) -> None:
        self._join()

    def _join(self) -> None:
        if self._leave is not None and self._leave.alive:
            return
        _join()
        self._leave = weakref.finalize(self, _leave)
        if not any(map(_places_for, self._resources)):
            needs = self._resources[0]
            self.close()
            raise ValueError(
                f"`resources` must be what some node of the Ray cluster has, but none has all of this: {needs!r}"
            )

    @property
    def is_joined(self) -> bool:
        return bool(ray.is_initialized())

    def capacity(self) -> int:
        self._join()
        return max(1, _places_for(self._resources[0]))

    def start_actor(self, slot: int, payload: Frames) -> Any:
        needs = dict(self._resources[slot if len(self._resources) > 1 else 0])
        options: dict[str, Any] = {name: needs.pop(name) for name in OPTIONS if name in needs}
        options.update(resources=needs or None, max_concurrency=MAX_CONCURRENCY, max_restarts=0)
        return _RemoteHost.options(**options).remote(payload)

    def call(self, actor: Any, number: int, messages: list[Frames], then: Then) -> None:
        try:
            future = actor.exchange.remote(number, messages).future()
        except Exception as error:  # the connection to the cluster is gone
            then(None, error)
        else:
            future.add_done_callback(partial(_pass_on, then))

    def kill(self, actor: Any) -> None:
        if ray.is_initialized():
            ray.kill(actor)

    def death(self, error: BaseException) -> Death:
        reason = _shortened(str(error))
        if "No module named 'mtasklite'" in reason:
            return Death("mtasklite is not installed where the cluster has placed it: install the same version there")
        return Death(reason, _exitcode_in(reason), is_from_outside=bool(FROM_OUTSIDE.search(reason)))

    def close(self) -> None:
        if self._leave is not None:
            self._leave()


def _places_for(needs: Resources) -> int:
    """Return how many workers that need this the nodes can have in all, were they free."""
    wanted = {OPTIONS.get(name, name): amount for name, amount in needs.items() if amount}
    n_places = 0
    for node in ray.nodes():
        if node["Alive"]:
            there = node["Resources"]
            fits = [int(there.get(name, 0) // amount) for name, amount in wanted.items()]
            n_places += min(fits, default=int(there.get("CPU", 0)) or 1)
    return n_places


def _pass_on(then: Then, future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        then(None, error)
    else:
        then(future.result(), None)


def _exitcode_in(text: str) -> Optional[int]:
    found = re.search(r"[Ee]xit code:? (-?\d+)", text)
    return int(found[1]) if found else None


def _shortened(text: str) -> str:
    """Return what Ray says of an actor's end, without what it says each time."""
    text = re.sub(r"\x1b\[\d+m", "", text)
    told = text.partition("The actor is dead because ")[2] or text
    told = told.partition(" Some common causes include")[0]
    return " ".join(told.split()) or "Ray does not say why"
