"""What `ClusterBackend` asks of an engine that has actors: a module of its name has `make_adapter`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional, Protocol

Frames = list[Any]
"""A message: small parts of it as bytes, large ones as buffers; see `_cluster_wire`."""

Answer = tuple[list[Frames], int, float, float]
"""What a host answers: messages; what its worker is at and since when, as on the status board; and what time it is, by
the same clock. Clocks of two machines are never compared: only ages are."""

Then = Callable[[Optional[Answer], Optional[BaseException]], None]

Resources = Mapping[str, float]


class Death(NamedTuple):
    """What an engine says of an actor that is gone.

    Attributes:
        reason: In words.
        exitcode: As in ``multiprocess.Process.exitcode``; ``None``: not known.
        is_from_outside: Whether the machine was lost, or others ended the actor: no fault of the worker's.
        is_certain: Whether the actor is surely gone, and need not be killed.
    """

    reason: str
    exitcode: Optional[int] = None
    is_from_outside: bool = False
    is_certain: bool = False


class Shortage(NamedTuple):
    """Why none of a pool's actors is up.

    Attributes:
        reason: What is lacking, in words.
        remedy: What to do.
        warn_seconds: After which that is told as a warning ...
        limit_seconds: ... and as an error.
    """

    reason: str
    remedy: str
    warn_seconds: float
    limit_seconds: float


class Adapter(Protocol):
    """What an engine can do. Nothing but `open`, `capacity` and `close` may block.

    Attributes:
        name: Of the engine, for errors.
        most_starting: Actors that may be asked for at once, and be not up yet.
    """

    name: str

    @property
    def most_starting(self) -> float: ...

    def open(self, n_workers: int, must_kill: bool) -> None:
        """Join the cluster that is in use, or start one; nothing if that was done.

        Args:
            n_workers: Number of slots.
            must_kill: Whether workers may have to be killed amid an item, for being late.

        Raises:
            ValueError: The cluster can place none of the workers, or not so that they could be killed.
        """

    @property
    def is_joined(self) -> bool:
        """Whether the cluster that `open` has joined can still be spoken to; other code may have left it."""

    def capacity(self) -> int:
        """Return how many workers the cluster can have; joins it."""

    def start_actor(self, slot: int, payload: Frames) -> Any:
        """Start an actor with a `Host`, and return a handle of it; it may be called at once."""

    def call(self, actor: Any, number: int, messages: list[Frames], then: Then) -> None:
        """Call `Host.exchange`; `then` is called once, from any thread, with the answer or the engine's error."""

    def kill(self, actor: Any) -> None:
        """End an actor at once; calls that are under way end with an error."""

    def death(self, error: BaseException) -> Death:
        """Say what a call's error tells of the actor's end."""

    def shortage(self) -> Optional[Shortage]:
        """Say why none of the actors is up; ``None``: nothing is known of that."""

    def close(self) -> None:
        """Leave the cluster, and stop it if it was started by `open`; nothing if that was done."""
