"""One trial: one fault, on one contender, in this very process. `faults.py` starts it and looks at what is left.

    python benchmarks/fault_trial.py FAULT CONTENDER WAY

The verdict is left in the trial's folder: an empty text if the fault was stood, else a few words.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import psutil
from contenders import CONTENDERS, Job
from fault_cases import FAULTS, MAX_READ, N_ITEMS, N_TAKEN, STRUCK, Fault, ReadTooFar

MAX_SETUPS = 20  # more would be a worker made anew again and again
SECONDS_TO_GO = 5  # for processes, after the iterator was closed


def take_all(results: Iterator[Any]) -> tuple[list[Any], Optional[BaseException]]:
    """Return the outcomes, and what ended them, if it was no mere end."""
    outcomes = []
    try:
        for outcome in results:
            outcomes.append(outcome)
    except BaseException as error:  # a task's KeyboardInterrupt may come out of here
        return outcomes, error
    return outcomes, None


def says(error: Optional[BaseException], words: tuple[str, ...]) -> bool:
    """Return whether the error or one of its causes has one of the words in its type or text."""
    told = ""
    while error is not None:
        told += f"{type(error).__name__} {error} ".lower()
        error = error.__cause__ or error.__context__
    return any(word.lower() in told for word in words)


def check_items(fault: Fault, results: Iterator[Any]) -> str:
    """The struck item has an error that tells what happened, and every other item its value."""
    outcomes, error = take_all(results)
    if error is not None:
        return f"run ends: {type(error).__name__}"
    if len(outcomes) != N_ITEMS:
        return f"{len(outcomes)} outcomes for {N_ITEMS} items"
    expected = [item * item for item in range(N_ITEMS)]
    n_lost = sum(outcomes[i] != expected[i] for i in range(N_ITEMS) if i != fault.struck)
    if n_lost:
        return f"{n_lost} other items lost" if fault.struck is not None else f"{n_lost} items lost"
    if fault.struck is None:
        return ""
    outcome = outcomes[fault.struck]
    if not isinstance(outcome, BaseException):
        return "no error for the item"
    return "" if says(outcome, fault.says) else f"the error does not say why: {type(outcome).__name__}"


def check_setup_error(fault: Fault, results: Iterator[Any]) -> str:
    """The run, or every item, fails with an error that tells why, and workers are not made for ever."""
    outcomes, error = take_all(results)
    n_setups = (Path(os.environ["FAULTS_FOLDER"]) / "setups").stat().st_size
    if n_setups > MAX_SETUPS:
        return f"{n_setups} workers made"
    errors = [error] if error is not None else outcomes
    if not errors or not all(isinstance(one, BaseException) for one in errors):
        return "no error"
    if not all(says(one, fault.says) for one in errors):
        return f"the error does not say why: {type(errors[0]).__name__}"
    return ""


def check_input_error(fault: Fault, results: Iterator[Any]) -> str:
    """The results of the items before come first, and then the input's own exception."""
    outcomes, error = take_all(results)
    if outcomes != [item * item for item in range(STRUCK)]:
        ending = type(error).__name__ if error is not None else "no error"
        return f"{len(outcomes)} of {STRUCK} results, then {ending}"
    if not (isinstance(error, OSError) and says(error, ("the disk is gone",))):
        return f"ends with {type(error).__name__}" if error is not None else "the exception is lost"
    return ""


def check_endless(fault: Fault, results: Iterator[Any]) -> str:
    """A consumer that pauses for two seconds, and then stops, has not made anyone read far ahead."""
    try:
        taken = [next(results) for _ in range(N_TAKEN)]
    except ReadTooFar:
        return "reads without end"
    time.sleep(2)
    n_read = (Path(os.environ["FAULTS_FOLDER"]) / "read").stat().st_size
    results.close()  # type: ignore[attr-defined]
    if taken != [item * item for item in range(N_TAKEN)]:
        return "wrong results"
    return "" if n_read <= MAX_READ else f"{n_read:,} items read for {N_TAKEN} results"


def check_break_off(fault: Fault, results: Iterator[Any]) -> str:
    """Closing the iterator ends all workers, though they are at long items, while this process lives on."""
    taken = [next(results) for _ in range(4)]
    deadline = time.monotonic() + SECONDS_TO_GO
    while not (Path(os.environ["FAULTS_FOLDER"]) / "asked").exists():
        if time.monotonic() > deadline:
            return "no worker was given more"
        time.sleep(0.05)
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + SECONDS_TO_GO
    while n_left := count_children():
        if time.monotonic() > deadline:
            return f"{n_left} processes left"
        time.sleep(0.1)
    return "" if taken == [0, 1, 4, 9] else "wrong results"


CHECKS = {
    "items": check_items,
    "setup_error": check_setup_error,
    "input_error": check_input_error,
    "endless": check_endless,
    "break_off": check_break_off,
}


def count_children() -> int:
    """Count the processes below this one, but for trackers, which live as long as Python itself."""
    count = 0
    for process in psutil.Process().children(recursive=True):
        try:
            is_tracker = any("resource_tracker" in word for word in process.cmdline())
            count += not is_tracker and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            pass
    return count


def main(fault_name: str, contender_name: str, way_name: str) -> int:
    """Run the trial and leave the verdict."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the runner is a background job
    os.environ["FAULTS_CONSUMER"] = str(os.getpid())
    fault = FAULTS[fault_name]
    way = CONTENDERS[contender_name].ways[way_name]
    results = way(Job(fault.task, fault.make_items(), fault.setup, fault.timeout_seconds))
    if fault.check:
        words = CHECKS[fault.check](fault, results)
        (Path(os.environ["FAULTS_FOLDER"]) / "verdict").write_text(words)
    else:
        for _ in results:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
