"""Runs random pools on random work and does them harm, for as long as one likes.

    python -m mtasklite.tests.soak --seconds 60 --seed 1

After each round (`soak_plan`) what was seen is held against what the library promises (`soak_check`). The first breach
ends the run: it is printed with the round's plan and the command that plays that round again. For POSIX.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import faulthandler
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pprint import pformat
from typing import Any, Optional

import multiprocess.util
import psutil

from mtasklite import SerializationError, TaskTimeoutError, WorkerDiedError, WorkerInitError
from mtasklite.tests.soak_check import find_breaches
from mtasklite.tests.soak_plan import SKIPPABLE, Round, draw_round
from mtasklite.tests.soak_play import Player
from mtasklite.tests.soak_record import RoundRecord

HANG_SECONDS = 60.0
"""A round that takes longer hangs."""

KINDS = (
    ("deaths reported", WorkerDiedError),
    ("timeouts", TaskTimeoutError),
    ("serialization errors", SerializationError),
    ("workers not made", WorkerInitError),
    ("other errors", Exception),
)
"""What errors are counted as: the first that fits."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the soak, and return the exit code: 1 if the library broke a promise."""
    args = _parse(argv)
    counts: Counter[str] = Counter()
    folder = tempfile.mkdtemp(prefix="soak-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # so that what is left of temporary files is seen
    # After `multiprocess` has removed what it has in there.
    multiprocess.util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=-1000)
    player = Player(folder)
    is_well = all(_is_sound(player, plan, args.skip, folder, counts) for plan in _plans(args))
    print(f"seed {args.seed}: {'no breach' if is_well else 'BREACH'}", *map(_row, sorted(counts.items())), sep="\n")
    return 0 if is_well else 1


def _parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run random pools on random work, and do them harm.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="what all is drawn from (default: 1)")
    parser.add_argument("--round", type=int, help="play this round only")
    parser.add_argument("--times", type=int, default=1, help="how often to play that round (default: 1)")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        choices=SKIPPABLE,
        metavar="KIND",
        help=f"leave out one kind of harm; may be repeated: {', '.join(SKIPPABLE)}",
    )
    parser.add_argument("--verbose", action="store_true", help="print a line for each round")
    return parser.parse_args(argv)


def _plans(args: argparse.Namespace) -> Iterator[Round]:
    """Draw one round after another until the time is over, or the one that was asked for."""
    end = time.monotonic() + args.seconds
    numbers: Iterable[int] = itertools.count()
    if args.round is not None:
        end, numbers = float("inf"), itertools.repeat(args.round, args.times)
    for number in numbers:
        if time.monotonic() > end:
            return
        plan = draw_round(args.seed, number, args.skip)
        if args.verbose:
            print(f"round {number}: {', '.join(pool.place for pool in plan.pools)}", flush=True)
        yield plan


def _is_sound(player: Player, plan: Round, skip: Sequence[str], folder: str, counts: Counter[str]) -> bool:
    """Play a round, count what happened, and return whether it went as it should."""
    description = _describe(plan, skip)
    with _watching(description, folder):
        record = player.play(plan)
    counts.update(count(plan, record))
    return _has_no_breach(plan, record, description)


def _has_no_breach(plan: Round, record: RoundRecord, description: str) -> bool:
    """Print what is wrong with a round, if anything is."""
    breaches = find_breaches(plan, record)
    if breaches:
        traces = [seen.trace for pool in record.pools for seen in (pool, *pool.uses) if seen.trace]
        print(*(f"BREACH: {breach}" for breach in breaches), *traces, description, sep="\n", flush=True)
    return not breaches


@contextlib.contextmanager
def _watching(description: str, folder: str) -> Iterator[None]:
    """End the run if what is done inside of this does not end."""
    watchdog = threading.Timer(HANG_SECONDS, _report_hang, (description, folder))
    watchdog.start()
    faulthandler.dump_traceback_later(HANG_SECONDS + 10, exit=True)  # for a hang in which no Python code can run
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        watchdog.cancel()
        watchdog.join()


def _report_hang(description: str, folder: str) -> None:
    """Say where everything stands, and end this process, for nothing else would."""
    print(f"BREACH: the round did not end within {HANG_SECONDS} s", description, sep="\n", flush=True)
    faulthandler.dump_traceback(all_threads=True)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _describe(plan: Round, skip: Sequence[str]) -> str:
    """Return a round's plan, and the command that plays it again: often, for no two times are the same."""
    skipped = "".join(f" --skip {kind}" for kind in skip)
    command = f"python -m mtasklite.tests.soak --seed {plan.seed} --round {plan.number} --times 20{skipped}"
    return f"{pformat(_plain(plan), width=120, sort_dicts=False)}\nto play it again: {command}"


def _plain(value: Any) -> Any:
    """Return dataclasses as dicts, without what is as usual."""
    if dataclasses.is_dataclass(value):
        pairs = [(entry, getattr(value, entry.name)) for entry in dataclasses.fields(value)]
        return {entry.name: _plain(one) for entry, one in pairs if one != entry.default and one not in ({}, ())}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def count(plan: Round, record: RoundRecord) -> Counter[str]:
    """Count what happened in a round."""
    uses = [pair for pool, seen in zip(plan.pools, record.pools) for pair in zip(pool.uses, seen.uses)]
    outcomes = [one for _, seen in uses for one in (*seen.outcomes, seen.error) if one is not None]
    n_starts = Counter(line.key for line in record.lines if line.what == "start")
    counts = Counter(
        {
            "rounds": 1,
            "pools": len(plan.pools),
            "reuses": sum(len(pool.uses) - 1 for pool in plan.pools),
            "uses broken off": sum(use.end != "all" for use, _ in uses),
            "items read": sum((use.n_items or 0) if use.source == "list" else seen.n_read for use, seen in uses),
            "items run": len(n_starts),
            "retries used": sum(n_starts.values()) - len(n_starts),
            "kills": len(record.kills),
            "values": sum(not isinstance(one, Exception) for one in outcomes),
        }
    )
    errors = [one for one in outcomes if isinstance(one, Exception)]
    counts.update(next(name for name, cls in KINDS if isinstance(error, cls)) for error in errors)
    counts.update(f"pools: {pool.place}" for pool in plan.pools)
    return counts


def _row(entry: tuple[str, int]) -> str:
    return f"{entry[0]:<24}{entry[1]:>9}"


if __name__ == "__main__":
    sys.exit(main())
