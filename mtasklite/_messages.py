"""What crosses the boundary between the engine and a backend: a batch going out, events coming back.

Items are numbered by *sequence numbers* that grow over the whole life of a pool, not of one iteration: a late
result of an iteration that was given up can therefore never be taken for one of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Union

NOWHERE, CONSTRUCTING, UNPACKING, LEAVING = -1, -2, -3, -4
"""What stands on the status board instead of an item's sequence number: the worker is at none, is being made,
unpickles a batch, any item of which may be its death, or is in its `__exit__`."""

SOMEWHERE = -5
"""Stands there when a worker is lost of which nobody can tell what it was at: all that it held may have run."""

NO_FAILURES: Mapping[int, Exception] = MappingProxyType({})


class Batch(NamedTuple):
    """Items that are sent to one worker together; they lie side by side in the input.

    Attributes:
        first: Sequence number of the first item.
        items: The items.
    """

    first: int
    items: Sequence[Any]


class Receipt(NamedTuple):
    """What a backend says of a batch that it has sent.

    Attributes:
        n_bytes: Size of the pickled batch; 0 where nothing is pickled.
        failures: By offset in the batch: items that could not be pickled. The worker answers for these with an
            empty value, which the engine replaces.
    """

    n_bytes: int = 0
    failures: Mapping[int, Exception] = NO_FAILURES


@dataclass(frozen=True)
class Ready:
    """A worker waits for its first batch, or has dropped what it had, as it was told to.

    Attributes:
        slot: The worker.
        since: Since when it does, by `time.monotonic`; negative: not known.
    """

    slot: int
    since: float = -1.0


class Run(NamedTuple):
    """Outcomes of items that lie side by side in one batch.

    Attributes:
        slot: The worker that they come from.
        first: Sequence number of the first.
        values: The values; whatever stands in the place of a failure is meaningless.
        failures: By offset in `values`: the exceptions.
        busy_seconds: How long the worker worked on them; negative if it died before it could say so.
        n_bytes: Their pickled size; 0 where nothing is pickled.
        ended_at: When the worker had done them, by `time.monotonic`.
    """

    slot: int
    first: int
    values: list[Any]
    failures: dict[int, Exception]
    busy_seconds: float
    n_bytes: int = 0
    ended_at: float = -1.0


@dataclass(frozen=True)
class Returned:
    """A worker gives back what it has not begun, as it was asked to.

    Attributes:
        slot: The worker.
        n_batches: How many batches come back whole: the last of those that it was sent.
        first: Sequence number of the item from which on those of the batch at hand come back too; `NOWHERE`: none.
    """

    slot: int
    n_batches: int
    first: int


@dataclass(frozen=True)
class InitFailed:
    """A worker could not be made, and is gone."""

    slot: int
    error: BaseException


@dataclass(frozen=True)
class Lost:
    """A worker is gone that had been ready.

    Attributes:
        slot: The worker.
        current: Sequence number of the item that it was at; items sent after that one had not started. Else
            `NOWHERE`, `UNPACKING` or `SOMEWHERE`.
        exitcode: As in ``multiprocess.Process.exitcode``; ``None`` where there is none.
        reason: How it ended, for the error's text.
        traceback: Where it was when it ended, if it could say.
    """

    slot: int
    current: int
    exitcode: Optional[int]
    reason: str
    traceback: Optional[str] = None


@dataclass(frozen=True)
class ExitFailed:
    """A worker object that is a context manager raised when it was left, after the last item."""

    slot: int
    error: BaseException


class FoundLate(Exception):
    """Stands for the value of an item that ended by itself, but past its time."""


Event = Union[Ready, Run, Returned, InitFailed, Lost, ExitFailed]
