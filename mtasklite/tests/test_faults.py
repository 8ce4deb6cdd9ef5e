"""Faults that reach for more than one item: each must cost no more than it must."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import uuid
from functools import partial
from pathlib import Path

import multiprocess
import pytest

from mtasklite import Pool, PoolClosedError, WorkerDiedError, delayed_init
from mtasklite._backends import _sockets, _starting
from mtasklite.tests import workers

METHODS = ["fork", "spawn"]


class KillsWhenUnpickled:
    """An item that ends whatever process unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


class TooLateError(Exception):
    """What a user's alarm raises."""


def _make_megabyte(item):
    time.sleep(0.02)
    return bytes([item]) * (1 << 20)


def _nap(seconds):
    time.sleep(seconds)
    return seconds


@contextlib.contextmanager
def _alarm(seconds):
    def raise_error(*_):
        raise TooLateError

    old = signal.signal(signal.SIGALRM, raise_error)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [0, 7, 19])
def test_item_that_kills_by_being_unpickled_costs_itself(method, place):
    """A worker that dies before it started anything blames the item that is there each time, and no other."""
    items = list(range(20))
    items[place] = KillsWhenUnpickled()
    results = list(Pool(workers.identity, 2, exception_behavior="ignore", start_method=method)(items))
    assert isinstance(results[place], WorkerDiedError)
    assert (results[place].exitcode, results[place].item_index) == (3, place)
    del items[place], results[place]
    assert results == items


def test_worker_that_waits_to_send_is_not_late():
    """A worker that cannot send a large result, for the consumer is slow, is not running an item."""
    seen = []
    for result in Pool(_make_megabyte, 2, task_timeout=0.4)(range(6)):
        seen.append(result[0])
        time.sleep(0.6)
    assert seen == list(range(6))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("use", ["close", "iterate"])
def test_child_that_the_user_forks_does_not_disturb_the_iteration(use, process_kwargs):
    """A copy of the iterator in a forked child can be closed there, not gone on with; the workers are not its own."""
    with Pool(workers.square, chunk_size=2, **process_kwargs) as pool:
        results = pool(range(300))
        first = next(results)
        child = os.fork()
        if not child:
            code = 1
            try:
                if use == "iterate":
                    with pytest.raises(PoolClosedError, match="forked"):
                        list(results)
                results.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [first, *results] == [number**2 for number in range(300)]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no alarm")
@pytest.mark.parametrize("method", METHODS)
def test_pool_is_usable_after_a_signal_handler_raised(method):
    """What a signal handler raises amid an iteration ends that one; the next gets fresh workers."""
    with Pool(_nap, 2, start_method=method) as pool:
        list(pool([0, 0]))
        with pytest.raises(TooLateError), _alarm(0.3):
            list(pool([60, 60]))
        started_at = time.monotonic()
        assert list(pool([0, 0.01])) == [0, 0.01]
        assert time.monotonic() - started_at < 30, "waited for what the interrupted iteration ran"


@pytest.mark.parametrize("place", ["push", "receive", "_divide"])
@pytest.mark.parametrize("n_before", [0, 5])
def test_pool_is_usable_after_an_exception_amid_a_message(monkeypatch, place, n_before):
    """Wherever in the exchange a signal handler raises, no half of a message reaches the next iteration."""
    end_class = _sockets._Reader if place == "_divide" else _sockets.SocketParentEnd
    original = getattr(end_class, place)
    n_left = [n_before]

    def interrupted(*args):
        result = original(*args)
        n_left[0] -= 1
        if n_left[0] == -1:
            raise TooLateError
        return result

    with Pool(workers.identity, 2, chunk_size=4) as pool:
        list(pool(range(10)))
        monkeypatch.setattr(end_class, place, interrupted)
        with pytest.raises(TooLateError):
            list(pool(range(1000)))
        assert list(pool(range(1000))) == list(range(1000))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the platform cannot put signals off")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_interrupt_amid_a_start_leaves_no_worker(monkeypatch, process_kwargs, moment):
    """A Ctrl-C while a process is being started is raised when that is done, and the process is ended."""
    pool = Pool(workers.identity, **process_kwargs)
    process_class = multiprocess.get_context(process_kwargs["start_method"]).Process
    start = process_class.start

    def interrupted_start(process):
        if moment == "before":
            os.kill(os.getpid(), signal.SIGINT)
        start(process)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(process_class, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        list(pool(range(10)))
    monkeypatch.undo()
    assert list(pool(range(10))) == list(range(10))


@pytest.mark.parametrize("kwargs", [{}, {"use_threads": True}], ids=["processes", "threads"])
def test_worker_that_is_killed_for_its_timeout_is_not_given_up(kwargs):
    """Deaths that the pool itself ordered do not count against a worker, however many."""
    gate = threading.Event()
    wait = gate.wait if kwargs else _nap
    with Pool(wait, 1, task_timeout=0.2, chunk_size=2, chunk_prefill_ratio=1, **kwargs) as pool:
        for _ in range(5):
            results = pool([0, 60])
            next(results)
            results.close()
        gate.set()
        assert len(list(pool([0]))) == 1


def test_worker_that_is_struck_before_it_is_made_is_replaced(process_kwargs):
    """A signal from outside, before the constructor has begun, is not taken for the constructor's failure."""
    others = workers.everyone()
    with Pool(workers.square, **process_kwargs) as pool:
        for kind, number in workers.everyone() - others:
            if kind == "process":
                os.kill(number, signal.SIGKILL)
        assert list(pool(range(10))) == [number**2 for number in range(10)]


class Lingering:
    """Does not want to be left."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        workers.GATE.wait(workers.LIMIT_SECONDS)

    def __call__(self, item):
        return item


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("max_tasks", [None, 2])
def test_exit_that_does_not_end_is_cut_off_at_the_limit(parallel_kwargs, max_tasks):
    """`task_timeout` counts for `__exit__` too, at the end and when a worker is replaced; no result is lost over it."""
    started_at = time.monotonic()
    lingering = delayed_init(Lingering)()
    with pytest.warns(RuntimeWarning, match="longer than `task_timeout`, 0.5 s, to be left"):  # noqa: SIM117
        with Pool(lingering, task_timeout=0.5, max_tasks_per_child=max_tasks, **parallel_kwargs) as pool:
            assert list(pool(range(8))) == list(range(8))
    assert time.monotonic() - started_at < workers.LIMIT_SECONDS / 2


def _exit_and_tell(item, folder, codes):
    if item == 3:
        Path(folder, uuid.uuid4().hex).touch()
        sys.exit(*codes)
    return item


@pytest.mark.parametrize("codes", [(), (0,), (False,), (256,), (3,)], ids=repr)
def test_item_that_exits_with_any_code_runs_once(process_kwargs, codes, tmp_path):
    """An exit that looks like an end in good order is a death at its item too."""
    worker = partial(_exit_and_tell, folder=tmp_path, codes=codes)
    results = list(Pool(worker, exception_behavior="ignore", **process_kwargs)(range(9)))
    assert isinstance(results[3], WorkerDiedError)
    assert "at item 3: it raised SystemExit" in str(results[3])
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "dup"), reason="the platform has no such descriptors")
def test_workers_start_where_very_many_files_are_open(process_kwargs):
    """A descriptor whose number is too high for `select` is no obstacle."""
    held = []
    try:
        with contextlib.suppress(OSError):
            held.extend(os.dup(0) for _ in range(1100))
        if len(held) < 1100:
            pytest.skip("the limit of open files is too low here")
        assert list(Pool(workers.square, **process_kwargs)(range(5))) == [0, 1, 4, 9, 16]
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_worker_whose_attendant_fails_dies(monkeypatch):
    """A worker that cannot be spoken to any more, for want of memory say, is a dead one, and nobody waits for it."""
    receive = _sockets.SocketWorkerEnd.receive

    def fail_on_large(end):
        messages = receive(end)
        if any(len(message) > 1 << 20 for message in messages):
            raise MemoryError
        return messages

    monkeypatch.setattr(_sockets.SocketWorkerEnd, "receive", fail_on_large)
    items = [1, bytes(2 << 20), 3]
    results = list(Pool(workers.type_name, 2, exception_behavior="ignore", start_method="fork")(items))
    assert [type(result) for result in results] == [str, WorkerDiedError, str]


def test_thread_that_cannot_be_replaced_costs_no_result(monkeypatch):
    """A system that has no thread left for a replacement costs that worker, as with processes."""
    start, n_started = threading.Thread.start, []

    def start_two(thread):
        if thread.name.startswith("mtasklite"):
            n_started.append(thread)
            if len(n_started) > 2:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    pool = Pool(workers.trouble, 2, use_threads=True, exception_behavior="ignore")
    with pytest.warns(RuntimeWarning, match="can't start new thread"):
        results = list(pool([0, SystemExit(3), *range(2, 40)]))
    assert isinstance(results[1], WorkerDiedError)
    assert [result for result in results if isinstance(result, int)] == [0, *range(2, 40)]


def test_pool_that_is_collected_amid_a_start_blocks_nothing(monkeypatch):
    """A garbage collection amid a start may end another pool in the same thread."""
    with _starting.undisturbed():
        abandoned = Pool(workers.square, 2)(range(100))
        assert next(abandoned) == 0
        ring = [abandoned]
        ring.append(ring)
        del abandoned, ring
        gc.collect()


def test_exception_that_was_raised_keeps_nothing_alive():
    """After mode `immediate` has raised, no cycle holds the input or the pool."""

    class Token:
        alive = 0

        def __init__(self):
            Token.alive += 1

        def __del__(self):
            Token.alive -= 1

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ZeroDivisionError):
            list(Pool(lambda token: 1 / 0, 2, use_threads=True)(Token() for _ in range(5)))
        assert Token.alive == 0
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="the platform has no SIGCHLD")
def test_pool_works_where_the_ends_of_children_are_ignored():
    """With SIGCHLD ignored no exit code can be had; the work is done all the same."""
    code = """
    import signal
    from mtasklite import Pool
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(list(Pool(abs, 2, start_method="fork")([-1, 2])))
    """
    assert workers.run_python("-c", "\n".join(line.strip() for line in code.splitlines())).strip() == "[1, 2]"
