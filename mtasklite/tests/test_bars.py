"""Progress bars of all kinds: each ends with the right count, whatever it looks like and wherever it is drawn."""

from __future__ import annotations

import importlib
import io

import matplotlib
import pytest
import tqdm

from mtasklite import processes, threads
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
