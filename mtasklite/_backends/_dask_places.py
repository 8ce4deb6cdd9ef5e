"""In which Dask worker process an actor goes.

The scheduler counts the resources of an actor only while it is made, so actors are counted, and placed, here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, Callable, Optional, TypeVar

from mtasklite._backends._adapter import Shortage
from mtasklite._backends._dask_actor import DaskActor
from mtasklite._backends._dask_client import (
    ALL_WORKERS,
    LOOK_SECONDS,
    RETURN_SECONDS,
    Membership,
    Processes,
    address_here,
    lacks,
    n_expected,
    others_than,
    resources_of,
    until_next_look,
)

T = TypeVar("T")

KEY = "mtasklite-actor"
"""Keys of actors on the scheduler begin with this."""

SHARE_SECONDS = 30.0
"""While others work, an actor waits so long for a process to itself that was lost, before it shares another."""

HEAR_SECONDS = 5.0
"""For the scheduler to take in what it was told."""

NO_SCHEDULER_REMEDY = "see whether it runs; the client tries for `distributed.comm.timeouts.connect`"
NO_PROCESS_REMEDY = "start some (`dask worker`), and wait for them before the pool (`client.wait_for_workers(1)`)"
NO_ROOM_REMEDY = "end what has taken it, another pool perhaps, or ask for less (`n_jobs`, `resources`)"
NO_THREAD_REMEDY = (
    "end tasks of yours there, have them leave Dask's threads (`distributed.secede`), or start Dask workers with more"
    " threads (`--nthreads`)"
)

NO_PROCESS_SECONDS, PLACE_SECONDS = 60.0, 600.0
"""For one of a pool's actors to be up: where nobody is known to start processes, and otherwise."""

WARN_SECONDS, BUSY_WARN_SECONDS = 5.0, 30.0
"""Until there is a warning: that there is no process, and that none has a thread to make an actor in."""


class Places:
    """Knows the processes; but for `shortage`, to be used in the client's event loop alone.

    Args:
        client: Of the cluster.
        membership: Starts processes that are missing.
        must_kill: Whether workers may have to be killed, so that each needs a process to itself, with a nanny.

    Attributes:
        shunned: Processes that are gone, or about to be, though the scheduler may have them.
        n_known: The most processes that there were, or are to be.
    """

    def __init__(self, client: Any, membership: Membership, must_kill: bool) -> None:
        self._client = client
        self._membership = membership
        self._must_kill = must_kill
        self._here = address_here() if must_kill else None  # a pool in a task must not end its own process
        self.shunned: set[str] = set()
        self.n_known = n_expected(client)
        self._n_there: Optional[int] = None

    async def all_processes(self) -> Processes:
        processes: Processes = (await self._client.scheduler.identity(**ALL_WORKERS))["workers"]
        return processes

    async def survey(self) -> Processes:
        """Return the processes that actors can be in."""
        processes = others_than(self._here, await self.all_processes())
        self.n_known = max(self.n_known, len(processes))
        self.shunned &= set(processes)
        there = {
            address: process
            for address, process in processes.items()
            if address not in self.shunned and process.get("status", "running") == "running"
        }
        self._n_there = len(there)
        return there

    async def choose(self, actor: DaskActor, actors: Collection[DaskActor]) -> str:
        """Choose a process for one of these actors, and note that it has it; wait until there is one."""
        began_at = time.monotonic()
        while True:
            processes = await self.survey()
            keys = await self._client.scheduler.has_what()
            waited = time.monotonic() - began_at
            others = [other for other in list(actors) if other is not actor]
            counts = self._fitting(actor, others, processes, keys)
            if len(processes) < self.n_known and waited < self._patience(others):  # what was lost may come back
                share = -(-len(actors) // self.n_known)
                counts = {address: count for address, count in counts.items() if count < share}
            if counts:
                actor.address = min(counts, key=counts.__getitem__)
                return actor.address
            self._membership.replenish()
            await asyncio.sleep(until_next_look(waited))

    def _patience(self, others: Sequence[DaskActor]) -> float:
        is_any_up = any(other.is_up for other in others)
        return SHARE_SECONDS if is_any_up else RETURN_SECONDS

    def _fitting(
        self, actor: DaskActor, others: Sequence[DaskActor], processes: Processes, keys: Mapping[str, Sequence[Any]]
    ) -> dict[str, int]:
        """Return how many actors there are, of this pool and of others, in each process that it may have."""
        found = {}
        for address, process in processes.items():
            own = [other for other in others if other.address == address]
            needs: Counter[str] = Counter(actor.resources)
            for other in own:
                needs.update(other.resources)
            n_actors = max(len(own), sum(str(key).startswith(KEY) for key in keys.get(address, ())))
            # One that is killed for being late is killed with its process, and with whoever else is there.
            is_killable = not n_actors and process.get("nanny") is not None
            if not lacks(resources_of(process), needs) and (is_killable or not self._must_kill):
                found[address] = n_actors
        return found

    async def while_there(self, address: str, coroutine: Coroutine[Any, Any, T]) -> Optional[T]:
        """Return what this returns; ``None`` as soon as the process is gone, of which it might not hear for long."""
        task = asyncio.ensure_future(coroutine)
        began_at = time.monotonic()
        try:
            while not (await asyncio.wait([task], timeout=until_next_look(time.monotonic() - began_at)))[0]:
                if address not in await self.survey():
                    return None
            return task.result()
        finally:
            task.cancel()

    async def until_known(self, key: str) -> None:
        """Wait until the scheduler has heard of this."""
        await self._until_states([key], lambda state: state is not None)

    async def until_forgotten(self, keys: Collection[str]) -> None:
        """Wait until the scheduler has let go all of these: what it was told of that it hears of by and by."""
        await self._until_states(keys, lambda state: state is None)

    async def _until_states(self, keys: Collection[str], is_right: Callable[[Optional[str]], bool]) -> None:
        end = time.monotonic() + HEAR_SECONDS
        while time.monotonic() < end:
            states = await self._client.scheduler.get_task_status(keys=list(keys))
            if all(map(is_right, states.values())):
                return
            await asyncio.sleep(LOOK_SECONDS / 5)

    def shortage(self, actors: Collection[DaskActor]) -> Shortage:
        """Say why none of these actors is up; any thread may."""
        if self._client.status == "connecting":
            text = "the Dask scheduler could not be reached"
            return Shortage(text, NO_SCHEDULER_REMEDY, WARN_SECONDS, PLACE_SECONDS)
        if any(actor.address is not None for actor in list(actors)):
            text = "no Dask worker process had a thread free to make it"
            return Shortage(text, NO_THREAD_REMEDY, BUSY_WARN_SECONDS, PLACE_SECONDS)
        if self._n_there:
            text = "no Dask worker process had room for it"
            return Shortage(text, NO_ROOM_REMEDY, WARN_SECONDS, PLACE_SECONDS)
        limit = PLACE_SECONDS if self._membership.may_grow else NO_PROCESS_SECONDS
        return Shortage("the Dask cluster had no worker process", NO_PROCESS_REMEDY, WARN_SECONDS, limit)
