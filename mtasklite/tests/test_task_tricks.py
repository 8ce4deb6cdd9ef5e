"""What a task may do to the process that it runs in, without harm to any other item."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakSet

import pytest

from mtasklite import MtaskliteError, Pool, _wire, delayed_init
from mtasklite._backends import _channel, _process, processes
from mtasklite._backends._process_worker import _ProcessWorker
from mtasklite._inbox import Inbox
from mtasklite._messages import UNPACKING
from mtasklite._status import AT, SINCE, new_board
from mtasklite.constants import ArgumentPassing
from mtasklite.tests import workers
from mtasklite.tests.workers import everyone

posix_only = pytest.mark.skipif(os.name != "posix", reason="the platform has no such signals and forks")


class LateError(Exception):
    """What a handler of a signal raises."""


def _raise_late(*_):
    raise LateError


def alarmed(item):
    """Return the item, and let an exception come soon, here or in whatever runs then."""
    signal.signal(signal.SIGALRM, _raise_late)
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (3 + item % 60))
    return item


@posix_only
def test_exception_that_comes_between_two_items_costs_no_third(process_kwargs):
    """A task's alarm may go off in the worker's own code: each item still has one outcome, and its own."""
    results = list(Pool(alarmed, exception_behavior="ignore", **process_kwargs)(range(80)))
    assert len(results) == 80
    for item, result in enumerate(results):
        assert result == item or isinstance(result, (LateError, MtaskliteError))


def come_back(folder, item):
    """Note that the item is begun; at one of them, return in a forked child too."""
    with open(Path(folder) / str(item), "a") as file:
        file.write("x")
    if item == 100 and os.fork() == 0 and item == 100:
        return "child"
    return item


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_that_comes_back_from_a_task_does_not_work_on(process_kwargs, tmp_path):
    """It ends there, and runs no item a second time."""
    assert list(Pool(partial(come_back, str(tmp_path)), **process_kwargs)(range(300))) == list(range(300))
    time.sleep(0.1)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"x"}


def leave_child(how, item):
    """Leave a child that outlives the worker, and return the item or die."""
    if item == 3:
        if how == "program":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], close_fds=False)
            return item
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os._exit(7)
    return item


@posix_only
@pytest.mark.parametrize("how", ["program", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_of_a_task_does_not_hide_the_end_of_its_worker(monkeypatch, process_kwargs, how):
    """Where nothing but a pipe tells of a death, and a task's child holds that open, it is noticed all the same."""
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    monkeypatch.setattr(_process, "HAS_PIDFDS", False)
    monkeypatch.setattr(processes, "HAS_PIDFDS", False)
    others = everyone()
    start = time.monotonic()
    results = list(Pool(partial(leave_child, how), exception_behavior="ignore", **process_kwargs)(range(10)))
    assert time.monotonic() - start < 15
    assert [item for item, result in enumerate(results) if result != item] == ([3] if how == "fork" else [])
    del others


def handler_of_programs(_):
    """Return what a program that a task starts does at a Ctrl-C."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@posix_only
def test_program_that_a_task_starts_ends_with_a_ctrl_c(process_kwargs):
    """Workers leave a Ctrl-C to the parent, but what they start does not inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert set(Pool(handler_of_programs, **process_kwargs)(range(2))) == {"True"}


@posix_only
def test_signal_handler_that_raises_amid_a_result_is_heard(monkeypatch):
    """What a handler of the user's raises here while a result arrives comes through, and no item runs again."""
    unpack = _wire.unpack

    def unpack_and_raise(message):
        unpacked = unpack(message)
        if _wire.tag_of(message) == b"R":
            raise LateError
        return unpacked

    with Pool(workers.identity, 2, exception_behavior="ignore") as pool:
        assert list(pool(range(4))) == [0, 1, 2, 3]
        monkeypatch.setattr(_wire, "unpack", unpack_and_raise)
        with pytest.raises(LateError):
            list(pool(range(4)))


def test_time_of_a_worker_to_be_unpickled_is_limited_generously():
    """A worker whose unpickling hangs is stopped, but one that imports much may take longer than a task."""
    board = new_board()
    worker = _ProcessWorker.__new__(_ProcessWorker)
    worker._assignment = SimpleNamespace(is_forked=False, argument_type=ArgumentPassing.AS_SINGLE_ARG)
    worker._inbox, worker._board, worker._printing = Inbox(), board, None
    worker._inbox.put(_wire.Codec().pack(b"W", None, [len])[0])
    assert worker._receive_worker()[0] is len
    assert board[AT] == UNPACKING
    assert 30 < board[SINCE] - time.monotonic() <= 60


@posix_only
def test_nothing_is_left_where_the_ends_of_children_are_ignored():
    """With SIGCHLD ignored nobody learns how a process ended; no descriptor and no process object is kept."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        for _ in range(3):
            assert list(Pool(workers.identity, 2)(range(4))) == [0, 1, 2, 3]
        assert processes.multiprocess.active_children() == []
    finally:
        signal.signal(signal.SIGCHLD, handler)  # the check of what is left behind follows


@delayed_init
class Counted:
    """A worker that is counted as long as it is there."""

    living: WeakSet = WeakSet()

    def __init__(self):
        self.living.add(self)

    def __call__(self, item):
        gc.collect()
        return len(self.living)


def test_thread_that_was_replaced_leaves_no_worker_object():
    """With `max_tasks_per_child` no more objects are there than workers that live or leave."""
    assert max(Pool(Counted(), 2, use_threads=True, max_tasks_per_child=1)(range(60))) < 20


def test_pool_whose_block_could_not_be_entered_was_not_entered(monkeypatch):
    """Workers of a later iteration end with it."""
    pool = Pool(workers.identity, 2)
    with monkeypatch.context() as patch:
        patch.setattr(_channel, "make_channel", lambda context: 1 / 0)
        with pytest.raises(ZeroDivisionError), pool:
            pass
    before = everyone()
    assert list(pool(range(4))) == [0, 1, 2, 3]
    assert everyone() == before
