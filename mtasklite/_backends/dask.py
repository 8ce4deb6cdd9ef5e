"""Actors of Dask, for `ClusterBackend`: all that calls Dask, and is imported only when it is asked for.

    driver's thread           client's event loop                        Dask worker process
      start_actor, kill ────> choose a process, submit, let go ────────> DaskHost, in its event loop
      call ─────────────────> send the message `actor_execute` ────────> exchange ──inbox──> worker thread
      (arrivals) <──then───── await its answer <───────────────────────────┘

Actors are called by the message that `distributed.Actor` sends too, but straight to their processes where these can be
reached: an `Actor` goes through the scheduler unless the whole client is told not to, which takes twice as long, and
it keeps the actor on the cluster until the garbage collector comes.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Callable, NamedTuple, Optional

from distributed.protocol import to_serialize

from mtasklite._backends._adapter import Adapter, Death, Frames, Resources, Shortage, Then
from mtasklite._backends._dask_actor import ActorLostError, DaskActor, DaskHost
from mtasklite._backends._dask_client import Membership, free_thread
from mtasklite._backends._dask_ending import RESTART_SECONDS, Endings
from mtasklite._backends._dask_places import KEY, Places

REACH_SECONDS = 5.0
"""A process that cannot be connected to within this is spoken to through the scheduler."""

MOST_KEYS = 1000
"""Actors that the scheduler is asked about in the end; those before have long been forgotten."""

LEAST_STARTING = 16
"""Actors that may be asked for at once, however few processes there are."""

WATCH_SECONDS = 1.0
"""The scheduler is asked this often which processes there are."""


def make_adapter(resources: Sequence[Resources]) -> Adapter:
    """Return what speaks to Dask; nothing is started yet.

    Args:
        resources: What each worker needs: one for all, or one for each slot.
    """
    return DaskAdapter(resources)


class DaskAdapter:
    """Starts actors of Dask, calls and kills them.

    Args:
        resources: What each worker needs: one for all, or one for each slot.
    """

    name = "Dask"

    def __init__(self, resources: Sequence[Resources]) -> None:
        self._resources = resources
        self._membership = Membership()
        self._client: Any = None
        self._places: Any = None
        self._endings: Any = None
        self._prefix = f"{KEY}-{uuid.uuid4().hex}"  # of the keys of all actors of the pool
        self._numbers = itertools.count()
        self._keys: deque[str] = deque(maxlen=MOST_KEYS)  # of the latest
        self._actors: set[DaskActor] = set()  # those that have a process, or wait for one
        self._ways: dict[str, Any] = {}  # how processes are spoken to
        self._watching: Optional[asyncio.Future[None]] = None

    # ---- the cluster

    def open(self, n_workers: int, must_kill: bool) -> None:
        if self._client is None:
            self._client = self._membership.join(self._resources, n_workers, must_kill)
            self._places = Places(self._client, self._membership, must_kill)
            is_own = self._membership.is_own
            self._endings = Endings(self._client, self._places, self._ask, must_kill, is_own)

    def capacity(self) -> int:
        return self._membership.capacity(self._resources[0])

    @property
    def most_starting(self) -> float:
        # Each takes scheduler and process 30 ms or so, and if there is little to do not all are needed.
        return max(LEAST_STARTING, 2 * self._places.n_known if self._places is not None else 0)

    def _needs_of(self, slot: int) -> Resources:
        return self._resources[slot if len(self._resources) > 1 else 0]

    @property
    def is_joined(self) -> bool:
        # In the client's event loop the calls wait: once it is closed, nothing comes of them.
        return self._client is not None and self._client.status in ("running", "connecting")

    def close(self) -> None:
        if self._client is None:
            return
        if _is_running_in(self._client.loop.asyncio_loop):  # a Dask worker's main thread say: it would wait for itself
            threading.Thread(target=self._close, name="mtasklite-end", daemon=True).start()
        else:
            self._close()

    def _close(self) -> None:
        try:
            with suppress(Exception):  # the client may be closed amid this
                if self.is_joined:
                    loop = self._client.loop.asyncio_loop
                    asyncio.run_coroutine_threadsafe(self._end_all(), loop).result(RESTART_SECONDS)
        finally:
            for actor in list(self._actors):
                actor.fail(ActorLostError("the pool has ended"))
            self._actors.clear()
            self._ways.clear()
            self._client = None
            self._membership.leave()

    async def _end_all(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        endings = [self._end(actor) for actor in list(self._actors)]
        if not self._membership.is_own:  # else its processes end anyway
            await asyncio.gather(*endings)
            await self._places.until_forgotten(self._keys)

    # ---- actors, from the driver's thread

    def start_actor(self, slot: int, payload: Frames) -> DaskActor:
        free_thread()
        actor = DaskActor(f"{self._prefix}-{slot}-{next(self._numbers)}", self._needs_of(slot))
        self._actors.add(actor)
        self._post(self._begin, actor, payload)
        return actor

    def call(self, actor: DaskActor, number: int, messages: list[Frames], then: Then) -> None:
        actor.waiting[number] = then
        self._post(self._begin_exchange, actor, number, messages)

    def kill(self, actor: DaskActor) -> None:
        self._post(self._end, actor)

    def _end(self, actor: DaskActor) -> asyncio.Future[None]:
        ending: asyncio.Future[None] = self._endings.begin(actor)
        ending.add_done_callback(lambda _: self._actors.discard(actor))
        return ending

    def death(self, error: BaseException) -> Death:
        return Death(str(error) or repr(error))

    def shortage(self) -> Optional[Shortage]:
        return None if self._places is None else self._places.shortage(self._actors)

    def _post(self, function: Callable[..., Any], *args: Any) -> None:
        if self._client is not None:
            self._client.loop.add_callback(partial(_call, function, *args))

    def _begin(self, actor: DaskActor, payload: Frames) -> None:
        actor.is_placed = asyncio.Event()
        actor.run(self._place(actor, payload))
        if self._watching is None or self._watching.done():
            self._watching = asyncio.ensure_future(self._watch())

    def _begin_exchange(self, actor: DaskActor, number: int, messages: list[Frames]) -> None:
        if actor.ending is not None and actor.ending.done():
            actor.fail(ActorLostError("it was killed"))
        else:
            actor.run(self._exchange(actor, number, messages))

    # ---- placing, in the client's event loop

    async def _place(self, actor: DaskActor, payload: Frames) -> None:
        try:
            while not await self._has_begun(actor, await self._places.choose(actor, self._actors), payload):
                await self._endings.let_go(actor)
                actor.key += "-again"
            actor.is_up = True
        except Exception as error:
            actor.error = self._lost(actor, error)
        finally:
            actor.is_placed.set()

    async def _has_begun(self, actor: DaskActor, address: str, payload: Frames) -> bool:
        """Make an actor in a process; return false if the process turns out to be gone."""
        if actor.is_stopped:  # though a call that was to be cancelled has ended well
            raise ActorLostError("it was killed")
        actor.is_known = False
        self._keys.append(actor.key)
        actor.future = self._client.submit(
            DaskHost, actor=True, key=actor.key, workers=[address], allow_other_workers=False
        )
        made = await self._places.while_there(address, _end_of(actor.future))
        if made is None:
            return False
        actor.is_known = True
        if made.error is not None:
            if address in await self._places.survey():
                raise ActorLostError(f"Dask could not make it: {made.error!r}")
            return False
        try:
            begun = await self._places.while_there(address, self._begin_host(actor, payload))
        except (OSError, KeyError):
            begun = None
        if begun is None:
            self._places.shunned.add(address)
        return begun is not None

    async def _begin_host(self, actor: DaskActor, payload: Frames) -> bool:
        await self._ask(actor, "begin", payload, self._membership.is_own)
        return True

    async def _watch(self) -> None:
        """While there are actors, see whether the scheduler has lost their processes.

        Else a call that has to connect to one that is gone would go on trying for half a minute.
        """
        while self._actors:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                processes = await self._places.all_processes()
            except OSError:  # the scheduler is gone, or will be there again
                continue
            for actor in list(self._actors):
                if actor.is_up and actor.address not in processes:
                    actor.fail(self._lost(actor, OSError("the scheduler has lost it")))

    # ---- calling, in the client's event loop

    async def _exchange(self, actor: DaskActor, number: int, messages: list[Frames]) -> None:
        try:
            await actor.is_placed.wait()
            if actor.error is not None:
                raise actor.error
            answer = await self._ask(actor, "exchange", number, messages)
        except asyncio.CancelledError:
            actor.finish(number, None, ActorLostError("it was killed"))
        except Exception as error:
            actor.finish(number, None, self._lost(actor, error))
        else:
            actor.finish(number, answer, None)

    async def _ask(self, actor: DaskActor, method: str, *args: Any) -> Any:
        address = actor.address or ""
        message = {"actor": actor.key, "function": method, "args": list(map(to_serialize, args)), "kwargs": {}}
        if address not in self._ways:
            self._ways[address] = await self._way_to(address)
        way = self._ways[address]
        if way is not None:
            reply = await way.actor_execute(**message)
        else:
            reply = await self._client.scheduler.proxy(worker=address, msg={"op": "actor_execute", **message})
        if reply["status"] != "OK":
            raise reply["exception"]
        return reply["result"]

    async def _way_to(self, address: str) -> Any:
        """Return what speaks to a process directly; ``None`` if it cannot be reached from here, or is not to be."""
        if self._client.direct_to_workers is False:
            return None
        way = self._client.rpc(address)
        try:
            await asyncio.wait_for(way.identity(), REACH_SECONDS)
        except asyncio.TimeoutError:
            return None
        return way

    def _lost(self, actor: DaskActor, error: Exception) -> ActorLostError:
        if isinstance(error, ActorLostError):
            return error
        why = "" if isinstance(error, (OSError, KeyError)) else f": {type(error).__name__}: {error}"
        if actor.address is None:
            lost = ActorLostError(f"the Dask scheduler cannot be reached{why}")
        else:
            self._places.shunned.add(actor.address)
            lost = ActorLostError(f"its Dask worker process, {actor.address}, has ended or cannot be reached{why}")
        lost.__cause__ = error
        return lost


class _End(NamedTuple):
    """How a Dask task ended."""

    error: Optional[BaseException]


async def _end_of(future: Any) -> _End:
    return _End(await future.exception())


def _call(function: Callable[..., Any], *args: Any) -> None:
    function(*args)  # an awaitable that it returns is not for the event loop's own callbacks


def _is_running_in(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the thread of that event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
