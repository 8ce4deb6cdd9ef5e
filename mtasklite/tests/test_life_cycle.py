"""The life of pools, workers and iterators: when they start, when they end, and that nothing is left of them."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
import textwrap
import threading
import time
from contextlib import suppress
from functools import partial

import pytest

from mtasklite import Pool, PoolClosedError
from mtasklite.tests import workers
from mtasklite.tests.workers import PARALLEL, PROCESSES, everyone

# ---- the start


def test_workers_start_on_entering_with(parallel_kwargs):
    """Entering the `with` block starts all workers; leaving it ends them."""
    before = everyone()
    with Pool(workers.square, **parallel_kwargs):
        assert len(everyone() - before) == 2
    assert everyone() == before


def test_workers_start_at_the_first_next_without_with(parallel_kwargs):
    """Without `with`, neither making a pool nor calling it starts anything; the first `next()` does."""
    before = everyone()
    results = Pool(workers.square, **parallel_kwargs)(itertools.count())
    assert everyone() == before
    next(results)
    assert len(everyone() - before) == 2
    results.close()
    assert everyone() == before


def test_wrong_worker_starts_nothing(parallel_kwargs):
    """A call with what is no input raises before anything starts."""
    before = everyone()
    with pytest.raises(TypeError):
        Pool(workers.square, **parallel_kwargs)(5)
    assert everyone() == before


# ---- the iterator


@pytest.mark.parametrize("sized", [[], [1, 2, 3], range(10), {"a": 1}, "text"], ids=repr)
def test_len_is_that_of_a_sized_input(sized):
    """The iterator has the length of its input."""
    assert len(Pool(abs, 2)(sized)) == len(sized)


def test_len_of_unsized_input_raises():
    """The iterator over an input without a length has none."""
    with pytest.raises(TypeError, match="length"):
        len(Pool(abs, 2)(iter([1, 2])))


def test_parent_obj_is_the_pool():
    """The iterator knows its pool."""
    pool = Pool(abs, 2)
    assert pool([1]).parent_obj is pool


def test_iterator_mixes_next_and_for(pool_kwargs):
    """`next()` and `for` go on where the other one stopped."""
    results = Pool(workers.square, **pool_kwargs)(range(6))
    assert next(results) == 0
    assert next(iter(results)) == 1
    assert [result for result in results] == [4, 9, 16, 25]  # noqa: C416
    assert next(results, "the end") == "the end"


def test_iterator_as_context_manager_ends_the_workers(pool_kwargs):
    """Leaving an iterator's `with` block ends what it started."""
    before = everyone()
    with Pool(workers.square, **pool_kwargs)(itertools.count()) as results:
        assert next(results) == 0
    assert everyone() == before


@pytest.mark.parametrize("n_taken", [0, 1])
def test_iterator_that_was_closed_before_its_end_says_so(pool_kwargs, n_taken):
    """What was cut short does not pass for what was exhausted: asking for more is `PoolClosedError`."""
    with Pool(workers.square, **pool_kwargs)(itertools.count()) as results:
        assert [next(results) for _ in range(n_taken)] == [0] * n_taken
    with pytest.raises(PoolClosedError, match="closed"):
        list(results)


def test_iterator_that_is_closed_after_its_end_is_exhausted(pool_kwargs):
    """Closing changes nothing for an iterator that has handed out everything."""
    with Pool(workers.square, **pool_kwargs)(range(2)) as results:
        assert list(results) == [0, 1]
    assert list(results) == []


def test_iterator_as_context_manager_leaves_an_entered_pool_open(pool_kwargs):
    """Inside a pool's `with`, leaving an iterator's block ends that iteration only."""
    with Pool(workers.square, **pool_kwargs) as pool:
        with pool(itertools.count()) as results:
            next(results)
        assert not pool.exited
        assert list(pool([3])) == [9]


# ---- the pool


def test_exited_is_true_only_after_the_block(pool_kwargs):
    """`exited` turns True when the `with` block is left, not before."""
    pool = Pool(workers.square, **pool_kwargs)
    assert pool.exited is False
    with pool as entered:
        assert entered is pool
        list(pool(range(3)))
        assert pool.exited is False
    assert pool.exited is True


def test_exited_is_true_after_an_error_in_the_block(pool_kwargs):
    """An error in the block comes through, and the pool is closed."""
    before = everyone()
    pool = Pool(workers.square, **pool_kwargs)
    with pytest.raises(LookupError, match="mine"), pool:
        _fail(pool(itertools.count()), LookupError("mine"))
    assert pool.exited is True
    assert everyone() == before


def test_pool_is_called_again_inside_with(pool_kwargs):
    """Inside `with` one input after another goes through the same workers."""
    before = everyone()
    with Pool(workers.square, **pool_kwargs) as pool:
        running = everyone()
        for count in (5, 0, 1, 30):
            assert list(pool(range(count))) == [item * item for item in range(count)]
            assert everyone() == running
    assert everyone() == before


def test_pool_is_called_again_without_with(pool_kwargs):
    """Without `with` a pool can be called again, with new workers each time."""
    before = everyone()
    pool = Pool(workers.square, **pool_kwargs)
    for _ in range(2):
        assert list(pool(range(5))) == [0, 1, 4, 9, 16]
        assert everyone() == before
    assert pool.exited is False


def test_pool_is_usable_after_an_exception(pool_kwargs):
    """Inside `with`, an iteration that ended with a worker's exception does no harm to the next."""
    with Pool(workers.fail_on_odd, **pool_kwargs) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match="odd"):
                list(pool(range(20)))
            assert list(pool(range(0, 20, 2))) == list(range(0, 20, 2))


def test_pool_is_usable_after_an_input_that_raised(pool_kwargs):
    """Inside `with`, an input that raises does no harm to the next."""
    with Pool(workers.square, **pool_kwargs) as pool:
        with pytest.raises(LookupError):
            list(pool(workers.raise_after(5, LookupError("input"))))
        assert list(pool([2])) == [4]


@pytest.mark.parametrize("use", [lambda pool: pool([1]), lambda pool: pool.__enter__()], ids=["call", "enter"])
def test_pool_raises_after_its_block(pool_kwargs, use):
    """A pool whose block was left can be neither called nor entered."""
    with Pool(workers.square, **pool_kwargs) as pool:
        pass
    with pytest.raises(PoolClosedError):
        use(pool)


@pytest.mark.parametrize("is_begun", [False, True], ids=["untouched", "half_way"])
def test_iterator_raises_after_its_pools_block(pool_kwargs, is_begun):
    """Iterating on after the block was left is a `PoolClosedError`, not a hang or a silent end."""
    with Pool(workers.square, **pool_kwargs) as pool:
        results = pool(itertools.count())
        if is_begun:
            next(results)
    with pytest.raises(PoolClosedError):
        workers.Source([]).consume(results)


def test_iterator_that_was_exhausted_stays_so_after_the_block(pool_kwargs):
    """An iterator at its end says so, whatever became of its pool."""
    with Pool(workers.square, **pool_kwargs) as pool:
        results = pool([1])
        assert list(results) == [1]
    assert list(results) == []


# ---- one iteration at a time


def test_second_iteration_while_one_runs_is_an_error(pool_kwargs):
    """While an iteration runs, a second call is an error that says what to do, and the first goes on."""
    with Pool(workers.square, **pool_kwargs) as pool:
        results = pool(range(50))
        taken = [next(results)]
        with pytest.raises(RuntimeError, match="under way"):
            pool([1])
        taken.extend(results)
        assert taken == [item * item for item in range(50)]
        assert list(pool([3])) == [9]


def test_second_iterator_made_before_is_an_error_when_it_begins(pool_kwargs):
    """Two iterators may be made; while one runs, the other cannot begin; after it, it can."""
    pool = Pool(workers.square, **pool_kwargs)
    first, second = pool(range(5)), pool(range(2))
    next(first)
    with pytest.raises(RuntimeError, match="under way"):
        next(second)
    first.close()
    assert list(pool(range(2))) == [0, 1]


@pytest.mark.parametrize("is_unordered", [False, True])
def test_abandoned_iterator_leaves_nothing_to_the_next(pool_kwargs, is_unordered):
    """Late results of an iterator that was dropped half-way never reach the next."""
    with Pool(workers.identity, is_unordered=is_unordered, **pool_kwargs) as pool:
        for number in range(20):
            abandoned = pool((number, "abandoned") for _ in itertools.count())
            for _ in range(number):
                next(abandoned)
            del abandoned
            results = list(pool((number, item) for item in range(7)))
            assert sorted(results) == [(number, item) for item in range(7)]


@pytest.mark.parametrize("is_unordered", [False, True])
def test_abandoned_item_that_is_still_running_is_dropped(parallel_kwargs, is_unordered, tmp_path):
    """While a worker is busy with an abandoned item the others do the next input, and its late result is dropped."""
    worker = partial(workers.touch_and_wait_for, folder=tmp_path)
    with Pool(worker, is_unordered=is_unordered, chunk_size=1, **parallel_kwargs) as pool:
        abandoned = pool([("quick", "slow"), ("slow", "go")])
        assert next(abandoned) == "quick"
        abandoned.close()
        assert sorted(pool([("a", None), ("b", None), ("c", None)])) == ["a", "b", "c"]
        (tmp_path / "go").touch()
        for _ in range(5):
            assert sorted(pool([("d", None), ("e", None)])) == ["d", "e"]


# ---- the end


def _break(results):
    for _ in results:
        break


def _collect(results):
    next(results)


def _collect_a_cycle(results):
    next(results)
    cycle = [results]
    cycle.append(cycle)


def _close(results):
    next(results)
    results.close()


def _fail(results, error=None):
    for _ in results:
        raise error or LookupError("of the consumer")


@pytest.mark.parametrize("use", [_break, _collect, _collect_a_cycle, _close, _fail])
def test_unfinished_iterator_leaves_nothing(pool_kwargs, use):
    """Without `with`, nothing is left after a break, a close, a collection, or an exception of the consumer."""
    before = everyone()
    with suppress(LookupError):
        use(Pool(workers.square, **pool_kwargs)(itertools.count()))
    gc.collect()
    assert everyone() == before


def test_exhausted_iterator_leaves_nothing(pool_kwargs):
    """The workers are gone when the last result was taken and there is no more."""
    before = everyone()
    results = Pool(workers.square, **pool_kwargs)(range(5))
    list(results)
    assert everyone() == before


def test_failed_iterator_leaves_nothing(pool_kwargs):
    """The workers are gone when a worker's exception was raised."""
    before = everyone()
    with pytest.raises(ValueError, match="odd"):
        list(Pool(workers.fail_on_odd, **pool_kwargs)(itertools.count()))
    assert everyone() == before


def test_entered_pool_that_is_dropped_leaves_nothing(pool_kwargs):
    """A pool that was entered, and is collected without having been left, takes its workers along."""
    before = everyone()
    pool = Pool(workers.square, **pool_kwargs)
    pool.__enter__()
    list(pool(range(5)))
    del pool
    gc.collect()
    workers.wait_until(lambda: everyone() == before, seconds=10)


def test_closing_waits_for_running_items(parallel_kwargs, tmp_path):
    """Without `join_timeout` closing lets each item that was started be finished."""
    with Pool(partial(workers.touch_late, folder=tmp_path), **parallel_kwargs) as pool:
        results = pool(range(4))
        next(results)
    names = os.listdir(tmp_path)
    started = {name.partition("-")[2] for name in names if name.startswith("started")}
    ended = {name.partition("-")[2] for name in names if name.startswith("ended")}
    assert started == ended


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("is_entered", [False, True])
def test_closing_waits_no_longer_than_join_timeout(parallel_kwargs, is_entered, tmp_path):
    """After `join_timeout` seconds a worker that is stuck is ended (a thread: abandoned)."""
    worker = partial(workers.be_stuck_once, folder=tmp_path)
    pool = Pool(worker, join_timeout=0.2, is_unordered=True, chunk_size=1, **parallel_kwargs)
    items = ["stuck", "quick"]
    with pool if is_entered else pool(items) as entered:
        assert next(pool(items) if is_entered else entered) == "quick"
        started_at = time.monotonic()
    assert time.monotonic() - started_at < workers.LIMIT_SECONDS / 2


@pytest.mark.usefixtures("gate")
def test_interrupt_does_not_wait_for_running_items(parallel_kwargs, tmp_path):
    """A KeyboardInterrupt in the block ends the workers at once, though one is stuck and there is no limit."""
    worker = partial(workers.be_stuck_once, folder=tmp_path)
    started_at = time.monotonic()
    pool = Pool(worker, is_unordered=True, chunk_size=1, **parallel_kwargs)
    with pytest.raises(KeyboardInterrupt), pool:
        _fail(pool(["stuck", "quick"]), KeyboardInterrupt())
    assert time.monotonic() - started_at < workers.LIMIT_SECONDS / 2


# ---- several threads, several pools


def test_pool_works_in_a_thread_that_is_not_main(pool_kwargs):
    """A pool can be made, used and closed in any thread."""
    taken = []

    def work():
        with Pool(workers.square, **pool_kwargs) as pool:
            taken.extend(pool(range(20)))
        taken.extend(Pool(workers.square, **pool_kwargs)([9]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert taken == [*(item * item for item in range(20)), 81]


def test_pool_moves_to_another_thread(pool_kwargs):
    """A pool entered in one thread can be used in another, and again in the first."""
    taken = []
    with Pool(workers.square, **pool_kwargs) as pool:
        taken.extend(pool([1]))
        thread = threading.Thread(target=lambda: taken.extend(pool([2])))
        thread.start()
        thread.join()
        taken.extend(pool([3]))
    assert taken == [1, 4, 9]


def test_pools_work_in_several_threads_at_once(pool_kwargs):
    """Pools of several threads start, work and end at the same time, and none harms another."""
    barrier = threading.Barrier(4)
    # Often, for what there is to fear are races between one pool's fork and another one's end.
    n_rounds = 3 if pool_kwargs.get("start_method") in ("spawn", "forkserver") else 60
    taken = {}

    def work(number):
        barrier.wait(workers.LIMIT_SECONDS)
        for _ in range(n_rounds):
            results = Pool(workers.Multiplier(number), **pool_kwargs)(range(30))
            taken.setdefault(number, []).append(list(results))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == {number: [[number * item for item in range(30)]] * n_rounds for number in range(4)}


def test_pools_are_used_in_turn(pool_kwargs):
    """Two pools can be iterated over in step."""
    with Pool(workers.square, **pool_kwargs) as squares, Pool(workers.Multiplier(2), **pool_kwargs) as doubles:
        assert list(zip(squares(range(20)), doubles(range(20)))) == [(item * item, 2 * item) for item in range(20)]


def test_pools_are_chained(pool_kwargs):
    """One pool's results can be another one's input."""
    results = Pool(workers.Multiplier(3), **pool_kwargs)(Pool(workers.square, **pool_kwargs)(range(20)))
    assert list(results) == [3 * item * item for item in range(20)]


def test_older_pool_ends_first(pool_kwargs):
    """A pool can be closed while the workers of a younger one, which may hold copies of its pipes, live on."""
    older = Pool(workers.square, **pool_kwargs)
    older.__enter__()
    with Pool(workers.square, **pool_kwargs) as younger:
        list(older([1]))
        older.__exit__(None, None, None)
        assert list(younger([3])) == [9]


def test_worker_uses_a_pool_of_its_own(pool_kwargs):
    """Workers may have workers."""
    results = list(Pool(workers.map_in_a_pool, task_timeout=20, join_timeout=1, **pool_kwargs)([[1, 2], [3], []]))
    assert results == [[1, 4], [9], []]


# ---- the end of the interpreter

SCRIPT = """
import itertools, os, signal, sys, time
from mtasklite import Pool
from mtasklite.tests import workers

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
if __name__ == "__main__":
    pool = Pool({worker}, **{kwargs!r})
    {enter}
    results = pool({input})
    pids = {{pid for pid, _ in itertools.islice(results, 30)}}
    print(*sorted(pids - {{os.getpid()}}), flush=True)
    {then}
"""


@pytest.fixture
def script(tmp_path):
    """Write the script above with its gaps filled, and return its path."""

    def write(kwargs, then="", is_entered=False, worker="workers.where", items="itertools.count()"):
        enter = "pool.__enter__()" if is_entered else ""
        path = tmp_path / "script.py"
        text = SCRIPT.format(worker=worker, kwargs=kwargs, enter=enter, input=items, then=then)
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def wait_for_end_of(pids):
    assert pids
    workers.wait_until(lambda: all(map(workers.is_gone, pids)), seconds=10)


@pytest.mark.parametrize("is_entered", [False, True])
def test_interpreter_exits_with_an_open_iterator(pool_kwargs, is_entered, script):
    """At interpreter exit an iterator that is open, in an open pool or not, leaves no process and no complaint."""
    out = workers.run_python(script(pool_kwargs, is_entered=is_entered))
    pids = [int(pid) for pid in out.split()]
    if "start_method" in pool_kwargs:
        wait_for_end_of(pids)


@pytest.mark.parametrize("end", ["sys.exit()", "raise SystemExit", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_interpreter_ends_otherwise_with_an_open_iterator(end, script):
    """However the parent ends, its workers end too."""
    with workers.start_python(script(PROCESSES["fork"], then=end)) as process:
        out, err = process.communicate(timeout=workers.LIMIT_SECONDS)
    assert err == ""
    wait_for_end_of([int(pid) for pid in out.split()])


@pytest.mark.skipif(sys.platform == "win32", reason="the platform has no SIGKILL")
@pytest.mark.parametrize("is_busy", [False, True])
@pytest.mark.parametrize("method", list(PROCESSES))
def test_killed_parent_leaves_no_worker(method, is_busy, script):
    """After the parent was killed with SIGKILL the workers end by themselves, busy or not."""
    kwargs = {**PROCESSES[method], "chunk_size": 1, "is_unordered": True}
    items = "itertools.chain([0] * 30, itertools.repeat(60))" if is_busy else "itertools.repeat(0, 10000)"
    path = script(kwargs, then="time.sleep(60)", worker="workers.nap_and_tell", items=items)
    with workers.start_python(path) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    wait_for_end_of(pids)


@pytest.mark.skipif(sys.platform == "win32", reason="the platform has no process groups")
@pytest.mark.parametrize("kind", list(PARALLEL))
def test_one_interrupt_ends_everything(kind, script):
    """One Ctrl-C, which all processes of the terminal get, ends everything with one traceback."""
    kwargs = {**PARALLEL[kind], "is_unordered": True, "chunk_size": 1}
    items = "itertools.chain([0] * 30, itertools.repeat(60))"
    path = script(kwargs, then="list(results)", worker="workers.nap_and_tell", items=items)
    with workers.start_python(path) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=workers.LIMIT_SECONDS / 2)
    assert process.returncode != 0
    assert err.count("Traceback (most recent call last)") == 1
    assert "KeyboardInterrupt" in err
    if kind != "threads":
        wait_for_end_of(pids)
