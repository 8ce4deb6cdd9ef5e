"""Which Dask cluster a pool works on: that of the client that is in use, or one of its own on this machine."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional
from weakref import WeakKeyDictionary

from distributed import Client, LocalCluster, get_client

from mtasklite._backends._dask_local import LocalDask
from mtasklite._cpus import available_cpus

Processes = Mapping[str, Mapping[str, Any]]
"""Dask worker processes by address: what the scheduler says of them."""

Needs = Mapping[str, float]

RETURN_SECONDS = 5.0
"""A process that was lost has this long to come back, before it is done without."""

LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.05, 1.0

ALL_WORKERS = {"n_workers": -1} if "n_workers" in inspect.signature(Client.scheduler_info).parameters else {}
"""What makes newer versions tell of all Dask workers, and not of five."""


_n_processes: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""The most processes that clients have been seen with."""


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
        """
        client = existing_client()
        if client is None:
            return available_cpus()
        processes = processes_of(client)
        if not processes:
            raise ValueError(
                "`n_jobs` must be given, for the cluster of the Dask client in use has no workers yet;"
                " or wait for them first: client.wait_for_workers(1)"
            )
        return max(1, sum(not lacks(process, needs) for process in processes.values()))

    def join(self, needs: Sequence[Needs], must_kill: bool) -> Any:
        """Return the client in use, or else one of a cluster that this starts.

        Args:
            needs: Of each worker.
            must_kill: Whether workers that are late are to be killed.

        Raises:
            ValueError: The cluster has no place for some worker.
        """
        client = existing_client()
        if client is not None:
            _wait_for_places(client, needs, must_kill)
            self._client = client
            return client
        if any(map(_listed, needs)):
            raise ValueError(
                f"`resources` must be what some Dask worker has, but got {dict(needs[0])!r}, and a cluster that is"
                " started for a pool has none: make a Client of one that has them, before the pool"
            )
        self._own = LocalDask(len(needs), processes_of)
        return self._own.client

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
    """Have processes that are missing in a `LocalCluster` started, as many as it was made with; any thread may.

    It gives up one for good that happens to be down 15 s after it had been lost before.
    """
    cluster = getattr(client, "cluster", None)
    if isinstance(cluster, LocalCluster) and len(cluster.workers) < len(cluster.worker_spec):
        cluster.scale(len(cluster.worker_spec))


def existing_client() -> Any:
    """Return the client that is in use here; ``None`` if there is none.

    Raises:
        ValueError: It is asynchronous.
    """
    try:
        client = get_client()
    except ValueError:
        return None
    if client.asynchronous:
        raise ValueError(
            "the Dask client in use must not be asynchronous, for a pool blocks the thread of its event loop:"
            " make one without `asynchronous=True`, and use the pool outside of the event loop"
        )
    return client


def processes_of(client: Any) -> Processes:
    """Ask the scheduler for the Dask worker processes there are."""
    processes: Processes = client.scheduler_info(**ALL_WORKERS)["workers"]
    return processes


def until_next_look(waited: float) -> float:
    """Return for how many seconds not to look at the cluster again, for something that was waited for so long."""
    return min(LOOK_SECONDS + waited / 4, LONGEST_LOOK_SECONDS)


def lacks(process: Mapping[str, Any], needs: Needs) -> bool:
    """Whether a process has not all of this."""
    has = process.get("resources") or {}
    return any(has.get(name, 0) < amount for name, amount in needs.items())


def check_places(processes: Processes, needs: Sequence[Needs], must_kill: bool) -> None:
    """Raise if there is no place for some worker, whoever else is there.

    Raises:
        ValueError: There is none.
    """
    if not processes:
        return  # they may come
    for needed in needs:
        if all(lacks(process, needed) for process in processes.values()):
            has = [dict(process.get("resources") or {}) for process in processes.values()]
            raise ValueError(
                f"`resources` must be what some Dask worker has, but got {dict(needed)!r}, and they have: {has!r}"
                " (`dask worker --resources ...`)"
            )
    if not must_kill:
        return
    n_killable = sum(process.get("nanny") is not None for process in processes.values())
    if n_killable < len(needs):
        raise ValueError(
            "with `task_timeout` each worker needs a Dask worker process of its own that a nanny can restart, and there"
            f" are {n_killable}, but `n_jobs` is {len(needs)}: start more (`dask worker --nworkers ... --nthreads 1`,"
            " without `--no-nanny`), or ask for fewer workers"
        )


def _wait_for_places(client: Any, needs: Sequence[Needs], must_kill: bool) -> None:
    """Check that there are places; if not, give processes that died just now the time to be replaced."""
    end = time.monotonic() + RETURN_SECONDS
    while True:
        processes = processes_of(client)
        n_known = _n_processes[client] = max(len(processes), _n_processes.get(client, 0))
        n_known = max(n_known, len(getattr(getattr(client, "cluster", None), "worker_spec", ())))
        is_late = len(processes) >= n_known or time.monotonic() >= end
        try:
            if processes or is_late:
                return check_places(processes, needs, must_kill)
        except ValueError:
            if is_late:
                raise
        replenish(client)
        time.sleep(LOOK_SECONDS)


def _listed(needs: Needs) -> bool:
    return any(needs.values())
