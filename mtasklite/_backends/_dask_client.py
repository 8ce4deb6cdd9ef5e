"""Which Dask cluster a pool works on: that of the client that is in use, or one of its own on this machine."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Optional
from weakref import WeakKeyDictionary

from distributed import Client, LocalCluster, Worker, get_client, get_worker, secede
from distributed.worker import thread_state

from mtasklite._backends._dask_local import LocalDask, start_missing
from mtasklite._cpus import available_cpus

Processes = Mapping[str, Mapping[str, Any]]
"""Dask worker processes by address: what the scheduler says of them."""

Needs = Mapping[str, float]

RETURN_SECONDS = 5.0
"""A process that was lost has this long to come back, before it is done without."""

LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.05, 1.0

ALL_WORKERS = {"n_workers": -1} if "n_workers" in inspect.signature(Client.scheduler_info).parameters else {}
"""What makes newer versions tell of all Dask workers, and not of five."""


class Seen:
    """What a cluster was seen to have.

    Attributes:
        resources: Of its Dask workers; each such set once.
        n_killable: The most Dask workers with a nanny that there were at once.
    """

    def __init__(self) -> None:
        self.resources: list[dict[str, float]] = []
        self.n_killable = 0

    def note(self, processes: Processes) -> None:
        for process in processes.values():
            resources = resources_of(process)
            if resources not in self.resources:
                self.resources.append(resources)
        self.n_killable = max(self.n_killable, _n_killable(processes))


_seen: WeakKeyDictionary[Any, Seen] = WeakKeyDictionary()
"""By client."""

_user: Optional[int] = None
"""The process that pools have used Dask in, which makes threads there that it needs for ever."""


class Membership:
    """A pool's part in a cluster.

    Attributes:
        is_own: Whether the cluster was started for it.
    """

    def __init__(self) -> None:
        self._own: Optional[LocalDask] = None
        self._client: Any = None  # that was in use

    @property
    def is_own(self) -> bool:
        return self._own is not None

    def capacity(self, needs: Needs) -> int:
        """Return how many workers with these needs there can be, one in each process.

        Raises:
            ValueError: The client in use is asynchronous, or has no Dask workers.
            RuntimeError: This process was forked from one in which Dask was in use.
        """
        client = existing_client()
        if client is None:
            return available_cpus()
        processes = _wait_for_any(client)
        if not processes:
            raise ValueError(
                "`n_jobs` must be given, for the cluster of the Dask client in use has no workers yet;"
                " or wait for them first: client.wait_for_workers(1)"
            )
        return max(1, sum(not lacks(resources_of(process), needs) for process in processes.values()))

    def join(self, resources: Sequence[Needs], n_workers: int, must_kill: bool) -> Any:
        """Return the client in use, or else one of a cluster that this starts.

        Args:
            resources: What workers need: one for all, or one for each.
            n_workers: Number of workers.
            must_kill: Whether workers that are late are to be killed.

        Raises:
            ValueError: The cluster has no place for some worker.
            RuntimeError: This process was forked from one in which Dask was in use.
        """
        global _user
        client = existing_client()
        _user = os.getpid()
        if client is not None:
            _wait_for_places(client, resources, n_workers, must_kill)
            self._client = client
            return client
        for index, needs in enumerate(resources):
            if any(needs.values()):
                raise ValueError(
                    f"{_no_place(resources, index)}, and a cluster that is started for a pool has none: make a Client"
                    " of one that has them, before the pool"
                )
        self._own = LocalDask(n_workers, processes_of)
        return self._own.client

    @property
    def may_grow(self) -> bool:
        """Whether processes may come without anybody's doing."""
        return self.is_own or may_grow(self._client)

    def replenish(self) -> None:
        """Have processes that are missing in a cluster on this machine started; any thread may."""
        if self._own is not None:
            self._own.replenish()
        elif self._client is not None:
            replenish(self._client)

    def leave(self) -> None:
        """Stop what was started; a client that was in use stays as it is."""
        own, self._own, self._client = self._own, None, None
        if own is not None:
            own.stop()


def replenish(client: Any) -> None:
    """Have processes that are missing in a `LocalCluster` started, as many as it was made with; any thread may."""
    cluster = getattr(client, "cluster", None)
    if isinstance(cluster, LocalCluster):
        start_missing(cluster, len(cluster.worker_spec))


def existing_client() -> Any:
    """Return the client that is in use here; ``None`` if there is none.

    Raises:
        ValueError: It is asynchronous.
        RuntimeError: This process was forked from one in which Dask was in use.
    """
    worker = _worker_here()
    if worker is None and _user not in (None, os.getpid()):
        raise _forked()
    try:
        client = get_client()
    except ValueError:
        return None
    _check_loop(client)
    if client.asynchronous:
        raise ValueError(
            "the Dask client in use must not be asynchronous, for a pool blocks the thread of its event loop:"
            " make one without `asynchronous=True`, and use the pool outside of the event loop"
        )
    return client


def _worker_here() -> Any:
    """Return the Dask worker that a task here runs on; ``None``: this is no task."""
    try:
        worker = get_worker()
    except ValueError:
        return None
    _check_loop(worker)
    return worker


def _check_loop(node: Any) -> None:
    """Raise if the event loop of a client, or of a Dask worker, runs in a thread that a fork has left behind."""
    thread = getattr(getattr(node.loop, "asyncio_loop", None), "_thread_id", None)  # asyncio's own; others have none
    if thread is not None and all(thread != other.ident for other in threading.enumerate()):
        raise _forked()


def _forked() -> RuntimeError:
    return RuntimeError(
        "this process was forked from one in which Dask is in use, by threads that are not here: make the pool there,"
        " or start this process by spawn"
    )


def free_thread() -> None:
    """Let Dask have another thread in the place of this one, if it is that of a Dask task.

    Actors are made in these threads, so a task that waits for a pool would wait for itself where it has the last one.
    It does not come back (`distributed.rejoin`): that would wait for other tasks, which may wait for this one.
    """
    if hasattr(thread_state, "start_time"):  # else it is no task's
        with suppress(KeyError):  # it has left already
            secede()


def processes_of(client: Any) -> Processes:
    """Ask the scheduler for the Dask worker processes there are.

    `Client.scheduler_info` now and then tells of none: what it has heard is overwritten by what it asks by itself.
    """
    processes: Processes = client.sync(client.scheduler.identity, **ALL_WORKERS)["workers"]
    return processes


def until_next_look(waited: float) -> float:
    """Return for how many seconds not to look at the cluster again, for something that was waited for so long."""
    return min(LOOK_SECONDS + waited / 4, LONGEST_LOOK_SECONDS)


def resources_of(process: Mapping[str, Any]) -> dict[str, float]:
    """Return what a process was started with."""
    return dict(process.get("resources") or {})


def lacks(has: Needs, needs: Needs) -> bool:
    """Whether something of this is not there."""
    return any(has.get(name, 0) < amount for name, amount in needs.items())


def _n_killable(processes: Processes) -> int:
    return sum(process.get("nanny") is not None for process in processes.values())


def address_here() -> Optional[str]:
    """Return the address of the Dask worker that a nanny has started this process for; ``None``: it is no such one.

    Any thread here may ask, not only that of a task, which is all that `distributed.get_worker` knows.
    """
    for worker in list(getattr(Worker, "_instances", ())):
        if worker.nanny is not None:
            return str(worker.address)
    return None


def others_than(address: Optional[str], processes: Processes) -> Processes:
    """Return the processes but for this one."""
    return {other: process for other, process in processes.items() if other != address}


def n_expected(client: Any) -> int:
    """Return how many processes the cluster that a client has made is to have; 0: nobody knows."""
    cluster = getattr(client, "cluster", None)
    return len(getattr(cluster, "worker_spec", ()))


def may_grow(client: Any) -> bool:
    """Whether the cluster that a client has made is to have processes, or starts them on demand."""
    return bool(n_expected(client)) or getattr(getattr(client, "cluster", None), "_adaptive", None) is not None


def check_places(
    all_resources: Sequence[Needs], n_killable: int, resources: Sequence[Needs], n_workers: int, must_kill: bool
) -> None:
    """Raise if there is no place for some worker, whoever else is there.

    Args:
        all_resources: What Dask workers have.
        n_killable: Number of those with a nanny.
        resources: What workers of the pool need: one for all, or one for each.
        n_workers: Number of workers of the pool.
        must_kill: Whether workers that are late are to be killed.

    Raises:
        ValueError: There is none.
    """
    if must_kill and n_killable < n_workers:
        beside = " beside the one that this code runs in" if address_here() is not None else ""
        raise ValueError(
            "with `task_timeout` each worker needs a Dask worker process of its own that a nanny can restart, and there"
            f" are {n_killable}{beside}, but `n_jobs` is {n_workers}: start more"
            " (`dask worker --nworkers ... --nthreads 1`, without `--no-nanny`), or ask for fewer workers"
        )
    for index, needs in enumerate(resources):
        if all(lacks(has, needs) for has in all_resources):
            raise ValueError(
                f"{_no_place(resources, index)}, and they have: {list(map(dict, all_resources))!r}"
                " (`dask worker --resources ...`)"
            )


def _no_place(resources: Sequence[Needs], index: int) -> str:
    name = "resources" if len(resources) == 1 else f"resources[{index}]"
    return f"`{name}` must be what some Dask worker has, but got {dict(resources[index])!r}"


def _wait_for_any(client: Any) -> Processes:
    """Return the processes; where all that are to be were lost, give them the time to be replaced."""
    end = time.monotonic() + RETURN_SECONDS
    while True:
        processes = processes_of(client)
        if processes or not n_expected(client) or time.monotonic() >= end:
            return processes
        replenish(client)
        time.sleep(LOOK_SECONDS)


def _wait_for_places(client: Any, resources: Sequence[Needs], n_workers: int, must_kill: bool) -> None:
    """Check that there are places; where processes that are missing had some, give them the time to be replaced.

    While there are no processes, and never were, nothing is known: they may come, and are waited for later.
    """
    end = time.monotonic() + RETURN_SECONDS
    seen = _seen.setdefault(client, Seen())
    here = address_here() if must_kill else None
    while True:
        everyone = processes_of(client)
        processes, is_here = others_than(here, everyone), here in everyone
        seen.note(processes)
        if len(processes) >= n_expected(client) and (seen.resources or is_here):
            # Whoever comes back has no more.
            check_places(seen.resources, seen.n_killable, resources, n_workers, must_kill)
        try:
            if processes or is_here:
                has = [resources_of(process) for process in processes.values()]
                check_places(has, _n_killable(processes), resources, n_workers, must_kill)
            return
        except ValueError:
            if time.monotonic() >= end:
                raise
        replenish(client)
        time.sleep(LOOK_SECONDS)
