"""What the engine knows of one worker."""

from __future__ import annotations

import pytest

from mtasklite._messages import NOWHERE, SOMEWHERE, Receipt, Run
from mtasklite._slots import Sent, Slot
from mtasklite.tests.scripted import FailedError, make_batch, make_slot


def make_run(first, n_values, failures=None):
    """Build a run of a worker in slot 0."""
    return Run(0, first, list(range(first, first + n_values)), failures or {}, 1.0)


def test_slot_may_not_be_given_a_batch_before_its_worker_is_up():
    """A worker that is not up gets nothing."""
    assert not Slot(0).may_be_given_a_batch


def test_slot_may_be_given_a_batch_when_idle():
    """A worker that is up and holds nothing may be given a batch, whatever its speed."""
    assert make_slot().may_be_given_a_batch


@pytest.mark.parametrize("is_quick", [True, False])
def test_second_batch_is_for_quick_workers(is_quick):
    """A quick worker may be given a second batch; a slow one may not."""
    assert make_slot(make_batch(0, 1), is_quick=is_quick).may_be_given_a_batch is is_quick


def test_third_batch_is_for_none():
    """No worker gets a third batch."""
    assert not make_slot(make_batch(0, 1), make_batch(1, 1), is_quick=True).may_be_given_a_batch


def test_slot_may_not_be_given_a_batch_when_given_up():
    """A slot that was given up gets nothing."""
    slot = make_slot()
    slot.is_live = False
    assert not slot.may_be_given_a_batch


def test_quota_counts_items_sent():
    """Each item that a worker is given counts."""
    slot = make_slot(make_batch(0, 3), is_quick=True, max_tasks=5)
    assert slot.quota == 2
    assert slot.may_be_given_a_batch
    slot.add(Sent(make_batch(3, 2), Receipt()))
    assert not slot.may_be_given_a_batch


def test_slot_is_spent_when_its_last_item_is_answered():
    """A worker has done all it may do when its quota is used up and it holds nothing."""
    slot = make_slot(make_batch(0, 2), max_tasks=2)
    assert not slot.is_spent
    slot.batches.clear()
    assert slot.is_spent


@pytest.mark.parametrize(("name", "value"), [("is_live", False), ("is_ready", False), ("quota", 1), ("quota", None)])
def test_slot_is_not_spent_unless_all_is_so(name, value):
    """Only a live worker that is up and has used up its quota is spent."""
    slot = make_slot(make_batch(0, 2), max_tasks=2)
    slot.batches.clear()
    setattr(slot, name, value)
    assert not slot.is_spent


def test_restart_gives_a_new_quota():
    """A new worker holds nothing, is not up, may do as much as the first, and is not late."""
    slot = make_slot(make_batch(0, 2), max_tasks=2)
    slot.late_item = 0
    slot.restart()
    assert (slot.batches, slot.is_ready, slot.quota, slot.late_item) == ([], False, 2, None)


def test_let_go_keeps_the_quota():
    """A worker that is told to drop its batches is the same worker."""
    slot = make_slot(make_batch(0, 2), max_tasks=5)
    slot.let_go()
    assert (slot.batches, slot.is_ready, slot.quota) == ([], False, 3)


def test_answered_items_are_not_held():
    """A worker holds what it was sent and has not answered."""
    slot = make_slot(make_batch(10, 2), make_batch(12, 2), is_quick=True)
    slot.batches[0].receive(make_run(10, 1))
    assert [number for number in range(8, 16) if slot.holds(number)] == [11, 12, 13]


def test_run_belongs_to_the_batch_that_it_continues():
    """A run is told by its first item."""
    slot = make_slot(make_batch(10, 2), make_batch(12, 2), is_quick=True)
    slot.batches[0].receive(make_run(10, 1))
    assert slot.batch_of(make_run(11, 1)) is slot.batches[0]


@pytest.mark.parametrize("first", [9, 11, 12])
def test_run_is_refused_when_it_continues_no_batch(first):
    """A run that fits no batch is a fault that must not pass."""
    with pytest.raises(LookupError, match=f"worker 0 answered item {first}, which it does not hold"):
        make_slot(make_batch(10, 2)).batch_of(make_run(first, 1))


def test_foretold_failures_are_among_those_of_the_run_that_answers_them():
    """What could not be sent fails when the worker's answer comes to it, and only then."""
    error, other = FailedError("unsendable"), FailedError("raised")
    sent = Sent(make_batch(10, 4), Receipt(failures={2: error}))
    assert sent.receive(make_run(10, 2)) == ([], {})
    assert sent.receive(make_run(12, 2, {1: other})) == ([12, 13], {0: error, 1: other})


def test_failures_of_a_run_are_left_as_they_are():
    """A run is not changed by what the receipt adds."""
    run = make_run(10, 1)
    Sent(make_batch(10, 1), Receipt(failures={0: FailedError()})).receive(run)
    assert run.failures == {}


def split_numbers(slot, current):
    """Return what `split` gives, as lists of sequence numbers; the items are their own numbers."""
    may_have_run, not_started = slot.split(current)
    assert all(number == item for number, item in may_have_run)
    assert all(batch.items == make_batch(batch.first, len(batch.items)).items for batch in not_started)
    return [number for number, _ in may_have_run], [batch.items for batch in not_started]


@pytest.mark.parametrize(
    ("current", "may_have_run", "not_started"),
    [
        (NOWHERE, [], [[11, 12], [20, 21]]),
        (10, [], [[11, 12], [20, 21]]),
        (3, [], [[11, 12], [20, 21]]),
        (11, [11], [[12], [20, 21]]),
        (12, [11, 12], [[20, 21]]),
        (20, [11, 12, 20], [[21]]),
        (21, [11, 12, 20, 21], []),
    ],
)
def test_what_a_worker_held_is_divided_at_the_item_it_started_last(current, may_have_run, not_started):
    """All up to the item that was started last may have run; all behind it surely has not."""
    slot = make_slot(make_batch(10, 3), make_batch(20, 2), is_quick=True)
    slot.batches[0].receive(make_run(10, 1))
    assert split_numbers(slot, current) == (may_have_run, not_started)


@pytest.mark.parametrize("current", [50, 51])
def test_what_ran_before_a_cut_may_have_run_when_the_worker_dies_at_the_cut(current):
    """It says on the board which item it begins before it learns that it may not."""
    slot = make_slot(make_batch(0, 100))
    slot.is_asked = True
    slot.take_back(0, 51)
    slot.batches[0].receive(make_run(0, 48))
    may_have_run, not_started = slot.split(current)
    assert [number for number, _ in may_have_run] == [48, 49, 50]
    assert not_started == []


def test_all_that_a_worker_held_may_have_run_when_nobody_knows_where_it_was():
    """Of a worker that is lost with its machine, nothing that it had not answered surely did not start."""
    slot = make_slot(make_batch(10, 3), make_batch(20, 2), is_quick=True)
    slot.batches[0].receive(make_run(10, 1))
    assert split_numbers(slot, SOMEWHERE) == ([11, 12, 20, 21], [])


def test_what_was_given_back_has_not_run_though_nobody_knows_where_the_worker_was():
    """What a worker had given back before it was lost is with others already."""
    slot = make_slot(make_batch(0, 100))
    slot.is_asked = True
    slot.take_back(0, 51)
    slot.batches[0].receive(make_run(0, 48))
    assert split_numbers(slot, SOMEWHERE) == ([48, 49, 50], [])


def test_division_goes_by_the_order_of_work_when_a_retried_item_stands_behind():
    """A retried item has a smaller number than what the worker was given before it."""
    slot = make_slot(make_batch(10, 2), make_batch(3, 1), is_quick=True)
    assert split_numbers(slot, 10) == ([10], [[11], [3]])
    assert split_numbers(slot, 3) == ([10, 11, 3], [])
