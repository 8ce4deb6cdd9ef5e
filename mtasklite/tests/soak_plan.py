"""What a round of the soak does: a pure function of its seed, so that a round can be described and played again.

A *round* is one pool, or several at once in threads of their own, each put to one *use* or more; a use is one input's
way through the pool. Each item has a *fate*, by its place in the input; most have the usual one of their use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Optional

PLACES = {"inline": 2, "threads": 5, "fork": 7, "spawn": 3, "forkserver": 4}
"""Where pools work, and how often each is drawn."""
PROCESSES = ("fork", "spawn", "forkserver")

HARMLESS = ("slow", "large", "item_large")
FAILING = ("raise", "odd", "unsendable", "refusing", "item_unsendable")
DEADLY = ("exit", "system_exit", "segfault", "sigkill")
LATE = ("late", "verge", "hold")
"""Kinds of fates. ``odd``: raises what cannot be rebuilt elsewhere. ``refusing``: returns what cannot be unpickled.
``verge``: takes about as long as an item may. ``hold``: is late, and lets no other thread of its process run.
Besides: ``value``, the plain one; ``uneven``: takes a lognormal time; ``shared``: its item and its result are used
again for the next one, and the task and the consumer change what they get; ``forks``: leaves a child behind, and
returns much; ``item_kills``: ends who unpickles it."""

MAY_BE_ONCE = (*FAILING[:-1], *DEADLY, "late", "hold")
COSTLY = ("item_kills", "hold", "late")
"""Not more than one of each in a use."""

WORKERS = ("object", "closure", "shell", "context")
MAKINGS = ("raises", "exits", "stuck")
"""How a worker's constructor fails."""

SOURCES = ("list", "generator", "generator", "slow", "raising", "infinite")

ENDS = ("break", "close", "next", "cycle", "raise", "with", "leave")
"""How a consumer breaks off: out of its loop; by `close`; by dropping the iterator that it had called `next` on; by
leaving it in a cycle; by an exception; by leaving the iterator's block; by leaving that of the pool."""

SKIPPABLE = (*HARMLESS, *FAILING, *DEADLY, *LATE, "forks", "item_kills", *MAKINGS, *ENDS, "kill")

POOL_ARGUMENTS = (
    "exception_behavior",
    "is_unordered",
    "argument_type",
    "bounded",
    "chunk_size",
    "chunk_prefill_ratio",
    "task_timeout",
    "join_timeout",
    "retries",
    "max_tasks_per_child",
)

LATE_SECONDS = 30.0
"""What an item takes that is to be late: more than closing may, less than a round may."""


@dataclass(frozen=True)
class Fate:
    """What becomes of an item.

    Attributes:
        kind: See above.
        seconds: What it takes.
        size: Bytes of its result, or of the item itself.
        is_once: Whether it is so at its first attempt only; then it has a plain value.
    """

    kind: str = "value"
    seconds: float = 0.0
    size: int = 0
    is_once: bool = False


@dataclass(frozen=True)
class Use:
    """One input's way through a pool.

    Attributes:
        source: The kind of input.
        n_items: Items until the input ends or raises; ``None`` if it is infinite.
        usual: The fate of most items.
        fates: Those of the others.
        end: ``all``, or how the consumer breaks off.
        n_taken: After so many outcomes; ``None``: never.
        pause: Seconds that the consumer takes for each outcome.
    """

    source: str
    n_items: Optional[int]
    usual: Fate = field(default_factory=Fate)
    fates: Mapping[int, Fate] = field(default_factory=dict)
    end: str = "all"
    n_taken: Optional[int] = None
    pause: float = 0.0

    def fate(self, index: int) -> Fate:
        """Return the fate of an item."""
        return self.fates.get(index, self.usual)


@dataclass(frozen=True)
class PoolPlan:
    """One pool: the arguments that have the names of `Pool`'s own are those.

    Attributes:
        number: Its place in the round.
        place: Where it works.
        workers: For each slot the kind of worker, or how its constructor fails.
        is_entered: Whether its uses are inside its ``with`` block.
        uses: One input after another.
    """

    number: int
    place: str
    workers: tuple[str, ...]
    uses: tuple[Use, ...]
    is_entered: bool = False
    exception_behavior: str = "ignore"
    is_unordered: bool = False
    argument_type: str = "single_arg"
    bounded: bool = True
    chunk_size: Optional[int] = None
    chunk_prefill_ratio: Optional[float] = None
    task_timeout: Optional[float] = None
    join_timeout: Optional[float] = None
    retries: int = 0
    max_tasks_per_child: Optional[int] = None

    @property
    def is_in_processes(self) -> bool:
        return self.place in PROCESSES

    @property
    def window(self) -> Optional[int]:
        """Items that may be read and not yet handed out; ``None`` where no number was promised."""
        if self.chunk_size is None or not self.bounded:
            return None
        return max(1, int(self.chunk_size * (self.chunk_prefill_ratio or 2)))

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the pool, but for its workers."""
        chosen = {name: getattr(self, name) for name in POOL_ARGUMENTS}
        if self.is_in_processes:
            return {**chosen, "start_method": self.place}
        return {**chosen, "use_threads": self.place == "threads"}


@dataclass(frozen=True)
class Kill:
    """A SIGKILL from outside.

    Attributes:
        pause: Seconds to wait before it.
        pick: Which of the workers, between 0 and 1.
        is_of_started: Whether only workers are to be hit that have started an item.
    """

    pause: float
    pick: float
    is_of_started: bool


@dataclass(frozen=True)
class Round:
    """All that is drawn for one round."""

    seed: int
    number: int
    pools: tuple[PoolPlan, ...]
    is_in_threads: bool = False
    kills: tuple[Kill, ...] = ()


def draw_round(seed: int, number: int, skip: Collection[str] = ()) -> Round:
    """Draw a round; what is to be skipped is drawn too, and then left out, so that all else stays as it was."""
    draw = Random(f"{seed}/{number}")
    kills = _draw_kills(draw) if draw.random() < 0.5 else ()
    left_out = {*skip, "item_kills"} if kills else {*skip}  # with both, nobody could tell who is to blame
    n_pools = draw.choices((1, 2, 3), (85, 10, 5))[0]
    pools = tuple(_PoolDrawing(draw, left_out, bool(kills)).draw_pool(index) for index in range(n_pools))
    return Round(seed, number, pools, n_pools > 1 or draw.random() < 0.2, () if "kill" in skip else kills)


def _draw_kills(draw: Random) -> tuple[Kill, ...]:
    return tuple(
        Kill(draw.uniform(0, draw.choice((0.02, 0.1, 0.4))), draw.random(), draw.random() < 0.8)
        for _ in range(draw.randint(1, 6))
    )


class _PoolDrawing:
    """Draws a pool and uses that suit it.

    Args:
        draw: What all is drawn from.
        skip: Kinds to be left out.
        is_long: Whether there should be time for kills.
    """

    def __init__(self, draw: Random, skip: Collection[str], is_long: bool) -> None:
        self._draw = draw
        self._skip = skip
        self._is_long = is_long
        self._place = draw.choices(list(PLACES), list(PLACES.values()))[0]
        self._is_in_processes = self._place in PROCESSES
        is_inline = self._place == "inline"
        self._timeout: Optional[float] = None if is_inline else self._maybe(0.3, 1.0, 1.5)
        self._max_tasks: Optional[int] = None if is_inline else self._maybe(0.25, 1, 2, 5, 20)
        self._is_bounded = draw.random() < 0.93

    def draw_pool(self, number: int) -> PoolPlan:
        draw = self._draw
        is_entered = draw.random() < 0.5
        n_uses = draw.choice((1, 2, 3) if is_entered else (1, 1, 2))
        chunk_size = self._maybe(0.4, 1, 2, 3, 8)
        return PoolPlan(
            number=number,
            place=self._place,
            workers=self._draw_workers(),
            uses=tuple(self._draw_use(may_leave=is_entered and use == n_uses - 1) for use in range(n_uses)),
            is_entered=is_entered,
            exception_behavior=draw.choice(("immediate", "ignore", "ignore", "deferred")),
            is_unordered=draw.random() < 0.5,
            argument_type=draw.choice(("single_arg", "single_arg", "args", "kwargs")),
            bounded=self._is_bounded,
            chunk_size=chunk_size,
            chunk_prefill_ratio=self._maybe(0.5, 1, 1.5, 2, 4) if chunk_size else None,
            task_timeout=self._timeout,
            join_timeout=self._maybe(0.3, 0, 0.1, 5),
            retries=draw.choice((0, 0, 0, 1, 2)),
            max_tasks_per_child=self._max_tasks,
        )

    def _maybe(self, chance: float, *choices: Any) -> Any:
        """Draw one of the choices, or ``None``."""
        return self._draw.choice(choices) if self._draw.random() < chance else None

    def _draw_workers(self) -> tuple[str, ...]:
        draw = self._draw
        has_own_worker = self._timeout is not None or self._max_tasks is not None
        n_jobs = 1 if self._place == "inline" else draw.randint(1 if has_own_worker else 2, 4)
        if draw.random() < 0.6:
            return (draw.choice(WORKERS),) * n_jobs
        failing = ("raises", *(["exits"] * self._is_in_processes), *(["stuck"] * (self._timeout is not None)))
        chance = draw.choice((0, 0, 0.3, 1))
        drawn = [draw.choice(failing if draw.random() < chance else WORKERS) for _ in range(n_jobs)]
        return tuple("shell" if kind in self._skip else kind for kind in drawn)

    def _draw_use(self, may_leave: bool) -> Use:
        draw = self._draw
        most, seconds, usual = draw.choice(
            (
                (1500, 0.0, "value"),
                (150, 0.005, "value"),
                (12, 0.08, "value"),
                (12, 0, "large"),
                (150, 0.0, "uneven"),
                (1500, 0.0, "shared" if self._is_in_processes else "value"),
            )
        )
        if self._max_tasks is not None:
            most = min(most, 12 * self._max_tasks)
        n_items = draw.randint(most // 2 if self._is_long else 0, most)
        source = draw.choice(SOURCES if self._is_bounded else SOURCES[:-1])
        end, n_taken = "all", None
        if source == "infinite" or draw.random() < 0.35:
            end, n_taken = draw.choice(ENDS if may_leave else ENDS[:-1]), draw.randint(1, max(1, n_items))
        return Use(
            source=source,
            n_items=None if source == "infinite" else n_items,
            usual=self._draw_fate(usual, draw.uniform(0, seconds)),
            fates=self._draw_fates(n_items),
            end="break" if end in self._skip else end,
            n_taken=n_taken,
            pause=self._draw_pause(n_items) if draw.random() < (0.7 if self._is_long else 0.3) else 0.0,
        )

    def _draw_pause(self, n_items: int) -> float:
        """Draw what the consumer takes for each outcome: seconds in all, sometimes long enough for a kill."""
        return self._draw.uniform(0, self._draw.choice((0.1, 1, 4))) / max(5, n_items)

    def _draw_fates(self, n_items: int) -> dict[int, Fate]:
        draw = self._draw
        fates: dict[int, Fate] = {}
        for kind in draw.choices(self._kinds(), k=draw.choice((0, 0, 1, 2, 4, 8))):
            index, fate = draw.randrange(max(1, n_items)), self._draw_fate(kind)
            is_there_already = kind in COSTLY and any(other.kind == kind for other in fates.values())
            if kind not in self._skip and not is_there_already:
                fates[index] = fate
        return fates

    def _kinds(self) -> tuple[str, ...]:
        """Return the kinds of fates that there may be here."""
        kinds: tuple[str, ...] = HARMLESS + FAILING
        if self._is_in_processes:
            kinds += (*DEADLY, "forks", "item_kills")
        elif self._place == "threads":
            kinds += ("system_exit",)
        if self._timeout is not None:
            kinds += (LATE if self._is_in_processes else LATE[:2]) * 6
        return kinds

    def _draw_fate(self, kind: str, seconds: float = 0.0) -> Fate:
        draw = self._draw
        if kind == "slow":
            seconds = draw.uniform(0.05, 0.3)
        elif kind == "verge":
            seconds = (self._timeout or 0.0) + draw.uniform(-0.003, 0.003)
        elif kind in LATE:
            seconds = LATE_SECONDS
        size = draw.randint(100_000, 5_000_000) if kind in ("large", "item_large", "forks") else 0
        return Fate(kind, seconds, size, is_once=kind in MAY_BE_ONCE and draw.random() < 0.5)
