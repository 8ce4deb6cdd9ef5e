"""Exceptions that are falsy, or forbid that their attributes are set, or cannot be hashed or compared."""

from __future__ import annotations

import pytest

from mtasklite import Pool, WorkerInitError, delayed_init
from mtasklite.processes import pqdm

BACKENDS = {
    "inline": {"n_jobs": 1},
    "threads": {"n_jobs": 2, "use_threads": True},
    "fork": {"n_jobs": 2, "start_method": "fork"},
    "spawn": {"n_jobs": 2, "start_method": "spawn"},
}
ALL_BACKENDS = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "spawn"])


class EmptyError(Exception):
    def __len__(self):
        return 0


class FalseError(Exception):
    def __bool__(self):
        return False


class UndecidedError(Exception):
    def __bool__(self):
        raise ArithmeticError("neither true nor false")


class FrozenError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(f"{name} is not to be set")


class UncomparableError(Exception):
    __hash__ = None

    def __eq__(self, other):
        raise ArithmeticError("not to be compared")


KINDS = [EmptyError, FalseError, UndecidedError, FrozenError, UncomparableError]
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)


class Failing:
    """Raises an exception of this kind at the items from 3 to 5."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, item):
        if 3 <= item <= 5:
            raise self.kind(item)
        return item


@delayed_init
class NotMade:
    def __init__(self, kind):
        raise kind("constructor")

    def __call__(self, item):
        return item


@delayed_init
class NotLeft:
    def __init__(self, kind):
        self.kind = kind

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        raise self.kind("exit")

    def __call__(self, item):
        return item


class NotUnpickled:
    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return _raise, (self.kind,)


def _raise(kind):
    raise kind("unpickled")


def _failing_input(kind, n_items):
    yield from range(n_items)
    raise kind("input")


@ALL_KINDS
@pytest.mark.parametrize("backend", BACKENDS)
def test_exception_of_a_task_stands_in_its_items_place(kind, backend):
    results = list(Pool(Failing(kind), exception_behavior="ignore", **BACKENDS[backend])(range(20)))
    assert [type(result) for result in results] == [int] * 3 + [kind] * 3 + [int] * 14
    assert [result.args for result in results[3:6]] == [(3,), (4,), (5,)]


@ALL_KINDS
@ALL_BACKENDS
def test_exception_of_a_task_ends_the_iteration_when_immediate(kind, backend):
    with pytest.raises(kind):
        list(Pool(Failing(kind), retries=1, **BACKENDS[backend])(range(20)))


@ALL_KINDS
@ALL_BACKENDS
def test_exceptions_of_tasks_are_raised_together_at_the_end_when_deferred(kind, backend):
    results, pool = [], Pool(Failing(kind), exception_behavior="deferred", **BACKENDS[backend])
    with pytest.raises(Exception, match="3 items failed") as raised:
        results.extend(pool(range(20)))
    assert [type(error) for error in raised.value.args] == [kind] * 3


@ALL_KINDS
@ALL_BACKENDS
@pytest.mark.parametrize("lazy", [True, False])
def test_exceptions_are_counted_by_the_bar(kind, backend, lazy):
    results = pqdm(range(20), Failing(kind), disable=True, lazy=lazy, **BACKENDS[backend])
    assert sum(isinstance(result, kind) for result in results) == 3


@ALL_KINDS
@ALL_BACKENDS
@pytest.mark.parametrize("behaviour", ["immediate", "ignore", "deferred"])
@pytest.mark.parametrize("n_items", [0, 7])
def test_exception_of_the_input_is_raised_after_the_results_before_it(kind, backend, behaviour, n_items):
    results, pool = [], Pool(abs, exception_behavior=behaviour, **BACKENDS[backend])
    with pytest.raises(kind):
        results.extend(pool(_failing_input(kind, n_items)))
    assert len(results) <= n_items


@ALL_KINDS
@ALL_BACKENDS
@pytest.mark.parametrize("behaviour", ["immediate", "ignore", "deferred"])
def test_exception_of_a_constructor_is_the_cause_of_the_error(kind, backend, behaviour):
    with pytest.raises(WorkerInitError) as raised:
        list(Pool(NotMade(kind), exception_behavior=behaviour, **BACKENDS[backend])(range(5)))
    assert type(raised.value.__cause__) is kind


@ALL_KINDS
@ALL_BACKENDS
def test_exception_at_the_exit_of_a_worker_loses_no_result(kind, backend):
    with pytest.warns(RuntimeWarning, match="__exit__"):
        assert list(Pool(NotLeft(kind), **BACKENDS[backend])(range(5))) == list(range(5))


@ALL_KINDS
def test_exception_amid_unpickling_costs_its_own_item(kind):
    items = [1, NotUnpickled(kind), 2]
    results = list(Pool(_kind_of, exception_behavior="ignore", **BACKENDS["fork"])(items))
    assert [type(result).__name__ for result in results] == ["str", "SerializationError", "str"]


def _kind_of(item):
    return type(item).__name__
