"""Items that wait behind a long one are given to workers that have nothing to do."""

from __future__ import annotations

import math
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from mtasklite import Pool
from mtasklite._inbox import Inbox
from mtasklite._messages import NOWHERE, Returned
from mtasklite._status import AT, new_board
from mtasklite._worker import WorkerLoop
from mtasklite.tests.scripted import Bench, done, make_batch, make_slot
from mtasklite.tests.workers import wait_until

# ---- what the worker gives back


def make_inbox(at, *batches):
    """Return an inbox with batches in it, and the board of a worker that is at this item."""
    inbox, board = Inbox(), new_board()
    board[AT] = at
    for batch in batches:
        inbox.put(batch)
    return inbox, board


def test_waiting_batches_are_given_back_whole():
    """What the worker has not taken from its inbox is counted, and no longer in it."""
    inbox, board = make_inbox(NOWHERE, "one", "two")
    assert inbox.take_back(board) == (2, NOWHERE)
    assert inbox.empty()


def test_rest_of_the_batch_at_hand_is_given_back():
    """The item that the worker is at is the last of its batch that it works on."""
    inbox, board = make_inbox(7, "next")
    assert inbox.take_back(board) == (1, 8)
    assert not inbox.forbids(7)
    assert inbox.forbids(8)


def test_item_that_is_begun_meanwhile_is_kept():
    """Where the worker goes on while it is asked, the limit follows."""
    inbox = Inbox()
    places = iter([7, 7, 8, 8, 8, 8])

    class Board(list):
        def __getitem__(self, index):
            return next(places)

    assert inbox.take_back(Board()) == (0, 9)
    assert not inbox.forbids(8)


def test_second_question_takes_nothing_more():
    """What was given back once is not the worker's any more, though it may be about to look."""
    inbox, board = make_inbox(7)
    inbox.take_back(board)
    board[AT] = 8
    assert inbox.take_back(board) == (0, NOWHERE)
    assert inbox.forbids(8)


def test_limit_is_for_one_batch():
    """The next batch may have any numbers, for what was given back may come again."""
    inbox, board = make_inbox(7)
    inbox.take_back(board)
    inbox.begin_batch()
    assert not inbox.forbids(8)


def test_cancelled_worker_gives_nothing_back():
    """What it was told to drop is nobody's any more."""
    inbox, board = make_inbox(7, "next")
    inbox.cancel()
    assert inbox.take_back(board) == (0, NOWHERE)
    assert inbox.get() is Inbox.CANCELLED
    assert inbox.forbids(7)


def test_item_that_may_not_be_begun_is_not_the_one_the_worker_is_at():
    """A death right after that is charged to the item before it."""
    inbox, board = make_inbox(NOWHERE)

    def call(item):
        if item == "second":
            inbox.take_back(board)
        return item

    seen = []
    loop = WorkerLoop(call, inbox, board, lambda finished: seen.append((finished.values, board[AT])), None)
    loop.work(10, ["first", "second", "third"], {})
    assert seen == [(["first", "second"], 11)]


# ---- what is known of it


def test_slot_gives_back_waiting_batches_and_the_rest_of_another():
    """It comes in the order of the input, and the worker keeps what it has begun."""
    slot = make_slot(make_batch(0, 4), make_batch(4, 2))
    slot.is_asked = True
    assert slot.take_back(1, 2) == [make_batch(2, 2), make_batch(4, 2)]
    assert [sent.batch for sent in slot.batches] == [make_batch(0, 2)]
    assert (slot.is_asked, slot.is_cut) == (False, True)


def test_what_was_given_back_does_not_count_against_the_quota():
    """Only items that a worker may begin count."""
    slot = make_slot(make_batch(0, 4), max_tasks=5)
    slot.take_back(0, 1)
    assert slot.quota == 4


@pytest.mark.parametrize(("n_batches", "n_left"), [(0, 2), (1, 1), (2, 0)])
def test_slot_whose_batch_at_hand_was_not_cut_may_be_asked_again(n_batches, n_left):
    """A worker that was unpickling gave back what waited, and may have to give back what it unpickles."""
    slot = make_slot(make_batch(0, 4), make_batch(4, 2))
    slot.is_asked = True
    slot.take_back(n_batches, NOWHERE)
    assert (slot.is_asked, slot.is_cut) == (False, False)
    assert slot.may_be_asked is (n_left > 0)


# ---- who is asked, and who gets it


def make_bench(n_items=100):
    """Return a bench where worker 0 has a batch of several items, and all of the input, and worker 1 has nothing."""
    bench = Bench(range(n_items), n_slots=2)
    taken = 0
    while not bench.engine.is_over and bench.n_read < n_items:
        bench.supply()
        for slot in (0, 1):
            while bench.slots[slot].batches and (slot == 1 or bench.n_read < n_items):
                bench.answer(slot, seconds_each=0.0005)
        taken += len(bench.take_all())
    while bench.slots[1].batches:
        bench.answer(1, seconds_each=0.0005)
    bench.supply()
    return bench, taken + len(bench.take_all())


def test_nobody_is_asked_while_all_have_something_to_do():
    """Taking back is for the idle."""
    bench = Bench(range(100), n_slots=2)
    bench.supply()
    assert not bench.engine.may_take_back


def test_worker_that_holds_more_than_one_item_is_asked_once():
    """Until it has answered it need not be asked again."""
    bench, _ = make_bench()
    assert bench.engine.may_take_back
    assert bench.engine.take_back() == [0]
    assert not bench.engine.may_take_back
    assert bench.engine.take_back() == []


def test_items_that_were_given_back_go_to_the_others():
    """The worker that gave them back gets none of them before it has answered what it kept."""
    bench, n_taken = make_bench()
    bench.engine.take_back()
    held = bench.slots[0].batches
    first = held[0].next_number + 1
    bench.engine.on_returned(Returned(0, len(held) - 1, first))
    sent = bench.supply()
    assert {slot for slot, _ in sent} == {1}
    assert sent[0][1][0] == first
    assert bench.finish(0.0005) == [done(item) for item in range(n_taken, 100)]


def test_answer_that_came_before_what_is_given_back_ends_the_batch():
    """The worker may end its last item while the rest is on its way back."""
    bench, _ = make_bench()
    bench.engine.take_back()
    held = bench.slots[0].batches
    bench.answer(0, 1, seconds_each=0.0005)
    bench.engine.on_returned(Returned(0, len(held) - 1, held[0].next_number))
    assert bench.slots[0].batches == []
    assert bench.slots[0].may_be_given_a_batch


def test_worker_that_was_asked_is_given_nothing_before_it_answers():
    """What it gives back is counted from the last batch that it has, so that must not change meanwhile."""
    bench, _ = make_bench()
    bench.engine.take_back()
    held = bench.slots[0].batches
    first, n_batches = held[0].next_number + 1, len(held) - 1
    while bench.slots[0].batches:
        bench.answer(0, seconds_each=0.0005)
    assert {slot for slot, _ in bench.supply()} <= {1}
    bench.engine.on_returned(Returned(0, 0, first))
    assert n_batches >= 0
    assert bench.slots[0].may_be_given_a_batch


def test_what_comes_back_from_a_given_up_iteration_is_dropped():
    """The worker was told to drop it, and does not hold it any more."""
    bench, _ = make_bench()
    bench.engine.take_back()
    bench.engine.abandon()
    bench.engine.on_returned(Returned(0, 1, NOWHERE))
    assert bench.engine.next_want() is None


def test_queued_items_are_divided_among_all_workers():
    """The last items are not sent to the first worker that asks: smaller batches, so that all end together."""
    bench, _ = make_bench(n_items=2000)
    bench.engine.take_back()
    held = bench.slots[0].batches
    n_back = held[0].end_number - held[0].next_number - 1 + sum(len(sent.batch.items) for sent in held[1:])
    bench.engine.on_returned(Returned(0, len(held) - 1, held[0].next_number + 1))
    ((_, items), *_) = bench.supply(1)
    assert len(items) <= max(1, n_back // 4)


# ---- in a pool


def meet(folder, item):
    """Return short items; wait in the others until all of these have begun."""
    if item < 0:
        (Path(folder) / str(item)).touch()
        wait_until(lambda: len(list(Path(folder).iterdir())) == 2)
    return item


@pytest.mark.parametrize("n_short", [1, 300, 30_000])
def test_items_that_wait_for_each_other_meet(parallel_kwargs, tmp_path, n_short):
    """However short those before were, two long items side by side run at the same time when two workers are there."""
    items = [*range(n_short), -1, -2, *range(100)]
    pool = Pool(partial(meet, str(tmp_path)), **parallel_kwargs)
    assert list(pool(items)) == items


def test_items_behind_a_long_one_are_done_meanwhile(parallel_kwargs, tmp_path):
    """None of the others waits for it, if the results may come in any order."""
    done_in_order = []
    with Pool(partial(meet_late, str(tmp_path)), is_unordered=True, **parallel_kwargs) as pool:
        for result in pool([*range(300), -1, *range(300, 500)]):
            done_in_order.append(result)
            if len(done_in_order) == 500:
                (tmp_path / "go").touch()
    assert done_in_order[-1] == -1
    assert sorted(done_in_order) == [-1, *range(500)]


def meet_late(folder, item):
    """Return short items; wait in the other until it is let go on."""
    if item < 0:
        wait_until((Path(folder) / "go").exists)
    return item


class SlowToUnpickle:
    """An item that takes its time to arrive."""

    def __init__(self, item):
        self.item = item

    def __reduce__(self):
        return _arrive_slowly, (self.item,)


def _arrive_slowly(item):
    time.sleep(0.1)
    return item


def test_items_that_wait_for_each_other_meet_though_they_are_slow_to_arrive(process_kwargs, tmp_path):
    """A worker that is asked while it unpickles is asked again."""
    items = [*range(300), SlowToUnpickle(-1), -2, *range(100)]
    results = list(Pool(partial(meet, str(tmp_path)), **process_kwargs)(items))
    assert results == [*range(300), -1, -2, *range(100)]


def test_max_tasks_per_child_holds_when_items_are_taken_back(process_kwargs, tmp_path):
    """No worker begins more items than it may, though some of those that it was given went elsewhere."""
    items = [*range(300), -1, -2, *range(100)]
    pool = Pool(partial(meet, str(tmp_path)), max_tasks_per_child=150, **process_kwargs)
    assert list(pool(items)) == items


@pytest.fixture
def many_switches():
    """Let threads take turns after each few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_worker_and_asker_agree_on_each_item(many_switches):
    """A worker and one who asks, as fast as they can: each item is begun, or given back, and never both."""
    inbox, board = Inbox(), new_board()
    begun, first_back = [], {}

    def work():
        for batch in range(5000):
            inbox.begin_batch()
            for item in range(batch * 8, batch * 8 + 8):
                board[AT] = item
                if item >= inbox.limit and inbox.forbids(item):
                    break
                begun.append(item)
                time.sleep(0)  # here the other one comes to its turn, and elsewhere too
            board[AT] = NOWHERE

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        _, first = inbox.take_back(board)
        if first != NOWHERE:
            first_back[(first - 1) // 8] = first
    thread.join()
    assert any(first % 8 for first in first_back.values())
    assert begun == [item for item in range(40_000) if item < first_back.get(item // 8, math.inf)]
