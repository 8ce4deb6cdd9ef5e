"""Items, results, exceptions and workers that make trouble on their way: each costs itself and no other."""

from __future__ import annotations

import pickle
import threading

import psutil
import pytest

from mtasklite import DeferredExceptions, Pool, RemoteError, SerializationError, WorkerDiedError, WorkerInitError
from mtasklite.errors import RemoteTraceback
from mtasklite.tests import workers
from mtasklite.tests.workers import PROCESSES, Mute, Spoilt, SpoiltError, everyone, failures

pytestmark = pytest.mark.timeout(60)

N_ITEMS = 100

LEAVING = ["__reduce__", "__getstate__"]
ARRIVING = "__setstate__"
MINE = LookupError("not this one")
NO_EXCEPTIONS = [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), workers.Doom("really")]

SPAWNING = ["spawn", "forkserver"]
"""Where a worker is pickled; a fork has it anyway."""

HUGE = (2 << 30) + 1024


def _places(bad):
    return [5 + 10 * number for number in range(len(bad))]


def _items(bad):
    """Return many quick items, and bad ones among them."""
    items = list(range(N_ITEMS))
    for place, item in zip(_places(bad), bad):
        items[place] = item
    return items


def _outcomes(worker, *bad, expected=None, **kwargs):
    """Return the failures of bad items among many; all others must have the values that are expected."""
    results = list(Pool(worker, exception_behavior="ignore", **kwargs)(_items(bad)))
    failed = failures(results, expected or _items(bad))
    assert list(failed) == _places(bad)
    return list(failed.values())


def _outcomes_of_items(*bad, **kwargs):
    return _outcomes(workers.type_name, *bad, expected=["int"] * N_ITEMS, **kwargs)


# ---- items


@pytest.mark.parametrize("place", [*LEAVING, ARRIVING])
def test_item_that_raises_on_its_way_costs_itself(process_kwargs, place):
    """An item that raises while it is pickled or unpickled is a `SerializationError` that says what was raised."""
    (error,) = _outcomes_of_items(Spoilt(place, MINE), **process_kwargs)
    assert type(error) is SerializationError
    assert "not this one" in str(error)
    assert error.__cause__ is not None


def test_items_that_raise_what_is_no_exception_in_the_worker_cost_themselves(process_kwargs):
    """What `except Exception` lets through, raised while an item is unpickled, is that item's error too."""
    errors = _outcomes_of_items(*(Spoilt(ARRIVING, raised) for raised in NO_EXCEPTIONS), **process_kwargs)
    for error, raised in zip(errors, NO_EXCEPTIONS):
        assert type(error) is SerializationError
        assert type(raised).__name__ in str(error)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_item_that_raises_what_is_no_exception_here_ends_the_iteration(process_kwargs, raised):
    """Raised in this process it is what a Ctrl-C or a signal handler raises, so it comes through; nothing is left."""
    before = everyone()
    pool = Pool(workers.type_name, exception_behavior="ignore", **process_kwargs)
    with pytest.raises(type(raised)):
        list(pool(_items([Spoilt("__getstate__", raised)])))
    assert everyone() == before
    assert list(pool([1])) == ["int"]


@pytest.mark.parametrize("how", ["os._exit", "SIGKILL"])
def test_item_that_kills_while_it_is_unpickled_costs_itself(process_kwargs, how):
    """A worker that dies over an item before it started any costs that item, and the error does not speak of others."""
    (error,) = _outcomes_of_items(Spoilt(ARRIVING, how), **process_kwargs)
    assert type(error) is WorkerDiedError
    assert error.item_index == 5
    assert "not yet sent" not in str(error)


def test_items_that_are_nested_too_deep_cost_themselves(process_kwargs):
    """A recursion error of the pickler is those items' `SerializationError`."""
    for error in _outcomes_of_items(workers.nest(100_000), workers.nest(100_000), **process_kwargs):
        assert type(error) is SerializationError
        assert "Recursion" in str(error)


def test_item_that_cannot_travel_is_not_tried_for_ever(process_kwargs):
    """With `retries` it fails as often as it may, and then for good."""
    (error,) = _outcomes_of_items(Spoilt("__getstate__", MINE), retries=2, **process_kwargs)
    assert type(error) is SerializationError


def test_item_that_cannot_travel_is_raised_in_mode_immediate(process_kwargs):
    """In mode `immediate` it is raised, and the pool goes on with other input."""
    with Pool(workers.type_name, **process_kwargs) as pool:
        for place in (*LEAVING, ARRIVING):
            with pytest.raises(SerializationError, match="not this one"):
                list(pool(_items([Spoilt(place, MINE)])))
        assert list(pool([1])) == ["int"]


# ---- results


@pytest.mark.parametrize("place", [*LEAVING, ARRIVING])
def test_result_that_raises_on_its_way_costs_itself(process_kwargs, place):
    """A result that raises while it is pickled or unpickled is a `SerializationError` that says what was raised."""
    (error,) = _outcomes(workers.make, (Spoilt, place, MINE), **process_kwargs)
    assert type(error) is SerializationError
    assert "not this one" in str(error)
    assert error.__cause__ is not None


@pytest.mark.parametrize("place", LEAVING)
def test_results_that_raise_what_is_no_exception_in_the_worker_cost_themselves(process_kwargs, place):
    """What `except Exception` lets through, raised while a result is pickled, is that item's error too."""
    errors = _outcomes(workers.make, *((Spoilt, place, raised) for raised in NO_EXCEPTIONS), **process_kwargs)
    for error, raised in zip(errors, NO_EXCEPTIONS):
        assert type(error) is SerializationError
        assert type(raised).__name__ in str(error)


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_result_that_raises_what_is_no_exception_here_ends_the_iteration(process_kwargs, raised):
    """Raised in this process it is what a Ctrl-C or a signal handler raises, so it comes through; nothing is left."""
    before = everyone()
    pool = Pool(workers.make, exception_behavior="ignore", **process_kwargs)
    with pytest.raises(type(raised)):
        list(pool(_items([(Spoilt, ARRIVING, raised)])))
    assert everyone() == before
    assert list(pool([1])) == [1]


def test_results_that_kill_while_they_are_pickled_cost_themselves_one_by_one(process_kwargs):
    """A worker that dies while it packs a result has run that item; where items go one by one, no other is lost."""
    bad = [(Spoilt, "__getstate__", "os._exit"), (Spoilt, "__getstate__", "SIGKILL")]
    errors = _outcomes(workers.make, *bad, chunk_size=1, **process_kwargs)
    assert [(type(error), error.item_index) for error in errors] == [(WorkerDiedError, place) for place in _places(bad)]


def test_results_that_are_nested_too_deep_cost_themselves(process_kwargs):
    """A recursion error of the worker's pickler is that item's `SerializationError`."""
    results = list(Pool(workers.nest_on_odd, exception_behavior="ignore", **process_kwargs)(range(20)))
    assert [type(result) for result in results] == [int, SerializationError] * 10
    assert "Recursion" in str(results[1])


def test_results_that_cannot_travel_are_raised_together_in_mode_deferred(process_kwargs):
    """In mode `deferred` they are among the exceptions at the end."""
    items = [(Spoilt, place, MINE) for place in (*LEAVING, ARRIVING)]
    with pytest.raises(DeferredExceptions) as caught:
        list(Pool(workers.make, exception_behavior="deferred", **process_kwargs)(items))
    assert [type(error) for error in caught.value.args] == [SerializationError] * 3


# ---- over 2 GiB


def _has_room():
    return psutil.virtual_memory().available >= 12 << 30


@pytest.mark.slow
@pytest.mark.skipif(not _has_room(), reason="there are less than 12 GiB of memory")
@pytest.mark.timeout(300)
def test_item_of_more_than_two_gib_arrives():
    """The length of a message is not limited to 31 bits on the way out."""
    sizes = list(Pool(len, **PROCESSES["fork"])([b"x", bytes(HUGE), b"yz"]))
    assert sizes == [1, HUGE, 2]


@pytest.mark.slow
@pytest.mark.skipif(not _has_room(), reason="there are less than 12 GiB of memory")
@pytest.mark.timeout(300)
def test_result_of_more_than_two_gib_arrives():
    """The length of a message is not limited to 31 bits on the way home."""
    sizes = [len(result) for result in Pool(bytes, **PROCESSES["fork"])([1, HUGE, 2])]
    assert sizes == [1, HUGE, 2]


# ---- exceptions


@pytest.mark.parametrize("place", ["__reduce__", ARRIVING])
def test_exceptions_that_raise_on_their_way_are_remote_errors(process_kwargs, place):
    """An exception that cannot be pickled, or not be rebuilt, for whatever is raised, arrives as a `RemoteError`."""
    bad = [(SpoiltError, place, raised) for raised in (MINE, *NO_EXCEPTIONS)]
    for error in _outcomes(workers.make, *bad, **process_kwargs):
        assert type(error) is RemoteError
        assert error.type_name.endswith("SpoiltError")
        assert "in make" in error.traceback


def test_exceptions_that_kill_while_they_are_pickled_cost_themselves_one_by_one(process_kwargs):
    """A worker that dies while it packs an exception costs that item."""
    bad = [(SpoiltError, "__reduce__", "os._exit"), (SpoiltError, "__reduce__", "SIGKILL")]
    errors = _outcomes(workers.make, *bad, chunk_size=1, **process_kwargs)
    assert [(type(error), error.item_index) for error in errors] == [(WorkerDiedError, place) for place in _places(bad)]


def test_exceptions_that_hold_a_lock_are_remote_errors_among_quick_items(process_kwargs):
    """What an exception holds is tried before it is sent, and costs no other item of its batch."""
    errors = _outcomes(workers.make, (workers.HoldingALock, "held"), (workers.HoldingALock, "too"), **process_kwargs)
    assert [(type(error), error.text) for error in errors] == [(RemoteError, "held"), (RemoteError, "too")]


def test_exception_with_a_long_chain_of_causes_arrives(process_kwargs):
    """Ten thousand causes fail neither the pickler nor the text of the traceback."""
    items = range(10)
    results = list(Pool(workers.fail_with_a_long_chain, exception_behavior="ignore", **process_kwargs)(items))
    failed = failures(results, items)
    assert list(failed) == [1, 3, 5, 7, 9]
    assert {(type(error), error.args) for error in failed.values()} == {(ValueError, (9999,))}
    assert all(type(error.__cause__) is RemoteTraceback for error in failed.values())
    assert "ValueError: 9999" in str(failed[1].__cause__)


def test_exceptions_that_raise_when_asked_for_their_text_cost_themselves(parallel_kwargs):
    """An exception whose `__str__` and `__repr__` raise, whatever they raise, is its item's error."""
    bad = [(Mute, raised) for raised in (MINE, *NO_EXCEPTIONS)]
    errors = _outcomes(workers.make, *bad, **parallel_kwargs)
    assert {type(error) for error in errors} <= {Mute, RemoteError}


def test_exception_that_raises_when_asked_for_its_text_arrives_in_each_mode(parallel_kwargs):
    """It is raised, handed out, or raised with others, as any other; and the sum of them has a text."""
    items = [(Mute, ValueError("no text"))]
    with pytest.raises(Mute):
        list(Pool(workers.make, **parallel_kwargs)(items))
    with pytest.raises(DeferredExceptions) as caught:
        list(Pool(workers.make, exception_behavior="deferred", **parallel_kwargs)(items))
    assert [type(error) for error in caught.value.args] == [Mute]
    assert "Mute" in str(caught.value)


def test_trouble_that_cannot_be_told_is_a_serialization_error(process_kwargs):
    """Where what the pickler meets cannot be shown, the item has its error all the same."""
    bad = [(Spoilt, place, Mute(MINE)) for place in (*LEAVING, ARRIVING)]
    errors = _outcomes(workers.make, *bad, **process_kwargs)
    assert [type(error) for error in errors] == [SerializationError] * 3


# ---- workers


@pytest.mark.parametrize("method", SPAWNING)
@pytest.mark.parametrize("place", [*LEAVING, ARRIVING])
@pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")
def test_worker_that_raises_on_its_way_is_worker_init_error(method, place):
    """A worker that raises while it is pickled or unpickled could not be made, which says what was raised."""
    worker = Spoilt(place, MINE)
    with pytest.raises(WorkerInitError, match="not this one") as caught:
        list(Pool(worker, exception_behavior="ignore", **PROCESSES[method])(range(10)))
    assert type(caught.value.__cause__) is SerializationError


@pytest.mark.parametrize("method", SPAWNING)
@pytest.mark.parametrize("how", [*NO_EXCEPTIONS, "os._exit", "SIGKILL"], ids=repr)
@pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")
def test_worker_that_ends_its_process_on_its_way_is_worker_init_error(method, how):
    """The same for one that raises what is no `Exception` there, or that kills."""
    with pytest.raises(WorkerInitError):
        list(Pool(Spoilt(ARRIVING, how), exception_behavior="ignore", **PROCESSES[method])(range(10)))


@pytest.mark.parametrize("method", SPAWNING)
@pytest.mark.parametrize("place", LEAVING)
def test_worker_that_raises_what_is_no_exception_here_leaves_nothing(method, place):
    """Raised in this process it is what a Ctrl-C raises, so it comes through."""
    before = everyone()
    with pytest.raises(KeyboardInterrupt):
        list(Pool(Spoilt(place, KeyboardInterrupt()), **PROCESSES[method])(range(10)))
    assert everyone() == before


@pytest.mark.parametrize("place", [*LEAVING, ARRIVING])
def test_worker_that_cannot_be_pickled_works_where_it_need_not_be(place):
    """A forked process has the worker already, and a thread uses the very object."""
    worker = Spoilt(place, MINE)
    assert list(Pool(worker, **PROCESSES["fork"])(range(10))) == list(range(10))
    assert list(Pool(worker, 2, use_threads=True)(range(10))) == list(range(10))


@pytest.mark.filterwarnings("ignore:all . items failed:RuntimeWarning")
def test_nothing_is_pickled_in_threads(parallel_kwargs):
    """What makes trouble on its way makes none where it need not go."""
    items = [Spoilt("__getstate__", MINE), threading.Lock()]
    results = list(Pool(workers.type_name, exception_behavior="ignore", **parallel_kwargs)(items))
    expected = [str, str] if "use_threads" in parallel_kwargs else [SerializationError, SerializationError]
    assert [type(result) for result in results] == expected


def test_what_cannot_be_pickled_here_is_what_pickle_says():
    """The troubles of these tests are what they say."""
    for place in LEAVING:
        with pytest.raises(LookupError):
            pickle.dumps(Spoilt(place, LookupError()))
    blob = pickle.dumps(Spoilt(ARRIVING, LookupError()))
    with pytest.raises(LookupError):
        pickle.loads(blob)
    with pytest.raises(RecursionError):
        pickle.dumps(workers.nest(100_000))
