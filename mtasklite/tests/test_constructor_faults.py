"""Worker objects that hang, die or raise while they are made or entered, or raise when they are left."""

from __future__ import annotations

import contextlib
import time
import warnings
from functools import partial

import pytest

from mtasklite import Pool, TaskTimeoutError, WorkerDiedError, WorkerInitError
from mtasklite.tests import workers
from mtasklite.tests.workers import ALL, PARALLEL, PROCESSES, Troubled, everyone

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("gate")]

MADE_OR_ENTERED = ["__init__", "__enter__"]

LIMIT = 0.25
"""Seconds."""

ENDS_WITHIN_SECONDS = 20
"""A limit against waiting for what sleeps longer, not a measure."""


def _use(pool, is_entered):
    """Return the results of ten items, from inside of the pool's `with` block or without one."""
    with pool if is_entered else contextlib.nullcontext():
        return list(pool(range(10)))


SLOW_SCRIPT = """
import time
from mtasklite import Pool
from mtasklite.tests import workers

time.sleep(0.6)
if __name__ == "__main__":
    print(list(Pool(workers.AddTo(1), 2, start_method="spawn", task_timeout=0.4)([1, 2])))
"""

others_are_warned_of = pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")


# ---- that hang


@others_are_warned_of
@pytest.mark.parametrize("place", MADE_OR_ENTERED)
def test_constructor_that_hangs_everywhere_is_worker_init_error(parallel_kwargs, place):
    """When no worker can be made, and entered, within `task_timeout`, that is raised from a `TaskTimeoutError`."""
    pool = Pool(Troubled(place, "wait"), exception_behavior="ignore", task_timeout=LIMIT, **parallel_kwargs)
    with pytest.raises(WorkerInitError) as caught:
        list(pool(range(10)))
    assert type(caught.value.__cause__) is TaskTimeoutError
    assert caught.value.__cause__.seconds == LIMIT
    assert caught.value.__cause__.worker_index in (0, 1)
    assert caught.value.__cause__.item_index is None


@others_are_warned_of
@pytest.mark.parametrize("mode", ["immediate", "deferred"])
@pytest.mark.parametrize("kind", ["threads", "fork"])
def test_constructor_that_hangs_everywhere_is_an_error_in_any_mode(kind, mode):
    """That no worker is left is raised in the other modes too."""
    pool = Pool(Troubled("__init__", "wait"), exception_behavior=mode, task_timeout=LIMIT, **PARALLEL[kind])
    with pytest.raises(WorkerInitError):
        list(pool(range(10)))


@others_are_warned_of
@pytest.mark.parametrize("how", ["loop", "holding the GIL"])
def test_constructor_that_hangs_is_stopped_however_it_does(process_kwargs, how):
    """A process that is being made is stopped at the limit, whatever it is stuck in."""
    before = everyone()
    pool = Pool(Troubled("__init__", how), exception_behavior="ignore", task_timeout=LIMIT, **process_kwargs)
    with pytest.raises(WorkerInitError):
        list(pool(range(10)))
    assert everyone() == before


@pytest.mark.parametrize("place", MADE_OR_ENTERED)
def test_constructor_that_hangs_somewhere_leaves_the_work_to_others(parallel_kwargs, place):
    """The items go to the worker that could be made; a warning names the other one and the cause."""
    pool = Pool(
        [Troubled(place, "wait"), workers.identity], exception_behavior="ignore", task_timeout=LIMIT, **parallel_kwargs
    )
    with pytest.warns(RuntimeWarning, match=r"worker 0.*TaskTimeoutError") as caught:
        results = list(pool(workers.count_until(lambda: len(caught))))
    assert results == list(range(len(results)))
    assert len(caught) == 1


def test_constructor_that_hangs_somewhere_is_an_error_in_mode_immediate(parallel_kwargs):
    """In mode `immediate` one worker that hangs while it is made is enough."""
    pool = Pool([workers.identity, Troubled("__init__", "wait")], task_timeout=LIMIT, **parallel_kwargs)
    with pytest.raises(WorkerInitError, match="worker 1") as caught:
        list(pool(workers.count_until(lambda: False)))
    assert type(caught.value.__cause__) is TaskTimeoutError


@others_are_warned_of
@pytest.mark.parametrize("is_entered", [False, True])
def test_constructor_that_hangs_holds_up_no_end(parallel_kwargs, is_entered):
    """When others have done all the work before the limit, the end waits for the one that hangs no longer than that."""
    several = [Troubled("__init__", "wait"), workers.identity]
    pool = Pool(several, exception_behavior="ignore", task_timeout=LIMIT, **parallel_kwargs)
    started_at = time.monotonic()
    assert _use(pool, is_entered) == list(range(10))
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


@others_are_warned_of
def test_constructor_that_hangs_in_a_replacement_is_worker_init_error(parallel_kwargs, tmp_path):
    """A worker that replaces a late one, and hangs while it is made, counts as any that could not be made."""
    worker = Troubled("__init__", "wait", tmp_path)
    kwargs = {**parallel_kwargs, "n_jobs": 1}
    results = Pool(worker, exception_behavior="ignore", task_timeout=LIMIT, **kwargs)([0, "wait", 2, 3])
    assert next(results) == 0
    assert type(next(results)) is TaskTimeoutError
    with pytest.raises(WorkerInitError) as caught:
        next(results)
    assert type(caught.value.__cause__) is TaskTimeoutError


def test_time_to_make_a_worker_does_not_count_for_its_first_item(parallel_kwargs):
    """Making and entering together, and an item, may each take most of the limit."""
    assert list(Pool(workers.Slow(0.2), task_timeout=0.5, **parallel_kwargs)(range(2))) == [0, 1]


def test_time_to_start_a_process_does_not_count_as_making_the_worker(tmp_path):
    """A script that takes long to import, as each worker does, makes no worker late."""
    script = tmp_path / "script.py"
    script.write_text(SLOW_SCRIPT)
    assert workers.run_python(str(script)).strip() == "[2, 3]"


# ---- that die or raise what is no `Exception`


@others_are_warned_of
@pytest.mark.parametrize(
    ("place", "how", "exitcode"),
    [
        ("__init__", "SIGKILL", -9),
        ("__init__", "SIGSEGV", -11),
        ("__init__", SystemExit(3), 3),
        ("__enter__", "os._exit", 7),
    ],
)
def test_death_while_being_made_is_worker_init_error(process_kwargs, place, how, exitcode):
    """When every worker dies while it is made, that is raised from a `WorkerDiedError` that says how."""
    pool = Pool(Troubled(place, how), exception_behavior="ignore", **process_kwargs)
    with pytest.raises(WorkerInitError) as caught:
        list(pool(range(10)))
    assert type(caught.value.__cause__) is WorkerDiedError
    assert caught.value.__cause__.exitcode == exitcode
    assert caught.value.__cause__.item_index is None


@pytest.mark.parametrize("how", ["SIGKILL", SystemExit(3)], ids=str)
def test_death_of_one_while_being_made_leaves_the_work_to_others(process_kwargs, how):
    """The items go to the other worker, with a warning; nothing starts the dead one again and again."""
    pool = Pool([workers.identity, Troubled("__init__", how)], exception_behavior="ignore", **process_kwargs)
    with pytest.warns(RuntimeWarning, match=r"worker 1.*WorkerDiedError") as caught:
        results = list(pool(workers.count_until(lambda: len(caught))))
    assert results == list(range(len(results)))
    assert len(caught) == 1


@others_are_warned_of
@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_constructor_that_raises_to_end_the_worker_is_worker_init_error(parallel_kwargs, raised):
    """What is no `Exception` counts as any other from a constructor; the text names it."""
    pool = Pool(Troubled("__init__", raised), exception_behavior="ignore", **parallel_kwargs)
    with pytest.raises(WorkerInitError, match=type(raised).__name__) as caught:
        list(pool(range(10)))
    assert caught.value.__cause__ is not None


@others_are_warned_of
def test_constructor_that_raises_without_a_text_is_worker_init_error(pool_kwargs):
    """An exception that cannot be shown does not keep the pool from saying that no worker could be made."""
    pool = Pool(Troubled("__init__", workers.Mute(ValueError("no text"))), exception_behavior="ignore", **pool_kwargs)
    with pytest.raises(WorkerInitError, match="Mute"):
        list(pool(range(10)))


# ---- that raise when they are left


@pytest.mark.parametrize("is_entered", [False, True])
@pytest.mark.parametrize("kind", list(ALL))
def test_exit_that_raises_is_a_warning(kind, is_entered, capfd):
    """What `__exit__` raises is a warning here that names worker and cause; all results are there, stderr is clean."""
    pool = Pool(Troubled("__exit__", LookupError("no way out")), **ALL[kind])
    with pytest.warns(RuntimeWarning, match=r"worker [01].*LookupError.*no way out") as caught:
        results = _use(pool, is_entered)
    assert results == list(range(10))
    assert len(caught) <= pool.num_workers
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", list(PARALLEL))
def test_exit_that_raises_is_a_warning_where_a_worker_is_replaced(kind, capfd):
    """The same for each worker that is replaced after so many items: nothing else is lost."""
    pool = Pool(Troubled("__exit__", LookupError("no way out")), max_tasks_per_child=2, **PARALLEL[kind])
    with pytest.warns(RuntimeWarning, match=r"worker [01].*LookupError.*no way out") as caught:
        results = list(pool(range(10)))
    assert results == list(range(10))
    assert len(caught) >= 5
    assert capfd.readouterr().err == ""


def test_exit_that_raises_does_not_hide_the_item_s_exception(pool_kwargs):
    """In mode `immediate` the item's exception is raised, not that of `__exit__`."""
    pool = Pool(Troubled("__exit__", LookupError("no way out")), **pool_kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(ValueError, match="mine"):
            list(pool([ValueError("mine")]))


def test_exit_that_raises_leaves_nothing_where_warnings_are_errors(process_kwargs):
    """Where the warning is turned into an exception, the workers are gone all the same."""
    before = everyone()
    pool = Pool(Troubled("__exit__", LookupError("no way out")), **process_kwargs)
    with pytest.raises(RuntimeWarning, match="no way out"):  # as all warnings are in these tests
        list(pool(range(10)))
    assert everyone() == before


@pytest.mark.parametrize("seconds", [0, 0.4])
@pytest.mark.parametrize("how", ["os._exit", "SIGKILL"])
def test_death_while_being_left_loses_nothing(process_kwargs, how, seconds):
    """A worker that dies in its `__exit__` was made, also if it was told to leave before it was, and lost nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        several = [Troubled("__exit__", how), Troubled("__exit__", how, seconds=seconds)]
        assert list(Pool(several, **process_kwargs)(range(10))) == list(range(10))


@others_are_warned_of
def test_worker_that_hangs_while_being_left_is_ended_after_join_timeout(parallel_kwargs):
    """An `__exit__` that hangs is given `join_timeout` seconds."""
    started_at = time.monotonic()
    assert list(Pool(Troubled("__exit__", "wait"), join_timeout=LIMIT, **parallel_kwargs)(range(4))) == list(range(4))
    assert time.monotonic() - started_at < ENDS_WITHIN_SECONDS


def test_constructors_that_work_are_unharmed_by_a_limit(parallel_kwargs):
    """With `task_timeout` a pool whose workers are made in time works as without."""
    worker = partial(workers.add, 1)
    assert list(Pool(worker, task_timeout=20, **parallel_kwargs)(range(10))) == [1 + item for item in range(10)]
    assert list(Pool(workers.AddTo(1), task_timeout=20, **PROCESSES["fork"])(range(10))) == list(range(1, 11))
