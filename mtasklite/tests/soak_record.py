"""What was seen of a round of the soak, and what its journal tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from mtasklite import WorkerDiedError
from mtasklite.tests.soak_plan import DEADLY, Round
from mtasklite.tests.soak_work import EXIT_CODES, Line

UNSENT_SECONDS = 0.4
"""How old a finished result may be that a death takes along: promised are 10 ms, the rest is for a busy machine."""

SENT_SECONDS = 0.06
"""A result has surely been sent once its worker went on to another item so long after it was ready: 10 ms are promised,
and all times are the worker's own, so that a busy machine can only make them longer."""

Key = tuple[int, int, int]


class Killed(NamedTuple):
    """A worker that was killed from outside."""

    pid: int
    time: float


@dataclass
class UseRecord:
    """What was seen of one use.

    Attributes:
        outcomes: As they were handed out.
        error: What the iteration raised.
        n_read: Items that the input gave.
        most_ahead: The most that were read and not yet handed out.
        is_read_elsewhere: Whether the input was advanced in another thread than the consumer's.
        notes: What the consumer itself found wrong.
        trace: The traceback of the error.
    """

    outcomes: list[Any] = field(default_factory=list)
    error: Optional[BaseException] = None
    n_read: int = 0
    most_ahead: int = 0
    is_read_elsewhere: bool = False
    notes: list[str] = field(default_factory=list)
    trace: str = ""


@dataclass
class PoolRecord:
    """What was seen of one pool.

    Attributes:
        uses: What was seen of each use.
        error: What leaving its block raised.
        warnings: What was warned of in the consumer's thread.
        slowest_end: Seconds that the slowest end of a use, or of the pool, took.
        ended_at: When all was over.
        trace: The traceback of the error.
    """

    uses: list[UseRecord] = field(default_factory=list)
    error: Optional[BaseException] = None
    warnings: list[str] = field(default_factory=list)
    slowest_end: float = 0.0
    ended_at: float = float("inf")
    trace: str = ""


@dataclass
class RoundRecord:
    """What was seen of a round; `strays` are complaints that no pool was there to take, `left` is what remained."""

    pools: list[PoolRecord] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    kills: list[Killed] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Evidence:
    """What the journal and the killer tell about a round.

    Attributes:
        lines: The lines of each pool.
        starts: The lines of each item's starts.
        ends: When each item was done, by item and process.
        failed_makings: The slots, by pool, in which a constructor was begun that was to fail.
        n_kills: Workers killed from outside.
        deaths: When a process died, and the exit codes that it may have died with.
        n_unseen: Items that may have been struck before they could note their start: one for each kill.
    """

    def __init__(self, plan: Round, record: RoundRecord) -> None:
        self.lines: dict[int, list[Line]] = defaultdict(list)
        self.starts: dict[Key, list[Line]] = defaultdict(list)
        self.ends: dict[tuple[Key, int], float] = {}
        self._last: dict[int, float] = {}
        self._last_end: dict[int, float] = {}
        self._end_before_start: dict[int, float] = {}  # the last end that another start came after
        self.by_worker: Counter[tuple[int, int]] = Counter()
        self.presence: Counter[tuple[int, int, int]] = Counter()  # by pool, process, thread
        self.failed_makings: dict[int, set[int]] = defaultdict(set)
        self.n_kills = self.n_unseen = len(record.kills)
        for line in record.lines:
            self._note(line)
        self.deaths: dict[int, tuple[float, set[int]]] = {}
        self._note_deaths(plan, record)
        started = {pid for pid, _ in self.by_worker}
        self.n_killed_unstarted = sum(killed.pid not in started for killed in record.kills)

    def _note(self, line: Line) -> None:
        self.lines[line.pool].append(line)
        self._last[line.pid] = line.time
        if line.what == "start":
            self.starts[line.key].append(line)
            self.by_worker[line.pid, line.thread] += 1
            self._end_before_start[line.pid] = self._last_end.get(line.pid, 0.0)
        elif line.what == "end":
            self.ends[line.key, line.pid] = self._last_end[line.pid] = line.time
        elif line.what == "make":
            self.failed_makings[line.pool].add(line.index)
        else:
            self.presence[line.pool, line.pid, line.thread] += 1 if line.what == "enter" else -1

    def _note_deaths(self, plan: Round, record: RoundRecord) -> None:
        for killed in record.kills:
            self.deaths[killed.pid] = max(killed.time, self._last.get(killed.pid, 0.0)), {EXIT_CODES["sigkill"]}
        for key, lines in self.starts.items():
            pool = plan.pools[key[0]]
            kind = pool.uses[key[1]].fate(key[2]).kind
            for line in lines:
                if kind in DEADLY and pool.is_in_processes and (key, line.pid) not in self.ends:
                    _, codes = self.deaths.get(line.pid, (0.0, set()))
                    self.deaths[line.pid] = line.time, codes | {EXIT_CODES[kind]}

    def takes_along(self, key: Key, error: WorkerDiedError, has_large: bool) -> bool:
        """Whether a death explains that an item was lost that did not cause it."""
        lines = self.starts.get(key)
        last = lines[-1] if lines else None
        if last is not None and last.pid in self.deaths:
            died_at, codes = self.deaths[last.pid]
            ended_at = self.ends.get((key, last.pid), died_at)
            if error.exitcode not in codes or self._end_before_start[last.pid] - ended_at > SENT_SECONDS:
                return False
            return has_large or died_at - ended_at <= UNSENT_SECONDS  # to send what is large may take any time
        self.n_unseen -= 1
        return self.n_unseen >= 0 and error.exitcode == EXIT_CODES["sigkill"]
