"""What the soak's workers do, in a module of its own so that any process can import it, and the journal they keep."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Callable, NamedTuple, Optional

from mtasklite import delayed_init
from mtasklite.tests.soak_plan import LATE_SECONDS, Fate, PoolPlan

GATE = threading.Event()
"""Lets late items go that are in threads, which nobody can kill, when their round is over."""

EXIT_CODES = {"exit": 3, "system_exit": 4, "segfault": -signal.SIGSEGV, "sigkill": -9, "item_kills": 5}
"""How a worker ends at an item of each deadly kind."""


class Fated(Exception):
    """Raised by an item; its `args` say by which: pool, use, index."""


class Odd(Exception):
    """Cannot be rebuilt, for its `args` are not what its constructor takes."""

    def __init__(self, pool: int, use: int, index: int) -> None:
        super().__init__(f"odd/{pool}/{use}/{index}/")


class ConstructorError(Exception):
    """Raised where a worker is made."""


def _refuse() -> None:
    raise RuntimeError("not here")


class Refusing:
    """Can be pickled, cannot be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (EXIT_CODES["item_kills"],)


# ---- the journal


class Line(NamedTuple):
    """What a worker has done.

    Attributes:
        what: ``start`` or ``end`` of an item; ``enter`` or ``leave`` of a worker; ``make`` of one that is to fail.
        index: Of the item; with ``make`` the slot.
        time: On the clock that all processes share.
    """

    what: str
    pool: int
    use: int
    index: int
    pid: int
    thread: int
    time: float

    @property
    def key(self) -> tuple[int, int, int]:
        """Whose start or end it is: pool, use, index."""
        return self.pool, self.use, self.index


class Journal:
    """A file that each line is added to in one write, so that no death can take a line back or leave half of one."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._path = os.path.join(folder, "journal")

    def note(self, what: str, pool: int, use: int = -1, index: int = -1) -> None:
        line = Line(what, pool, use, index, os.getpid(), threading.get_native_id(), time.monotonic())
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (" ".join(map(str, line)) + "\n").encode())
        finally:
            os.close(descriptor)

    def is_first(self, *key: int) -> bool:
        """Whether nobody has asked this of the same key before."""
        try:
            os.close(os.open(os.path.join(self.folder, "-".join(map(str, key))), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def lines(self) -> list[Line]:
        path = Path(self._path)
        return list(map(_parse, path.read_text().splitlines())) if path.exists() else []


def _parse(text: str) -> Line:
    what, *numbers, seconds = text.split()
    return Line(what, *map(int, numbers), float(seconds))  # type: ignore[call-arg]


# ---- what becomes of an item


def payload(index: int, size: int) -> bytes:
    """Return what an item with a large result returns."""
    return bytes([index % 256]) * size


def extra_of(fate: Fate) -> Any:
    """Return what an item carries besides its number."""
    kinds: dict[str, Callable[[], Any]] = {
        "item_unsendable": threading.Lock,
        "item_kills": Deadly,
        "item_large": lambda: payload(0, fate.size),
        "shared": lambda: _refilled_item,
    }
    return kinds.get(fate.kind, lambda: None)()


def _meet(fate: Fate, key: tuple[int, int, int], extra: Any, folder: str, is_in_process: bool) -> Any:
    """Do what the fate says, and return what comes of it."""
    deeds: dict[str, Callable[[], Any]] = {
        "large": lambda: payload(key[-1], fate.size),
        "item_large": lambda: len(extra),
        "uneven": lambda: time.sleep(min(0.3, Random(key[-1]).lognormvariate(-7, 1.5))),
        "shared": lambda: _refill(key[-1], extra),
        "raise": lambda: _raise(Fated(*key)),
        "odd": lambda: _raise(Odd(*key)),
        "unsendable": threading.Lock,
        "refusing": Refusing,
        "exit": lambda: os._exit(EXIT_CODES["exit"]),
        "system_exit": lambda: sys.exit(EXIT_CODES["system_exit"]),
        "segfault": faulthandler._sigsegv,  # type: ignore[attr-defined]
        "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "late": lambda: _be_late(fate.seconds, is_in_process),
        "hold": lambda: ctypes.PyDLL(None).sleep(int(fate.seconds)),
        "forks": lambda: _leave_a_child(folder) or payload(key[-1], fate.size),
    }
    return deeds.get(fate.kind, lambda: time.sleep(fate.seconds))()


_refilled_item: dict[str, Any] = {"part": {}}
_refilled_result: list[Any] = []


def _refill(index: int, item: dict[str, Any]) -> list[Any]:
    """Change an item, and return the one list that this process has, filled with what the item was when it came."""
    was = dict(item), dict(item["part"])
    item["is_changed"] = item["part"]["is_changed"] = True
    _refilled_result[:] = [index, was[0].get("index"), was[0].get("is_changed"), was[1].get("is_changed")]
    return _refilled_result


def _raise(error: Exception) -> None:
    raise error


def _be_late(seconds: float, is_in_process: bool) -> None:
    if is_in_process:
        time.sleep(seconds)
    else:
        GATE.wait(seconds)


def _leave_a_child(folder: str) -> None:
    """Fork a process that holds all this one's descriptors open until the round is over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork amid threads
        if os.fork():
            return
    while os.path.isdir(folder):
        time.sleep(0.02)
    os._exit(0)


# ---- the workers


class Task:
    """Does with each item what the plan says, and keeps the journal.

    Args:
        journal: The round's.
        plan: The pool's.
        slot: Which of the pool's workers it is.
        making: How the constructor fails, if it does.
    """

    def __init__(self, journal: Journal, plan: PoolPlan, slot: int, making: Optional[str] = None) -> None:
        self.journal = journal
        self.plan = plan
        if making is not None:
            journal.note("make", plan.number, index=slot)
        if making == "raises":
            raise ConstructorError(f"pool {plan.number}")
        if making == "exits":
            os._exit(EXIT_CODES["exit"])
        if making == "stuck":
            _be_late(LATE_SECONDS, plan.is_in_processes)

    def __call__(self, use: Any, index: Any = None, extra: Any = None) -> Any:
        if index is None:
            use, index, extra = use
        key = (self.plan.number, use, index)
        self.journal.note("start", *key)
        fate = self.plan.uses[use].fate(index)
        if fate.is_once and not self.journal.is_first(*key):
            fate = Fate()
        try:
            outcome = (*key, _meet(fate, key, extra, self.journal.folder, self.plan.is_in_processes))
        except Exception:
            self.journal.note("end", *key)
            raise
        self.journal.note("end", *key)
        return outcome


class Entering(Task):
    """Notes when it is entered and left."""

    def __enter__(self) -> Entering:
        self.journal.note("enter", self.plan.number)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.journal.note("leave", self.plan.number)


def make_worker(journal: Journal, plan: PoolPlan, slot: int) -> Any:
    """Return what is passed to the pool for one slot."""
    kind = plan.workers[slot]
    task = Task(journal, plan, slot)

    def closure(*args: Any, **kwargs: Any) -> Any:
        return task(*args, **kwargs)

    if kind == "object":
        return task
    if kind == "closure":
        return closure
    if kind == "context":
        return delayed_init(Entering)(journal, plan, slot)
    return delayed_init(Task)(journal, plan, slot, None if kind == "shell" else kind)


# ---- the input


class InputError(Exception):
    """Raised by an input."""


def items_of(plan: PoolPlan, number: int, note_read: Callable[[], None]) -> Any:
    """Return the input of a use.

    Args:
        plan: The pool's.
        number: Which of its uses.
        note_read: Called at each item read, but where the input is a list.
    """
    use = plan.uses[number]
    if use.source == "list":
        return [_item(plan, number, index) for index in range(use.n_items or 0)]
    return _read(plan, number, note_read)


def _read(plan: PoolPlan, number: int, note_read: Callable[[], None]) -> Iterator[Any]:
    use = plan.uses[number]
    index = 0
    while use.n_items is None or index < use.n_items:
        if use.source == "slow":
            time.sleep(0.03 if index % 20 == 7 else 0.001)
        item = _item(plan, number, index)
        note_read()
        yield item
        index += 1
    if use.source == "raising":
        raise InputError(number)


def _item(plan: PoolPlan, number: int, index: int) -> Any:
    fate = plan.uses[number].fate(index)
    extra = extra_of(fate)
    if fate.kind == "shared":
        extra = extra if plan.uses[number].source != "list" else {"part": extra["part"]}
        extra["index"] = index
    if plan.argument_type == "kwargs":
        return {"use": number, "index": index, "extra": extra}
    return number, index, extra
