"""The faults, as data, and the tasks, inputs and initializers that bring them about.

Tasks run in workers, inputs in the process that consumes the results, blows in the runner, which is outside of both.
They meet in a folder of the trial: a task or an input that wants a blow leaves a file there (`ask_for_blow`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

N_ITEMS = 40
STRUCK = 20  # the item, and its place in the input, that a fault strikes
TIMEOUT_SECONDS = 3
LONG_SECONDS = 60  # longer than any trial
N_TAKEN = 10  # results that the consumer of the endless input takes
MAX_READ = 500  # items that may be read for them; one item takes a millisecond
N_ENDLESS = 20_000  # items after which the endless input gives up


def _folder() -> Path:
    return Path(os.environ["FAULTS_FOLDER"])


def ask_for_blow(pid: int) -> None:
    """Tell the runner that the process of this id is where the fault's blow should meet it."""
    note = _folder() / f"note.{os.getpid()}.{threading.get_ident()}"
    note.write_text(str(pid))
    note.rename(_folder() / "asked")


# --- tasks: the square of the item, but for the one that is struck


def square(item: int) -> int:
    """Return the square.

    Items before the struck one take no time, so that many of them are under way together when it strikes; those
    after it take some, so that many of them are still to do.
    """
    if item > STRUCK:
        time.sleep(0.05)
    return item * item


def square_and_sign(item: int) -> int:
    """Return the square, and leave a note of which worker was here."""
    (_folder() / f"worker.{os.getpid()}").touch()
    return item * item


def square_in_a_millisecond(item: int) -> int:
    """Return the square, after a while."""
    time.sleep(0.001)
    return item * item


def wait_for_kill(item: int) -> int:
    """Be long at the struck item."""
    if item == STRUCK:
        ask_for_blow(os.getpid())
        time.sleep(LONG_SECONDS)
    return square(item)


def send_much(item: int) -> Any:
    """Return 32 MB for the struck item, and stop the consumer's process, so that they are not received at once."""
    if item == STRUCK:
        os.kill(int(os.environ["FAULTS_CONSUMER"]), signal.SIGSTOP)
        ask_for_blow(os.getpid())
        return bytes(32_000_000)
    return square(item)


def exit_at_once(item: int) -> int:
    """End the worker at the struck item."""
    if item == STRUCK:
        os._exit(1)
    return square(item)


def raise_system_exit(item: int) -> int:
    """Raise `SystemExit` at the struck item."""
    if item == STRUCK:
        raise SystemExit(3)
    return square(item)


def raise_keyboard_interrupt(item: int) -> int:
    """Raise `KeyboardInterrupt` at the struck item."""
    if item == STRUCK:
        raise KeyboardInterrupt("from the task")
    return square(item)


class TwoArguments(Exception):
    """Pickle rebuilds an exception from its `args`, which here lack the second argument."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__(f"{first} without {second}")


def raise_two_arguments(item: int) -> int:
    """Raise what cannot be rebuilt at the struck item."""
    if item == STRUCK:
        raise TwoArguments("bread", "butter")
    return square(item)


def return_generator(item: int) -> Any:
    """Return a generator, which neither pickle nor dill nor cloudpickle takes, for the struck item."""
    return (i for i in range(item)) if item == STRUCK else square(item)


def return_deep(item: int) -> Any:
    """Return a list in a list, 100,000 times over, for the struck item."""
    if item != STRUCK:
        return square(item)
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


def sleep_long(item: int) -> int:
    """Sleep past the timeout at the struck item."""
    if item == STRUCK:
        time.sleep(LONG_SECONDS)
    return square(item)


def hold_gil(item: int) -> int:
    """Sleep past the timeout at the struck item, in C, and keep the GIL all the while."""
    if item == STRUCK:
        ctypes.PyDLL(None).sleep(LONG_SECONDS)
    return square(item)


def be_busy(item: int) -> int:
    """Be long at all but the first four items."""
    if item >= 4:
        ask_for_blow(os.getpid())
        time.sleep(LONG_SECONDS)
    return item * item


# --- inputs


class Poisoned:
    """Goes out by pickle, and cannot be rebuilt."""

    def __init__(self) -> None:
        self.content = "poison"

    def __setstate__(self, state: object) -> None:
        raise ValueError("the item is poisoned")


def numbers() -> Iterable[int]:
    """Return the plain input."""
    return range(N_ITEMS)


def with_generator() -> Iterable[Any]:
    """Return the input with a generator in it."""
    return [(i for i in range(item)) if item == STRUCK else item for item in range(N_ITEMS)]


def with_poison() -> Iterable[Any]:
    """Return the input with an item in it that cannot be rebuilt."""
    return [Poisoned() if item == STRUCK else item for item in range(N_ITEMS)]


def with_pause() -> Iterator[int]:
    """Yield half of the input, have a worker killed when all are idle, and yield the rest."""
    yield from range(STRUCK)
    time.sleep(1)
    workers = [int(path.suffix[1:]) for path in _folder().glob("worker.*")]
    ask_for_blow(workers[0])
    time.sleep(2)
    yield from range(STRUCK, N_ITEMS)


def until_error() -> Iterator[int]:
    """Yield half of the input, and raise."""
    yield from range(STRUCK)
    raise OSError("the disk is gone")


class ReadTooFar(Exception):
    """The endless input was read as if it had an end."""


def without_end() -> Iterator[int]:
    """Yield numbers, and leave a note of how many, until it is plain that nobody stops."""
    with open(_folder() / "read", "wb", buffering=0) as file:
        for item in range(N_ENDLESS):
            file.write(b".")
            yield item
    raise ReadTooFar


# --- initializers


def die_first() -> None:
    """Kill the first worker that comes here."""
    try:
        (_folder() / "claimed").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def fail_always() -> None:
    """Raise in each worker, and leave a note of how often."""
    with open(_folder() / "setups", "ab", buffering=0) as file:
        file.write(b".")
    raise RuntimeError("no model file")


# --- blows


def kill_worker(worker: int, consumer: int) -> None:
    """Kill the worker that asked."""
    os.kill(worker, signal.SIGKILL)


def kill_sender(worker: int, consumer: int) -> None:
    """Kill the worker that asked, and let the stopped consumer go on."""
    os.kill(worker, signal.SIGKILL)
    os.kill(consumer, signal.SIGCONT)


def kill_consumer(worker: int, consumer: int) -> None:
    """Kill the parent of the workers."""
    os.kill(consumer, signal.SIGKILL)


def interrupt_all(worker: int, consumer: int) -> None:
    """Do what a terminal does at one Ctrl-C."""
    os.killpg(consumer, signal.SIGINT)


# --- the faults


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: For the command line.
        title: For the table.
        task: What the workers run.
        make_items: Makes the input.
        struck: Place of the item that may fail; None: all must succeed.
        says: The error must contain one of these words, in any case, in its type, its text or those of its causes.
        setup: What each worker runs before its first item.
        timeout_seconds: How long an item may run.
        check: The check in `fault_trial.py` that consumes the results and judges; "": the runner judges.
        blow: What the runner does when it is asked to.
    """

    name: str
    title: str
    task: Callable[[Any], Any] = square
    make_items: Callable[[], Iterable[Any]] = numbers
    struck: Optional[int] = STRUCK
    says: tuple[str, ...] = ()
    setup: Optional[Callable[[], None]] = None
    timeout_seconds: Optional[int] = None
    check: str = "items"
    blow: Optional[Callable[[int, int], None]] = None


_DEATH = ("died", "kill", "signal", "terminat", "expired", "exit", "crash")
_PICKLE = ("pickle", "generator")

_ALL = [
    Fault("killed-at-work", "A worker is killed (SIGKILL) at an item", wait_for_kill, says=_DEATH, blow=kill_worker),
    Fault(
        "killed-idle",
        "A worker is killed while it is idle",
        square_and_sign,
        make_items=with_pause,
        struck=None,
        blow=kill_worker,
    ),
    Fault("killed-sending", "A worker is killed while it sends 32 MB", send_much, says=_DEATH, blow=kill_sender),
    Fault("os-exit", "A task calls `os._exit(1)`", exit_at_once, says=_DEATH),
    Fault("system-exit", "A task raises `SystemExit`", raise_system_exit, says=("exit",)),
    Fault("keyboard-interrupt", "A task raises `KeyboardInterrupt`", raise_keyboard_interrupt, says=("interrupt",)),
    Fault(
        "odd-exception",
        "A task raises an exception that pickle cannot rebuild",
        raise_two_arguments,
        says=("TwoArguments", "butter"),
    ),
    Fault("result-generator", "A result cannot be pickled (a generator)", return_generator, says=_PICKLE),
    Fault("result-deep", "A result is nested too deep for pickle", return_deep, says=("pickle", "recurs")),
    Fault("item-generator", "An item cannot be pickled (a generator)", make_items=with_generator, says=_PICKLE),
    Fault("item-poisoned", "An item cannot be rebuilt in the worker", make_items=with_poison, says=("poison",)),
    Fault(
        "stuck-python", "A task sleeps past the timeout", sleep_long, says=("time",), timeout_seconds=TIMEOUT_SECONDS
    ),
    Fault(
        "stuck-c", "A task holds the GIL past the timeout", hold_gil, says=("time",), timeout_seconds=TIMEOUT_SECONDS
    ),
    Fault("setup-dies", "The first worker is killed in its initializer", struck=None, setup=die_first),
    Fault(
        "setup-raises",
        "The initializer raises in every worker",
        says=("no model file",),
        setup=fail_always,
        check="setup_error",
    ),
    Fault("input-raises", "The input raises half-way", make_items=until_error, check="input_error"),
    Fault(
        "endless-input",
        "The input is endless; the consumer takes ten results, pauses, and breaks off",
        square_in_a_millisecond,
        without_end,
        check="endless",
    ),
    Fault("break-off", "The consumer breaks off while workers are busy", be_busy, check="break_off"),
    Fault("parent-killed", "The parent is killed while workers are busy", be_busy, check="", blow=kill_consumer),
    Fault("ctrl-c", "One Ctrl-C while workers are busy", be_busy, check="", blow=interrupt_all),
]

FAULTS = {fault.name: fault for fault in _ALL}
