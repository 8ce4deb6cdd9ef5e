"""`Pool.report` with real workers: counts are exact, times add up, and anybody may ask at any time."""

from __future__ import annotations

import threading
import time
import warnings
from functools import partial

import pytest

from mtasklite import Pool, WorkerInitError
from mtasklite.processes import pqdm
from mtasklite.tests import workers
from mtasklite.tests.workers import LIMIT_SECONDS, PARALLEL, PROCESSES, wait_until

pytestmark = [pytest.mark.timeout(90), pytest.mark.usefixtures("gate")]

HAS_PROC = hasattr(__import__("os"), "pidfd_open")
"""Whether this is a Linux, where the system tells what memory a process has had."""


def counts(pool, *names):
    """Return sums over a pool's workers."""
    report = pool.report()
    return tuple(report.total(name) for name in names or ("items", "errors", "retries", "restarts", "deaths"))


def seconds_of(worker):
    """Return all that a worker's time went into."""
    names = ("constructing", "working", "waiting_for_input", "waiting_to_hand_out", "absent")
    return [getattr(worker, f"seconds_{name}") for name in names]


# ---- counts


def test_items_and_errors_are_counted(pool_kwargs):
    """Each outcome counts with the worker that it came from, and each that is an exception as an error too."""
    with Pool(workers.fail_on_odd, exception_behavior="ignore", **pool_kwargs) as pool:
        assert len(list(pool(range(101)))) == 101
        assert counts(pool) == (101, 50, 0, 0, 0)
    assert counts(pool) == (101, 50, 0, 0, 0)


def test_iterations_of_one_pool_add_up(pool_kwargs):
    """The report is of the pool's whole life; of an iteration that was given up, what came back counts."""
    with Pool(workers.identity, **pool_kwargs) as pool:
        assert list(pool(range(30))) == list(range(30))
        abandoned = pool(range(1000))
        next(abandoned)
        abandoned.close()
        n_items = counts(pool)[0]
        assert 31 <= n_items <= 1030
        assert list(pool(range(20))) == list(range(20))
        assert counts(pool)[0] == n_items + 20


def test_pool_without_a_block_counts_on(pool_kwargs):
    """Its workers end with each input, but the report goes on; a new start is no restart."""
    pool = Pool(workers.identity, **pool_kwargs)
    for _ in range(3):
        assert list(pool(range(10))) == list(range(10))
    assert counts(pool) == (30, 0, 0, 0, 0)


def test_retries_are_counted_apart(tmp_path, pool_kwargs):
    """An attempt that is made again is no item and no error."""
    worker = partial(workers.fail_first, folder=tmp_path)
    with Pool(worker, retries=2, exception_behavior="ignore", **pool_kwargs) as pool:
        results = list(pool(range(12)))
    n_failed = sum(isinstance(result, Exception) for result in results)
    assert counts(pool, "items", "errors") == (12, n_failed)
    assert counts(pool, "retries")[0] >= 1


def test_deaths_and_restarts_are_counted(process_kwargs):
    """Each item that kills its worker is an error, a death and a restart."""
    items = [*range(20), "os._exit", *range(20), "SIGKILL", *range(20)]
    with Pool(workers.trouble, exception_behavior="ignore", **process_kwargs) as pool:
        assert len(list(pool(items))) == 62
    assert counts(pool) == (62, 2, 0, 2, 2)


@pytest.mark.parametrize("kwargs", [PARALLEL["threads"], PROCESSES["fork"]], ids=["threads", "fork"])
def test_late_items_are_counted(kwargs):
    """A worker that was killed, or abandoned, for a late item has died, with its item as an error."""
    how = "wait" if "use_threads" in kwargs else "sleep"
    items = [*range(10), how, *range(10)]
    with Pool(workers.trouble, exception_behavior="ignore", task_timeout=0.25, **kwargs) as pool:
        assert len(list(pool(items))) == 21
    assert counts(pool) == (21, 1, 0, 1, 1)
    assert sum(worker.seconds_working for worker in pool.report().workers) >= 0.2


def test_replaced_workers_are_restarts_and_no_deaths(parallel_kwargs):
    """`max_tasks_per_child` replaces in good order."""
    with Pool(workers.identity, max_tasks_per_child=5, **parallel_kwargs) as pool:
        assert list(pool(range(20))) == list(range(20))
    items, errors, retries, restarts, deaths = counts(pool)
    assert (items, errors, retries, deaths) == (20, 0, 0, 0)
    assert restarts >= 2


def test_worker_that_could_not_be_made_has_done_nothing(parallel_kwargs):
    """The others' items are counted with them, and its slot was empty."""
    worker_list = [workers.FailingToInit(), workers.Multiplier(2)]
    kwargs = {name: value for name, value in parallel_kwargs.items() if name != "n_jobs"}
    pool = Pool(worker_list, exception_behavior="ignore", **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if the other was done before, nobody hears of it
        assert list(pool([1, 2, 3])) == [2, 4, 6]
    assert [worker.items for worker in pool.report().workers] == [0, 3]
    assert [worker.name for worker in pool.report().workers] == ["FailingToInit", "Multiplier"]


def test_report_is_there_after_an_error(parallel_kwargs):
    """A pool whose iteration raised still says what it did."""
    pool = Pool(workers.FailingToInit(), **parallel_kwargs)
    with pytest.raises(WorkerInitError):
        list(pool([1]))
    assert counts(pool, "items") == (0,)


# ---- when


def test_report_may_be_asked_of_the_iterator(pool_kwargs):
    """Where nobody kept the pool, its iterator has the report."""
    results = Pool(workers.square, **pool_kwargs)(range(7))
    list(results)
    assert results.report().total("items") == results.parent_obj.report().total("items") == 7


def test_report_before_the_first_item_says_so(pool_kwargs):
    """Nothing was started, so nothing held it back."""
    report = Pool(workers.identity, **pool_kwargs).report()
    assert (report.total("items"), report.seconds_elapsed, report.efficiency) == (0, 0.0, 0.0)
    assert report.summary == "nothing: no worker has been started yet"
    assert len(report.workers) == pool_kwargs["n_jobs"]
    assert "identity" in str(report)


def test_report_amid_an_iteration_counts_what_has_come_back(pool_kwargs):
    """From the thread that iterates: at least what it was given."""
    pool = Pool(workers.identity, **pool_kwargs)
    for number, _ in enumerate(pool(range(50)), start=1):
        assert number <= counts(pool, "items")[0] <= 50


def test_report_from_another_thread_sees_the_item_under_way():
    """While the consumer waits for one long item, its worker is working, though nothing was heard of it."""
    pool = Pool(_wait_for_gate, n_jobs=2, use_threads=True)
    thread = threading.Thread(target=lambda: list(pool([1])))
    thread.start()
    try:
        wait_until(lambda: pool.report().total("seconds_working") > 0.1)
        report = pool.report()
        assert report.total("items") == 0
        assert report.total("seconds_waiting_for_input") > 0
    finally:
        workers.GATE.set()
        thread.join()
    assert counts(pool, "items") == (1,)


def _wait_for_gate(item):
    workers.GATE.wait(LIMIT_SECONDS)
    return item


@pytest.mark.parametrize("kwargs", [PARALLEL["threads"], PROCESSES["fork"]], ids=["threads", "fork"])
def test_report_may_be_asked_for_all_the_time(kwargs):
    """A thread that asks again and again disturbs nothing, and never gets an error."""
    pool = Pool(workers.trouble, exception_behavior="ignore", **kwargs)
    failures, is_over = [], threading.Event()

    def ask():
        while not is_over.is_set():
            try:
                str(pool.report())
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for _ in range(3):
            assert len(list(pool(range(2000)))) == 2000
    finally:
        is_over.set()
        thread.join()
    assert failures == []
    assert counts(pool, "items", "errors") == (6000, 0)


def test_report_does_not_change_after_the_end(pool_kwargs):
    """What was so at the end stays so."""
    with Pool(workers.identity, **pool_kwargs) as pool:
        list(pool(range(10)))
    assert pool.report() == pool.report()


# ---- seconds, bytes, memory


def test_times_of_a_worker_add_up_to_the_time_elapsed(pool_kwargs):
    """Each second of each worker is accounted for, and none twice."""
    begin = time.monotonic()
    pool = Pool(partial(workers.nap, seconds=0.02), **pool_kwargs)
    list(pool(range(20)))
    wall_seconds = time.monotonic() - begin
    report = pool.report()
    assert 0.2 <= report.seconds_elapsed <= wall_seconds
    for worker in report.workers:
        assert sum(seconds_of(worker)) == pytest.approx(report.seconds_elapsed, abs=0.1)
        assert min(seconds_of(worker)) >= 0
    assert report.total("seconds_working") >= 20 * 0.02
    shares = report.total("seconds_working") / (len(report.workers) * report.seconds_elapsed)
    assert report.efficiency == pytest.approx(shares)


def test_constructing_takes_the_time_of_the_constructor(pool_kwargs):
    """A worker object that takes long to make is seen."""
    pool = Pool(_Slow(0.3), **pool_kwargs)
    list(pool(range(4)))
    assert all(worker.seconds_constructing >= 0.3 for worker in pool.report().workers if worker.items)


def test_slow_input_is_named(pool_kwargs):
    """While the input is read, the workers have nothing to do."""

    def slowly():
        for item in range(10):
            time.sleep(0.1)
            yield item

    pool = Pool(workers.identity, **pool_kwargs)
    list(pool(slowly()))
    report = pool.report()
    assert report.total("seconds_waiting_for_input") > 10 * 0.09
    assert pool_kwargs.get("start_method") != "fork" or report.bottleneck == "input"


def test_slow_consumer_is_named(pool_kwargs):
    """While the consumer is at a result, nobody gives the workers anything."""
    pool = Pool(workers.identity, chunk_size=2, **pool_kwargs)
    for _ in pool(range(10)):
        time.sleep(0.1)
    report = pool.report()
    assert report.total("seconds_waiting_to_hand_out") > 5 * 0.09
    assert pool_kwargs.get("start_method") != "fork" or report.bottleneck == "consumer"


def test_bytes_are_those_of_the_pickles(process_kwargs):
    """What goes in and what comes out, with processes; an item that is taken back goes in twice."""
    pool = Pool(workers.identity, **process_kwargs)
    list(pool([bytes(10_000 + extra) for extra in range(20)]))
    report = pool.report()
    assert 200_000 < report.total("bytes_in") < 420_000
    assert 200_000 < report.total("bytes_out") < 220_000


def test_threads_have_neither_bytes_nor_memory_of_their_own():
    """Nothing is pickled, and memory is everybody's."""
    pool = Pool(workers.identity, **PARALLEL["threads"])
    list(pool(range(10)))
    assert [(worker.bytes_in, worker.bytes_out, worker.peak_memory) for worker in pool.report().workers] == [
        (0, 0, None)
    ] * 2


@pytest.mark.skipif(not HAS_PROC, reason="needs Linux")
def test_peak_memory_is_what_the_worker_had_at_most(process_kwargs):
    """Also when it has given it back, after the end, and amid the iteration."""
    with Pool(_have_memory, **process_kwargs) as pool:
        list(pool([1, 100 << 20, 1]))
        amid = max(worker.peak_memory for worker in pool.report().workers)
    after = max(worker.peak_memory for worker in pool.report().workers)
    assert 100 << 20 <= amid <= after < 400 << 20


def _have_memory(n_bytes):
    return len(bytearray(b"x") * n_bytes)


@workers.delayed_init
class _Slow:
    def __init__(self, seconds):
        time.sleep(seconds)

    def __call__(self, item):
        return item


# ---- through pqdm


def test_report_is_reached_through_pqdm():
    """From the iterator, and from its pool."""
    results = pqdm(range(10), workers.identity, n_jobs=2, disable=True)
    assert list(results) == list(range(10))
    assert results.report() == results.pool_obj.parent_obj.report()
    assert results.report().total("items") == 10
