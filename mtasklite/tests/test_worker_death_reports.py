"""What the error of a dead worker tells: how it ended, which one it was, at which item, and from where."""

from __future__ import annotations

import os
from functools import partial

import pytest

from mtasklite import DeferredExceptions, Pool, TaskTimeoutError, WorkerDiedError
from mtasklite.errors import RemoteTraceback
from mtasklite.tests import workers
from mtasklite.tests.workers import PARALLEL, PROCESSES, failures

pytestmark = pytest.mark.timeout(60)

SIGNALS = {
    "SIGKILL": (-9, "SIGKILL"),
    "SIGSEGV": (-11, "SIGSEGV"),
    "SIGABRT": (-6, "SIGABRT"),
    "os._exit": (7, None),
}

RAISED = {
    SystemExit(3): 3,
    SystemExit("text"): 1,
    SystemExit(): 0,
    KeyboardInterrupt(): 1,
    GeneratorExit(): 1,
    workers.Doom("really"): 1,
}
"""What is raised, and the exit code that it gives a process."""

OWN_STDERR = ["fork", "spawn"]
"""Where a worker writes to the standard error that this process has now; a fork server has that of its start."""


def _errors(*bad, worker=workers.trouble, **kwargs):
    """Return the errors of troubled items among others, which all have their values."""
    items = [item for one in bad for item in (1, 2, one, 4)]
    results = list(Pool(worker, exception_behavior="ignore", chunk_size=1, **kwargs)(items))
    failed = failures(results, items)
    assert list(failed) == list(range(2, len(items), 4))
    return list(failed.values())


# ---- that ended its process


def test_death_has_its_exit_code_signal_and_item(process_kwargs):
    """The error has the exit code, the signal's name if there was one, and the item's index."""
    errors = _errors(*SIGNALS, **process_kwargs)
    assert {type(error) for error in errors} == {WorkerDiedError}
    assert [(error.exitcode, error.signal_name) for error in errors] == list(SIGNALS.values())
    assert [error.item_index for error in errors] == [2, 6, 10, 14]


def test_death_says_so_in_its_text(process_kwargs):
    """The text names the worker, the item and the signal or exit code."""
    for error in _errors(*SIGNALS, **process_kwargs):
        assert f"worker {error.worker_index}" in str(error)
        assert f"item {error.item_index}" in str(error)
        assert (error.signal_name or f"exit code {error.exitcode}") in str(error)


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize(
    ("how", "kind"), [("os._exit", WorkerDiedError), (SystemExit(3), WorkerDiedError), ("wait", TaskTimeoutError)]
)
def test_error_names_the_worker_that_had_the_item(process_kwargs, how, kind, tmp_path):
    """`worker_index` is the place in the list of the worker that the item was with."""
    several = [partial(workers.leave_name_and_trouble, folder=tmp_path, name=index) for index in (0, 1)]
    timeout = 0.5 if kind is TaskTimeoutError else None
    pool = Pool(several, exception_behavior="ignore", chunk_size=1, task_timeout=timeout, **process_kwargs)
    error = list(pool([0, 1, how]))[2]
    assert type(error) is kind
    assert os.listdir(tmp_path).count(f"{error.worker_index}-{how}") == 1


def test_death_by_sigkill_alone_hints_at_the_memory(process_kwargs):
    """The text says that the kernel sends SIGKILL too, when memory runs out."""
    hints = ["memory" in str(error) for error in _errors("SIGKILL", "SIGABRT", "os._exit", **process_kwargs)]
    assert hints == [True, False, False]


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGABRT"])
def test_crash_has_the_text_of_faulthandler(process_kwargs, how):
    """A crash tells where Python was, as an attribute and as the cause."""
    (error,) = _errors(how, **process_kwargs)
    assert "Fatal Python error" in error.traceback
    assert "in trouble" in error.traceback
    assert type(error.__cause__) is RemoteTraceback
    assert error.traceback in str(error.__cause__)


@pytest.mark.filterwarnings("ignore:all . items failed:RuntimeWarning")
def test_crash_tells_of_itself_not_of_the_one_before(process_kwargs):
    """Of two crashes in one place in the list each has its own text."""
    kwargs = {**process_kwargs, "n_jobs": 1}
    pool = Pool(workers.trouble, exception_behavior="ignore", task_timeout=30, **kwargs)
    first, killed, second = pool(["SIGSEGV", "SIGKILL", "SIGABRT"])
    assert "Segmentation fault" in first.traceback
    assert killed.traceback is None
    assert "Aborted" in second.traceback
    assert "Segmentation fault" not in second.traceback


@pytest.mark.parametrize("method", OWN_STDERR)
def test_crash_is_not_written_to_stderr(method, capfd):
    """Where the error has the text, nobody needs it a second time between the lines of a progress bar."""
    _errors("SIGSEGV", **PROCESSES[method])
    assert "Fatal Python error" not in capfd.readouterr().err


def test_death_without_a_crash_has_no_traceback(process_kwargs):
    """Where the interpreter could not say anything, `traceback` is ``None``, and there is no cause."""
    for error in _errors("SIGKILL", "os._exit", **process_kwargs):
        assert error.traceback is None
        assert error.__cause__ is None


def test_deaths_are_among_deferred_exceptions():
    """In mode `deferred` deaths are raised with the others, in input order."""
    items = ["os._exit", 1, ValueError("mine"), 3, "SIGKILL"]
    with pytest.raises(DeferredExceptions) as caught:
        list(Pool(workers.trouble, exception_behavior="deferred", chunk_size=1, **PROCESSES["fork"])(items))
    assert [type(error) for error in caught.value.args] == [WorkerDiedError, ValueError, WorkerDiedError]


# ---- that was raised, and is no `Exception`


def test_what_is_raised_to_end_the_worker_is_named(parallel_kwargs):
    """What is no `Exception` ends the worker, and costs the item; the error says what it was."""
    errors = _errors(*RAISED, **parallel_kwargs)
    for error, raised in zip(errors, RAISED):
        assert type(error) is WorkerDiedError
        assert f"it raised {raised!r}" in str(error)
    assert [error.item_index for error in errors] == [2, 6, 10, 14, 18, 22]


def test_what_is_raised_to_end_the_worker_has_an_exit_code_in_a_process(parallel_kwargs):
    """The exit code is what Python makes of it; a thread has none."""
    errors = _errors(*RAISED, **parallel_kwargs)
    expected = [None] * len(RAISED) if "use_threads" in parallel_kwargs else list(RAISED.values())
    assert [error.exitcode for error in errors] == expected
    assert {error.signal_name for error in errors} == {None}
    assert {error.worker_index for error in errors} <= {0, 1}


def test_what_is_raised_to_end_the_worker_has_its_traceback(process_kwargs):
    """From a process the error has the worker's traceback as its cause, as any other exception has."""
    for error, raised in zip(_errors(*RAISED, **process_kwargs), RAISED):
        assert type(error.__cause__) is RemoteTraceback
        assert "in trouble" in str(error.__cause__)
        assert type(raised).__name__ in str(error.__cause__)


@pytest.mark.parametrize("kind", ["threads", *OWN_STDERR])
def test_what_is_raised_to_end_the_worker_is_not_written_to_stderr(kind, capfd):
    """The error tells all; standard error stays clean."""
    _errors(*RAISED, **PARALLEL[kind])
    assert capfd.readouterr().err == ""


def test_what_is_raised_to_end_the_worker_costs_one_item_of_a_batch(parallel_kwargs):
    """Of many quick items only the one is lost: there was time to send the others."""
    items = [*range(150), workers.Doom("really"), *range(150)]
    results = list(Pool(workers.trouble, exception_behavior="ignore", **parallel_kwargs)(items))
    assert list(failures(results, items)) == [150]


def test_what_is_raised_without_a_text_ends_the_worker_all_the_same(parallel_kwargs):
    """An exception that cannot be shown costs its item too, and hangs nothing."""
    (error,) = _errors((workers.MuteDoom, ValueError("no text")), worker=workers.make, **parallel_kwargs)
    assert type(error) is WorkerDiedError


def test_what_is_raised_to_end_the_worker_is_tried_again_with_retries(parallel_kwargs, tmp_path):
    """With `retries=1` an item that raised such once has its value."""
    worker = partial(workers.count_and_trouble, folder=tmp_path, bad=(3,), how=SystemExit(3), n_times=1)
    assert list(Pool(worker, retries=1, chunk_size=1, **parallel_kwargs)(range(8))) == list(range(8))
    assert workers.calls_in(tmp_path)[3] == 2
