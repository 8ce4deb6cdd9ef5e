"""How many items the next batch takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtasklite._batching import AHEAD_SECONDS, BATCH_SECONDS, MAX_BATCH_ITEMS, PREFETCH_SECONDS, Pace


def make_pace(*runs):
    """Build a pace from runs, each of its number of items and its seconds; each was a whole batch."""
    pace = Pace()
    for n_items, seconds in runs:
        pace.record(n_items, seconds)
        pace.grow()
    return pace


def test_first_batch_is_one_item():
    """Nothing is known of a new worker, so its first batch is one item, and nothing is read ahead for it."""
    pace = Pace()
    assert (pace.batch_size, pace.items_ahead, pace.seconds_per_item) == (1, 0, None)


def test_batch_grows_fourfold_when_items_are_quick():
    """A batch grows fourfold at a time, however quick the items are."""
    pace, sizes = Pace(), []
    for _ in range(4):
        pace.record(pace.batch_size, 1e-6 * pace.batch_size)
        pace.grow()
        sizes.append(pace.batch_size)
    assert sizes == [4, 16, 64, 256]


def test_batch_does_not_grow_before_one_is_done():
    """A part of a batch does not make the next one larger."""
    pace = Pace()
    pace.record(1, 1e-6)
    assert pace.batch_size == 1


def test_batch_aims_at_its_seconds_when_speed_is_steady():
    """Once it has grown, a batch is 8 ms of work."""
    pace = make_pace(*[(10, 10 * 0.0001)] * 10)
    assert pace.batch_size == pytest.approx(BATCH_SECONDS / 0.0001, abs=1)


def test_batch_shrinks_at_once_when_items_turn_slow():
    """A slow run makes the next batch small without waiting for the end of a batch."""
    pace = make_pace(*[(50, 0.005)] * 10)
    assert pace.batch_size >= 40
    pace.record(1, 10.0)
    assert pace.batch_size == 1


def test_batch_grows_again_when_the_slow_run_is_long_ago():
    """Only the latest runs count, so that one slow run does not keep batches small for ever."""
    pace = make_pace((1, 10.0), *[(1, 0.0001)] * 8)
    assert pace.batch_size == pytest.approx(BATCH_SECONDS / 0.0001, abs=1)


def test_memory_is_short_when_runs_are_tiny():
    """A change of speed is noticed within 32 runs, also where those are too short to add up to 0.25 s."""
    pace = make_pace(*[(1, 0.001)] * 32, *[(1, 0.0001)] * 32)
    assert pace.seconds_per_item == pytest.approx(0.0001)


def test_latest_run_counts_however_long():
    """One run that is longer than the memory is remembered."""
    assert make_pace((1, 0.001), (2, 100.0)).seconds_per_item == 50.0


def test_batch_has_a_most_when_items_take_no_time():
    """No speed makes a batch larger than its cap."""
    assert make_pace(*[(1 << 20, 0.0)] * 20).batch_size == MAX_BATCH_ITEMS


@pytest.mark.parametrize(("seconds", "is_quick"), [(PREFETCH_SECONDS, True), (PREFETCH_SECONDS * 1.01, False)])
def test_worker_is_quick_up_to_the_limit(seconds, is_quick):
    """A worker is quick if its items take no longer than 50 ms."""
    assert make_pace((1, seconds)).is_quick is is_quick


def test_worker_is_not_quick_before_its_first_item():
    """A worker of unknown speed is not taken to be quick."""
    assert not Pace().is_quick


def test_items_ahead_go_by_the_typical_item_when_one_is_slow():
    """One slow item does not shrink what is read ahead, as it shrinks the batch."""
    pace = make_pace(*[(1, 0.001)] * 5, (1, 0.1))
    assert pace.items_ahead == pytest.approx(AHEAD_SECONDS / 0.001, abs=1)
    assert pace.batch_size == 1


def test_items_ahead_is_at_least_one_when_items_are_slow():
    """A worker that is known has at least one item ahead."""
    assert make_pace((1, 100.0)).items_ahead == 1


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1000)), min_size=1, max_size=80))
def test_batch_stays_within_bounds_whatever_the_speed(runs):
    """A batch has one item or more, grows at most fourfold, and never grows within a batch."""
    pace = Pace()
    for n_items, seconds in runs:
        before = pace.batch_size
        pace.record(n_items, seconds)
        assert 1 <= pace.batch_size <= before
        before = pace.batch_size
        pace.grow()
        assert before <= pace.batch_size <= min(4 * before, MAX_BATCH_ITEMS)
        assert pace.items_ahead >= 1


def test_batches_are_longer_where_messages_cost_more():
    """With a scale of 4, batches and what is read ahead take four times as long."""
    plain, scaled = Pace(), Pace()
    scaled.scale = 4.0
    for pace in (plain, scaled):
        for _ in range(12):
            pace.record(pace.batch_size, 1e-4 * pace.batch_size)
            pace.grow()
    assert scaled.batch_size == pytest.approx(4 * plain.batch_size, rel=0.05)
    assert scaled.items_ahead == pytest.approx(4 * plain.items_ahead, rel=0.05)
