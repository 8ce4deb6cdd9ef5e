"""The end of one Dask actor: what still runs there ends with its process, unless that would cost others something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Callable

from mtasklite._backends._dask_actor import DaskActor
from mtasklite._backends._dask_places import KEY, Places

LEAVE_SECONDS = 1.0
"""For the process of an actor that is killed to say whether anything runs there."""

RESTART_SECONDS = 20.0


class Endings:
    """Ends actors; to be used in the client's event loop alone.

    A worker whose item runs on can be ended with its process only, which its nanny starts anew. That costs others
    what they have there: scattered data and actors are lost for good, results and tasks have to be computed again. So
    it is done to an item that is late, as `task_timeout` says, and otherwise where nobody has anything there. Else the
    worker ends after its item, and nobody listens to it.

    Args:
        client: Of the cluster.
        places: Knows the processes.
        ask: Calls a method of an actor.
        must_kill: Whether items that are late are to be ended.
        is_own: Whether the cluster was started for the pool, so that nobody else has anything there.
    """

    def __init__(
        self, client: Any, places: Places, ask: Callable[..., Awaitable[Any]], must_kill: bool, is_own: bool
    ) -> None:
        self._client = client
        self._places = places
        self._ask = ask
        self._must_kill = must_kill
        self._is_own = is_own

    def begin(self, actor: DaskActor) -> asyncio.Future[None]:
        """Begin to end an actor, unless that was done; return what is done when it has ended."""
        if actor.ending is None:
            actor.ending = asyncio.ensure_future(self._end(actor))
        return actor.ending

    async def _end(self, actor: DaskActor) -> None:
        try:
            must_restart = await self._must_restart(actor)
            if must_restart and actor.address is not None:
                self._places.shunned.add(actor.address)
            actor.cancel()
            await self.let_go(actor)
            actor.stop()
            if must_restart:
                with suppress(Exception):  # it is gone already
                    await self._client.restart_workers([actor.address], RESTART_SECONDS, raise_for_error=False)
        finally:
            actor.stop()

    async def let_go(self, actor: DaskActor) -> None:
        """Let the cluster drop an actor once the scheduler has heard of it: else nobody could wait until it forgets."""
        if actor.future is not None and not actor.is_known:
            await self._places.until_known(actor.key)
        actor.let_go()

    async def _must_restart(self, actor: DaskActor) -> bool:
        """Let an actor's host end; return whether its process is to be restarted, for something runs on there."""
        address = actor.address
        if not actor.is_up or address is None or address in self._places.shunned:
            return False
        try:
            has_left, is_late = await self._left_or_late(actor)
            if has_left or (await self._places.survey()).get(address, {}).get("nanny") is None:
                return False
            others = await self._what_others_have(actor, address)
        except Exception:
            return False  # it is gone
        if is_late or self._is_own:
            return not any(key.startswith(KEY) for key in others)
        return not others

    async def _left_or_late(self, actor: DaskActor) -> tuple[bool, bool]:
        try:
            has_left, is_late = await asyncio.wait_for(self._ask(actor, "leave"), LEAVE_SECONDS)
            return has_left, is_late
        except asyncio.TimeoutError:
            return False, self._must_kill  # what runs there holds the interpreter's lock

    async def _what_others_have(self, actor: DaskActor, address: str) -> list[str]:
        """Return the keys of what is in a process, or is worked at there, beside this actor."""
        scheduler = self._client.scheduler
        keys = await scheduler.has_what(workers=[address]), await scheduler.processing(workers=[address])
        return [str(key) for found in keys for key in found.get(address, ()) if key != actor.key]
