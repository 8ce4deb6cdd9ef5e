"""Workers, exceptions and inputs for the tests, in a module of their own so that any process can import them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import mtasklite
from mtasklite import delayed_init

PROCESSES = {method: {"n_jobs": 2, "start_method": method} for method in ("fork", "spawn", "forkserver")}
PARALLEL = {"threads": {"n_jobs": 2, "use_threads": True}, **PROCESSES}
ALL = {"inline": {"n_jobs": 1}, **PARALLEL}
"""Arguments that choose where a pool works, by name: in processes, with two workers, anywhere."""

LIMIT_SECONDS = 60.0
"""A limit against hanging, not a measure of anything."""

GATE = threading.Event()
"""Holds back threads in `be_stuck` until the test is over; a process is killed there."""


# ---- functions


def identity(item):
    return item


def square(item):
    return item * item


def add(first, second=100):
    return first + second


def where(item):
    """Tell where an item is worked on."""
    return os.getpid(), threading.get_ident()


def fail_on_odd(item):
    if item % 2:
        raise ValueError(f"odd: {item}")
    return item


def divide_by(item):
    return 1 / item


def fail_with(error):
    raise error


def fail_from_other(item):
    try:
        divide_by(0)
    except ZeroDivisionError as error:
        raise LookupError("the second one") from error


def raise_stop_iteration(item):
    raise StopIteration(item)


def make_lock(item):
    """Return what cannot be pickled, for odd items."""
    return threading.Lock() if item % 2 else item


def type_name(item):
    return type(item).__name__


def die_on(item, fatal=3):
    if item == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def exit_on(item, fatal=3):
    if item == fatal:
        os._exit(7)
    return item


def be_stuck_on(item, fatal=3):
    if item == fatal:
        GATE.wait(LIMIT_SECONDS)
    return item


def be_stuck_once(item, folder):
    """Be stuck on the item ``"stuck"``; on any other, wait until that one was started."""
    if item == "stuck":
        Path(folder, "started").touch()
        GATE.wait(LIMIT_SECONDS)
    else:
        wait_until(Path(folder, "started").exists)
    return item


def fail_unless_exists(item, folder):
    """Fail the first time that an item comes, work the second time."""
    mark = Path(folder, str(item))
    if not mark.exists():
        mark.touch()
        raise ValueError(f"first attempt at {item}")
    return item


def die_unless_exists(item, folder):
    mark = Path(folder, str(item))
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return item


def count_call(item, folder):
    """Leave a file for each call, and fail."""
    Path(folder, f"{item}-{uuid.uuid4()}").touch()
    raise ValueError(item)


def join(item, folder):
    """Wait until two workers have left a file."""
    Path(folder, "function").touch()
    wait_until(lambda: len(os.listdir(folder)) >= 2)
    return "function"


def fail_first(item, folder):
    """Fail on item 0; mark the start of any other."""
    if item == 0:
        raise ValueError("first")
    Path(folder, str(item)).touch()
    return nap(item)


def touch_and_wait_for(item, folder):
    """Mark that an item was started; each waits for those it names: ``(name, name to wait for or None)``."""
    name, awaited = item
    Path(folder, f"{name}").touch()
    if awaited is not None:
        wait_until(Path(folder, f"{awaited}").exists)
    return name


def touch_late(item, folder):
    """Mark the start and, a while later, the end of an item."""
    Path(folder, f"started-{item}").touch()
    time.sleep(0.3)
    Path(folder, f"ended-{item}").touch()
    return item


def nap(item, seconds=0.05):
    time.sleep(seconds)
    return item


def nap_and_tell(seconds):
    """Take so long, then tell where."""
    return where(nap(0, seconds))


def map_in_a_pool(items):
    """Use a pool inside of a worker."""
    from mtasklite import Pool

    return list(Pool(square, 2)(items))


# ---- objects


class Multiplier:
    """An object that can be called; two of them are equal if they do the same."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, item):
        return self.factor * item

    def __eq__(self, other):
        return isinstance(other, Multiplier) and self.factor == other.factor

    def __hash__(self):
        return hash(self.factor)

    def method(self, item):
        return self.factor * item


@delayed_init
class AddTo:
    """Adds to a base."""

    def __init__(self, base, step=1):
        self.base = base
        self.step = step

    def __call__(self, item):
        return self.base + self.step * item


@delayed_init
class Counting:
    """Tells which instance was called, how often, and where it was made.

    A `folder` makes each wait at its first item until `n_instances` have come as far, so that all have one.
    """

    def __init__(self, folder=None, n_instances=2):
        self.token = uuid.uuid4().hex
        self.made_at = where(None)
        self.n_calls = 0
        self.folder = folder
        self.n_instances = n_instances

    def __call__(self, item):
        self.n_calls += 1
        if self.folder is not None and self.n_calls == 1:
            Path(self.folder, self.token).touch()
            wait_until(lambda: len(os.listdir(self.folder)) >= self.n_instances)
        return self.token, self.n_calls, self.made_at == where(None)


@delayed_init
class HoldingLock:
    """Holds what cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, item):
        with self.lock:
            return item + 1


@delayed_init
class Logging:
    """A context manager that writes down what happens to it; fails on the item ``"fail"``."""

    def __init__(self, path):
        self.path = path
        self.name = uuid.uuid4().hex

    def __enter__(self):
        self._log("enter")
        return self

    def __exit__(self, *exc_info):
        self._log("exit")

    def __call__(self, item):
        self._log("call")
        if item == "fail":
            raise ValueError(item)
        return item

    def _log(self, what):
        with open(self.path, "a") as file:
            file.write(f"{self.name} {what}\n")


@delayed_init
class FailingToEnter:
    def __enter__(self):
        raise LookupError("no entry")

    def __exit__(self, *exc_info):
        raise AssertionError("it was not entered")

    def __call__(self, item):
        return item


@delayed_init
class FailingToInit:
    def __init__(self, folder=None):
        if folder is not None:
            Path(folder, uuid.uuid4().hex).touch()
        raise LookupError("no such model")

    def __call__(self, item):
        return item


@delayed_init
class DyingAtInit:
    def __init__(self, folder=None):
        if folder is not None:
            Path(folder, uuid.uuid4().hex).touch()
        os._exit(5)

    def __call__(self, item):
        return item


# ---- exceptions and values that make trouble


class KeepingAttributes(Exception):
    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code


class ForgettingAnArgument(Exception):
    """Cannot be unpickled: its `args` are not what its constructor takes."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class HoldingALock(Exception):
    """Cannot be pickled."""

    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class WithoutText(Exception):
    """Cannot be shown, and cannot be pickled either."""

    def __str__(self):
        raise RuntimeError("no text")

    def __reduce__(self):
        raise RuntimeError("no pickle")


def fail_for_good(kind):
    """Raise an exception that cannot be rebuilt elsewhere."""
    if kind == "constructor":
        raise ForgettingAnArgument("salt", "pepper")
    if kind == "attribute":
        raise HoldingALock("held")
    raise WithoutText


def _refuse(*args):
    raise RuntimeError("not here")


class Refusing:
    """Can be pickled, cannot be unpickled."""

    def __reduce__(self):
        return _refuse, ()


def make_refusing(item):
    return Refusing() if item % 2 else item


# ---- inputs


class Source:
    """An input without a length that counts how far it is read ahead of what was handed out.

    Args:
        items: What it gives.

    Attributes:
        n_read: Items read.
        n_handed_out: Results that the consumer has, as it says itself.
        most_ahead: The largest difference there was.
        threads: Where it was read.
    """

    def __init__(self, items: Any) -> None:
        self._items = items
        self.n_read = 0
        self.n_handed_out = 0
        self.most_ahead = 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self.n_read += 1
            self.most_ahead = max(self.most_ahead, self.n_read - self.n_handed_out)
            self.threads.add(threading.get_ident())
            yield item

    def consume(self, results: Any) -> list[Any]:
        """Take all results, and count each."""
        taken = []
        for result in results:
            self.n_handed_out += 1
            taken.append(result)
        return taken


def count_until(condition: Any) -> Iterator[int]:
    """Count until a condition holds, with a limit."""
    end = time.monotonic() + LIMIT_SECONDS
    for number in itertools.count():
        if condition() or time.monotonic() > end:
            return
        yield nap(number, 0.002)


def raise_after(n_items: int, error: Exception) -> Iterator[int]:
    """Give so many items, then raise."""
    yield from range(n_items)
    raise error


# ---- waiting


def wait_until(condition: Any, seconds: float = LIMIT_SECONDS) -> None:
    """Wait for a condition, with a limit."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.005)


# ---- other interpreters and other processes


def start_python(*args: str) -> subprocess.Popen[str]:
    """Start an interpreter that finds this library, in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1]), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "error", *args]
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
    )


def run_python(*args: str, stdin: str = "") -> str:
    """Run an interpreter to its end; return what it printed, or raise with what it complained of."""
    with start_python(*args) as process:
        try:
            out, err = process.communicate(stdin, timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode or err:
        raise AssertionError(f"exit code {process.returncode}:\n{out}\n{err}")
    return out


def is_gone(pid: int) -> bool:
    """Whether a process has ended; nobody may have asked yet how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def everyone() -> set[tuple[str, Any]]:
    """Return all processes below this one, and all threads in it."""
    children = psutil.Process().children(recursive=True)
    found = {("process", child.pid) for child in children if not is_gone(child.pid)}
    return found | {("thread", thread.ident) for thread in threading.enumerate() if thread.name != "tqdm_monitor"}
