"""Whether a round of the soak went as the library promises: what was seen is held against the plan and the journal.

Nothing is run here, so the tests can show that each breach is noticed. What is permitted depends on what was injected:
an error that nothing in the plan explains is a breach, even if the library would call it an honest one.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Optional

from mtasklite import (
    DeferredExceptions,
    RemoteError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerInitError,
)
from mtasklite.tests.soak_plan import DEADLY, LATE, MAKINGS, PoolPlan, Round, Use
from mtasklite.tests.soak_record import Evidence, PoolRecord, RoundRecord, UseRecord
from mtasklite.tests.soak_work import EXIT_CODES, Fated, InputError, Line, Odd, payload

END_SECONDS = 20.0
"""A limit against hanging at the end of an iteration or a pool; no item that is not late takes a second."""


ALWAYS = 1 << 30
ITEM_FAILS = ("item_unsendable", "item_kills")
"""Fates of items that never reach a worker."""


def find_breaches(plan: Round, record: RoundRecord) -> list[str]:
    """Return in words what is not as it should be; an empty list if all is well."""
    evidence = Evidence(plan, record)
    found = [f"left behind: {what}" for what in record.left] + record.strays
    for pool, seen in zip(plan.pools, record.pools):
        where = f"pool {pool.number}"
        found += [f"{where}: {text}" for text in _PoolCheck(pool, seen, evidence).breaches()]
        for number, (use, use_seen) in enumerate(zip(pool.uses, seen.uses)):
            check = _UseCheck(pool, number, use, use_seen, evidence)
            found += [f"{where}, use {number}: {text}" for text in check.breaches()]
    return found


class _PoolCheck:
    def __init__(self, plan: PoolPlan, record: PoolRecord, evidence: Evidence) -> None:
        self._plan = plan
        self._record = record
        self._evidence = evidence
        self._failing = {slot for slot, kind in enumerate(plan.workers) if kind in MAKINGS}

    def breaches(self) -> list[str]:
        found = self._of_makings() + self._of_warnings()
        if self._record.slowest_end > END_SECONDS:
            found.append(f"an end took {self._record.slowest_end:.1f} s")
        error = self._record.error
        if error is not None and not (
            isinstance(error, WorkerInitError) and may_fail_to_start(self._plan, self._evidence)
        ):
            found.append(f"leaving the block raised {error!r}")
        return found + self._of_workers() + self._of_late_work()

    def _of_makings(self) -> list[str]:
        """A constructor's failure must have been reported, if all went to its end."""
        failed = sorted(self._evidence.failed_makings[self._plan.number])
        if not failed or any(use.end != "all" for use in self._plan.uses):
            return []
        errors = [error for error in (*(use.error for use in self._record.uses), self._record.error) if error]
        if self._plan.exception_behavior == "immediate":
            return [] if errors else [f"nothing was raised, though workers {failed} could not be made"]
        if any(isinstance(error, WorkerInitError) for error in errors):
            return []
        unsaid = [slot for slot in failed if not any(_tells_of(slot, text) for text in self._record.warnings)]
        return [f"no warning tells of worker {slot}, which could not be made" for slot in unsaid]

    def _of_warnings(self) -> list[str]:
        known = range(len(self._plan.workers)) if self._evidence.n_killed_unstarted else self._failing
        return [
            f"a warning: {text}" for text in self._record.warnings if not any(_tells_of(slot, text) for slot in known)
        ]

    def _of_workers(self) -> list[str]:
        most = self._plan.max_tasks_per_child
        mine = {(line.pid, line.thread) for line in self._starts()}
        counts = {worker: self._evidence.by_worker[worker] for worker in mine}
        found = [
            f"worker {worker} was given {n} items" for worker, n in counts.items() if most is not None and n > most
        ]
        return found + [f"worker {pid} was entered and not left" for pid in self._never_left()]

    def _never_left(self) -> list[int]:
        """Return the workers, context managers, that were not left though nothing ended them."""
        kinds = {fate.kind for use in self._plan.uses for fate in use.fates.values()}
        if self._plan.join_timeout is not None or kinds & {"verge", "item_kills"}:
            return []  # whom those end, the journal does not tell
        amid = {line.pid for line in self._starts() if (line.key, line.pid) not in self._evidence.ends}
        ended = amid.union(self._evidence.deaths)
        mine = {who: n for who, n in self._evidence.presence.items() if who[0] == self._plan.number}
        return [pid for (_, pid, _), n_present in mine.items() if n_present and pid not in ended]

    def _of_late_work(self) -> list[str]:
        """What was running must have been let finish, unless it was late, or cut off."""
        if self._plan.join_timeout is not None or self._plan.task_timeout is not None:
            return []
        late = [line for line in self._evidence.lines[self._plan.number] if line.time > self._record.ended_at]
        return [f"it was still at work after its end: {line}" for line in late]

    def _starts(self) -> list[Line]:
        return [line for line in self._evidence.lines[self._plan.number] if line.what == "start"]


def _tells_of(slot: int, warning: str) -> bool:
    return f"worker {slot} could not be made" in warning


def may_fail_to_start(plan: PoolPlan, evidence: Evidence) -> bool:
    """Whether `WorkerInitError` is explained: by a constructor, or by kills of workers that were at no item yet."""
    n_failing = sum(kind in MAKINGS for kind in plan.workers) + evidence.n_killed_unstarted
    return n_failing >= (1 if plan.exception_behavior == "immediate" else len(plan.workers))


class _UseCheck:
    """Holds one use against the plan."""

    def __init__(self, pool: PoolPlan, number: int, use: Use, record: UseRecord, evidence: Evidence) -> None:
        self._pool = pool
        self._number = number
        self._use = use
        self._record = record
        self._evidence = evidence
        self._has_large = any(fate.size for fate in (use.usual, *use.fates.values()))
        self._n_read = use.n_items or 0 if use.source == "list" else record.n_read

    def breaches(self) -> list[str]:
        """Return what is wrong."""
        found: list[str] = []
        indices = self._identify()
        for index, outcome in zip(indices, self._record.outcomes):
            found += self._of_outcome(index, outcome)
        found += self._of_indices(indices) + self._of_error(indices) + self._of_starts()
        window = self._pool.window
        if window is not None and self._record.most_ahead > window:
            found.append(f"{self._record.most_ahead} items were read and not handed out; {window} may be")
        if self._record.is_read_elsewhere:
            found.append("the input was advanced in another thread")
        return found + self._record.notes

    # ---- which item is it

    def _identify(self) -> list[int]:
        """Return whose outcomes these are; those that do not say so take the places that are free."""
        outcomes = self._record.outcomes
        known = [self._index_of(outcome) for outcome in outcomes]
        if not self._pool.is_unordered:
            return [place if index is None else index for place, index in enumerate(known)]
        free = [index for index in sorted(self._use.fates) if index not in known]
        return [self._claim(free, outcome) if index is None else index for index, outcome in zip(known, outcomes)]

    def _claim(self, free: list[int], outcome: Any) -> int:
        """Return the index of an item that may have this outcome, which does not say whose it is."""
        index = next((index for index in free if self._complaint(index, outcome) is None), -1)
        if index >= 0:
            free.remove(index)
        return index

    def _index_of(self, outcome: Any) -> Optional[int]:
        """Return the index that an outcome tells; -1 if it is that of a stranger, ``None`` if it cannot be told."""
        if isinstance(outcome, (WorkerDiedError, TaskTimeoutError)):
            return -1 if outcome.item_index is None else outcome.item_index
        if isinstance(outcome, (RemoteError, Odd)):
            told = re.search(r"odd/(\d+)/(\d+)/(\d+)/", str(outcome))
            return self._own(tuple(map(int, told.groups()))) if told else -1
        if isinstance(outcome, Exception):
            return self._own(outcome.args) if isinstance(outcome, Fated) else None
        return self._own(outcome[:3]) if isinstance(outcome, tuple) else -1

    def _own(self, key: tuple[Any, ...]) -> int:
        return key[2] if key[:2] == (self._pool.number, self._number) else -1

    # ---- is it right

    def _of_outcome(self, index: int, outcome: Any) -> list[str]:
        complaint = self._complaint(index, outcome)
        return [f"item {index}: {complaint}: {_short(outcome)}"] if complaint else []

    def _complaint(self, index: int, outcome: Any) -> Optional[str]:
        if not 0 <= index < self._n_read:
            return "an outcome of no item of this input"
        key = (self._pool.number, self._number, index)
        fate = self._use.fate(index)
        expected = fated_error(self._pool, fate.kind)
        n_starts = len(self._evidence.starts.get(key, ()))
        n_failing = 0 if expected is None or fate.kind == "verge" else 1 if fate.is_once else ALWAYS
        if not isinstance(outcome, Exception):
            if n_starts <= n_failing:
                return f"a value after {n_starts} starts, of which {n_failing} were to fail"
            return None if self._is_right(index, outcome) else "a wrong value"
        n_due = 0 if self._pool.is_in_processes and fate.kind in ITEM_FAILS else self._pool.retries + 1
        if n_starts != n_due and not self._evidence.n_kills:
            return f"an error after {n_starts} starts, not {n_due}"
        if type(outcome) is expected and self._has_fated_code(outcome, fate.kind):
            return self._complaint_of_fated(outcome, fate.kind, n_starts > n_failing)
        if isinstance(outcome, WorkerDiedError) and self._evidence.takes_along(key, outcome, self._has_large):
            return None
        return "nothing explains this error"

    def _is_right(self, index: int, outcome: Any) -> bool:
        fate = self._use.fate(index)
        if self._own(outcome[:3]) != index:
            return False
        if fate.kind in ("unsendable", "refusing"):
            return outcome[3] is not None or fate.is_once
        if fate.kind in ("large", "forks"):
            return bool(outcome[3] == payload(index, fate.size))
        if fate.kind == "shared":
            return bool(outcome[3] == [index, index, None, None, "marked"])
        return bool(outcome[3] == (fate.size if fate.kind == "item_large" else None))

    def _has_fated_code(self, error: Exception, kind: str) -> bool:
        expected = EXIT_CODES.get(kind) if self._pool.is_in_processes else None
        return not isinstance(error, WorkerDiedError) or error.exitcode == expected

    def _complaint_of_fated(self, error: Exception, kind: str, was_to_succeed: bool) -> Optional[str]:
        if isinstance(error, TaskTimeoutError) and error.seconds != self._pool.task_timeout:
            return "another time limit"
        if self._pool.is_in_processes and kind in ("raise", "odd") and "Traceback" not in str(error.__cause__):
            return "the worker's traceback is missing"
        if was_to_succeed and kind != "verge" and kind not in ITEM_FAILS and not self._evidence.n_kills:
            return "it failed at an attempt that was to succeed"
        return None

    # ---- are they all there

    def _of_indices(self, indices: list[int]) -> list[str]:
        found = [f"item {index} has {count} outcomes" for index, count in Counter(indices).items() if count > 1]
        if not self._pool.is_unordered and indices != list(range(len(indices))):
            found.append(f"out of order: {_short(indices)}")
        if self._pool.exception_behavior == "immediate" and any(
            isinstance(one, Exception) for one in self._record.outcomes
        ):
            found.append("an exception was handed out, not raised")
        return found

    def _of_error(self, indices: list[int]) -> list[str]:
        error, use = self._record.error, self._use
        is_broken_off = use.n_taken is not None and len(indices) >= use.n_taken
        if is_broken_off and error is None:
            return [] if len(indices) == use.n_taken else ["more was handed out than asked for"]
        if error is None or isinstance(error, (InputError, DeferredExceptions)):
            return self._of_regular_end(error)
        if isinstance(error, WorkerInitError):
            return [] if may_fail_to_start(self._pool, self._evidence) else [f"raised: {error!r}"]
        if self._pool.exception_behavior != "immediate" or not isinstance(error, Exception):
            return [f"raised: {error!r}"]
        index = self._index_of(error)
        if index is not None:
            return self._of_outcome(index, error)
        candidates = (one for one in self._use.fates if one < self._n_read and one not in indices)
        return [] if any(self._complaint(one, error) is None for one in candidates) else [f"raised: {error!r}"]

    def _of_regular_end(self, error: Optional[BaseException]) -> list[str]:
        found = []
        n_items, n_outcomes = self._use.n_items, len(self._record.outcomes)
        if not n_items == self._n_read == n_outcomes:
            found.append(f"{self._n_read} of {n_items} items were read, and {n_outcomes} outcomes handed out")
        if isinstance(error, InputError) != (self._use.source == "raising"):
            found.append(f"the input was to raise, or not to; raised: {error!r}")
        failures = [one for one in self._record.outcomes if isinstance(one, Exception)]
        deferred = error.__cause__ if isinstance(error, InputError) else error
        if self._pool.exception_behavior != "deferred" or not failures:
            return found if deferred is None else [*found, f"raised together: {deferred!r}"]
        if not isinstance(deferred, DeferredExceptions):
            return [*found, "nothing was raised for the failures"]
        known = [index for index in map(self._index_of, deferred.args) if index is not None]
        if set(map(id, deferred.args)) != set(map(id, failures)) or known != sorted(known):
            found.append(f"raised together: {deferred.args!r}; handed out: {failures!r}")
        return found

    def _of_starts(self) -> list[str]:
        found = []
        for (pool, use, index), lines in self._evidence.starts.items():
            if (pool, use) != (self._pool.number, self._number):
                continue
            if len(lines) > 1 + self._pool.retries:
                found.append(f"item {index} was run {len(lines)} times")
            if index >= self._n_read:
                found.append(f"item {index} was run and never read")
        return found


def fated_error(pool: PoolPlan, kind: str) -> Optional[type[Exception]]:
    """Return the class of the error that a fate brings about where this pool works, or ``None``."""
    if kind in LATE:
        return TaskTimeoutError
    if kind in DEADLY or (kind == "item_kills" and pool.is_in_processes):
        return WorkerDiedError
    if kind in ("unsendable", "refusing", "item_unsendable") and pool.is_in_processes:
        return SerializationError
    return {"raise": Fated, "odd": RemoteError if pool.is_in_processes else Odd}.get(kind)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:200]} ... {text[-50:]}"
