"""The contract of `Pool` and `delayed_init`: one suite over inline, threads, and processes under each start method."""

from __future__ import annotations

import inspect
import itertools
import os
import threading
import time
from functools import partial

import pytest

from mtasklite import (
    ArgumentPassing,
    DeferredExceptions,
    ExceptionBehaviour,
    MtaskliteError,
    Pool,
    RemoteError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerInitError,
    delayed_init,
    is_exception,
)
from mtasklite.delayed_init import ShellObject
from mtasklite.tests import workers
from mtasklite.tests.workers import ALL, PROCESSES

MODES = ["immediate", "ignore", "deferred"]


def take_until_error(results):
    """Return all results that come, and what is raised after them."""
    taken = []
    try:
        for result in results:
            taken.append(result)
    except Exception as error:
        return taken, error
    return taken, None


def failures_of(results):
    return {index: result for index, result in enumerate(results) if is_exception(result)}


# ---- what the arguments are


def test_signature_of_pool_is_that_of_the_contract():
    """`Pool` takes the published arguments in the published order, and the new ones by keyword only."""
    parameters = inspect.signature(Pool).parameters
    by_position = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    by_keyword = {name: parameter.default for name, parameter in parameters.items() if name not in by_position}
    assert list(by_position.items()) == [
        ("worker_or_worker_arr", inspect.Parameter.empty),
        ("n_jobs", None),
        ("argument_type", "single_arg"),
        ("exception_behavior", "immediate"),
        ("bounded", True),
        ("chunk_size", None),
        ("chunk_prefill_ratio", None),
        ("is_unordered", False),
        ("use_threads", False),
        ("task_timeout", None),
        ("join_timeout", None),
    ]
    new = {"retries": 0, "max_tasks_per_child": None, "start_method": None, "backend": None}
    assert {name: by_keyword[name] for name in new} == new


def test_all_arguments_by_position_are_taken():
    """A pool can be made with all published arguments by position."""
    pool = Pool(workers.add, 2, "args", "ignore", False, 4, 2, True, True, 30.0, 30.0)
    assert sorted(pool([(1, 2), (3, 4)])) == [3, 7]


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"worker_or_worker_arr": 5}, TypeError, "worker_or_worker_arr"),
        ({"worker_or_worker_arr": []}, ValueError, "worker_or_worker_arr"),
        ({"worker_or_worker_arr": [abs, None]}, TypeError, "worker_or_worker_arr"),
        ({"worker_or_worker_arr": workers.AddTo}, TypeError, r"AddTo\(\.\.\.\)"),
        ({"worker_or_worker_arr": [workers.AddTo]}, TypeError, r"AddTo\(\.\.\.\)"),
        ({"n_jobs": "many"}, TypeError, "`n_jobs` must be an integer but got: 'many'"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs"),
        ({"n_jobs": True}, TypeError, "n_jobs"),
        ({"worker_or_worker_arr": [abs, abs], "n_jobs": 3}, ValueError, "n_jobs"),
        ({"argument_type": "star"}, ValueError, "argument_type"),
        ({"argument_type": None}, ValueError, "argument_type"),
        ({"exception_behavior": "shrug"}, ValueError, "exception_behavior"),
        ({"exception_behaviour": "shrug"}, ValueError, "exception_behaviour"),
        ({"exception_behavior": "ignore", "exception_behaviour": "ignore"}, TypeError, "same argument"),
        ({"bounded": "yes"}, TypeError, "bounded"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
        ({"chunk_size": "big"}, TypeError, "chunk_size"),
        ({"chunk_prefill_ratio": 0}, ValueError, "chunk_prefill_ratio"),
        ({"chunk_prefill_ratio": "2"}, TypeError, "chunk_prefill_ratio"),
        ({"is_unordered": "no"}, TypeError, "is_unordered"),
        ({"use_threads": "no"}, TypeError, "use_threads"),
        ({"use_threads": True, "backend": "processes"}, ValueError, "use_threads"),
        ({"task_timeout": 0}, ValueError, "task_timeout"),
        ({"task_timeout": "1"}, TypeError, "task_timeout"),
        ({"task_timeout": float("nan")}, ValueError, "task_timeout"),
        ({"join_timeout": -1}, ValueError, "join_timeout"),
        ({"join_timeout": "1"}, TypeError, "join_timeout"),
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": 0.5}, TypeError, "retries"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child"),
        ({"max_tasks_per_child": "2"}, TypeError, "max_tasks_per_child"),
        ({"start_method": "teleport"}, ValueError, "start_method"),
        ({"start_method": "spawn", "use_threads": True}, ValueError, "start_method"),
        ({"backend": "cluster"}, ValueError, "backend"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_argument_raises_from_the_constructor(kwargs, error, text):
    """A wrong argument is a `TypeError` or `ValueError` that names it, raised by the constructor."""
    with pytest.raises(error, match=text):
        Pool(**{"worker_or_worker_arr": abs, **kwargs})


@pytest.mark.parametrize("not_iterable", [5, None, abs])
def test_call_with_what_is_not_iterable_raises_at_once(not_iterable):
    """Calling a pool with what cannot be iterated over is a `TypeError` from the call."""
    with pytest.raises(TypeError, match="iterable"):
        Pool(abs, 2)(not_iterable)


# ---- how many workers


@pytest.mark.parametrize(("n_jobs", "count"), [(1, 1), (2, 2), (7, 7), (0, 1), (-1000, 1)])
def test_num_workers_is_what_n_jobs_says(n_jobs, count):
    """`num_workers` is `n_jobs`; 0, and fewer than there are, count as 1."""
    num_workers = Pool(abs, n_jobs).num_workers
    assert (type(num_workers), num_workers) == (int, count)


def test_num_workers_of_negative_n_jobs_counts_from_all_cpus():
    """-1 is all CPUs, as is None; -2 is all but one."""
    all_cpus = Pool(abs).num_workers
    assert all_cpus >= 1
    assert Pool(abs, -1).num_workers == all_cpus
    assert Pool(abs, -2).num_workers == max(1, all_cpus - 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the platform has no affinity")
def test_num_workers_respects_affinity():
    """With `n_jobs` left out there are no more workers than CPUs that this process may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert Pool(abs).num_workers == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("n_jobs", [None, 3])
@pytest.mark.parametrize("kind", [list, tuple])
def test_num_workers_is_the_length_of_a_list(n_jobs, kind):
    """With a list of workers, `n_jobs` may be left out or equal its length."""
    assert Pool(kind([abs, abs, abs]), n_jobs).num_workers == 3


@pytest.mark.parametrize("n_jobs", [0, 1])
@pytest.mark.parametrize("use_threads", [False, True])
def test_one_job_runs_in_the_calling_thread(n_jobs, use_threads):
    """With one worker everything runs in the calling thread."""
    pool = Pool(workers.where, n_jobs, use_threads=use_threads)
    assert set(pool(range(3))) == {(os.getpid(), threading.get_ident())}


def test_list_of_one_runs_in_the_calling_thread():
    """A list of one worker is one worker."""
    assert list(Pool([workers.where])([0])) == [workers.where(0)]


@pytest.mark.parametrize("asked_for", [{"task_timeout": 60}, {"max_tasks_per_child": 10}])
def test_one_job_gets_a_process_if_something_needs_it(asked_for):
    """With one worker and `task_timeout` or `max_tasks_per_child` the work is done in a process."""
    (place,) = Pool(workers.where, 1, **asked_for)([0])
    assert place[0] != os.getpid()


@pytest.mark.parametrize("threads", [{"use_threads": True}, {"backend": "threads"}])
def test_threads_run_in_this_process(threads):
    """`use_threads=True`, and so `backend='threads'`, means other threads of this process."""
    places = set(Pool(workers.where, 2, **threads)(range(20)))
    assert {pid for pid, _ in places} == {os.getpid()}
    assert threading.get_ident() not in {ident for _, ident in places}


@pytest.mark.parametrize("processes", [{}, {"backend": "processes"}, *PROCESSES.values()])
def test_processes_run_in_other_processes(processes):
    """Without `use_threads` the work is done in other processes."""
    assert os.getpid() not in {pid for pid, _ in Pool(workers.where, **{"n_jobs": 2, **processes})(range(20))}


# ---- what comes out


@pytest.mark.parametrize("is_unordered", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 3])
@pytest.mark.parametrize("make_input", [list, iter], ids=["sized", "unsized"])
def test_results_are_those_of_map(pool_kwargs, is_unordered, bounded, chunk_size, make_input, n_elem):
    """A pool gives what `map` gives, in that order unless `is_unordered`."""
    pool = Pool(workers.square, is_unordered=is_unordered, bounded=bounded, chunk_size=chunk_size, **pool_kwargs)
    results = list(pool(make_input(list(range(n_elem)))))
    expected = [item * item for item in range(n_elem)]
    assert (sorted(results) if is_unordered else results) == expected


@pytest.mark.parametrize("is_unordered", [False, True])
def test_results_of_empty_input_are_none(pool_kwargs, is_unordered):
    """An empty input gives no result and no error."""
    assert list(Pool(workers.square, is_unordered=is_unordered, **pool_kwargs)([])) == []


def test_results_of_many_items_are_in_order(pool_kwargs):
    """Batches that grow change no order."""
    assert list(Pool(workers.square, **pool_kwargs)(range(3000))) == [item * item for item in range(3000)]


@pytest.mark.parametrize(
    "value",
    [None, StopIteration, ValueError("a value"), float("inf"), b"x" * (1 << 20)],
    ids=["none", "class", "exception", "infinity", "megabyte"],
)
def test_results_may_be_any_value(pool_kwargs, value):
    """A value that is returned, an exception too, is a result like any other."""
    results = list(Pool(workers.identity, **pool_kwargs)([value] * 3))
    assert [repr(result) for result in results] == [repr(value)] * 3


def test_unordered_hands_out_what_is_finished_first(parallel_kwargs, tmp_path):
    """With `is_unordered` a slow first item holds nothing up."""
    pool = Pool(
        partial(workers.touch_and_wait_for, folder=tmp_path), is_unordered=True, chunk_size=1, **parallel_kwargs
    )
    results = pool([("slow", "go"), ("quick", None)])
    assert next(results) == "quick"
    (tmp_path / "go").touch()
    assert list(results) == ["slow"]


def test_ordered_waits_for_the_first_item(parallel_kwargs, tmp_path):
    """In input order a result that is ready waits for those before it."""
    pool = Pool(partial(workers.touch_and_wait_for, folder=tmp_path), chunk_size=1, **parallel_kwargs)
    assert list(pool([("first", "second"), ("second", None)])) == ["first", "second"]


@pytest.mark.parametrize(
    ("argument_type", "items", "expected"),
    [
        ("single_arg", [1, 2], [101, 102]),
        ("direct", [1, 2], [101, 102]),
        ("args", [(1,), (1, 2), [3, 4]], [101, 3, 7]),
        ("kwargs", [{"first": 1}, {"second": 2, "first": 1}], [101, 3]),
        (ArgumentPassing.AS_SINGLE_ARG, [1], [101]),
        (ArgumentPassing.DIRECT, [1], [101]),
        (ArgumentPassing.AS_ARGS, [(1, 2)], [3]),
        (ArgumentPassing.AS_KWARGS, [{"first": 1, "second": 2}], [3]),
    ],
)
def test_argument_type_says_how_a_worker_is_called(pool_kwargs, argument_type, items, expected):
    """Each argument type, by its string or as a member, is a way to call a worker with an item."""
    assert list(Pool(workers.add, argument_type=argument_type, **pool_kwargs)(items)) == expected


@pytest.mark.parametrize(("argument_type", "item"), [("args", 5), ("kwargs", 5), ("kwargs", {"third": 1})])
def test_item_that_does_not_fit_argument_type_fails_alone(pool_kwargs, argument_type, item):
    """An item that cannot be unpacked for its worker has a `TypeError` as its outcome."""
    fine = {"args": (1, 2), "kwargs": {"first": 1, "second": 2}}[argument_type]
    pool = Pool(workers.add, argument_type=argument_type, exception_behavior="ignore", **pool_kwargs)
    before, failed, after = pool([fine, item, fine])
    assert (before, type(failed), after) == (3, TypeError, 3)


def _local_worker():
    class Local:
        def __call__(self, item):
            return item * item

    return Local()


def _closure():
    def call(item):
        return item**exponent

    exponent = 2
    return call


@pytest.mark.parametrize(
    "worker",
    [
        workers.square,
        lambda item: item * item,
        _closure(),
        partial(pow, exp=2),
        abs,
        workers.Multiplier(3),
        workers.Multiplier(3).method,
        workers.AddTo(5),
        workers.Multiplier,
        [10, 20, 30].__getitem__,
        _local_worker(),
    ],
    ids=[
        "function",
        "lambda",
        "closure",
        "partial",
        "builtin",
        "object",
        "bound_method",
        "shell",
        "class",
        "method_of_builtin",
        "local_class",
    ],
)
@pytest.mark.filterwarnings("ignore:.* is the class Multiplier itself:UserWarning")
def test_worker_may_be_any_callable(pool_kwargs, worker):
    """Whatever can be called, and a shell, is a worker."""
    assert list(Pool(worker, **pool_kwargs)([1, 2])) == [worker(1), worker(2)]


def test_list_of_mixed_workers_gives_each_its_slot(parallel_kwargs, tmp_path):
    """In a list, functions and shells may be mixed, and each worker of it works."""
    mixed = [partial(workers.join, folder=tmp_path), workers.Counting(tmp_path, n_instances=2)]
    results = list(Pool(mixed, chunk_size=1, **parallel_kwargs)(range(2)))
    assert {type(result) for result in results} == {str, tuple}


# ---- reading ahead


@pytest.mark.parametrize("is_unordered", [False, True])
@pytest.mark.parametrize(
    ("chunks", "limit"),
    [
        ({"chunk_size": 4, "chunk_prefill_ratio": 2}, 8),
        ({"chunk_size": 3}, 6),
        ({"chunk_size": 4, "chunk_prefill_ratio": 0.5}, 2),
        ({"chunk_size": 1, "chunk_prefill_ratio": 1}, 1),
    ],
    ids=str,
)
def test_reading_ahead_never_passes_the_chunks(pool_kwargs, is_unordered, chunks, limit):
    """At most `chunk_size * chunk_prefill_ratio` items are read and not handed out, in both orders."""
    source = workers.Source(range(200))
    results = source.consume(Pool(workers.square, is_unordered=is_unordered, **chunks, **pool_kwargs)(source))
    assert sorted(results) == [item * item for item in range(200)]
    assert source.most_ahead <= limit


@pytest.mark.parametrize("is_unordered", [False, True])
def test_reading_ahead_never_passes_the_chunks_when_the_first_item_is_slow(parallel_kwargs, is_unordered, tmp_path):
    """A slow head makes nobody read more than the chunks allow."""
    source = workers.Source([("slow", "5")] + [(str(number), None) for number in range(1, 60)])
    worker = partial(workers.touch_and_wait_for, folder=tmp_path)
    pool = Pool(worker, is_unordered=is_unordered, chunk_size=4, chunk_prefill_ratio=2, **parallel_kwargs)
    assert len(source.consume(pool(source))) == 60
    assert source.most_ahead <= 8


def test_reading_ahead_uses_what_the_chunks_allow(parallel_kwargs, tmp_path):
    """With a chunk for each worker both workers are busy at once."""
    worker = partial(workers.touch_and_wait_for, folder=tmp_path)
    pool = Pool(worker, chunk_size=1, chunk_prefill_ratio=2, **parallel_kwargs)
    assert list(pool(iter([("a", "b"), ("b", "a")]))) == ["a", "b"]


def test_reading_ahead_of_slow_items_is_two_a_worker(parallel_kwargs):
    """Without `chunk_size`, when an item takes longer than 20 ms, at most 2 items a worker are read ahead."""
    source = workers.Source(range(10))
    source.consume(Pool(workers.nap, **parallel_kwargs)(source))
    assert source.most_ahead <= 4


@pytest.mark.parametrize("is_unordered", [False, True])
def test_infinite_input_gives_results(pool_kwargs, is_unordered):
    """An input without an end is no obstacle."""
    with Pool(workers.square, is_unordered=is_unordered, **pool_kwargs)(itertools.count()) as results:
        first = list(itertools.islice(results, 20))
    assert first == [item * item for item in range(20)] or is_unordered
    assert len(set(first)) == 20


def test_unbounded_reads_the_whole_input_at_once(pool_kwargs):
    """With `bounded=False` all of the input is read before the first result is handed out."""
    source = workers.Source(range(500))
    with Pool(workers.square, bounded=False, **pool_kwargs)(source) as results:
        next(results)
        assert source.n_read == 500


@pytest.mark.parametrize("is_entered", [False, True])
def test_nothing_is_read_before_the_first_next(pool_kwargs, is_entered):
    """Calling a pool reads nothing."""
    source = workers.Source(range(10))
    pool = Pool(workers.square, **pool_kwargs)
    if is_entered:
        with pool:
            pool(source)
    else:
        pool(source)
    assert source.n_read == 0


def test_input_is_read_in_the_consumers_thread(pool_kwargs):
    """The input is advanced only in the thread that consumes the results."""
    source = workers.Source(range(50))
    consumers = []

    def consume():
        consumers.append(threading.get_ident())
        list(Pool(workers.square, **pool_kwargs)(source))

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join()
    assert source.threads == set(consumers)


@pytest.mark.parametrize("mode", MODES)
def test_input_that_raises_does_so_after_its_results(pool_kwargs, mode):
    """What was read before the input raised has its results; then comes the very exception."""
    error = LookupError("the file is broken")
    pool = Pool(workers.square, exception_behavior=mode, **pool_kwargs)
    taken, caught = take_until_error(pool(workers.raise_after(7, error)))
    assert caught is error
    assert taken == [item * item for item in range(7)]


def test_input_that_cannot_begin_raises(pool_kwargs):
    """What `iter(input)` raises comes from the first `next()`."""

    class Broken:
        def __iter__(self):
            raise LookupError("no beginning")

    with pytest.raises(LookupError, match="no beginning"):
        list(Pool(workers.square, **pool_kwargs)(Broken()))


# ---- exceptions


@pytest.mark.parametrize("is_unordered", [False, True])
def test_immediate_raises_the_first_exception(pool_kwargs, is_unordered):
    """In mode `immediate` a worker's exception is raised, with its class and text."""
    with pytest.raises(ValueError, match="odd: 3"):
        list(Pool(workers.fail_on_odd, is_unordered=is_unordered, **pool_kwargs)([0, 2, 3, 4]))


def test_immediate_is_the_default_of_pool():
    """`Pool` raises at the first exception if nothing else is asked for."""
    with pytest.raises(ZeroDivisionError):
        list(Pool(workers.divide_by, 1)([0]))


def test_immediate_reads_no_further(pool_kwargs):
    """After the exception is raised no more input is read, though there is more without end."""
    source = workers.Source(itertools.chain([0, 2, 3], itertools.repeat(4)))
    results = Pool(workers.fail_on_odd, chunk_size=4, chunk_prefill_ratio=2, **pool_kwargs)(source)
    with pytest.raises(ValueError, match="odd: 3"):
        source.consume(results)
    n_read = source.n_read
    assert list(results) == []
    assert source.n_read == n_read <= 3 + 8


def test_immediate_drops_what_is_queued(parallel_kwargs, tmp_path):
    """In mode `immediate` what is queued behind the failed item is never begun."""
    pool = Pool(partial(workers.fail_first, folder=tmp_path), chunk_size=100, **parallel_kwargs)
    with pytest.raises(ValueError, match="first"):
        list(pool(range(100)))
    assert len(os.listdir(tmp_path)) < 100


@pytest.mark.parametrize("is_unordered", [False, True])
@pytest.mark.parametrize("mode", ["ignore", ExceptionBehaviour.IGNORE])
def test_ignore_hands_out_exceptions_in_their_places(pool_kwargs, is_unordered, mode, n_elem):
    """In mode `ignore` an exception stands where its item's result would."""
    pool = Pool(workers.fail_on_odd, exception_behavior=mode, is_unordered=is_unordered, **pool_kwargs)
    results = list(pool(range(n_elem)))
    if is_unordered:
        results.sort(key=lambda result: int(str(result).rpartition(" ")[2]))
    assert [(type(result), str(result)) for result in results] == [
        (ValueError, f"odd: {item}") if item % 2 else (int, str(item)) for item in range(n_elem)
    ]


@pytest.mark.parametrize("is_unordered", [False, True])
def test_deferred_raises_all_exceptions_at_the_end(pool_kwargs, is_unordered):
    """In mode `deferred` all results come, then one exception whose `args` are all of them, in input order."""
    pool = Pool(workers.fail_on_odd, exception_behavior="deferred", is_unordered=is_unordered, **pool_kwargs)
    taken, error = take_until_error(pool(range(10)))
    assert sorted(result for result in taken if not is_exception(result)) == [0, 2, 4, 6, 8]
    assert sum(map(is_exception, taken)) == 5
    assert type(error) is DeferredExceptions
    assert [str(each) for each in error.args] == [f"odd: {item}" for item in (1, 3, 5, 7, 9)]


def test_deferred_keeps_places_in_order(pool_kwargs):
    """In mode `deferred` an exception is handed out in its item's place while iterating."""
    results = Pool(workers.fail_on_odd, exception_behavior="deferred", **pool_kwargs)(range(4))
    assert [type(next(results)) for _ in range(4)] == [int, ValueError, int, ValueError]
    with pytest.raises(DeferredExceptions):
        next(results)


def test_deferred_raises_nothing_without_failures(pool_kwargs):
    """In mode `deferred` an input without failures just ends."""
    assert list(Pool(workers.fail_on_odd, exception_behavior="deferred", **pool_kwargs)([0, 2])) == [0, 2]


def test_deferred_exceptions_is_a_plain_exception_too():
    """`DeferredExceptions` is caught by `except Exception` and by the library's base class."""
    assert issubclass(DeferredExceptions, MtaskliteError)
    assert issubclass(MtaskliteError, Exception)


@pytest.mark.parametrize("spelling", ["exception_behavior", "exception_behaviour"])
def test_exception_mode_is_spelled_either_way(spelling):
    """`Pool` takes both spellings."""
    (result,) = Pool(workers.divide_by, 1, **{spelling: "ignore"})([0])
    assert isinstance(result, ZeroDivisionError)


@pytest.mark.parametrize("mode", ["immediate", "ignore"])
def test_cause_is_the_remote_traceback(process_kwargs, mode):
    """The `__cause__` of an exception from a process has the traceback there as its text."""
    try:
        (error,) = Pool(workers.divide_by, exception_behavior=mode, **process_kwargs)([0])
    except ZeroDivisionError as raised:
        error = raised
    assert type(error) is ZeroDivisionError
    text = str(error.__cause__)
    assert "Traceback (most recent call last)" in text
    assert "in divide_by" in text
    assert "return 1 / item" in text


def test_cause_tells_of_a_chain_of_exceptions(process_kwargs):
    """The remote traceback shows what the exception was raised from."""
    (error,) = Pool(workers.fail_from_other, exception_behavior="ignore", **process_kwargs)([0])
    assert "ZeroDivisionError" in str(error.__cause__)
    assert "the second one" in str(error.__cause__)


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_traceback_reaches_into_the_worker_without_processes(kind):
    """An exception of a worker in this process has its own traceback, down to the worker's frame."""
    (error,) = Pool(workers.divide_by, exception_behavior="ignore", **ALL[kind])([0])
    frame = error.__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_code.co_name == "divide_by"


@pytest.mark.parametrize(
    "error", [KeyError("k"), OSError(2, "gone", "file.txt"), workers.KeepingAttributes("text", 42)], ids=repr
)
def test_exception_keeps_its_attributes(pool_kwargs, error):
    """An exception arrives with its class, its arguments and its attributes."""
    (arrived,) = Pool(workers.fail_with, exception_behavior="ignore", **pool_kwargs)([error])
    assert type(arrived) is type(error)
    assert (arrived.args, vars(arrived)) == (error.args, vars(error))
    assert getattr(arrived, "filename", None) == getattr(error, "filename", None)


@pytest.mark.parametrize(
    ("kind", "type_name", "text"),
    [
        ("constructor", "ForgettingAnArgument", "salt and pepper"),
        ("attribute", "HoldingALock", "held"),
        ("text", "WithoutText", ""),
    ],
)
def test_exception_that_cannot_be_rebuilt_arrives_as_remote_error(process_kwargs, kind, type_name, text):
    """A `RemoteError` with type name, text and traceback stands in for what cannot be rebuilt here."""
    (error,) = Pool(workers.fail_for_good, exception_behavior="ignore", **process_kwargs)([kind])
    assert type(error) is RemoteError
    assert error.type_name == f"{workers.__name__}.{type_name}"
    assert text in error.text
    assert "in fail_for_good" in error.traceback
    assert "in fail_for_good" in str(error.__cause__)


def test_exception_that_cannot_be_rebuilt_is_raised_as_remote_error(process_kwargs):
    """In mode `immediate` a `RemoteError` is raised."""
    with pytest.raises(RemoteError, match="salt and pepper"):
        list(Pool(workers.fail_for_good, **process_kwargs)(["constructor"]))


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_exception_that_cannot_be_pickled_arrives_itself_without_processes(kind):
    """Within this process nothing is pickled, so any exception arrives as it is."""
    (error,) = Pool(workers.fail_for_good, exception_behavior="ignore", **ALL[kind])(["constructor"])
    assert type(error) is workers.ForgettingAnArgument


@pytest.mark.parametrize("mode", ["ignore", "deferred"])
def test_stop_iteration_of_a_worker_ends_nothing(pool_kwargs, mode):
    """A worker's `StopIteration` is its item's outcome, not the end of the results."""
    results = Pool(workers.raise_stop_iteration, exception_behavior=mode, **pool_kwargs)(range(3))
    assert [type(next(results)) for _ in range(3)] == [StopIteration] * 3
    results.close()


def test_stop_iteration_of_a_worker_is_not_taken_for_the_end(pool_kwargs):
    """In mode `immediate` a worker's `StopIteration` is an error like any other, not the end of the results."""
    results = Pool(workers.raise_stop_iteration, **pool_kwargs)(range(3))
    with pytest.raises((StopIteration, RuntimeError)) as caught:
        list(results)
    assert caught.type is RuntimeError


@pytest.mark.parametrize("worker", [workers.make_lock, workers.make_refusing])
def test_result_that_cannot_travel_is_a_serialization_error(process_kwargs, worker):
    """A result that cannot be pickled, or not be rebuilt here, costs its own item and no other."""
    results = list(Pool(worker, exception_behavior="ignore", **process_kwargs)(range(10)))
    assert [type(result) for result in results] == [int, SerializationError] * 5
    assert results[::2] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("make_bad", [threading.Lock, workers.Refusing])
def test_item_that_cannot_travel_is_a_serialization_error(process_kwargs, make_bad):
    """An item that cannot be pickled, or not be rebuilt there, costs itself and no other."""
    items = [make_bad() if number % 2 else number for number in range(10)]
    results = list(Pool(workers.type_name, exception_behavior="ignore", **process_kwargs)(items))
    assert [result if isinstance(result, str) else type(result) for result in results] == [
        "int",
        SerializationError,
    ] * 5


@pytest.mark.parametrize("item", [threading.Lock(), workers.Refusing()], ids=["out", "in"])
def test_serialization_error_has_the_picklers_as_its_cause(process_kwargs, item):
    """What the pickler said is the `__cause__`, or in its text."""
    with pytest.raises(SerializationError) as caught:
        list(Pool(workers.type_name, **process_kwargs)([item]))
    assert caught.value.__cause__ is not None
    assert "cannot pickle" in str(caught.value) or "not here" in str(caught.value)


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_items_and_results_are_not_pickled_without_processes(kind):
    """Within this process the very objects are passed."""
    items = [threading.Lock(), workers.Refusing()]
    results = list(Pool(workers.identity, **ALL[kind])(items))
    assert all(result is item for result, item in zip(results, items))


# ---- workers that die, are late, try again, are replaced


@pytest.mark.parametrize(
    ("worker", "exitcode", "signal_name"), [(workers.die_on, -9, "SIGKILL"), (workers.exit_on, 7, None)]
)
def test_death_of_a_worker_costs_its_item(process_kwargs, worker, exitcode, signal_name):
    """A worker that dies costs the item that it was at; the error says how it died, and all others are done."""
    results = list(Pool(worker, exception_behavior="ignore", chunk_size=1, **process_kwargs)(range(20)))
    (number, error), *others = failures_of(results).items()
    assert (number, others) == (3, [])
    assert [result for result in results if not is_exception(result)] == [*range(3), *range(4, 20)]
    assert type(error) is WorkerDiedError
    assert (error.exitcode, error.signal_name, error.item_index) == (exitcode, signal_name, 3)
    assert error.worker_index in (0, 1)


def test_death_of_a_worker_is_raised_in_mode_immediate(process_kwargs):
    """In mode `immediate` a worker's death is raised."""
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        list(Pool(workers.die_on, **process_kwargs)(range(20)))


@pytest.mark.filterwarnings("ignore:all . items failed:RuntimeWarning")
def test_death_of_all_workers_at_once_ends_nothing(process_kwargs):
    """When every item kills its worker, every item has its outcome."""
    worker = partial(workers.exit_on, fatal=0)
    results = list(Pool(worker, exception_behavior="ignore", chunk_size=1, **process_kwargs)([0] * 6))
    assert [type(result) for result in results] == [WorkerDiedError] * 6


def test_death_costs_no_more_than_what_was_not_sent(process_kwargs):
    """With default batches each item has one outcome: its result, or that its worker died."""
    results = list(Pool(partial(workers.die_on, fatal=50), exception_behavior="ignore", **process_kwargs)(range(100)))
    assert len(results) == 100
    assert type(results[50]) is WorkerDiedError
    assert all(type(result) is WorkerDiedError or result == item for item, result in enumerate(results))


@pytest.mark.usefixtures("gate")
def test_timeout_costs_the_late_item(parallel_kwargs):
    """An item that runs too long has a `TaskTimeoutError` as its outcome, and all others are unharmed."""
    pool = Pool(workers.be_stuck_on, exception_behavior="ignore", task_timeout=0.5, chunk_size=1, **parallel_kwargs)
    results = list(pool(range(10)))
    assert [result for result in results if not is_exception(result)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert type(results[3]) is TaskTimeoutError
    assert isinstance(results[3], TimeoutError)
    assert (results[3].seconds, results[3].item_index) == (0.5, 3)


@pytest.mark.usefixtures("gate")
def test_timeout_is_raised_in_mode_immediate(parallel_kwargs):
    """In mode `immediate` a late item is raised."""
    with pytest.raises(TaskTimeoutError, match=r"0\.3"):
        list(Pool(workers.be_stuck_on, task_timeout=0.3, join_timeout=0, **parallel_kwargs)([3]))


def test_timeout_counts_one_item_not_all(parallel_kwargs):
    """Items that together take longer than `task_timeout` are not late."""
    pool = Pool(partial(workers.nap, seconds=0.1), task_timeout=0.5, **parallel_kwargs)
    assert list(pool(range(12))) == list(range(12))


def test_worker_that_waits_for_the_consumer_is_not_late(parallel_kwargs):
    """Only running counts: a worker that has finished and waits, however long, is not killed."""
    pool = Pool(workers.where, **{**parallel_kwargs, "n_jobs": 1}, task_timeout=0.3, chunk_size=1)
    seen = []
    for place in pool(range(4)):
        seen.append(place)
        time.sleep(0.5)  # what a slow consumer does
    assert len(set(seen)) == 1


def test_retries_try_a_failed_item_again(pool_kwargs, tmp_path):
    """With `retries=1` an item that fails once has its result."""
    worker = partial(workers.fail_unless_exists, folder=tmp_path)
    assert list(Pool(worker, retries=1, **pool_kwargs)(range(6))) == list(range(6))


def test_retries_try_the_item_of_a_dead_worker_again(process_kwargs, tmp_path):
    """With `retries` the item of a worker that died is tried again."""
    worker = partial(workers.die_unless_exists, folder=tmp_path)
    assert list(Pool(worker, retries=1, chunk_size=1, **process_kwargs)(range(4))) == list(range(4))


@pytest.mark.filterwarnings("ignore:all . items failed:RuntimeWarning")
@pytest.mark.parametrize("retries", [0, 2])
def test_retries_end_with_the_exception(pool_kwargs, retries, tmp_path):
    """An item that goes on failing is tried `retries` more times, and no more."""
    worker = partial(workers.count_call, folder=tmp_path)
    results = list(Pool(worker, retries=retries, exception_behavior="ignore", **pool_kwargs)(["a", "b"]))
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert len(os.listdir(tmp_path)) == 2 * (1 + retries)


def test_max_tasks_replaces_the_worker(parallel_kwargs):
    """With `max_tasks_per_child=3` no instance is called more often than that, and all items are done."""
    results = list(Pool(workers.Counting(), max_tasks_per_child=3, **parallel_kwargs)(range(20)))
    assert len(results) == 20
    assert max(n_calls for _, n_calls, _ in results) == 3
    assert len({token for token, _, _ in results}) >= 7


def test_max_tasks_holds_for_one_job():
    """One worker is replaced too, though it would else run in the calling thread."""
    results = list(Pool(workers.where, 1, max_tasks_per_child=2)(range(6)))
    assert len({pid for pid, _ in results}) == 3


def test_max_tasks_are_counted_over_iterations(parallel_kwargs):
    """Inside `with` the items of all iterations count."""
    with Pool(workers.Counting(), max_tasks_per_child=3, **parallel_kwargs) as pool:
        results = [result for _ in range(6) for result in pool(range(2))]
    assert len(results) == 12
    assert max(n_calls for _, n_calls, _ in results) <= 3
    assert len({token for token, _, _ in results}) >= 4


# ---- delayed_init


def test_shell_remembers_its_arguments_only():
    """A decorated class gives a `ShellObject`, and makes nothing."""
    shell = workers.FailingToInit()
    assert isinstance(shell, ShellObject)
    assert "FailingToInit" in repr(shell)


def test_shell_called_here_makes_one_instance():
    """Calling a shell in the parent makes an instance, once, and calls it."""
    shell = workers.Counting()
    (token, *first), (same_token, *second) = shell(None), shell(None)
    assert token == same_token
    assert (first, second) == ([1, True], [2, True])


def test_decorated_class_keeps_its_names():
    """The decorated name keeps `__name__`, `__doc__`, `__module__`, and has the class as `__wrapped__`."""
    assert workers.AddTo.__name__ == "AddTo"
    assert workers.AddTo.__doc__ == "Adds to a base."
    assert workers.AddTo.__module__ == workers.__name__
    assert isinstance(workers.AddTo.__wrapped__, type)
    assert workers.AddTo.__wrapped__(3)(4) == 7


@pytest.mark.parametrize("what", [workers.square, type("NotCallable", (), {}), 5], ids=["function", "class", "number"])
def test_delayed_init_of_what_cannot_work_raises(what):
    """Only a class with `__call__` can be decorated."""
    with pytest.raises(TypeError, match="delayed_init"):
        delayed_init(what)


def test_shell_passes_all_its_arguments(pool_kwargs):
    """Positional and keyword arguments reach the constructor in the worker."""
    assert list(Pool(workers.AddTo(10, step=3), **pool_kwargs)([1, 2])) == [13, 16]


@pytest.mark.parametrize("is_list", [False, True], ids=["one_shell", "same_shell_twice"])
@pytest.mark.parametrize("is_used_here", [False, True], ids=["fresh", "used_in_the_parent"])
def test_each_worker_makes_its_own_instance(parallel_kwargs, is_list, is_used_here, tmp_path):
    """Each worker has an instance of its own, made where it works, however the shell was used before."""
    shell = workers.Counting(tmp_path, n_instances=2)
    here = None
    if is_used_here:
        (tmp_path / "other").touch()
        here = shell(None)[0]
        for file in tmp_path.iterdir():
            file.unlink()
    results = list(Pool([shell, shell] if is_list else shell, chunk_size=1, **parallel_kwargs)(range(10)))
    tokens = {token for token, _, _ in results}
    assert len(tokens) == 2
    assert here not in tokens
    assert all(is_made_here for _, _, is_made_here in results)


def test_inline_worker_makes_its_own_instance_too():
    """With one job the pool's instance is not the one that the parent made by calling the shell."""
    shell = workers.Counting()
    here, *_ = shell(None)
    results = list(Pool(shell, 1)(range(3)))
    assert [n_calls for _, n_calls, _ in results] == [1, 2, 3]
    assert here not in {token for token, _, _ in results}


def test_shell_travels_after_its_instance_was_made_here(pool_kwargs):
    """The instance made in the parent stays there, whatever it holds."""
    shell = workers.HoldingLock()
    assert shell(1) == 2
    assert list(Pool(shell, **pool_kwargs)([1, 2])) == [2, 3]


def test_state_of_workers_lives_inside_with(pool_kwargs):
    """Inside `with` the same instances work on one input after another."""
    with Pool(workers.Counting(), **pool_kwargs) as pool:
        results = [result for _ in range(3) for result in pool(range(10))]
    calls = [(token, n_calls) for token, n_calls, _ in results]
    assert len(set(calls)) == 30
    assert len({token for token, _ in calls}) <= pool.num_workers


def test_state_of_workers_is_new_for_each_input_without_with(pool_kwargs):
    """Without `with` each iteration has new instances."""
    pool = Pool(workers.Counting(), **pool_kwargs)
    first, second = ({token for token, _, _ in pool(range(10))} for _ in range(2))
    assert not first & second


def logged(path):
    """Return what was written down, by instance."""
    log: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, what = line.split()
        log.setdefault(name, []).append(what)
    return list(log.values())


def assert_entered_and_exited(path):
    assert logged(path)
    for what in logged(path):
        assert (what[0], what[-1]) == ("enter", "exit")
        assert set(what[1:-1]) <= {"call"}


def test_context_manager_is_entered_and_exited(pool_kwargs, tmp_path):
    """An instance that is a context manager is entered before the first item and exited after the last."""
    path = tmp_path / "log"
    assert list(Pool(workers.Logging(path), **pool_kwargs)(range(10))) == list(range(10))
    assert_entered_and_exited(path)
    assert sum(what.count("call") for what in logged(path)) == 10


def test_context_manager_stays_entered_inside_with(pool_kwargs, tmp_path):
    """Inside `with` instances are entered once, and exited when the block ends."""
    path = tmp_path / "log"
    with Pool(workers.Logging(path), **pool_kwargs) as pool:
        list(pool(range(3)))
        list(pool(range(3)))
        assert all("exit" not in what for what in logged(path))
    assert_entered_and_exited(path)


@pytest.mark.parametrize("how", ["exception", "break", "max_tasks"])
def test_context_manager_is_exited_on_any_orderly_end(parallel_kwargs, how, tmp_path):
    """Instances are exited too after an exception, after a `break`, and where a worker is replaced."""
    path = tmp_path / "log"
    extra = {"max_tasks_per_child": 2} if how == "max_tasks" else {}
    results = Pool(workers.Logging(path), **extra, **parallel_kwargs)(["a", "fail" if how == "exception" else "b"] * 5)
    if how == "exception":
        with pytest.raises(ValueError, match="fail"):
            list(results)
    elif how == "break":
        next(results)
        results.close()
    else:
        list(results)
        assert len(logged(path)) >= 5
    assert_entered_and_exited(path)


@pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")
@pytest.mark.parametrize("mode", MODES)
def test_constructor_that_raises_everywhere_is_worker_init_error(pool_kwargs, mode, tmp_path):
    """When no worker can be made, `WorkerInitError` is raised from the original exception, in every mode."""
    pool = Pool(workers.FailingToInit(tmp_path), exception_behavior=mode, **pool_kwargs)
    with pytest.raises(WorkerInitError, match="no such model") as caught:
        list(pool(range(10)))
    assert type(caught.value.__cause__) is LookupError
    assert len(os.listdir(tmp_path)) <= pool.num_workers


@pytest.mark.parametrize("mode", ["ignore", "deferred"])
@pytest.mark.parametrize("bad", [0, 1])
def test_constructor_that_raises_somewhere_leaves_the_work_to_others(parallel_kwargs, mode, bad):
    """The items go to the worker that did start; one warning, here, names the other one and the cause."""
    shells = [workers.AddTo(100), workers.AddTo(100)]
    shells[bad] = workers.FailingToInit()
    pool = Pool(shells, exception_behavior=mode, **parallel_kwargs)
    with pytest.warns(RuntimeWarning, match=rf"worker {bad}.*LookupError: no such model") as caught:
        results = list(pool(workers.count_until(lambda: len(caught))))
    assert results == [100 + item for item in range(len(results))]
    assert [warning.filename for warning in caught] == [__file__]


def test_constructor_that_raises_somewhere_is_an_error_in_mode_immediate(parallel_kwargs):
    """In mode `immediate` one worker that cannot be made is enough."""
    pool = Pool([workers.AddTo(1), workers.FailingToInit()], **parallel_kwargs)
    with pytest.raises(WorkerInitError, match=r"worker 1.*no such model") as caught:
        list(pool(workers.count_until(lambda: False)))
    assert type(caught.value.__cause__) is LookupError


def test_context_manager_that_cannot_be_entered_is_worker_init_error(pool_kwargs):
    """What `__enter__` raises counts as the constructor's, and `__exit__` is not called."""
    with pytest.raises(WorkerInitError) as caught:
        list(Pool(workers.FailingToEnter(), **pool_kwargs)([1]))
    assert str(caught.value.__cause__) in ("no entry", "'no entry'")


@pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")
@pytest.mark.parametrize("mode", MODES)
def test_death_in_every_constructor_is_worker_init_error(process_kwargs, mode, tmp_path):
    """When every worker dies while it is made, `WorkerInitError` is raised from that, and none respawns for ever."""
    pool = Pool(workers.DyingAtInit(tmp_path), exception_behavior=mode, **process_kwargs)
    with pytest.raises(WorkerInitError) as caught:
        list(pool(range(10)))
    assert type(caught.value.__cause__) is WorkerDiedError
    assert caught.value.__cause__.exitcode == 5
    assert len(os.listdir(tmp_path)) <= 2


def test_death_in_one_constructor_leaves_the_work_to_others(process_kwargs):
    """When one worker dies while it is made, a warning says so and the other does all the work."""
    pool = Pool([workers.DyingAtInit(), workers.AddTo(1)], exception_behavior="ignore", **process_kwargs)
    with pytest.warns(RuntimeWarning, match="worker 0") as caught:
        results = list(pool(workers.count_until(lambda: len(caught))))
    assert results == [1 + item for item in range(len(results))]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    "worker", [partial(workers.add, threading.Lock()), workers.AddTo(threading.Lock())], ids=["partial", "shell"]
)
def test_worker_that_cannot_be_sent_is_worker_init_error(method, worker):
    """A worker that cannot be pickled is a `WorkerInitError` from the `SerializationError` that says why."""
    with pytest.raises(WorkerInitError) as caught:
        list(Pool(worker, **PROCESSES[method])([1]))
    assert type(caught.value.__cause__) is SerializationError


def test_failed_workers_stay_failed_inside_with(parallel_kwargs):
    """Inside `with`, once no worker could be made, each further iteration says so."""
    with Pool(workers.FailingToInit(), **parallel_kwargs) as pool:
        for _ in range(2):
            with pytest.raises(WorkerInitError):
                list(pool([1]))
