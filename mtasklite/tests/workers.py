"""Workers, exceptions and inputs for the tests, in a module of their own so that any process can import them."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

import mtasklite
from mtasklite import delayed_init
from mtasklite._backends import _sockets

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


def wait_for_mark(item, mark):
    """Return the item when a file is there."""
    wait_until(mark.exists)
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


def make_multiplier(factor):
    """Return a new object of a class of our own."""
    return Multiplier(factor)


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


# ---- ways to die, to be late, to be spoilt


class Doom(BaseException):
    """What `except Exception` lets through."""


def crash():
    """Read what is not there."""
    _allow_no_core_file()
    ctypes.string_at(0)


def abort():
    """End as an interpreter does that finds itself broken."""
    _allow_no_core_file()
    os.abort()


def _allow_no_core_file():
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


DEATHS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": crash,
    "SIGABRT": abort,
    "os._exit": lambda: os._exit(7),
}

DELAYS = {
    "sleep": lambda: time.sleep(LIMIT_SECONDS),
    "wait": lambda: GATE.wait(LIMIT_SECONDS),
    "loop": lambda: spin(LIMIT_SECONDS),
    "holding the GIL": lambda: ctypes.PyDLL(None).sleep(int(LIMIT_SECONDS)),
    "in C": lambda: ctypes.CDLL(None).sleep(int(LIMIT_SECONDS)),
}
"""Ways to take a minute; "wait" and "loop" end with the test."""

TROUBLES = {**DEATHS, **DELAYS}


def trouble(item):
    """Die, be late or raise as the item says; return any other item at once."""
    if isinstance(item, BaseException):
        raise item
    if isinstance(item, str) and item in TROUBLES:
        TROUBLES[item]()
    return item


def spin(seconds):
    """Keep the interpreter busy for a while, or until the test is over."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not GATE.is_set():
        pass


def spin_and_trouble(item, seconds):
    """Work for a while, then do as `trouble`."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return trouble(item)


def count_and_trouble(item, folder, bad=(), how="os._exit", n_times=None):
    """Leave a file for each call; make trouble at each bad item, or at the first calls of it only."""
    Path(folder, f"{item}-{uuid.uuid4()}").touch()
    if item in bad and (n_times is None or len(list(Path(folder).glob(f"{item}-*"))) <= n_times):
        trouble(how)
    return item


def leave_name_and_trouble(item, folder, name):
    """Leave a file that tells which worker had which item."""
    Path(folder, f"{name}-{item}").touch()
    return trouble(item)


def nap_for(seconds):
    """Take as long as the item says."""
    return nap(seconds, seconds)


def leave_name_and_nap(seconds, folder):
    """Take as long as the item says, and leave a file at the start of each that takes any time."""
    if seconds:
        Path(folder, str(seconds)).touch()
    return nap(seconds, seconds)


def leave_time_and_trouble(item, folder):
    """Leave the time of the start."""
    Path(folder, str(time.monotonic())).touch()
    return trouble(item)


def meet(item, folder, worker=identity):
    """At the items "you" and "me" wait for each other, in two workers; at any other do what a worker does."""
    if item in ("you", "me"):
        Path(folder, item).touch()
        wait_until(lambda: len(os.listdir(folder)) == 2)
        return item
    return worker(item)


def leave_behind(item, folder, what):
    """Start what sleeps for minutes."""
    if what == "thread":
        threading.Thread(target=time.sleep, args=(300,)).start()  # no daemon: an interpreter waits for it at its end
    else:
        Path(folder, f"child-{_start_child(what)}").touch()
    return item


def be_stuck_or_trouble(item, folder):
    """Leave the process's id and be stuck at the item "stuck"; at any other, once that one was started, `trouble`."""
    if item == "stuck":
        Path(folder, f"worker-{os.getpid()}").touch()
        GATE.wait(LIMIT_SECONDS)
        return item
    wait_until(lambda: pids_in(folder, "worker"))
    return trouble(item)


def make_large(item, folder, child=None):
    """For the item "large" return 32 MB, once told to go; on any other, wait until that one was started.

    Args:
        item: The item.
        folder: Where processes leave their ids.
        child: How to start, before that, a process that holds open what this one does, and outlives it.
    """
    if item == "large":
        if child is not None:
            Path(folder, f"child-{_start_child(child)}").touch()
        Path(folder, f"worker-{os.getpid()}").touch()
        wait_until(Path(folder, "go").exists)
        _sockets.MIN_BYTES = 1 << 60  # else it is not half sent at any time
        return bytes(32 << 20)
    wait_until(lambda: pids_in(folder, "worker"))
    return item


def _start_child(how):
    import multiprocess

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork amid threads
        if how != "fork":
            context = multiprocess.get_context("fork")
            process = context.Process(target=time.sleep, args=(LIMIT_SECONDS,), daemon=how == "daemon")
            process.start()
            return process.pid
        pid = os.fork()
    if not pid:
        time.sleep(LIMIT_SECONDS)
        os._exit(0)
    return pid


@delayed_init
class Troubled:
    """Makes `trouble` in its ``__init__``, ``__enter__`` or ``__exit__``; tells which instance it is.

    With a `folder` only from the second instance on. It takes some `seconds` to be made.
    """

    def __init__(self, place, how, folder=None, seconds=0):
        self.token = nap(uuid.uuid4().hex, seconds)
        self.place = place
        self.how = how
        if folder is not None:
            Path(folder, self.token).touch()
            self.place = place if len(os.listdir(folder)) > 1 else None
        self._come_to("__init__")

    def __enter__(self):
        self._come_to("__enter__")
        return self

    def __exit__(self, *exc_info):
        self._come_to("__exit__")

    def __call__(self, item):
        trouble(item)
        return item if item != "token" else self.token

    def _come_to(self, place):
        if place == self.place:
            trouble(self.how)


@delayed_init
class Slow:
    """Takes a while to be made, to be entered, and for each item."""

    def __init__(self, seconds):
        self.seconds = nap(seconds, seconds)

    def __enter__(self):
        nap(None, self.seconds)

    def __exit__(self, *exc_info):
        pass

    def __call__(self, item):
        return nap(item, self.seconds)


class Spoilt:
    """Makes `trouble` on its way: in its ``__reduce__``, ``__getstate__`` or ``__setstate__``."""

    def __init__(self, place, how):
        self.place = place
        self.how = how

    def __call__(self, item):
        return item

    def __reduce_ex__(self, protocol):
        self._come_to("__reduce__")
        return super().__reduce_ex__(protocol)

    def __getstate__(self):
        self._come_to("__getstate__")
        return {**vars(self)}

    def __setstate__(self, state):
        vars(self).update(state)
        self._come_to("__setstate__")

    def _come_to(self, place):
        if place == self.place:
            trouble(self.how)


class SpoiltError(Spoilt, Exception):
    """An exception that makes trouble on its way."""


class Mute(Exception):
    """Makes `trouble` when asked for its text."""

    def __str__(self):
        return trouble(self.args[0])

    __repr__ = __str__


class MuteDoom(Doom):
    """The same, as what `except Exception` lets through."""

    __str__ = __repr__ = Mute.__str__


def make(item):
    """Make of a tuple an instance: a class and its arguments; raise it if it is an exception."""
    return trouble(item[0](*item[1:])) if isinstance(item, tuple) else item


def nest(depth):
    """Return lists in lists, too deep to be pickled."""
    nested = []
    for _ in range(depth):
        nested = [nested]
    return nested


def nest_on_odd(item):
    return nest(100_000) if item % 2 else item


def fail_with_a_long_chain(item):
    """Raise an exception that has a cause that has a cause, for odd items."""
    error = None
    for number in range(10_000 * (item % 2)):
        error, cause = ValueError(number), error
        error.__cause__ = cause
    return trouble(error or item)


# ---- what came of it


def failures(results, items):
    """Return the failed results by their places; raise unless every other result is its item."""
    failed = {place: result for place, result in enumerate(results) if isinstance(result, BaseException)}
    wrong = [place for place, pair in enumerate(zip(results, items)) if place not in failed and pair[0] != pair[1]]
    if len(results) != len(items) or wrong:
        raise AssertionError(f"{len(results)} results of {len(items)} items; wrong ones are at {wrong}")
    return failed


def pids_in(folder, name):
    """Return the process ids that were left in a folder under this name."""
    return [int(path.name.partition("-")[2]) for path in Path(folder).glob(f"{name}-*")]


def calls_in(folder):
    """Return how often each item was called, from the files that `count_and_trouble` left."""
    return Counter(int(name.partition("-")[0]) for name in os.listdir(folder))


def wait_until_blocked(pid):
    """Wait until the main thread of a process has stood still for a while."""
    process = psutil.Process(pid)
    wait_until(lambda: all(process.status() == psutil.STATUS_SLEEPING and not time.sleep(0.01) for _ in range(5)))


def kill(*pids):
    """Kill processes, and wait until they are gone."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, pids)))


# ---- for programs and places


def tell_pid(item, folder):
    """Leave a mark with the item and this process's number, then return the item."""
    Path(folder, f"{item}-{os.getpid()}").touch()
    return item


def toil(item, folder, seconds, is_busy=False):
    """Leave a mark with this process's number, once, and take so long."""
    if os.getpid() not in _marked:
        _marked.add(os.getpid())
        Path(folder, f"{os.getpid()}").touch()
    end = time.perf_counter() + seconds
    while is_busy and time.perf_counter() < end:
        pass
    time.sleep(max(0.0, end - time.perf_counter()))
    return item


_marked: set[int] = set()


def map_in_pool(items, start_method=None, depth=1):
    """Use a pool inside of a worker, and so on."""
    if depth == 0:
        return square(items)
    call = partial(map_in_pool, start_method=start_method, depth=depth - 1)
    if depth > 1:
        return next(iter(mtasklite.Pool(call, 2, start_method=start_method)([items])))
    return list(mtasklite.Pool(call, 2, start_method=start_method)(items))


def kill_if_first_is_five(array):
    """Die at an array that begins with a five."""
    if array[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return int(array[0])
