"""Progress bars of all kinds: each ends with the right count, whatever it looks like and wherever it is drawn."""

from __future__ import annotations

import importlib
import io
import time
import types
from typing import ClassVar

import matplotlib
import pytest
import tqdm

from mtasklite import _postfix, processes, threads
from mtasklite.tests import workers

KINDS = ["tqdm.std", "tqdm.auto", "tqdm.asyncio", "tqdm.rich"]
OPTIONS = [{}, {"leave": False}, {"mininterval": 0}, {"mininterval": 60}, {"miniters": 7}, {"disable": True}]
N_ITEMS = 40


class OwnBar(tqdm.tqdm):
    """A bar that remembers all of its kind."""

    made: list[OwnBar] = []

    def __init__(self, *args, own=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.own = own
        self.made.append(self)


@pytest.fixture(params=["processes", "threads"])
def pqdm(request):
    """`pqdm` with workers in processes, and in threads."""
    return {"processes": processes.pqdm, "threads": threads.pqdm}[request.param]


@pytest.fixture
def items():
    """Some of which fail."""
    return [*range(N_ITEMS - 2), "a", "b"]


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bar_of_any_kind_counts_to_the_end(pqdm, kind, options, items, capsys):
    """It counts all items, says how many failed, and is closed; results are what they are without it."""
    results = pqdm(items, workers.square, 2, tqdm_class=importlib.import_module(kind).tqdm, **options)
    bar = results.tqdm_obj
    values = list(results)
    assert values[: N_ITEMS - 2] == [item * item for item in range(N_ITEMS - 2)]
    if not options.get("disable"):
        assert (bar.n, bar.total) == (N_ITEMS, N_ITEMS)
        assert bar.postfix == "errors=2"
        assert bar not in tqdm.tqdm._instances
    else:
        assert capsys.readouterr() == ("", "")


def test_bar_of_matplotlib_counts_to_the_end(items):
    """`tqdm.gui` draws in a window."""
    matplotlib.use("Agg")
    from tqdm.gui import tqdm as gui_tqdm

    results = threads.pqdm(items, workers.square, 2, tqdm_class=gui_tqdm, leave=False)
    with pytest.warns(tqdm.TqdmExperimentalWarning):
        bar = results.tqdm_obj
    assert len(list(results)) == N_ITEMS
    assert bar.n == N_ITEMS


def test_bar_of_a_class_of_the_users_gets_its_arguments(pqdm, items):
    """Those that `Pool` does not know are its own."""
    results = pqdm(items, workers.square, 2, tqdm_class=OwnBar, own="mine", file=io.StringIO(), total=100)
    assert len(list(results)) == N_ITEMS
    assert (results.tqdm_obj.own, results.tqdm_obj.total, results.tqdm_obj.n) == ("mine", 100, N_ITEMS)


def test_bars_may_be_nested(pqdm):
    """A bar around bars, each in its line."""
    screen = io.StringIO()
    totals = []
    for start in tqdm.tqdm(range(3), desc="outer", file=screen, position=0):
        inner = pqdm(range(start, start + 5), workers.square, 2, desc="inner", file=screen, position=1, mininterval=0)
        totals.append(sum(inner))
    assert totals == [30, 55, 90]
    assert "outer: 100%" in screen.getvalue()
    assert "inner: 100%" in screen.getvalue()


def test_bar_in_a_file_is_whole_lines(tmp_path, items):
    """Where output is redirected, nothing but bars is in the file, and the last one is at the end."""
    path = tmp_path / "log"
    with path.open("w") as file:
        list(threads.pqdm(items, workers.square, 2, file=file, ncols=80))
    last = path.read_text().rstrip().rpartition("\r")[2]
    assert f"{N_ITEMS}/{N_ITEMS}" in last
    assert "errors=2" in last


@pytest.mark.parametrize("total", [None, 7], ids=["unknown", "given"])
def test_total_may_be_given_where_it_is_not_known(pqdm, total):
    """Else the bar is a count."""
    results = pqdm((number for number in range(5)), workers.square, 2, file=io.StringIO(), total=total)
    assert list(results) == [0, 1, 4, 9, 16]
    assert results.tqdm_obj.total == total


# ---- results that wait for a slow one


class Recording(tqdm.tqdm):
    """A bar that notes what it counts and shows behind itself."""

    made: ClassVar[list] = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "file": io.StringIO()})
        self.postfixes = []
        Recording.made.append(self)

    def set_postfix(self, ordered_dict=None, refresh=True, **kwargs):
        self.postfixes.append(dict(ordered_dict or {}))
        super().set_postfix(ordered_dict, refresh, **kwargs)


@pytest.mark.parametrize("total", [20, None])
def test_bar_counts_what_is_finished_when_all_results_are_kept(total):
    """The first item ends when the bar has counted the nineteen others."""

    def wait_for_bar(number):
        end = time.monotonic() + 60
        while number == 0 and Recording.made[-1].n < 19:
            assert time.monotonic() < end, "the bar waits for the first item"
            time.sleep(0.001)
        return number

    numbers = range(20) if total else (number for number in range(20))
    results = threads.pqdm(numbers, wait_for_bar, n_jobs=2, lazy=False, tqdm_class=Recording)
    assert results == list(range(20))
    assert Recording.made[-1].n == 20
    assert Recording.made[-1].total == total


def test_bar_counts_errors_when_all_results_are_kept():
    threads.pqdm(range(20), lambda number: 1 / (number % 5), n_jobs=2, lazy=False, tqdm_class=Recording)
    assert Recording.made[-1].postfixes[-1] == {"errors": 4}


def test_bar_that_is_no_more_than_an_iterator_is_iterated_over():
    class Plain:
        def __init__(self, iterable, total=None):
            self._iterable = iterable

        def __iter__(self):
            return iter(self._iterable)

        def close(self):
            pass

    assert threads.pqdm(range(5), abs, n_jobs=2, lazy=False, tqdm_class=Plain) == list(range(5))


def test_bar_says_how_many_results_wait_when_a_slow_item_takes_long():
    def wait_for_postfix(number):
        end = time.monotonic() + 60
        while number == 0 and not any("waiting" in shown for shown in Recording.made[-1].postfixes):
            assert time.monotonic() < end, "the bar does not say that results wait"
            time.sleep(0.001)
        return number

    results = threads.pqdm(range(20), wait_for_postfix, n_jobs=2, tqdm_class=Recording)
    assert list(results) == list(range(20))
    assert {"waiting": 19} in Recording.made[-1].postfixes
    assert Recording.made[-1].postfixes[-1] == {}


def test_results_that_wait_for_a_moment_are_not_mentioned(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_postfix, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    postfix, bar = _postfix.Postfix(2, None), Recording(total=1)
    postfix.bar = lambda: bar
    for seconds, n_waiting, shown in ((0, 5, 0), (0.9, 6, 0), (0.2, 7, 1), (0.1, 7, 1), (0.1, 0, 2), (5, 3, 2)):
        now[0] += seconds
        postfix.on_waiting(n_waiting)
        assert len(bar.postfixes) == shown
    assert bar.postfixes == [{"waiting": 7}, {}]
    bar.close()
