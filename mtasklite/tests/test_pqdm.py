"""`pqdm`: a pool's results with a progress bar, called as the package of that name is."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import os
import threading
from functools import partial

import pytest
import tqdm
import tqdm.auto

import mtasklite.processes
import mtasklite.threads
from mtasklite import (
    ArgumentPassing,
    DeferredExceptions,
    ExceptionBehaviour,
    Pool,
    _postfix,
    delayed_init,
    is_exception,
)
from mtasklite.tests import workers
from mtasklite.tests.workers import LIMIT_SECONDS, everyone, wait_until

FUNCTIONS = {"processes": mtasklite.processes.pqdm, "threads": mtasklite.threads.pqdm}


@pytest.fixture(params=list(FUNCTIONS))
def pqdm(request):
    """`pqdm` with workers in processes, and in threads."""
    return FUNCTIONS[request.param]


@pytest.fixture
def screen():
    """Where the bar is drawn."""
    return io.StringIO()


def last_line(screen):
    """Return what a person sees in the end."""
    return screen.getvalue().strip().rpartition("\r")[2]


# ---- the arguments


@pytest.mark.parametrize("kind", list(FUNCTIONS))
def test_signature_of_pqdm_is_that_of_the_contract(kind):
    """`pqdm` takes the published arguments in the published order, and `lazy` by keyword only."""
    parameters = inspect.signature(FUNCTIONS[kind]).parameters
    by_position = [name for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert by_position == [
        "input_iterable",
        "worker_or_worker_arr",
        "n_jobs",
        "argument_type",
        "bounded",
        "exception_behaviour",
        "use_threads",
        "tqdm_class",
    ]
    defaults = {name: parameters[name].default for name in by_position[2:]}
    assert defaults == {
        "n_jobs": None,
        "argument_type": "single_arg",
        "bounded": True,
        "exception_behaviour": "ignore",
        "use_threads": kind == "threads",
        "tqdm_class": tqdm.auto.tqdm,
    }
    assert parameters["lazy"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["lazy"].default is True


def test_all_arguments_by_position_are_taken(pqdm):
    """`pqdm` can be called with all published arguments by position."""
    bar = pqdm([(1, 2), (3, 4)], workers.add, 2, "args", False, "deferred", True, tqdm.tqdm, disable=True)
    assert list(bar) == [3, 7]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_are_those_of_map(pqdm, n_jobs, n_elem):
    """`pqdm` gives what `map` gives."""
    results = list(pqdm(range(n_elem), workers.square, n_jobs=n_jobs, disable=True))
    assert results == [item * item for item in range(n_elem)]


def test_doors_choose_where_work_is_done():
    """Each module's `pqdm` works where its name says; `use_threads` overrides it."""
    processes, threads = FUNCTIONS["processes"], FUNCTIONS["threads"]
    places = [
        {pid == os.getpid() for pid, _ in function(range(4), workers.where, 2, disable=True, **kwargs)}
        for function, kwargs in [
            (processes, {}),
            (threads, {}),
            (processes, {"use_threads": True}),
            (threads, {"use_threads": False}),
        ]
    ]
    assert places == [{False}, {True}, {True}, {False}]


def test_names_of_the_package_pqdm_are_taken(pqdm):
    """`array=` and `function=` are the input and the worker."""
    assert list(pqdm(array=[1, 2], function=workers.square, n_jobs=2, disable=True)) == [1, 4]


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"array": [1], "worker_or_worker_arr": abs}, "input_iterable"),
        ({"function": abs}, "worker_or_worker_arr"),
    ],
    ids=["input", "worker"],
)
def test_argument_given_by_both_its_names_raises(pqdm, kwargs, text):
    """Both names of one argument together are a `TypeError`."""
    with pytest.raises(TypeError, match=text):
        pqdm([1], **{"worker_or_worker_arr": workers.square, **kwargs})


@pytest.mark.parametrize(
    ("args", "text"), [([], "input_iterable"), ([[1]], "worker_or_worker_arr")], ids=["input", "worker"]
)
def test_missing_argument_raises(pqdm, args, text):
    """Without input or worker the call is a `TypeError` that names what is missing."""
    with pytest.raises(TypeError, match=f"`{text}` is missing"):
        pqdm(*args)


@pytest.mark.parametrize(
    ("argument_type", "item", "expected"),
    [
        (None, 1, 101),
        ("single_arg", 1, 101),
        ("direct", 1, 101),
        ("args", (1, 2), 3),
        ("kwargs", {"first": 1, "second": 2}, 3),
        (ArgumentPassing.AS_ARGS, (1, 2), 3),
        (ArgumentPassing.DIRECT, 1, 101),
    ],
)
def test_argument_type_says_how_a_worker_is_called(pqdm, argument_type, item, expected):
    """Each argument type is a way to call the worker; None is pqdm's word for a single one."""
    assert list(pqdm([item], workers.add, 2, argument_type=argument_type, disable=True)) == [expected]


def test_arguments_of_pool_go_to_the_pool(pqdm):
    """What `Pool` has a parameter for goes there."""
    source = workers.Source(range(100))
    results = pqdm(source, workers.square, 2, chunk_size=2, chunk_prefill_ratio=2, is_unordered=True, disable=True)
    assert sorted(source.consume(results)) == [item * item for item in range(100)]
    assert source.most_ahead <= 4


def test_new_arguments_of_pool_go_to_the_pool(pqdm, tmp_path):
    """The pool's new arguments can be given to `pqdm`."""
    worker = partial(workers.fail_unless_exists, folder=tmp_path)
    assert list(pqdm([1, 2], worker, 2, retries=1, max_tasks_per_child=1, disable=True)) == [1, 2]


def test_arguments_of_tqdm_go_to_the_bar(pqdm, screen):
    """What `Pool` does not know goes to the bar."""
    list(pqdm([1, 2], workers.square, 2, desc="my work", unit="page", file=screen, ncols=80))
    assert last_line(screen).startswith("my work: 100%")
    assert "page/s" in last_line(screen)


@pytest.mark.parametrize("lazy", [True, False])
def test_unknown_argument_raises_before_anything_starts(pqdm, lazy):
    """An argument that nobody knows is a `TypeError` that names it, and no worker is started."""
    before = everyone()
    with pytest.raises(TypeError, match="colour_of_bar"):
        pqdm([1], workers.square, 2, colour_of_bar="red", lazy=lazy)
    assert everyone() == before


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"n_jobs": "many"}, TypeError),
        ({"lazy": "no"}, TypeError),
        ({"exception_behaviour": "shrug"}, ValueError),
        ({"argument_type": "star"}, ValueError),
        ({"tqdm_class": 5}, TypeError),
        ({"input_iterable": 5}, TypeError),
        ({"worker_or_worker_arr": workers.AddTo}, TypeError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_argument_raises_before_anything_starts(pqdm, kwargs, error):
    """A wrong argument raises from the call, and no worker is started."""
    before = everyone()
    with pytest.raises(error, match=next(iter(kwargs))):
        pqdm(**{"input_iterable": [1], "worker_or_worker_arr": workers.square, "n_jobs": 2, **kwargs})
    assert everyone() == before


# ---- exceptions


def test_ignore_is_the_default(pqdm):
    """`pqdm` hands exceptions out in their items' places if nothing else is asked for."""
    results = list(pqdm(range(4), workers.fail_on_odd, 2, disable=True))
    assert [type(result) for result in results] == [int, ValueError, int, ValueError]


@pytest.mark.parametrize("spelling", ["exception_behaviour", "exception_behavior"])
@pytest.mark.parametrize("mode", ["immediate", ExceptionBehaviour.IMMEDIATE])
def test_exception_mode_is_spelled_either_way(pqdm, spelling, mode):
    """Both spellings choose the mode."""
    with pytest.raises(ZeroDivisionError):
        list(pqdm([0], workers.divide_by, 2, disable=True, **{spelling: mode}))


def test_exception_mode_spelled_both_ways_raises(pqdm):
    """Both spellings together are a `TypeError`, even if they agree."""
    with pytest.raises(TypeError, match="same argument"):
        pqdm([0], workers.divide_by, 2, exception_behaviour="ignore", exception_behavior="ignore")


def test_deferred_raises_all_at_the_end(pqdm):
    """In mode `deferred` one exception comes at the end, with all of them in input order."""
    results = pqdm(range(6), workers.fail_on_odd, 2, exception_behaviour="deferred", disable=True)
    taken = [next(results) for _ in range(6)]
    assert [is_exception(result) for result in taken] == [False, True] * 3
    with pytest.raises(DeferredExceptions) as caught:
        next(results)
    assert [str(error) for error in caught.value.args] == ["odd: 1", "odd: 3", "odd: 5"]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("mode", ["ignore", "deferred"])
def test_bar_says_how_many_items_failed(pqdm, n_jobs, mode, screen):
    """Where exceptions are handed out, the bar shows how many there were."""
    results = pqdm(range(7), workers.fail_on_odd, n_jobs, exception_behaviour=mode, file=screen, ncols=80)
    if mode == "deferred":
        with pytest.raises(DeferredExceptions):
            list(results)
    else:
        list(results)
    assert "errors=3" in last_line(screen)


def test_bar_says_nothing_of_errors_without_any(pqdm, screen):
    """Where nothing failed the bar does not speak of errors."""
    list(pqdm(range(7), workers.square, 2, file=screen, ncols=80))
    assert "errors" not in screen.getvalue()


# ---- the bar


def generator(items):
    """An input that knows nothing of its length."""
    yield from items


@pytest.mark.parametrize("make_input", [list, iter, generator], ids=["sized", "hinted", "unsized"])
def test_bar_counts_all_items(pqdm, make_input, screen):
    """The bar ends at 100 % where the length is known, and with a count where it is not."""
    list(pqdm(make_input([1] * 30), workers.square, 2, file=screen, ncols=80))
    if make_input is not generator:
        assert "100%" in last_line(screen)
        assert "30/30" in last_line(screen)
    else:
        assert "30it" in last_line(screen)
        assert "%" not in screen.getvalue()


@delayed_init
class SlowToBegin:
    """Is made when an event is set."""

    def __init__(self, event):
        event.wait(60)

    def __call__(self, item):
        return item


def test_bar_says_how_many_workers_are_up_while_some_are_not(screen):
    """A model that takes a minute to load is no hang; once all are up there is nothing to say."""
    loaded = [threading.Event(), threading.Event()]

    def watch():
        for n_up, event in enumerate(loaded):
            wait_until(lambda n_up=n_up: f"workers={n_up}/2" in screen.getvalue())
            event.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    shells = [SlowToBegin(event) for event in loaded]
    assert list(mtasklite.threads.pqdm(range(2000), shells, file=screen, ncols=80)) == [*range(2000)]
    watcher.join()
    assert "workers" not in last_line(screen)
    assert screen.getvalue().count("workers=1/2") < 20  # not at each result that came meanwhile


def test_bar_says_nothing_of_workers_that_start_soon(pqdm, screen, monkeypatch):
    """It would only flicker."""
    monkeypatch.setattr(_postfix, "QUIET_SECONDS", LIMIT_SECONDS)
    list(pqdm([1] * 30, workers.square, 2, file=screen, ncols=80))
    assert "workers" not in screen.getvalue()


def test_postfix_of_the_user_stays(pqdm, screen):
    """What the user shows behind the bar stands before the number of errors."""
    list(pqdm([1, "a", 2], workers.square, 2, file=screen, ncols=100, postfix={"epoch": 3}))
    assert "epoch=3, errors=1" in last_line(screen)


def test_bar_starts_from_zero(pqdm, screen):
    """The bar is there, at 0 %, with the first result at the latest."""
    with pqdm(range(4), workers.square, 2, file=screen, ncols=80) as results:
        next(results)
    assert "0%" in screen.getvalue()
    assert "0/4" in screen.getvalue()


def test_bar_takes_the_users_total(pqdm, screen):
    """A `total` that is given stands, also for an input without a length."""
    results = pqdm(iter(range(10)), workers.square, 2, total=10, file=screen, ncols=80)
    assert len(list(results)) == 10
    assert results.tqdm_obj.total == 10
    assert "10/10" in last_line(screen)


def test_bar_of_empty_input_ends(pqdm, screen):
    """An empty input gives no result, and a bar that says so."""
    assert list(pqdm([], workers.square, 2, file=screen, ncols=80)) == []
    assert "0it" in last_line(screen)


def test_bar_is_one(pqdm, screen):
    """One bar is drawn, on one line."""
    list(pqdm(range(5), workers.square, 2, file=screen, ncols=80))
    assert screen.getvalue().count("\n") == 1


@pytest.mark.parametrize("how", ["break", "close", "with", "exception"])
def test_bar_is_closed_with_its_results(pqdm, how, screen):
    """When the consumer stops, for any reason, the bar is closed and the workers end."""
    before = everyone()
    results = pqdm(itertools.count(), workers.square, 2, file=screen, ncols=80)
    _stop(results, how)
    bar = results.tqdm_obj
    results.close()
    assert bar.disable  # which is how tqdm says that it is closed
    assert screen.getvalue().endswith("\n")
    assert everyone() == before


def _stop(results, how):
    if how == "with":
        with results:
            next(results)
    elif how == "close":
        next(results)
        results.close()
    elif how == "break":
        for _ in results:
            break
    else:
        with pytest.raises(LookupError):
            _fail(results)


def _fail(results):
    for _ in results:
        raise LookupError("of the consumer")


@pytest.mark.parametrize("how", ["close", "with"])
def test_bar_that_is_left_early_shows_what_was_taken(pqdm, how, screen):
    """A bar that is not drawn again before it is closed still stands where it was left, not where it was last drawn."""
    bar = pqdm(range(100), workers.square, 2, file=screen, mininterval=600, miniters=1000)
    with bar if how == "with" else contextlib.closing(bar) as results:
        assert len(list(itertools.islice(results, 26))) == 26
    assert "25/100" in last_line(screen)  # tqdm counts a result when the next one is asked for


def test_bar_is_closed_by_break_from_the_only_reference(pqdm, screen):
    """A `for` loop over the call itself, left with `break`, closes the bar and leaves nothing."""
    before = everyone()
    for _ in pqdm(itertools.count(), workers.square, 2, file=screen, ncols=80):
        break
    assert screen.getvalue().endswith("\n")
    assert everyone() == before


def test_bar_is_closed_when_a_worker_fails(pqdm, screen):
    """When a worker's exception is raised, the bar is closed."""
    results = pqdm(range(9), workers.fail_on_odd, 2, exception_behaviour="immediate", file=screen, ncols=80)
    with pytest.raises(ValueError, match="odd"):
        list(results)
    assert screen.getvalue().endswith("\n")


def test_bar_may_be_of_another_class(pqdm, screen):
    """`tqdm_class` makes the bar, with the arguments meant for it."""

    class Loud(tqdm.tqdm):
        def __init__(self, *args, loudness, **kwargs):
            self.loudness = loudness
            super().__init__(*args, **kwargs)

    results = pqdm([1, 2], workers.square, 2, tqdm_class=Loud, loudness=11, file=screen)
    assert list(results) == [1, 4]
    assert type(results.tqdm_obj) is Loud
    assert results.tqdm_obj.loudness == 11


# ---- the iterator


def test_result_knows_its_bar_and_its_pool(pqdm):
    """The result has `tqdm_obj` and `pool_obj`, the pool's iterator, whose `parent_obj` is the pool."""
    with pqdm(range(3), workers.square, 2, disable=True) as results:
        assert isinstance(results.tqdm_obj, tqdm.auto.tqdm)
        pool = results.pool_obj.parent_obj
        assert isinstance(pool, Pool)
        assert pool.num_workers == 2
        assert pool.exited is False
        assert list(results) == [0, 1, 4]
    assert pool.exited is True


def test_result_can_be_described_while_it_runs(pqdm, screen):
    """`tqdm_obj` can be written to from the loop."""
    with pqdm(range(3), workers.square, 2, file=screen, ncols=80) as results:
        for result in results:
            results.tqdm_obj.set_description(f"last: {result}")
    assert last_line(screen).startswith("last: 4")


def test_result_is_lazy(pqdm):
    """Nothing is read and nothing is started before the first `next()`."""
    before = everyone()
    source = workers.Source(range(10))
    results = pqdm(source, workers.square, 2, disable=True)
    assert source.n_read == 0
    assert everyone() == before
    results.close()


def test_result_has_the_length_of_its_input(pqdm):
    """The result has a length where the input has."""
    assert len(pqdm(range(3), workers.square, 2)) == 3
    with pytest.raises(TypeError):
        len(pqdm(iter([1]), workers.square, 2))


@pytest.mark.parametrize("make_input", [list, iter], ids=["sized", "unsized"])
def test_not_lazy_returns_a_list(pqdm, make_input, screen):
    """With `lazy=False` all the work is done in the call, which returns a plain list."""
    results = pqdm(make_input([1, 2, 3]), workers.square, 2, lazy=False, file=screen, ncols=80)
    assert type(results) is list
    assert results == [1, 4, 9]
    assert "3" in last_line(screen)


@pytest.mark.parametrize(("mode", "error"), [("immediate", ValueError), ("deferred", DeferredExceptions)])
def test_not_lazy_raises_from_the_call(pqdm, mode, error):
    """With `lazy=False` the modes that raise do so from the call."""
    with pytest.raises(error):
        pqdm(range(6), workers.fail_on_odd, 2, exception_behaviour=mode, lazy=False, disable=True)


def test_not_lazy_hands_out_exceptions(pqdm):
    """With `lazy=False` mode `ignore` leaves the exceptions in the list."""
    results = pqdm(range(4), workers.fail_on_odd, 2, lazy=False, disable=True)
    assert [type(result) for result in results] == [int, ValueError, int, ValueError]


def test_stateful_workers_are_taken(pqdm):
    """Shells and lists of workers work as in a pool."""
    assert list(pqdm([1, 2, 3], [workers.AddTo(1), workers.AddTo(1)], disable=True)) == [2, 3, 4]


def test_pqdm_works_in_a_thread_that_is_not_main(pqdm, screen):
    """The bar and its workers work in any thread."""
    taken = []
    thread = threading.Thread(
        target=lambda: taken.extend(pqdm(range(5), workers.square, 2, file=screen, exception_behaviour="immediate"))
    )
    thread.start()
    thread.join()
    assert taken == [0, 1, 4, 9, 16]
