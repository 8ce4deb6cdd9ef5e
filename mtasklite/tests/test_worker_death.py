"""Workers that are killed or end themselves: which items that costs, and that the pool goes on with as many workers."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from functools import partial

import pytest

from mtasklite import Pool, WorkerDiedError
from mtasklite.tests import workers
from mtasklite.tests.workers import everyone, failures, kill, pids_in

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the platform has no SIGKILL"),
    pytest.mark.timeout(60),
]

ENDS_WITHIN_SECONDS = 20
"""A limit against waiting for what sleeps longer, not a measure."""

ONE_BY_ONE = {"chunk_size": 1, "exception_behavior": "ignore"}


def _just_one(process_kwargs):
    """Ask for one process."""
    return {**process_kwargs, "n_jobs": 1, "max_tasks_per_child": 1000}


def _died(failed):
    """Return the places of failures, all of which must be deaths that name these places."""
    assert [error for error in failed.values() if type(error) is not WorkerDiedError] == []
    assert [error.item_index for error in failed.values()] == list(failed)
    return list(failed)


@pytest.fixture
def children(tmp_path):
    """Return the processes that items have left behind, and kill them when the test is over."""
    yield lambda: pids_in(tmp_path, "child")
    for pid in pids_in(tmp_path, "child"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# ---- idle


@contextlib.contextmanager
def _idle_crew(process_kwargs, folder, worker=workers.identity, **kwargs):
    """Give an entered pool whose two workers are made, have worked and are idle; and a function for their processes."""
    before = everyone()
    with Pool(partial(workers.meet, folder=folder, worker=worker), **kwargs, **process_kwargs) as pool:
        assert list(pool(["you", "me"])) == ["you", "me"]
        yield pool, lambda: [pid for _, pid in everyone() - before]


def test_kill_of_idle_workers_costs_nothing_between_two_calls(process_kwargs, tmp_path):
    """Workers that are killed between two calls of an entered pool are replaced, and no item fails."""
    with _idle_crew(process_kwargs, tmp_path) as (pool, find_crew):
        first_crew = find_crew()
        kill(*first_crew)
        assert list(pool(range(20))) == list(range(20))
        second_crew = find_crew()
    assert len(second_crew) == 2
    assert not set(first_crew) & set(second_crew)


def test_kill_of_one_idle_worker_costs_nothing_between_two_calls(process_kwargs, tmp_path):
    """The other worker lives on, and the killed one is replaced."""
    with _idle_crew(process_kwargs, tmp_path) as (pool, find_crew):
        victim, survivor = find_crew()
        kill(victim)
        assert list(pool(range(20))) == list(range(20))
        crew = find_crew()
    assert len(crew) == 2
    assert survivor in crew


def test_kill_of_an_idle_worker_costs_nothing_while_the_input_is_slow(process_kwargs):
    """A worker that is killed again and again, while the input makes it wait, is replaced, and no item fails."""
    before = everyone()

    def items():
        for number in range(8):
            yield number  # before the next is read this one was handed out, for there is a window of one item
            kill(*(pid for _, pid in everyone() - before))

    pool = Pool(workers.identity, chunk_size=1, chunk_prefill_ratio=1, **_just_one(process_kwargs))
    assert list(pool(items())) == list(range(8))


# ---- busy


@pytest.mark.usefixtures("gate")
def test_kill_of_a_busy_worker_costs_its_item(process_kwargs, tmp_path):
    """A worker that is killed from outside while it is at an item costs that item."""

    def items():
        yield "stuck"
        workers.wait_until(lambda: pids_in(tmp_path, "worker"))
        kill(*pids_in(tmp_path, "worker"))
        yield from range(10)

    worker = partial(workers.be_stuck_or_trouble, folder=tmp_path)
    results = list(Pool(worker, **ONE_BY_ONE, **process_kwargs)(items()))
    assert _died(failures(results, ["stuck", *range(10)])) == [0]
    assert results[0].signal_name == "SIGKILL"


def test_kill_of_a_busy_worker_replaces_it(process_kwargs, tmp_path):
    """After a death there are as many workers as before, one of them new, and the other one is not disturbed."""
    items = [*range(4), "SIGKILL", *range(20)]
    with _idle_crew(process_kwargs, tmp_path, workers.trouble, **ONE_BY_ONE) as (pool, find_crew):
        first_crew = set(find_crew())
        assert _died(failures(list(pool(items)), items)) == [4]
        assert list(pool(range(4))) == list(range(4))
        second_crew = set(find_crew())
    assert len(first_crew) == len(second_crew) == 2
    assert len(first_crew & second_crew) == 1


def test_death_in_a_later_call_names_the_place_in_its_own_input(process_kwargs):
    """Inside `with`, an item's index counts from the start of the input that it is in."""
    items = [0, 1, "os._exit", 3]
    with Pool(workers.trouble, **ONE_BY_ONE, **process_kwargs) as pool:
        for _ in range(3):
            assert _died(failures(list(pool(items)), items)) == [2]


def test_death_again_and_again_costs_only_the_items_that_kill(process_kwargs):
    """When every third item kills its worker, all others have their values."""
    items = ["SIGKILL" if number % 3 == 0 else number for number in range(18)]
    results = list(Pool(workers.trouble, **ONE_BY_ONE, **process_kwargs)(items))
    assert _died(failures(results, items)) == list(range(0, 18, 3))


def test_death_of_the_only_worker_costs_its_item(process_kwargs):
    """With one process, which something asked for, the work goes on in a new one."""
    items = [0, 1, "SIGKILL", 3, 4, "SIGKILL"]
    results = list(Pool(workers.trouble, **ONE_BY_ONE, **_just_one(process_kwargs))(items))
    assert _died(failures(results, items)) == [2, 5]


# ---- amid a batch


@pytest.mark.parametrize("how", list(workers.DEATHS))
def test_death_costs_one_item_amid_a_batch_of_short_ones(process_kwargs, how):
    """Where items take half a millisecond each, those that the worker had finished before are not lost with it."""
    items = [*range(100), how, *range(100, 199)]
    worker = partial(workers.spin_and_trouble, seconds=0.0005)
    results = list(Pool(worker, exception_behavior="ignore", **process_kwargs)(items))
    assert _died(failures(results, items)) == [100]


def test_death_again_and_again_costs_one_item_each_amid_batches_of_short_ones(process_kwargs):
    """Deaths late in the input, when batches have grown, cost no more than those at its start."""
    items = ["os._exit" if number % 60 == 50 else number for number in range(360)]
    worker = partial(workers.spin_and_trouble, seconds=0.0002)
    results = list(Pool(worker, exception_behavior="ignore", **process_kwargs)(items))
    assert _died(failures(results, items)) == list(range(50, 360, 60))


def test_nothing_runs_twice_without_retries(process_kwargs, tmp_path):
    """An item that may have run is not run again, whatever becomes of its worker."""
    items, bad = range(80), range(7, 80, 20)
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=bad)
    results = list(Pool(worker, exception_behavior="ignore", **process_kwargs)(items))
    died = _died(failures(results, items))
    assert set(bad) <= set(died)
    calls = workers.calls_in(tmp_path)
    assert max(calls.values()) == 1
    assert set(items) - set(died) <= set(calls)


def test_death_costs_nothing_with_retries_if_the_item_kills_once(process_kwargs, tmp_path):
    """With `retries=1` an item that killed once has its value in the end, and nothing ran more than twice."""
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=(40,), n_times=1)
    assert list(Pool(worker, retries=1, **process_kwargs)(range(80))) == list(range(80))
    calls = workers.calls_in(tmp_path)
    assert calls[40] == 2
    assert set(calls.values()) <= {1, 2}


def test_death_is_the_outcome_if_the_item_kills_at_each_retry(process_kwargs, tmp_path):
    """With `retries=2` an item that kills each time is tried three times, and costs nothing else."""
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=(5,))
    results = list(Pool(worker, retries=2, **ONE_BY_ONE, **process_kwargs)(range(20)))
    assert _died(failures(results, range(20))) == [5]
    assert workers.calls_in(tmp_path)[5] == 3


# ---- amid a message


@contextlib.contextmanager
def _amid_sending(process_kwargs, folder, child=None):
    """Give the results, of which one of 32 MB is on its way to a consumer who pauses, and the process id."""
    worker = partial(workers.make_large, folder=folder, child=child)
    with Pool(worker, **ONE_BY_ONE, **process_kwargs) as pool:
        results = pool([0, "large", *range(1, 6)])
        assert next(results) == 0
        (folder / "go").touch()
        (pid,) = pids_in(folder, "worker")
        workers.wait_until_blocked(pid)
        yield results, pid


def test_kill_amid_sending_a_large_result_costs_that_item(process_kwargs, tmp_path):
    """A worker that is killed with a result of 32 MB half sent costs that one."""
    with _amid_sending(process_kwargs, tmp_path) as (results, pid):
        kill(pid)
        assert _died(failures([0, *results], [0, "large", *range(1, 6)])) == [1]


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("child", ["fork", "multiprocess"])
def test_kill_amid_sending_ends_though_a_grandchild_holds_the_pipe(process_kwargs, child, tmp_path):
    """A process that the killed worker has left, with the pipe open, makes nobody wait for the rest of the result."""
    with _amid_sending(process_kwargs, tmp_path, child) as (results, pid):
        kill(pid)
        assert _died(failures([0, *results], [0, "large", *range(1, 6)])) == [1]


def test_large_result_that_waited_for_the_consumer_arrives(process_kwargs, tmp_path):
    """Where nobody kills the worker, the consumer's pause costs nothing."""
    with _amid_sending(process_kwargs, tmp_path) as (results, _):
        assert [len(result) if isinstance(result, bytes) else result for result in results] == [32 << 20, *range(1, 6)]


class _Large:
    """An item of 32 MB that says when it is on its way."""

    is_pickled = threading.Event()

    def __reduce__(self):
        self.is_pickled.set()
        return bytes, (b"x" * (32 << 20),)


def test_kill_amid_being_sent_a_large_item_costs_nothing(process_kwargs, tmp_path):
    """An item that had only half arrived had surely not started, so it goes to another worker."""

    def kill_amid_sending():
        _Large.is_pickled.wait(workers.LIMIT_SECONDS)
        workers.wait_until_blocked(os.getpid())
        kill(*crew)

    _Large.is_pickled.clear()
    killer = threading.Thread(target=kill_amid_sending)
    with _idle_crew(process_kwargs, tmp_path, len) as (pool, find_crew):
        crew = find_crew()
        for pid in crew:
            os.kill(pid, signal.SIGSTOP)  # so that nobody reads
        killer.start()
        assert list(pool([_Large(), "abc"])) == [32 << 20, 3]
    killer.join()


# ---- at the end


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("what", ["thread", "fork"])
def test_end_does_not_wait_for_what_an_item_left(process_kwargs, what, tmp_path):
    """A thread that is no daemon, or a process, which sleeps for minutes holds up neither the pool nor its worker."""
    worker = partial(workers.leave_behind, folder=tmp_path, what=what)
    started_at = time.monotonic()
    assert list(Pool(worker, **process_kwargs)(range(2))) == [0, 1]
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


def test_replacing_does_not_wait_for_a_thread_that_an_item_left(process_kwargs, tmp_path):
    """A worker that is replaced after two items ends too, whatever sleeps in it."""
    worker = partial(workers.leave_behind, folder=tmp_path, what="thread")
    started_at = time.monotonic()
    assert list(Pool(worker, max_tasks_per_child=2, **process_kwargs)(range(6))) == list(range(6))
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


def test_daemon_process_that_an_item_left_ends_with_the_worker(process_kwargs, children, tmp_path):
    """A process that an item started as a daemon of `multiprocess` is gone when the pool is."""
    worker = partial(workers.leave_behind, folder=tmp_path, what="daemon")
    assert list(Pool(worker, **process_kwargs)(range(2))) == [0, 1]
    assert len(children()) == 2
    workers.wait_until(lambda: all(map(workers.is_gone, children())), seconds=ENDS_WITHIN_SECONDS)


def test_kill_of_all_workers_before_the_block_ends_is_no_error(process_kwargs, tmp_path):
    """Workers that are dead already when the pool is left hold nothing up."""
    with _idle_crew(process_kwargs, tmp_path) as (_, find_crew):
        kill(*find_crew())
    assert not find_crew()
