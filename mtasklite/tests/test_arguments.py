"""What may be passed and what may not: each wrong argument gives a clear error before anything starts."""

from __future__ import annotations

import inspect
import math
import re
from decimal import Decimal
from fractions import Fraction

import multiprocess
import pytest

import mtasklite.pool
import mtasklite.processes
import mtasklite.threads
from mtasklite import ArgumentPassing, ExceptionBehaviour, Pool, delayed_init
from mtasklite._arguments import check_window

ARGUMENT_TYPES = "one of 'single_arg', 'args', 'kwargs', 'direct'"
BEHAVIOURS = "one of 'immediate', 'ignore', 'deferred'"
START_METHODS = "one of 'fork', 'spawn', 'forkserver' or None"
BACKENDS = "one of 'processes', 'threads', 'ray', 'dask' or None"
WORKER = "a callable, an object made by a `delayed_init` class, or a list of these,"


@delayed_init
class Squarer:
    def __call__(self, item):
        return item * item


class Two:
    """An integer that is no `int`, such as numpy has."""

    def __index__(self):
        return 2

    def __repr__(self):
        return "Two()"


def _wrong(name, error, rule, *values):
    return [pytest.param(name, value, error, rule, id=f"{name}={_named(value)}") for value in values]


def _named(value):
    """Return a value's `repr` without addresses: all processes that run tests must agree on their names."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


WRONG = [
    *_wrong("worker_or_worker_arr", TypeError, WORKER, 3, None, "abs", {"abs": abs}, {abs}, iter([abs])),
    *_wrong("n_jobs", TypeError, "an integer", "many", "2", 2.0, 1.5, True, [2], math.nan),
    *_wrong("argument_type", ValueError, ARGUMENT_TYPES, "both", "AS_ARGS", "", 3, ["args"]),
    *_wrong("exception_behavior", ValueError, BEHAVIOURS, "raise", "IGNORE", "", 3, True, ["ignore"]),
    *_wrong("exception_behaviour", ValueError, BEHAVIOURS, "raise", "IGNORE", "", 3, True, ["ignore"]),
    *_wrong("bounded", TypeError, "True or False", "yes", "", 2, None, [], [True]),
    *_wrong("is_unordered", TypeError, "True or False", "yes", "", 2, None, [], [True]),
    *_wrong("use_threads", TypeError, "True or False", "yes", "", 2, None, [], [True]),
    *_wrong("chunk_size", TypeError, "an integer", "3", 1.5, 2.0, True, [3]),
    *_wrong("chunk_size", ValueError, "at least 1", 0, -1),
    *_wrong("chunk_prefill_ratio", TypeError, "a positive number", "2", b"2", True, [2], 2j),
    *_wrong("chunk_prefill_ratio", ValueError, "a positive number", 0, -1, 0.0, -0.5, math.nan, math.inf),
    *_wrong("task_timeout", TypeError, "a positive number", "1", "soon", True, [1], 1j),
    *_wrong("task_timeout", ValueError, "a positive number", 0, -1, 0.0, math.nan, math.inf, -math.inf),
    *_wrong("join_timeout", TypeError, "a number of at least 0", "1", "soon", True, [1]),
    *_wrong("join_timeout", ValueError, "a number of at least 0", -1, -0.5, math.nan, math.inf),
    *_wrong("retries", TypeError, "an integer", "1", 1.5, None, True),
    *_wrong("retries", ValueError, "at least 0", -1),
    *_wrong("max_tasks_per_child", TypeError, "an integer", "1", 1.5, True),
    *_wrong("max_tasks_per_child", ValueError, "at least 1", 0, -1),
    *_wrong("start_method", ValueError, START_METHODS, "thread", "", 3, ["fork"]),
    *_wrong("backend", ValueError, BACKENDS, "gpu", "", 3, "inline", ["threads"]),
]

WRONG_TOGETHER = [
    ({"n_jobs": 3, "worker_or_worker_arr": [abs, abs]}, ValueError, r"`n_jobs` must equal .*, 2, .* but got: 3$"),
    ({"n_jobs": -1, "worker_or_worker_arr": [abs]}, ValueError, r"`n_jobs` must equal .*, 1, .* but got: -1$"),
    ({"n_jobs": "many", "worker_or_worker_arr": [abs]}, TypeError, r"`n_jobs` must be an integer but got: 'many'$"),
    ({"worker_or_worker_arr": []}, ValueError, r"`worker_or_worker_arr` must have at least one worker"),
    ({"worker_or_worker_arr": ()}, ValueError, r"`worker_or_worker_arr` must have at least one worker"),
    ({"worker_or_worker_arr": [abs, 3]}, TypeError, r"`worker_or_worker_arr\[1\]` must be a callable.* but got: 3$"),
    ({"worker_or_worker_arr": [[abs]]}, TypeError, r"`worker_or_worker_arr\[0\]` must be a callable"),
    ({"worker_or_worker_arr": Squarer}, TypeError, r"`worker_or_worker_arr` .* class Squarer itself: call it, Squarer"),
    ({"worker_or_worker_arr": [abs, Squarer]}, TypeError, r"`worker_or_worker_arr\[1\]` .* class Squarer itself"),
    (
        {"exception_behavior": "ignore", "exception_behaviour": "ignore"},
        TypeError,
        "`exception_behavior` and `exception_behaviour` are the same argument: give only one of them",
    ),
    ({"use_threads": True, "backend": "processes"}, ValueError, "`use_threads=True` .* `backend` is: 'processes'$"),
    ({"use_threads": True, "start_method": "spawn"}, ValueError, "`start_method` is for processes.* got: 'spawn'$"),
    ({"backend": "threads", "start_method": "spawn"}, ValueError, "`start_method` is for processes.* got: 'spawn'$"),
    ({"n_job": 2}, TypeError, "'?`?n_job`?'?"),
]

RIGHT = [
    {},
    *({"n_jobs": n_jobs} for n_jobs in (None, 0, 1, 2, -1, -2, -1000, Two())),
    *({"argument_type": word} for word in ("single_arg", "direct", "args", "kwargs", *ArgumentPassing)),
    *({"exception_behavior": word} for word in ("immediate", "ignore", "deferred", *ExceptionBehaviour)),
    *({"exception_behaviour": word} for word in ("immediate", "ignore", "deferred", *ExceptionBehaviour)),
    *({name: flag} for name in ("bounded", "is_unordered", "use_threads") for flag in (True, False, 1, 0)),
    *({"chunk_size": size} for size in (None, 1, 1000, Two())),
    *({"chunk_prefill_ratio": ratio} for ratio in (None, 1, 2.5, 0.1, Fraction(1, 2))),
    *({"task_timeout": seconds} for seconds in (None, 1, 0.001, Decimal("1.5"))),
    *({"join_timeout": seconds} for seconds in (None, 0, 1, 0.5)),
    *({"retries": retries} for retries in (0, 3, Two())),
    *({"max_tasks_per_child": count} for count in (None, 1, Two())),
    *({"start_method": method} for method in (None, *multiprocess.get_all_start_methods())),
    *({"backend": backend} for backend in (None, "processes", "threads")),
    {"use_threads": True, "backend": "threads"},
    {"use_threads": False, "backend": "threads"},
    {"worker_or_worker_arr": [abs, Squarer(), lambda item: item]},
    {"worker_or_worker_arr": (abs, str), "n_jobs": 2},
    {"worker_or_worker_arr": Squarer()},
    {"worker_or_worker_arr": int},
    {"worker_or_worker_arr": "text".count},
]


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """A list of what was started; nothing starts in this file."""
    backends = []
    monkeypatch.setattr(mtasklite.pool, "make_backend", backends.append)
    return backends


def _pool(worker_or_worker_arr=abs, **kwargs):
    """Make a pool, and start it."""
    with Pool(worker_or_worker_arr, **kwargs):
        pass


def _pqdm_processes(worker_or_worker_arr=abs, **kwargs):
    return mtasklite.processes.pqdm([1, 2], worker_or_worker_arr, lazy=False, **kwargs)


def _pqdm_threads(worker_or_worker_arr=abs, **kwargs):
    return mtasklite.threads.pqdm([1, 2], worker_or_worker_arr, lazy=False, **kwargs)


each_door = pytest.mark.parametrize("make", [_pool, _pqdm_processes])


# ---- wrong


@each_door
@pytest.mark.parametrize(("name", "value", "error", "rule"), WRONG)
def test_wrong_argument_is_an_error_before_anything_starts(make, name, value, error, rule, started):
    """The error names the argument, the rule and the value, from the constructor and from `pqdm`."""
    with pytest.raises(error) as raised:
        make(**{name: value})
    assert type(raised.value) is error
    assert str(raised.value) == f"`{name}` must be {rule} but got: {value!r}"
    assert started == []


@each_door
@pytest.mark.parametrize(("kwargs", "error", "text"), WRONG_TOGETHER)
def test_arguments_that_contradict_each_other_are_an_error_before_anything_starts(make, kwargs, error, text, started):
    """The error names the arguments that do not go together."""
    with pytest.raises(error, match=text) as raised:
        make(**kwargs)
    assert type(raised.value) is error
    assert started == []


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_start_method_that_the_platform_lacks_is_an_error(monkeypatch, start_method):
    """A method that exists elsewhere is refused with those that exist here."""
    monkeypatch.setattr(multiprocess, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ValueError, match=f"`start_method` must be one of 'spawn' .* but got: '{start_method}'"):
        Pool(abs, 2, start_method=start_method)


def test_argument_type_none_is_an_error_in_pool():
    """`None` is a word of pqdm's alone."""
    with pytest.raises(ValueError, match=r"`argument_type` must be one of .* but got: None"):
        Pool(abs, argument_type=None)


def test_start_method_for_threads_of_the_module_is_an_error():
    """`mtasklite.threads.pqdm` starts no process, whatever its default is called."""
    with pytest.raises(ValueError, match="`start_method` is for processes"):
        _pqdm_threads(start_method="spawn")


def test_new_parameters_cannot_be_passed_by_position():
    """What the published package has not is keyword-only."""
    with pytest.raises(TypeError, match="positional argument"):
        Pool(abs, 1, "args", "ignore", True, 1, 1, False, False, None, None, 0)


@pytest.mark.parametrize("value", [5, None, abs, object()])
def test_input_that_is_not_iterable_is_an_error(value, started):
    """The call of the pool says so, not the first `next()`."""
    with pytest.raises(TypeError) as raised:
        Pool(abs, 2)(value)
    assert str(raised.value) == f"`input_iterable` must be iterable but got: {value!r}"
    assert started == []


WRONG_FOR_PQDM = [
    ({}, "`input_iterable` is missing"),
    ({"input_iterable": [1]}, "`worker_or_worker_arr` is missing"),
    ({"array": [1], "input_iterable": [1], "function": abs}, "`input_iterable` and `array` are the same argument"),
    ({"array": [1], "worker_or_worker_arr": abs, "function": abs}, "`worker_or_worker_arr` and `function` are the"),
    ({"array": [1], "function": abs, "tqdm_class": 3}, "`tqdm_class` must be a class like tqdm but got: 3"),
    ({"array": [1], "function": abs, "lazy": "no"}, "`lazy` must be True or False but got: 'no'"),
    ({"array": [1], "function": abs, "chunksize": 3}, "`chunksize` is no argument of `pqdm`, of `Pool` or of `tqdm"),
    ({"array": 5, "function": abs}, "`input_iterable` must be iterable but got: 5"),
    ({"array": [1], "function": 5}, "`worker_or_worker_arr` must be a callable"),
]


@pytest.mark.parametrize("module", [mtasklite.processes, mtasklite.threads])
@pytest.mark.parametrize(("kwargs", "text"), WRONG_FOR_PQDM)
def test_wrong_argument_of_pqdm_is_an_error_before_anything_starts(module, kwargs, text, started):
    """What `pqdm` has beside `Pool`'s parameters is checked by the call."""
    with pytest.raises(TypeError) as raised:
        module.pqdm(**kwargs)
    assert str(raised.value).startswith(text)
    assert started == []


# ---- right


@pytest.mark.parametrize("kwargs", RIGHT, ids=_named)
def test_right_argument_makes_a_pool(kwargs, started):
    """The constructor takes it, and starts nothing."""
    pool = Pool(**{"worker_or_worker_arr": abs, **kwargs})
    assert type(pool.num_workers) is int
    assert pool.num_workers >= 1
    assert started == []


@pytest.mark.parametrize("kwargs", RIGHT, ids=_named)
def test_right_argument_makes_a_lazy_pqdm(kwargs, started):
    """`pqdm` passes it on, and starts nothing either."""
    kwargs = {"worker_or_worker_arr": abs, **kwargs}
    results = mtasklite.processes.pqdm([1, 2], disable=True, **kwargs)
    assert len(results) == 2
    assert started == []


@pytest.mark.parametrize(
    ("worker", "n_jobs", "count"), [(abs, 3, 3), (abs, 0, 1), ([abs, abs], None, 2), ((abs, str, int), 3, 3)]
)
def test_number_of_workers_is_as_asked(worker, n_jobs, count):
    """`num_workers` follows `n_jobs`, or the length of the list."""
    assert Pool(worker, n_jobs).num_workers == count


def test_parameters_of_pool_stand_in_their_order():
    """What is passed by position means the same as in the published package, with the same defaults."""
    parameters = list(inspect.signature(Pool).parameters.values())
    by_position = [
        (parameter.name, parameter.default)
        for parameter in parameters
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    assert by_position == [
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


def test_new_parameters_have_the_defaults_that_change_nothing():
    """Left out, the new parameters do nothing."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(Pool).parameters.items()}
    new = ("retries", "max_tasks_per_child", "start_method", "backend")
    assert [defaults[name] for name in new] == [0, None, None, None]


@pytest.mark.parametrize(
    ("chunk_size", "ratio", "window"),
    [(4, 2, 8), (4, None, 8), (1, 1, 1), (3, 1.5, 4), (10, 0.25, 2), (1, 0.1, 1), (None, 2, None), (None, None, None)],
)
def test_window_is_the_product(chunk_size, ratio, window):
    """It is never more than the product, except that one item must be allowed; without `chunk_size` there is none."""
    assert check_window(chunk_size, ratio) == window
