"""How far the input may be read ahead."""

from __future__ import annotations

import pytest

from mtasklite._window import MAX_WINDOW_BYTES, UNLIMITED, Weight, Window

MEBI = 1 << 20


def make_window(n_held=0, n_items=None, is_bounded=True, item_bytes=0, n_sent=0, **limits):
    """Build a window in which so many items are held, and so many of them are with workers."""
    window = Window(n_items, is_bounded, **limits)
    window.on_read(n_held)
    window.on_sent(n_sent, item_bytes * n_sent)
    return window


def finish(window, n_items, n_bytes=0):
    """Let so many items be finished."""
    window.on_received(n_items, n_bytes)
    window.on_finished(n_items, n_bytes)


def room_of(window, n_workers=2, items_ahead=1000, is_consumer_waiting=False):
    """Return the room while the consumer is away, or waits."""
    return window.room(n_workers, items_ahead, is_consumer_waiting)


@pytest.mark.parametrize("is_consumer_waiting", [False, True])
def test_fixed_window_counts_each_item_read_and_not_yet_handed_out(is_consumer_waiting):
    window = make_window(n_held=3, n_items=8)
    finish(window, 2)
    assert room_of(window, 100, is_consumer_waiting=is_consumer_waiting) == 5


def test_fixed_window_has_no_room_when_it_is_full():
    assert room_of(make_window(n_held=8, n_items=8)) == 0


def test_what_is_handed_out_makes_room():
    window = make_window(n_held=8, n_items=8)
    finish(window, 8)
    window.on_handed_out(3, 0)
    assert room_of(window) == 3


def test_room_is_unlimited_when_not_bounded():
    assert room_of(make_window(n_held=10**9, n_items=8, is_bounded=False)) == UNLIMITED


@pytest.mark.parametrize("is_consumer_waiting", [False, True])
@pytest.mark.parametrize(("items_ahead", "room"), [(0, 6), (5, 6), (7, 7), (500, 500)])
def test_room_goes_by_time_but_is_two_for_each_worker_at_least(items_ahead, room, is_consumer_waiting):
    assert room_of(make_window(), 3, items_ahead, is_consumer_waiting) == room


def test_finished_items_take_no_room_while_the_consumer_waits():
    window = make_window(n_held=500)
    finish(window, 495)
    assert room_of(window, 2, 20, is_consumer_waiting=True) == 20 - 5


def test_finished_items_take_room_while_the_consumer_is_away():
    window = make_window(n_held=500)
    finish(window, 495)
    assert room_of(window, 2, 20) == 20 - 500


def test_no_more_outcomes_wait_than_may():
    window = make_window(n_held=95, max_waiting=100)
    finish(window, 90)
    assert room_of(window, 2, 50, is_consumer_waiting=True) == 100 - 95
    finish(window, 5)
    window.on_read(5)
    assert room_of(window, 2, 50, is_consumer_waiting=True) == 0


def test_any_number_of_outcomes_waits_where_all_are_kept():
    window = make_window(n_held=10**6, max_waiting=None)
    finish(window, 10**6, 2 * MAX_WINDOW_BYTES)
    assert room_of(window, 2, 50) > 0
    assert not window.is_heavy


def test_finished_bytes_leave_room_for_what_still_fits_while_the_consumer_waits():
    window = make_window(n_held=42)
    finish(window, 40, 40 * MEBI)
    assert room_of(window, 2, 1000, is_consumer_waiting=True) == 64 - 42


def test_no_more_is_read_while_the_consumer_waits_when_finished_bytes_fill_the_memory():
    window = make_window(n_held=66)
    finish(window, 64, 64 * MEBI)
    assert room_of(window, 2, 1000, is_consumer_waiting=True) <= 0


def test_outcomes_are_heavy_from_half_of_the_memory_on():
    window = make_window(n_held=40)
    finish(window, 31, 31 * MEBI)
    assert not window.is_heavy
    finish(window, 1, MEBI)
    assert window.is_heavy


def test_room_is_what_fits_when_items_are_large():
    window = make_window(n_held=2, item_bytes=MEBI, n_sent=2)
    assert room_of(window, 1) == 64 - 2


def test_room_is_what_fits_when_results_are_large():
    window = make_window(n_held=2, item_bytes=MEBI, n_sent=2)
    finish(window, 1, 3 * MEBI)
    assert room_of(window, 1) == 16 - 2


def test_room_is_the_least_when_what_is_sent_fills_the_memory():
    """Also if the latest items are small."""
    window = make_window(n_held=1, item_bytes=MAX_WINDOW_BYTES, n_sent=1)
    for _ in range(30):
        window.on_sent(1, 0)
    assert room_of(window) == 4 - 1
    window.on_batch_left(MAX_WINDOW_BYTES)
    assert room_of(window) > 4


def test_room_is_the_least_when_what_came_back_fills_the_memory():
    window = make_window(n_held=31)
    finish(window, 1, MAX_WINDOW_BYTES)
    for _ in range(30):
        finish(window, 1)
    assert room_of(window, 20) == 40 - 31
    window.on_handed_out(31, MAX_WINDOW_BYTES)
    assert room_of(window, 20) > 40


def test_weight_goes_up_at_once_when_an_item_is_heavy():
    """A heavy item is noticed in full."""
    weight = Weight()
    weight.record(10, 10)
    weight.record(1, 1000)
    assert weight.bytes_per_item == 1000


def test_weight_goes_down_by_halves_when_items_turn_light():
    """A light item does not make the heavy one forgotten."""
    weight = Weight()
    weight.record(1, 1000)
    weight.record(1, 0)
    assert weight.bytes_per_item == 500


def test_weight_stays_when_nothing_came():
    """No items say nothing of the weight."""
    weight = Weight()
    weight.record(1, 1000)
    weight.record(0, 0)
    assert weight.bytes_per_item == 1000


@pytest.mark.parametrize(("n_bytes", "n_items"), [(1000, 10), (50, 1), (0, 1)])
def test_items_that_fit_are_one_at_least(n_bytes, n_items):
    """However heavy the items are, one is let through."""
    weight = Weight()
    weight.record(1, 100)
    assert weight.items_in(n_bytes) == n_items


def test_items_that_fit_are_unlimited_when_nothing_is_pickled():
    """Where nothing is pickled, bytes limit nothing."""
    assert Weight().items_in(0) == UNLIMITED
