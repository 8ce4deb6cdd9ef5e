"""Everything that the library itself raises or hands out."""

from __future__ import annotations

import pickle

import pytest

import mtasklite
from mtasklite import errors

TOP_LEVEL = (
    "MtaskliteError",
    "TaskTimeoutError",
    "WorkerDiedError",
    "WorkerInitError",
    "SerializationError",
    "RemoteError",
    "PoolClosedError",
    "DeferredExceptions",
)

SAMPLES = [
    errors.MtaskliteError("text"),
    errors.TaskTimeoutError("late", 1.5, 2, 30),
    errors.TaskTimeoutError("late"),
    errors.WorkerDiedError("dead", -9, 2, 30),
    errors.WorkerDiedError("dead"),
    errors.WorkerInitError("not made"),
    errors.SerializationError("not sent"),
    errors.RemoteError("package.Error", "text", "traceback\n"),
    errors.RemoteTraceback("traceback\n"),
    errors.PoolClosedError("closed"),
    errors.DeferredExceptions(ValueError(1), KeyError("k")),
]
each_sample = pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)


def _copy(error):
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_error_is_at_top_level(name):
    """Each public error is one object in `mtasklite.errors` and at the top of the package."""
    assert getattr(mtasklite, name) is getattr(errors, name)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_error_has_the_common_base(name):
    """`except MtaskliteError` catches every one of them, and each is an `Exception`."""
    assert issubclass(getattr(errors, name), errors.MtaskliteError)
    assert issubclass(errors.MtaskliteError, Exception)


def test_task_timeout_is_a_timeout_error():
    """`except TimeoutError` catches a task's timeout."""
    assert issubclass(errors.TaskTimeoutError, TimeoutError)


@each_sample
def test_error_keeps_its_class_when_pickled(error):
    """Each error can be pickled, and comes back as the same class."""
    assert type(_copy(error)) is type(error)


@each_sample
def test_error_keeps_its_text_when_pickled(error):
    """Each error says the same after a round trip."""
    assert str(_copy(error)) == str(error)


@each_sample
def test_error_keeps_its_attributes_when_pickled(error):
    """Each error has the same attributes after a round trip."""
    assert vars(_copy(error)) == vars(error)


@each_sample
def test_error_keeps_what_was_set_on_it_when_pickled(error):
    """An attribute that somebody added (as `add_note` does) survives a round trip."""
    noted = _copy(error)
    noted.note = "seen twice"
    assert getattr(_copy(noted), "note", None) == "seen twice"


def test_task_timeout_has_its_attributes():
    """A timeout says what the limit was, which worker was late, and at which item."""
    error = errors.TaskTimeoutError("late", 1.5, 2, 30)
    assert (str(error), error.seconds, error.worker_index, error.item_index) == ("late", 1.5, 2, 30)


def test_worker_died_has_its_attributes():
    """A death says exit code, worker and item."""
    error = errors.WorkerDiedError("dead", 3, 2, 30)
    assert (str(error), error.exitcode, error.worker_index, error.item_index) == ("dead", 3, 2, 30)


@pytest.mark.parametrize(
    ("exitcode", "name"),
    [(-9, "SIGKILL"), (-11, "SIGSEGV"), (-15, "SIGTERM"), (0, None), (3, None), (None, None), (-4000, "signal 4000")],
)
def test_worker_died_names_the_signal(exitcode, name):
    """A negative exit code is a signal, with its name if it has one; any other is none."""
    assert errors.WorkerDiedError("dead", exitcode).signal_name == name


def test_remote_error_has_its_attributes():
    """A stand-in keeps type name, text and traceback of what it stands for."""
    error = errors.RemoteError("package.Error", "text", "traceback")
    assert (error.type_name, error.text, error.traceback) == ("package.Error", "text", "traceback")


def test_remote_error_text_names_the_type():
    """A stand-in's own text tells class and text of what it stands for."""
    assert str(errors.RemoteError("package.Error", "text", "traceback")) == "package.Error: text"


def test_remote_traceback_shows_the_worker_s_traceback():
    """The cause's text, which Python prints above the exception, is the worker's traceback."""
    assert "Traceback of the worker" in str(errors.RemoteTraceback("Traceback of the worker\n"))


def test_deferred_exceptions_args_are_the_exceptions():
    """`args` are the very exceptions, in the order given."""
    first, second = ValueError(1), KeyError("k")
    args = errors.DeferredExceptions(first, second).args
    assert len(args) == 2
    assert args[0] is first
    assert args[1] is second


def test_deferred_exceptions_keep_their_exceptions_when_pickled():
    """The collected exceptions survive a round trip."""
    args = _copy(errors.DeferredExceptions(ValueError(1), KeyError("k"))).args
    assert [(type(arg), arg.args) for arg in args] == [(ValueError, (1,)), (KeyError, ("k",))]


def test_deferred_exceptions_text_counts():
    """The text says how many items failed, and shows the first."""
    assert str(errors.DeferredExceptions(ValueError(1), KeyError("k"))) == (
        "2 items failed; the first of them with ValueError(1)"
    )


def test_deferred_exceptions_of_none_has_a_text():
    """Also an empty collection can be printed."""
    assert str(errors.DeferredExceptions()).startswith("0 items failed")
