"""Inputs of all kinds: that raise, lie about their length, block, fork, use the pool, or are another pool's results."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import sys

import psutil
import pytest

from mtasklite import Pool, PoolClosedError
from mtasklite.processes import pqdm
from mtasklite.tests import workers
from mtasklite.tests.programs import by_speed
from mtasklite.tests.workers import everyone, wait_until


@pytest.fixture(params=by_speed(workers.ALL))
def pool_kwargs(request):
    """Arguments that choose where a pool works."""
    return dict(workers.ALL[request.param])


@pytest.fixture(params=by_speed(workers.PROCESSES))
def process_kwargs(request):
    """As `pool_kwargs`, where there are two processes."""
    return dict(workers.PROCESSES[request.param])


class AbortError(BaseException):
    """What nobody expects."""


def _take(results):
    """Return all results, and what is raised after them; without `list`, which asks for the length."""
    taken = []
    try:
        for result in results:
            taken.append(result)
    except BaseException as error:
        return taken, error
    return taken, None


# ---- that raise


@pytest.mark.parametrize("options", [{"bounded": False}, {"is_unordered": True}, {"chunk_size": 3}], ids=str)
def test_input_that_raises_does_so_after_its_results_with_any_options(pool_kwargs, options):
    """Whatever the order and the window, all results of what was read come before the input's exception."""
    error = LookupError("the file is broken")
    taken, caught = _take(Pool(workers.square, **options, **pool_kwargs)(workers.raise_after(7, error)))
    assert caught is error
    assert sorted(taken) == [item * item for item in range(7)]


@pytest.mark.parametrize("error_type", [KeyboardInterrupt, SystemExit, GeneratorExit, AbortError])
@pytest.mark.parametrize("is_entered", [False, True])
def test_input_that_raises_what_is_no_exception_ends_the_iteration(pool_kwargs, error_type, is_entered):
    """A `sys.exit` or Ctrl-C in the input comes through as itself, after results in order; all is gone then."""
    before = everyone()
    error = error_type("of the input")
    with Pool(workers.square, **pool_kwargs) if is_entered else contextlib.nullcontext() as pool:
        pool = pool or Pool(workers.square, **pool_kwargs)
        taken, caught = _take(pool(workers.raise_after(7, error)))
        assert caught is error
        assert taken == [item * item for item in range(len(taken))]
        wait_until(lambda: is_entered or everyone() == before)
        assert list(pool([3])) == [9]
    wait_until(lambda: everyone() == before)


def test_input_that_raises_at_once_gives_no_result(pool_kwargs):
    """An input that raises before its first item leaves nothing but its exception."""
    before = everyone()
    error = LookupError("no first item")
    assert _take(Pool(workers.square, **pool_kwargs)(workers.raise_after(0, error))) == ([], error)
    assert everyone() == before


# ---- that are slow


def test_result_waits_for_no_second_read_of_a_slow_input(process_kwargs, tmp_path):
    """A result that was ready before a read began is handed out before that read."""
    handed_out = []
    seen_at_read = []

    def items():
        yield "0"
        for number in range(1, 5):
            seen_at_read.append(len(handed_out))
            workers.wait_until(lambda number=number: _is_answered(tmp_path, number - 1))
            yield f"{number}"

    for result in Pool(workers.tell_pid, argument_type="args", **process_kwargs)((item, tmp_path) for item in items()):
        handed_out.append(result)
    assert handed_out == ["0", "1", "2", "3", "4"]
    # At the read of item 1 none could be there; at that of item 2 the result of item 0, and so on.
    assert all(n_seen >= number for number, n_seen in enumerate(seen_at_read))


def _is_answered(folder, number, looks=20):
    """Whether the worker that had an item sleeps again, for it has sent the result and waits."""
    for mark in folder.glob(f"{number}-*"):
        worker = psutil.Process(int(mark.name.partition("-")[2]))
        return all(worker.status() == psutil.STATUS_SLEEPING for _ in range(looks) if not workers.nap(0, 0.002))
    return False


class SlowToPack:
    """Takes its time when it is sent, not when it is made."""

    def __init__(self, item):
        self.item = item

    def __reduce__(self):
        return int, (workers.nap(self.item, 0.005),)


def test_reading_ahead_counts_the_time_that_results_take_to_be_sent(process_kwargs):
    """About 20 ms of work for each worker are read ahead, whether calls take the time or what comes after them."""
    source = workers.Source(range(300))
    source.consume(Pool(SlowToPack, **process_kwargs)(source))
    assert source.most_ahead <= 100


# ---- that have a length, or not


class Lying:
    """Three items, and another length."""

    def __init__(self, length):
        self.length = length

    def __iter__(self):
        return iter([1, 2, 3])

    def __len__(self):
        if isinstance(self.length, Exception):
            raise self.length
        return self.length


class Hinting(Lying):
    __len__ = None

    def __length_hint__(self):
        raise self.length


LENGTHS = [0, 1, 100, sys.maxsize, -1, ValueError("no length"), LookupError("no length")]


@pytest.mark.parametrize("length", LENGTHS, ids=repr)
@pytest.mark.parametrize("bounded", [False, True])
def test_length_of_the_input_is_believed_by_nobody(pool_kwargs, length, bounded):
    """The results are those of the items, however long the input says that it is."""
    assert _take(Pool(workers.square, bounded=bounded, **pool_kwargs)(Lying(length))) == ([1, 4, 9], None)


@pytest.mark.parametrize("length", [0, 1, 100], ids=repr)
def test_bar_of_a_lying_input_ends(length, capsys):
    """A bar with a wrong total gives all results, and ends."""
    assert list(pqdm(Lying(length), abs, 2)) == [1, 2, 3]
    capsys.readouterr()


def test_length_hint_that_raises_is_not_asked():
    """An input may have a `__length_hint__` that raises."""
    assert list(Pool(abs, 2, use_threads=True)(Hinting(ValueError("no hint")))) == [1, 2, 3]


def test_length_of_a_vast_input_costs_nothing(pool_kwargs):
    """A `range` of any size is read as it is needed."""
    with Pool(workers.square, **pool_kwargs)(range(10**12)) as results:
        assert len(results) == 10**12
        assert [next(results) for _ in range(3)] == [0, 1, 4]


class OldStyle:
    """An iterable of before there were iterators."""

    def __getitem__(self, index):
        if index > 3:
            raise IndexError
        return index


def test_input_may_have_indices_only(pool_kwargs):
    """What `iter` takes is an input, by `__getitem__` alone too."""
    assert list(Pool(workers.square, **pool_kwargs)(OldStyle())) == [0, 1, 4, 9]


# ---- whose they are


def test_input_that_is_an_iterator_goes_on_in_the_next_call(pool_kwargs):
    """An iterator is used up by one call; an iterable begins anew in each."""
    with Pool(workers.square, **pool_kwargs) as pool:
        for items, expected in [(iter([1, 2]), []), ([1, 2], [1, 4])]:
            assert list(pool(items)) == [1, 4]
            assert list(pool(items)) == expected


def test_input_is_begun_once(pool_kwargs):
    """`iter` is called once for each iteration, in the first `next()`."""

    class Counting(list):
        n_begun = 0

        def __iter__(self):
            self.n_begun += 1
            return super().__iter__()

    items = Counting([1, 2, 3])
    results = Pool(workers.square, **pool_kwargs)(items)
    assert items.n_begun == 0
    assert list(results) == [1, 4, 9]
    assert items.n_begun == 1


def _count(log):
    try:
        yield from itertools.count()
    finally:
        log.append("closed")


@pytest.mark.parametrize("end", ["break", "close", "drop"])
@pytest.mark.parametrize("is_entered", [False, True])
def test_generator_that_is_given_away_is_closed_at_the_end(pool_kwargs, end, is_entered):
    """As with `map`, a generator that nobody else holds runs its `finally` when the iteration is broken off."""
    log = []
    with Pool(workers.square, **pool_kwargs) if is_entered else contextlib.nullcontext() as pool:
        results = (pool or Pool(workers.square, **pool_kwargs))(_count(log))
        for _ in results:
            break
        if end == "close":
            results.close()
        del results
        gc.collect()
        assert log == ["closed"]


def test_generator_that_is_kept_is_not_closed_by_the_pool(pool_kwargs):
    """As with `map`, a generator that its owner holds on to is the owner's to go on with."""
    log = []
    items = _count(log)
    with Pool(workers.square, **pool_kwargs)(items) as results:
        assert next(results) == 0
    gc.collect()
    assert log == []
    assert next(items) >= 1
    items.close()


# ---- that use the pool


@pytest.mark.parametrize(
    "use",
    [
        lambda pool, results: next(results),
        lambda pool, results: results.close(),
        lambda pool, results: list(pool([1])),
        lambda pool, results: pool.__exit__(None, None, None),
    ],
    ids=["next", "close", "second_iteration", "exit"],
)
@pytest.mark.parametrize("is_entered", [False, True])
def test_input_that_uses_its_own_iteration_is_a_clear_error(pool_kwargs, use, is_entered):
    """An input that reaches for the iteration that reads it fails with an error, not with a hang."""
    before = everyone()
    pool = Pool(workers.square, **pool_kwargs)
    if is_entered:
        pool.__enter__()

    def items():
        yield 1
        use(pool, results)
        yield 2

    results = pool(items())
    taken, error = _take(results)
    assert taken == [1, 4][: len(taken)]
    assert isinstance(error, (ValueError, RuntimeError, PoolClosedError))
    pool.__exit__(None, None, None)
    del error
    assert everyone() == before


# ---- that start processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_input_may_fork(pool_kwargs):
    """A child that the input forks, and that ends by `os._exit`, takes nothing along."""

    def items():
        for number in range(20):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            yield number

    assert list(Pool(workers.square, **pool_kwargs)(items())) == [item * item for item in range(20)]


def test_input_may_start_programs(pool_kwargs):
    """An input may be what other programs print."""

    def items():
        for number in range(5):
            yield subprocess.run([sys.executable, "-Ic", f"print({number})"], capture_output=True, check=True).stdout

    assert list(Pool(workers.identity, **pool_kwargs)(items())) == [b"%d\n" % number for number in range(5)]


def test_slow_input_and_slow_items_take_their_time_together(parallel_kwargs, tmp_path):
    """While all workers are at an item, the next one is read: here they wait until its reading has begun."""
    mark = tmp_path / "third_read"

    def items():
        for number in range(6):
            if number == 2:
                mark.touch()
            yield number, mark

    pool = Pool(workers.wait_for_mark, argument_type="args", **parallel_kwargs)
    assert list(pool(items())) == list(range(6))
