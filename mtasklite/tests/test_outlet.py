"""Order, or none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtasklite._outlet import AsTheyCome, InOrder

MOST = 1 << 62


def take_all(outlet, most=MOST):
    """Take until there is nothing, at most so many at a time."""
    taken = []
    while outlet.has_some:
        values = outlet.take(most)
        assert 0 < len(values) <= most
        taken += values
    return taken


def test_values_come_in_input_order_when_runs_arrive_in_any():
    """Runs are handed out in the order of the input."""
    outlet = InOrder(first=10)
    outlet.put(12, ["c"])
    outlet.put(10, ["a", "b"])
    outlet.put(13, ["d"])
    assert take_all(outlet) == ["a", "b", "c", "d"]


def test_values_wait_while_an_earlier_one_is_missing():
    """What stands behind a gap is not handed out."""
    outlet = InOrder(first=0)
    outlet.put(1, ["b"])
    assert not outlet.has_some
    assert outlet.take(MOST) == []


def test_values_come_as_they_arrived_when_order_does_not_matter():
    """Runs are handed out in the order of arrival."""
    outlet = AsTheyCome()
    outlet.put(2, ["c"])
    outlet.put(0, ["a", "b"])
    assert take_all(outlet) == ["c", "a", "b"]


@pytest.mark.parametrize("make", [AsTheyCome, lambda: InOrder(0)])
def test_run_is_cut_when_less_is_asked_for(make):
    """No more is handed out than was asked for, and the rest stays."""
    outlet = make()
    outlet.put(0, [0, 1, 2])
    assert outlet.take(2) == [0, 1]
    assert outlet.take(2) == [2]
    assert not outlet.has_some


@pytest.mark.parametrize("make", [AsTheyCome, lambda: InOrder(0)])
def test_nothing_is_handed_out_when_nothing_came(make):
    """An empty outlet gives an empty list, and an empty run adds nothing."""
    outlet = make()
    outlet.put(0, [])
    assert not outlet.has_some
    assert outlet.take(MOST) == []


@settings(derandomize=True, deadline=None, database=None)
@given(st.data(), st.lists(st.integers(1, 5), max_size=12), st.integers(1, 7), st.booleans())
def test_each_value_comes_once_whatever_the_runs(data, sizes, most, is_ordered):
    """Any runs, in any order of arrival, are handed out whole, and in input order where that is asked for."""
    runs, first = [], 5
    for size in sizes:
        runs.append((first, list(range(first, first + size))))
        first += size
    outlet = InOrder(5) if is_ordered else AsTheyCome()
    taken = []
    for number, values in data.draw(st.permutations(runs)):
        outlet.put(number, values)
        taken += take_all(outlet, most)
    assert (taken if is_ordered else sorted(taken)) == list(range(5, first))
