"""Actors of Ray, for `ClusterBackend`: all that imports Ray."""

from __future__ import annotations

import math
import os
import re
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, NamedTuple, Optional

import ray
import ray.exceptions

from mtasklite._backends._adapter import Adapter, Death, Frames, Resources, Shortage, Then
from mtasklite._backends._cluster_host import Host, own_process
from mtasklite._backends._ray_start import JOIN_HINT, init
from mtasklite.errors import PoolClosedError

OPTIONS = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Resources that Ray has arguments of their own for, and what it calls them elsewhere; all others are custom ones."""

FROM_OUTSIDE = re.compile(r"\b[Nn]ode\b.{0,80}\b(died|dead|terminated|lost)\b|never ran|killed by .ray\.kill")
"""Words of Ray for what is no fault of the worker's."""

UNBORN = re.compile(r"references to the actor were removed|before it started running|[Ss]cheduling.?[Cc]ancelled")
"""Words of Ray for an actor that was never started, as when the cluster ends."""

ANSWER_SECONDS = 20.0
"""Ray tells what nodes there are within milliseconds."""

MAX_CONCURRENCY = 8
"""Exchanges of one actor that may be under way: the one that waits, and those that take its place."""


class RayHost(Host):
    """A host in a process of Ray, which is the actor's own."""

    def __init__(self, frames: Frames) -> None:
        own_process()
        super().__init__(frames)


_RemoteHost = ray.remote(RayHost)


class Connection(NamedTuple):
    """What tells one connection to Ray from another: it is the process's, to a cluster, as a job."""

    pid: int
    address: str
    job: str


_lock = threading.RLock()  # a garbage collection amid it may end another pool in this very thread
_ours: Optional[Connection] = None
"""The connection that was made here, if one is; it ends with the last of its users."""
_n_users = 0
_is_useless = False


def _after_fork() -> None:
    """Note in a forked child that Ray, if it is connected, is so in the parent's threads only."""
    global _lock, _is_useless
    _lock = threading.RLock()
    _is_useless = bool(ray.is_initialized())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _connection() -> Optional[Connection]:
    """Return this process's connection to Ray, if there is one."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    return Connection(os.getpid(), str(context.gcs_address), str(context.get_job_id()))


def _join() -> Connection:
    """Use the Ray that this process is connected to; else connect, or start one."""
    global _n_users, _ours
    if _is_useless:
        raise RuntimeError(
            "this process was forked from one that is connected to Ray, and cannot use Ray: make the pool there,"
            " or start this process by spawn"
        )
    with _lock:
        if not ray.is_initialized():
            init()
            _ours, _n_users = _connection(), 0
        joined = _connection()
        if joined is None:
            raise ConnectionError("Ray was shut down amid the start of a pool")
        if joined == _ours:
            _n_users += 1
        return joined


def _leave(joined: Connection) -> None:
    """Undo `_join`: the last one ends the connection that was made here, and stops what was started with it."""
    global _n_users, _ours
    with _lock:
        if joined != _ours or joined.pid != os.getpid():
            return
        _n_users -= 1
        if not _n_users:
            _ours = None
            if _connection() == joined:  # else the program itself has ended it, and may have made one of its own
                ray.shutdown()


def _leave_soon(joined: Connection) -> None:
    """Leave, in whichever thread an adapter that nobody closed was collected: Ray's own must not wait for Ray."""
    if threading.current_thread() is threading.main_thread():
        _leave(joined)
    else:
        threading.Thread(target=_leave, args=(joined,), name="mtasklite-leave", daemon=True).start()


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
    most_starting = math.inf  # those that wait make a cluster grow that can

    def __init__(self, resources: Sequence[Resources]) -> None:
        self._resources = [{"num_cpus": 1, **needs} for needs in resources]
        self._joined: Optional[Connection] = None
        self._finalize: Optional[weakref.finalize[[Connection], RayAdapter]] = None

    def open(self, n_workers: int, must_kill: bool) -> None:
        self._join()

    def _join(self) -> None:
        if self._finalize is not None and self._finalize.alive and self.is_joined:
            return
        self.close()
        self._joined = _join()
        self._finalize = weakref.finalize(self, _leave_soon, self._joined)
        for index, needs in enumerate(self._resources):
            if not _places_for(needs):
                self.close()
                name = "resources" if len(self._resources) == 1 else f"resources[{index}]"
                raise ValueError(
                    f"`{name}` must be what some node of the Ray cluster has, but none has all of this: {needs!r}"
                )

    @property
    def is_joined(self) -> bool:
        return self._joined is not None and _connection() == self._joined

    def capacity(self) -> int:
        self._join()
        return max(1, _places_for(self._resources[0]))

    def start_actor(self, slot: int, payload: Frames) -> Any:
        self._check_joined()
        needs = dict(self._resources[slot if len(self._resources) > 1 else 0])
        options: dict[str, Any] = {name: needs.pop(name) for name in OPTIONS if name in needs}
        options.update(resources=needs or None, max_concurrency=MAX_CONCURRENCY, max_restarts=0)
        return _RemoteHost.options(**options).remote(payload)

    def call(self, actor: Any, number: int, messages: list[Frames], then: Then) -> None:
        try:
            self._check_joined()  # or Ray would start anew by itself
            future = actor.exchange.remote(number, messages).future()
        except Exception as error:  # the connection to the cluster is gone
            then(None, error)
        else:
            future.add_done_callback(partial(_pass_on, then))

    def kill(self, actor: Any) -> None:
        if self.is_joined:
            ray.kill(actor)

    def _check_joined(self) -> None:
        if not self.is_joined:
            raise PoolClosedError("the program has left the Ray cluster that this pool is on")

    def death(self, error: BaseException) -> Death:
        reason = _shortened(str(error))
        if "No module named 'mtasklite'" in reason:
            return Death("mtasklite is not installed where the cluster has placed it: install the same version there")
        if UNBORN.search(reason):
            reason += f" (the Ray cluster may be about to end; {JOIN_HINT})"
        is_certain = isinstance(error, ray.exceptions.ActorDiedError)
        return Death(reason, _exitcode_in(reason), bool(FROM_OUTSIDE.search(reason)), is_certain)

    def shortage(self) -> Optional[Shortage]:
        return None

    def close(self) -> None:
        if self._finalize is not None and self._finalize.detach() is not None and self._joined is not None:
            _leave(self._joined)


def _nodes() -> list[dict[str, Any]]:
    """Ask Ray for its nodes, in a thread, for where Ray does not answer it does not say so either.

    Raises:
        RuntimeError: It does not answer.
    """
    answer: Future[list[dict[str, Any]]] = Future()

    def ask() -> None:
        try:
            answer.set_result(ray.nodes())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="mtasklite-nodes", daemon=True).start()
    try:
        return answer.result(ANSWER_SECONDS)
    except FutureTimeoutError:
        raise RuntimeError(
            f"Ray did not answer within {ANSWER_SECONDS:g} s: its cluster is gone, or this process was forked from one"
            " that is connected to Ray, and cannot use it; make the pool there, or start this process by spawn"
        ) from None


def _places_for(needs: Resources) -> int:
    """Return how many workers that need this the nodes can have in all, were they free."""
    wanted = {OPTIONS.get(name, name): amount for name, amount in needs.items() if amount}
    n_places = 0
    for node in _nodes():
        if node["Alive"]:
            there = node["Resources"]
            fits = [_units(there.get(name, 0)) // max(1, _units(amount)) for name, amount in wanted.items()]
            n_places += min(fits, default=int(there.get("CPU", 0)) or 1)
    return n_places


def _units(amount: float) -> int:
    """Return an amount of a resource in the smallest parts that Ray knows."""
    return round(1e4 * amount)


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
