"""Items past `task_timeout`: each costs itself and no other, however it is stuck."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from functools import partial

import pytest

from mtasklite import Pool, TaskTimeoutError
from mtasklite._backends.processes import ProcessBackend
from mtasklite._backends.threads import ThreadBackend
from mtasklite.tests import workers
from mtasklite.tests.workers import PARALLEL, PROCESSES, failures

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("gate")]

LIMIT = 0.25
"""Seconds; long enough for a quick item that had to wait for a processor."""

ENDS_WITHIN_SECONDS = 20
"""A limit against waiting for what sleeps longer, not a measure."""

STUCK_IN_PROCESS = ["sleep", "loop", "holding the GIL", "in C"]
STUCK_IN_THREAD = ["wait", "loop"]


def _late(failed, seconds=LIMIT):
    """Return the places of failures, all of which must be late items that name these places and this limit."""
    assert [error for error in failed.values() if type(error) is not TaskTimeoutError] == []
    assert [error.item_index for error in failed.values()] == list(failed)
    assert {error.seconds for error in failed.values()} <= {seconds}
    assert {error.worker_index for error in failed.values()} <= {0, 1}
    return list(failed)


def _run(items, worker=workers.trouble, **kwargs):
    """Return the places of the late items; all others must have their values."""
    kwargs = {"task_timeout": LIMIT, "exception_behavior": "ignore", **kwargs}
    return _late(failures(list(Pool(worker, **kwargs)(items)), items), kwargs["task_timeout"])


# ---- one late item among quick ones


@pytest.mark.parametrize("how", STUCK_IN_PROCESS)
def test_late_item_harms_no_quick_one_around_it(process_kwargs, how):
    """Those that were finished before in the same batch are handed out, and those behind it go to another worker."""
    assert _run([*range(100), how, *range(100, 199)], **process_kwargs) == [100]


@pytest.mark.parametrize("how", STUCK_IN_THREAD)
def test_late_item_in_a_thread_harms_no_quick_one_around_it(how):
    """The same with threads, though the late one runs on."""
    assert _run([*range(100), how, *range(100, 199)], **PARALLEL["threads"]) == [100]


@pytest.mark.parametrize("how", ["sleep", "holding the GIL"])
def test_late_item_harms_no_quick_one_with_one_worker(how):
    """One worker gets a process of its own, and a new one after that."""
    assert _run([*range(100), how, *range(100, 199)], **{**PROCESSES["fork"], "n_jobs": 1}) == [100]


@pytest.mark.parametrize("place", [0, 199])
@pytest.mark.parametrize("kind", ["fork", "threads"])
def test_late_item_harms_no_quick_one_wherever_it_stands(kind, place):
    """At the start and at the end of the input."""
    items = list(range(200))
    items[place] = "wait"
    assert _run(items, **{**PARALLEL[kind], "n_jobs": 1}) == [place]


def test_late_item_harms_no_quick_one_if_results_come_unordered(parallel_kwargs):
    """With `is_unordered` all values of the others are there too, each once."""
    pool = Pool(workers.trouble, task_timeout=LIMIT, exception_behavior="ignore", is_unordered=True, **parallel_kwargs)
    results = list(pool([*range(50), "wait", *range(50, 99)]))
    (error,) = (result for result in results if isinstance(result, Exception))
    assert (type(error), error.item_index) == (TaskTimeoutError, 50)
    assert sorted(result for result in results if result is not error) == list(range(99))


def test_late_item_in_a_later_call_names_the_place_in_its_own_input(parallel_kwargs):
    """Inside `with`, an item's index counts from the start of the input that it is in."""
    with Pool(workers.trouble, task_timeout=LIMIT, exception_behavior="ignore", **parallel_kwargs) as pool:
        for place in (2, 0):
            items = list(range(6))
            items[place] = "wait"
            assert _late(failures(list(pool(items)), items)) == [place]


# ---- several


def test_several_late_items_cost_one_each(parallel_kwargs):
    """Late items here and there cost themselves."""
    items = ["wait" if number % 20 == 13 else number for number in range(60)]
    assert _run(items, **parallel_kwargs) == [13, 33, 53]


@pytest.mark.filterwarnings("ignore:all . items failed:RuntimeWarning")
def test_late_items_in_a_row_cost_one_each(parallel_kwargs):
    """Where every item is late, every item has that as its outcome, and the pool ends."""
    assert _run(["wait"] * 3, **parallel_kwargs) == [0, 1, 2]


def test_late_item_is_late_at_each_retry(parallel_kwargs, tmp_path):
    """With `retries=1` an item that is always late is tried twice, and costs nothing else."""
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=(5,), how="wait")
    assert _run(list(range(20)), worker, retries=1, **parallel_kwargs) == [5]
    calls = workers.calls_in(tmp_path)
    assert calls.pop(5) == 2
    assert set(calls.values()) == {1}


def test_late_item_has_its_value_if_a_retry_is_quick(parallel_kwargs, tmp_path):
    """With `retries=1` an item that was late once has its value in the end."""
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=(5,), how="wait", n_times=1)
    assert _run(list(range(20)), worker, retries=1, **parallel_kwargs) == []


# ---- what is not late


def test_item_that_ends_about_at_the_limit_never_strikes_its_neighbour(parallel_kwargs):
    """An item that takes about the limit has its value or is late; the quick ones behind it have their values."""
    items = [seconds for step in range(4) for seconds in (LIMIT + step * 0.0005, 0, 0)]
    late = _run(items, workers.nap_for, chunk_size=6, **parallel_kwargs)
    assert [place for place in late if not items[place]] == []


@pytest.mark.parametrize("kind", list(PARALLEL))
def test_item_that_ends_before_it_is_stopped_never_strikes_its_neighbour(kind, tmp_path, monkeypatch):
    """If the late item ends before the order to stop it is carried out, that order does not hit the next item."""
    backend = ThreadBackend if kind == "threads" else ProcessBackend
    neighbour = LIMIT / 2
    kill = backend.kill

    def kill_too_late(self, *args):
        workers.wait_until((tmp_path / str(neighbour)).exists)
        return kill(self, *args)

    monkeypatch.setattr(backend, "kill", kill_too_late)
    items = [0] * 30 + [1.5 * LIMIT, neighbour] + [0] * 10
    worker = partial(workers.leave_name_and_nap, folder=tmp_path)
    assert _run(items, worker, **{**PARALLEL[kind], "n_jobs": 1}) in ([], [30])


def test_slow_input_makes_no_item_late(parallel_kwargs):
    """A worker that waits for its next item, for longer than the limit, is not late and not replaced."""
    items = (workers.nap(number, number * (LIMIT + 0.2)) for number in range(2))
    results = list(Pool(workers.Counting(), task_timeout=LIMIT, **{**parallel_kwargs, "n_jobs": 1})(items))
    assert [n_calls for _, n_calls, _ in results] == [1, 2]


# ---- the worker


def test_late_item_is_late_after_the_limit_and_not_much_later(parallel_kwargs, tmp_path):
    """The consumer has the error not before the item ran for the limit, and not long after."""
    worker = partial(workers.leave_time_and_trouble, folder=tmp_path)
    assert _run(["loop"], worker, **parallel_kwargs) == [0]
    (started_at,) = map(float, os.listdir(tmp_path))
    assert LIMIT <= time.monotonic() - started_at < LIMIT + ENDS_WITHIN_SECONDS


def test_late_item_leaves_a_new_instance_to_the_others(parallel_kwargs):
    """The worker that takes the late one's place makes its own instance."""
    kwargs = {**parallel_kwargs, "n_jobs": 1}
    pool = Pool(workers.Troubled(None, None), task_timeout=LIMIT, exception_behavior="ignore", **kwargs)
    first, late, second, third = pool(["token", "wait", "token", "token"])
    assert type(late) is TaskTimeoutError
    assert second == third
    assert first != second


@pytest.mark.parametrize("how", ["close", "error"])
def test_end_waits_for_a_late_item_no_longer_than_the_limit(parallel_kwargs, how, tmp_path):
    """Without `join_timeout` the end waits until running items are done, which a late one is at the limit."""
    worker = partial(workers.be_stuck_or_trouble, folder=tmp_path)
    pool = Pool(worker, task_timeout=LIMIT, is_unordered=True, chunk_size=1, **parallel_kwargs)
    started_at = time.monotonic()
    results = pool(["stuck", LookupError("mine") if how == "error" else 1])
    with contextlib.suppress(LookupError, TaskTimeoutError):  # the latter if the other worker took long to start
        next(results)
    results.close()
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


# ---- abandoned threads


def test_value_of_an_abandoned_thread_never_shows_up():
    """What a thread that was given up returns in the end belongs to no later input."""
    before = set(threading.enumerate())
    items = ["wait", 1, "wait", 3]
    with Pool(workers.trouble, task_timeout=LIMIT, exception_behavior="ignore", **PARALLEL["threads"]) as pool:
        assert _late(failures(list(pool(items)), items)) == [0, 2]
        workers.GATE.set()
        workers.wait_until(lambda: len(set(threading.enumerate()) - before) == 2)
        for _ in range(3):
            assert list(pool(range(20))) == list(range(20))


def test_end_leaves_an_abandoned_thread_that_is_a_daemon():
    """After the end there is one daemon thread for each item that is still stuck, until it is not."""
    before = set(threading.enumerate())
    assert _run(["wait", 1, "wait", 3], **PARALLEL["threads"]) == [0, 2]
    left = set(threading.enumerate()) - before
    assert [thread.daemon for thread in left] == [True, True]
    workers.GATE.set()
    workers.wait_until(lambda: not any(thread.is_alive() for thread in left))


def test_interpreter_exits_with_an_abandoned_thread():
    """A thread that is stuck for minutes does not hold up the end of the program."""
    code = "import time; from mtasklite import Pool\n"
    code += (
        "print(list(Pool(time.sleep, 1, use_threads=True, task_timeout=0.3, exception_behavior='ignore')([0, 300])))"
    )
    started_at = time.monotonic()
    assert "TaskTimeoutError" in workers.run_python("-c", code)
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


def test_item_that_was_late_while_nobody_looked_is_late(parallel_kwargs):
    """Whoever is busy elsewhere cannot have it stopped, but gets no value of an item that took too long."""
    with Pool(_sleep, exception_behavior="ignore", task_timeout=0.3, **parallel_kwargs) as pool:
        results = pool([0, 0.8, 0.01, 0.02])
        assert next(results) == 0
        time.sleep(1.5)
        late, *others = results
    assert type(late) is TaskTimeoutError
    assert (late.item_index, late.seconds) == (1, 0.3)
    assert late.worker_index in (0, 1)
    assert others == [0.01, 0.02]


def _sleep(seconds):
    time.sleep(seconds)
    return seconds
