"""How far the input may be read ahead."""

from __future__ import annotations

import pytest

from mtasklite._window import MAX_WINDOW_BYTES, UNLIMITED, Weight, Window


def make_window(n_held=0, n_items=None, is_bounded=True, item_bytes=0, n_sent=0):
    """Build a window in which so many items are held, and so many of them are with workers."""
    window = Window(n_items, is_bounded)
    window.on_read(n_held)
    window.on_sent(n_sent, item_bytes * n_sent)
    return window


def test_room_is_what_the_user_gave_less_what_is_held():
    """A fixed window counts each item read and not yet handed out, whatever the workers could do."""
    assert make_window(n_held=3, n_items=8).room(n_workers=100, items_ahead=1000) == 5


def test_room_is_none_when_a_fixed_window_is_full():
    """A full window has no room."""
    assert make_window(n_held=8, n_items=8).room(2, 1000) == 0


def test_room_returns_when_items_are_handed_out():
    """What is handed out makes room."""
    window = make_window(n_held=8, n_items=8)
    window.on_handed_out(3)
    assert window.room(2, 1000) == 3


def test_room_is_unlimited_when_not_bounded():
    """An unbounded window always has room."""
    assert make_window(n_held=10**9, n_items=8, is_bounded=False).room(1, 1) == UNLIMITED


@pytest.mark.parametrize(("items_ahead", "room"), [(0, 6), (5, 6), (7, 7), (500, 500)])
def test_room_goes_by_time_but_is_two_for_each_worker_at_least(items_ahead, room):
    """Without a `chunk_size`, there is room for what is done soon, and for two items a worker at least."""
    assert make_window().room(n_workers=3, items_ahead=items_ahead) == room


def test_room_is_what_fits_when_items_are_large():
    """Within its time, the window holds no more than 64 MiB of items."""
    window = make_window(n_held=2, item_bytes=1 << 20, n_sent=2)
    assert window.room(1, 1000) == 64 - 2


def test_room_is_what_fits_when_results_are_large():
    """Items and results both count for the 64 MiB."""
    window = make_window(n_held=2, item_bytes=1 << 20, n_sent=2)
    window.on_received(1, 3 << 20)
    assert window.room(1, 1000) == 16 - 2


def test_room_is_the_least_when_what_is_sent_fills_the_memory():
    """With 64 MiB under way, only the least is held, also if the latest items are small."""
    window = make_window(n_held=1, item_bytes=MAX_WINDOW_BYTES, n_sent=1)
    for _ in range(30):
        window.on_sent(1, 0)
    assert window.room(2, 1000) == 4 - 1
    window.on_batch_left(MAX_WINDOW_BYTES)
    assert window.room(2, 1000) > 4


def test_room_is_the_least_when_what_came_back_fills_the_memory():
    """With 64 MiB of results that wait for the consumer, only the least is held."""
    window = make_window(n_held=31)
    window.on_received(1, MAX_WINDOW_BYTES)
    for _ in range(30):
        window.on_received(1, 0)
    assert window.room(20, 1000) == 40 - 31
    window.on_handed_out(31)
    assert window.room(20, 1000) > 40


def test_bytes_leave_in_proportion_when_some_results_are_handed_out():
    """Each result that is handed out takes its share of the bytes with it."""
    window = make_window(n_held=34)
    window.on_received(4, MAX_WINDOW_BYTES + 4)
    for _ in range(30):
        window.on_sent(1, 0)
        window.on_received(1, 0)
    assert window.room(1, 1000) == 2 - 34
    window.on_handed_out(17)
    assert window.room(1, 1000) > 0


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
