"""Many pools in one process: what the thousandth leaves behind is what the tenth did."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading

import psutil
import pytest

from mtasklite import Pool, WorkerInitError
from mtasklite.processes import pqdm
from mtasklite.tests import workers
from mtasklite.tests.programs import Program, script
from mtasklite.tests.workers import LIMIT_SECONDS

N_POOLS = {"inline": 1000, "threads": 1000, "fork": 1000, "spawn": 20, "forkserver": 40}
SETTLED_AFTER = {"inline": 100, "threads": 100, "fork": 100, "spawn": 10, "forkserver": 10}
"""Pools after which memory should grow no more: caches are full, and the allocator has what it needs."""

N_CALLS = 400

MAX_GROWTH_BYTES = 8 << 20


def exhaust(**kwargs):
    assert list(Pool(workers.square, **kwargs)(range(5))) == [0, 1, 4, 9, 16]


def break_off(**kwargs):
    for _ in Pool(workers.square, **kwargs)(itertools.count()):
        break


def enter(**kwargs):
    with Pool(workers.square, **kwargs) as pool:
        assert list(pool([3])) == [9]
        next(pool(itertools.count()))


def fail(**kwargs):
    with contextlib.suppress(ValueError):
        list(Pool(workers.fail_on_odd, **kwargs)(range(5)))


def fail_in_the_input(**kwargs):
    with contextlib.suppress(LookupError):
        list(Pool(workers.square, **kwargs)(workers.raise_after(3, LookupError("of the input"))))


def fail_at_the_start(**kwargs):
    with contextlib.suppress(WorkerInitError):
        list(Pool(workers.FailingToInit(), **kwargs)(range(5)))


def send_by_value(**kwargs):
    class Local:
        def __init__(self, item):
            self.item = item

    first, *_ = Pool(lambda item: Local(item), **kwargs)(range(3))
    assert type(first) is Local


def show_a_bar(**kwargs):
    list(pqdm(range(3), workers.square, disable=True, **kwargs))


USES = [exhaust, break_off, enter, fail, fail_in_the_input, fail_at_the_start, send_by_value, show_a_bar]


def count_all():
    """Return the numbers of children, threads and descriptors."""
    gc.collect()
    this = psutil.Process()
    threads = [thread for thread in threading.enumerate() if thread.name != "tqdm_monitor"]
    return len(this.children(recursive=True)), len(threads), this.num_fds()


def use_many_pools(kind):
    """Raise if the last of many pools has left more than an early one did."""
    bytes_at = {}
    for number in range(N_POOLS[kind]):
        USES[number % len(USES)](**workers.ALL[kind])
        if number == 10:
            counts = count_all()
        if number in (SETTLED_AFTER[kind], N_POOLS[kind] - 1):
            gc.collect()
            bytes_at[number] = psutil.Process().memory_full_info().uss
    workers.wait_until(lambda: count_all() == counts, 5)
    first, last = bytes_at.values()
    assert last - first < MAX_GROWTH_BYTES


def call_one_pool_many_times(kind):
    """Raise if the last of many inputs has left more than an early one did, here and in the workers."""
    bytes_at = {}
    with Pool(workers.divide_by, exception_behavior="ignore", **workers.ALL[kind]) as pool:
        this = [psutil.Process(), *psutil.Process().children()]
        for number in range(N_CALLS):
            if number % 2:
                assert len(list(pool(range(10)))) == 10
            else:
                next(pool(itertools.count(1)))
            if number == 10:
                counts = count_all()
            if number in (N_CALLS // 4, N_CALLS - 1):
                gc.collect()
                bytes_at[number] = sum(process.memory_full_info().uss for process in this)
        assert count_all() == counts
    first, last = bytes_at.values()
    assert last - first < MAX_GROWTH_BYTES


CODE = """
if __name__ == "__main__":
    from mtasklite.tests import test_leaks
    test_leaks.USE(KIND)
"""
"""Run in an interpreter of its own: in one that has run other tests, memory comes and goes by what those have left."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(N_POOLS))
def test_many_pools_leave_no_more_than_a_few(kind, tmp_path):
    """After many pools of all kinds and fates there is no process, thread, descriptor or memory more than before."""
    code = CODE.replace("USE", "use_many_pools")
    with Program(tmp_path, script(tmp_path, code, KIND=kind)) as program:
        program.end(LIMIT_SECONDS)
        program.check_quiet()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inline", "threads", "fork"])
def test_many_calls_of_one_pool_leave_no_more_than_a_few(kind, tmp_path):
    """The last of many inputs of a pool costs no more memory or descriptors than an early one."""
    code = CODE.replace("USE", "call_one_pool_many_times")
    with Program(tmp_path, script(tmp_path, code, KIND=kind)) as program:
        program.end(LIMIT_SECONDS)
        program.check_quiet()


@pytest.mark.parametrize("kind", ["inline", "threads", "fork"])
def test_long_input_takes_no_more_memory_than_a_short_one(kind):
    """What was handed out is forgotten: thirty thousand results of a kilobyte do not pile up."""
    pool = Pool(bytes, chunk_size=1000, **workers.ALL[kind])  # or the speed of the day says how much is held
    results = pool(itertools.repeat(1000, 30_000))
    bytes_at = {}
    for number, _ in enumerate(results):
        if number in (10_000, 29_999):
            bytes_at[number] = psutil.Process().memory_full_info().uss
    first, last = bytes_at.values()
    assert last - first < MAX_GROWTH_BYTES


@pytest.mark.parametrize("mode", ["ignore", "immediate"])
def test_results_are_not_kept_by_the_pool(parallel_kwargs, mode):
    """Once the consumer lets go of a result, nobody holds it."""
    before = {id(one) for one in gc.get_objects() if isinstance(one, workers.Multiplier)}  # of other tests
    with Pool(workers.make_multiplier, exception_behavior=mode, **parallel_kwargs) as pool:
        seen = list(map(id, pool(range(20))))
        gc.collect()
        alive = [one for one in gc.get_objects() if isinstance(one, workers.Multiplier) and id(one) not in before]
        assert len(seen) == 20
        assert alive == []
