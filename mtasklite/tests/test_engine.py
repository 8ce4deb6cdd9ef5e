"""The rules of a pool, without any worker: order, window, exceptions, retries, losses, deadlines."""

from __future__ import annotations

import itertools

import pytest

from mtasklite._batching import MAX_BATCH_ITEMS
from mtasklite._engine import MAX_IDLE_DEATHS
from mtasklite._messages import CONSTRUCTING, NOWHERE, SOMEWHERE, UNPACKING, FoundLate, Lost, Ready, Receipt, Run
from mtasklite._window import MAX_BATCH_BYTES, MAX_WINDOW_BYTES
from mtasklite.errors import DeferredExceptions, TaskTimeoutError, WorkerDiedError, WorkerInitError
from mtasklite.tests.scripted import Bench, FailedError, done, make_batch


def failing_input(n_items, error):
    """Yield so many items, then raise."""
    yield from range(n_items)
    raise error


def warm_up(bench, n_batches=4, seconds_each=0.0001):
    """Let every worker show that it is quick, until nothing is left with any."""
    for _ in range(n_batches):
        bench.supply()
        for slot in bench.slots:
            while slot.batches:
                bench.answer(slot.index, seconds_each=seconds_each)
    bench.take_all()


def sizes(sent):
    """Return the number of items of each batch that was sent."""
    return [len(items) for _, items in sent]


# ---- order


def test_outcomes_come_in_input_order_by_default():
    """A worker that is ahead waits for the one that is at an earlier item."""
    bench = Bench(range(2), n_slots=2)
    bench.supply()
    bench.answer(1)
    assert bench.take_all() == []
    bench.answer(0)
    assert bench.take_all() == [done(0), done(1)]


def test_outcomes_come_as_they_finish_when_unordered():
    """Without order, nobody waits for an earlier item."""
    bench = Bench(range(2), n_slots=2, is_unordered=True)
    bench.supply()
    bench.answer(1)
    assert bench.take_all() == [done(1)]
    bench.answer(0)
    assert bench.take_all() == [done(0)]


def test_order_starts_at_the_first_number_of_the_iteration():
    """Sequence numbers go on from one iteration to the next."""
    bench = Bench(["a", "b"], first=100)
    assert bench.finish() == [done("a"), done("b")]
    assert bench.engine.next_sequence_number == 102


def test_take_hands_out_no_more_than_is_asked_for():
    """A portion is as large as the driver says."""
    bench = Bench(range(3), is_unordered=True)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.answer()
    assert bench.engine.take(1) == [done(1)]
    assert bench.engine.has_outcomes
    assert bench.engine.take(5) == [done(2)]
    assert not bench.engine.has_outcomes


def test_part_of_a_batch_is_handed_out_when_it_comes():
    """Outcomes need not wait for the rest of their batch."""
    bench = Bench(range(10))
    warm_up(bench, n_batches=1)
    bench.supply(most=1)
    bench.answer(n_items=3)
    assert bench.take_all() == [done(1), done(2), done(3)]
    bench.answer()
    assert bench.take_all() == [done(4)]


# ---- end


def test_iteration_is_over_when_all_was_handed_out():
    """The end of the input is not the end: what is held is still to come."""
    bench = Bench(range(1))
    bench.supply()
    assert bench.supply() == []
    assert not bench.engine.is_over
    bench.answer()
    assert not bench.engine.is_over
    bench.supply()
    assert not bench.engine.is_over
    bench.take_all()
    assert bench.engine.is_over
    assert bench.engine.final_error() is None


def test_iteration_is_over_at_once_when_the_input_is_empty():
    """An empty input needs no worker to answer."""
    bench = Bench([])
    assert bench.supply() == []
    assert bench.engine.is_over
    assert bench.engine.final_error() is None


def test_iteration_is_not_over_before_the_input_was_read():
    """Nothing held is not the end."""
    assert not Bench([]).engine.is_over


def test_nothing_is_wanted_when_the_input_has_ended():
    """The input is not asked again after its end."""
    bench = Bench(range(1), n_slots=2)
    bench.engine.feed([0])
    bench.engine.end_input()
    assert bench.supply() == [(0, [0])]
    assert bench.engine.next_want() is None


# ---- who is given what


def test_nothing_is_wanted_while_no_worker_is_up():
    """Without a worker that is up, the input is not read."""
    bench = Bench(is_ready=False)
    assert bench.engine.next_want() is None
    bench.engine.on_ready(Ready(0))
    assert bench.engine.next_want() is not None


def test_each_worker_gets_one_item_when_nothing_is_known():
    """At the start, each worker gets one item and no more."""
    assert Bench(n_slots=3).supply() == [(0, [0]), (1, [1]), (2, [2])]


def test_workers_are_served_in_the_order_in_which_they_came_up():
    """Whoever waits longest is served first."""
    bench = Bench(n_slots=3, is_ready=False)
    for index in [2, 0, 1]:
        bench.engine.on_ready(Ready(index))
    assert [slot for slot, _ in bench.supply()] == [2, 0, 1]


def test_quick_worker_gets_a_second_batch():
    """A worker whose items are quick has a batch behind the one that it is at, and no third."""
    bench = Bench()
    warm_up(bench, n_batches=1, seconds_each=0.01)
    assert sizes(bench.supply()) == [1, 1]


def test_slow_worker_gets_no_second_batch():
    """A worker whose items are slow is given one batch at a time."""
    bench = Bench()
    warm_up(bench, n_batches=1, seconds_each=0.1)
    assert sizes(bench.supply()) == [1]


def test_idle_worker_is_served_before_one_that_has_a_batch():
    """No worker gets its second batch while another has none."""
    bench = Bench(n_slots=2, window=100)
    warm_up(bench, n_batches=1, seconds_each=0.01)
    assert [slot for slot, _ in bench.supply()] == [0, 1, 0, 1]


def test_worker_that_turns_slow_gets_no_second_batch():
    """A run that shows a worker to be slow takes it off the list at once."""
    bench = Bench()
    warm_up(bench, seconds_each=0.0001)
    bench.supply(most=1)
    bench.answer(n_items=2, seconds_each=10.0)
    assert bench.supply() == []


def test_worker_that_turns_out_quick_gets_a_second_batch_amid_the_first():
    """A run that shows a worker to be quick puts it on the list before its batch is at its end."""
    bench = Bench(window=100)
    bench.slots[0].pace.batch_size = 2
    assert bench.supply() == [(0, [0, 1])]
    bench.answer(n_items=1, seconds_each=0.0001)
    assert bench.supply() == [(0, [2, 3])]


def test_batches_grow_at_most_fourfold():
    """The next batch is at most four times the last."""
    bench = Bench()
    seen = []
    for _ in range(4):
        seen += sizes(bench.supply(most=1))
        bench.answer(seconds_each=1e-6)
    assert seen == [1, 4, 16, 64]


def test_batch_shrinks_at_once_when_a_run_is_slow():
    """After a slow run the next batch is one item."""
    bench = Bench()
    warm_up(bench)
    assert sizes(bench.supply(most=1)) == [80]
    bench.answer(seconds_each=1.0)
    bench.take_all()
    assert sizes(bench.supply()) == [1]


def test_batch_is_small_when_items_are_large():
    """An idle worker gets no more than 1 MiB at a time."""
    bench = Bench(item_bytes=MAX_BATCH_BYTES // 2)
    warm_up(bench, n_batches=6)
    assert sizes(bench.supply(most=1)) == [2]


def test_batch_is_what_fits_in_the_pipe_when_the_worker_is_busy():
    """What is queued behind a batch is no larger than the backend allows."""
    bench = Bench(item_bytes=100, max_ahead_bytes=500)
    warm_up(bench, n_batches=6)
    first, second = sizes(bench.supply())
    assert first > 5
    assert second == 5


def test_batch_is_no_larger_than_the_backend_takes():
    """A backend may set the most items of a batch."""
    bench = Bench(max_batch_items=3)
    warm_up(bench, n_batches=6)
    assert sizes(bench.supply()) == [3, 3]


@pytest.mark.parametrize(("item_bytes", "bytes_each"), [(100, 0), (0, 100), (100, 10)])
def test_batch_is_no_larger_than_the_backend_moves_at_once(item_bytes, bytes_each):
    """A backend may set the most bytes of a batch, and of its results, whether or not its worker is busy."""
    bench = Bench(item_bytes=item_bytes, max_message_bytes=700)
    for _ in range(6):
        bench.supply()
        while bench.slots[0].batches:
            bench.answer(seconds_each=0.0001, bytes_each=bytes_each)
        bench.take_all()
    assert sizes(bench.supply()) == [7, 7]


# ---- window


@pytest.mark.parametrize("is_unordered", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 8, 50])
def test_fixed_window_is_never_exceeded(window, is_unordered):
    """With a `chunk_size`, no more than the window is read and not yet handed out, however quick the workers."""
    bench = Bench(range(500), n_slots=2, window=window, is_unordered=is_unordered)
    n_taken = 0
    while not bench.engine.is_over:
        bench.supply()
        assert bench.n_read - n_taken <= window
        for slot in reversed(bench.slots):
            if slot.batches:
                bench.answer(slot.index, seconds_each=1e-6)
        n_taken += len(bench.engine.take(3))
    assert n_taken == 500


def test_fixed_window_is_used_to_the_full():
    """A window of 8 lets 8 items be held."""
    bench = Bench(window=8, is_unordered=True)
    for _ in range(8):
        bench.supply()
        bench.answer()
    assert bench.supply() == []
    assert bench.n_read == 8


def test_fixed_window_is_shared_out():
    """A batch is no more than its worker's share of the window, half for now and half for behind."""
    bench = Bench(n_slots=2, window=20)
    warm_up(bench, n_batches=5)
    assert sizes(bench.supply()) == [5, 5, 5, 5]


def test_slow_item_holds_up_nobody_while_the_consumer_waits():
    bench = Bench(range(500), n_slots=2)
    bench.supply()
    for _ in range(100):
        bench.answer(1)
        bench.supply()
    assert bench.n_read == 102
    assert bench.engine.n_waiting == 100


@pytest.mark.parametrize("max_waiting", [10, 50])
def test_endless_input_is_read_to_the_limit_while_its_head_does_not_end(max_waiting):
    bench = Bench(itertools.count(), n_slots=2, max_waiting=max_waiting)
    while bench.supply() and bench.n_read < 1000:
        while bench.slots[1].batches:
            bench.answer(1)
    assert bench.n_read == max_waiting


def test_window_is_two_for_each_worker_when_the_consumer_is_away():
    bench = Bench(n_slots=2)
    bench.supply()
    bench.answer(0)
    for _ in range(20):
        bench.answer(1)
        if not bench.supply():
            break
    assert bench.n_read == 4


def test_window_is_a_hard_bound_when_it_is_given():
    bench = Bench(n_slots=2, window=6)
    bench.supply()
    for _ in range(20):
        bench.answer(1)
        if not bench.supply():
            break
    assert bench.n_read == 6


def test_window_grows_when_items_are_quick():
    """Without a `chunk_size`, 20 ms of work are read ahead for each worker."""
    bench = Bench(range(10_000), n_slots=2)
    warm_up(bench, n_batches=10)
    bench.supply()
    for _ in range(20):
        bench.answer(1, seconds_each=0.0001)
        bench.supply()
    engine = bench.engine
    n_unfinished = engine._window.n_held - engine._window.n_waiting
    assert n_unfinished + engine._room(engine._slots.items_ahead) == pytest.approx(2 * 0.020 / 0.0001, abs=4)


def test_workers_that_paused_at_the_end_of_an_iteration_go_on_in_the_next():
    assert Bench(n_slots=2).engine.take_resumable() == [0, 1]


def test_worker_whose_results_are_taken_goes_on():
    bench = Bench(n_slots=2, item_bytes=1)
    bench.supply()
    bench.engine.take_resumable()
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES // 4)
    assert bench.engine.take_resumable() == [1]
    assert bench.engine.take_resumable() == []


def test_worker_waits_while_results_before_its_own_take_much_memory():
    bench = Bench(n_slots=3, item_bytes=1)
    bench.supply()
    bench.engine.take_resumable()
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES // 2)
    assert bench.engine.take_resumable() == []
    bench.answer(0)
    assert bench.engine.take_resumable() == []  # the consumer is away
    bench.engine.take()
    assert bench.engine.take_resumable() == [1]


def test_worker_with_the_item_that_is_waited_for_goes_on():
    bench = Bench(n_slots=2, item_bytes=1, retries=1)
    bench.supply()
    bench.engine.take_resumable()
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES // 2)
    bench.supply()
    bench.answer(0, failing=[0], bytes_each=1)
    bench.supply()
    assert bench.slots[0].holds(0)
    assert bench.engine.take_resumable() == [0]


def test_all_workers_go_on_when_the_item_that_is_waited_for_is_with_none():
    bench = Bench(n_slots=2, item_bytes=1, retries=1)
    bench.supply()
    bench.engine.take_resumable()
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES // 2)
    bench.answer(0, failing=[0], bytes_each=1)
    assert sorted(bench.engine.take_resumable()) == [0, 1]


def test_all_workers_go_on_where_all_results_are_kept():
    bench = Bench(n_slots=2, item_bytes=1, max_waiting=None)
    bench.supply()
    bench.engine.take_resumable()
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES)
    assert bench.engine.take_resumable() == [1]


def test_items_with_an_outcome_are_counted_whether_handed_out_or_not():
    bench = Bench(n_slots=2)
    bench.supply()
    bench.answer(1)
    assert bench.engine.n_finished == 1
    bench.answer(0)
    bench.engine.take()
    assert bench.engine.n_finished == 2


def test_window_shrinks_when_a_worker_is_given_up():
    """What a worker that is no more could do is not read ahead."""
    bench = Bench(range(10_000), n_slots=2)
    warm_up(bench, n_batches=10)
    bench.fail_init(1)
    while bench.supply():
        bench.answer(0, seconds_each=0.0001)
    assert bench.engine._slots.items_ahead == pytest.approx(0.020 / 0.0001, abs=2)
    assert bench.engine._slots.n_live == 1


def test_window_starts_from_what_is_known_of_the_workers():
    """A second iteration reads ahead by the speed that the first one measured."""
    bench = Bench(range(10_000), n_slots=2)
    warm_up(bench, n_batches=10)
    known = bench.engine._slots.items_ahead
    bench.slots[1].is_live = False
    assert known == pytest.approx(400, abs=4)
    assert Bench(slots=bench.slots).engine._slots.items_ahead == pytest.approx(200, abs=2)


def test_window_is_the_least_when_results_fill_the_memory():
    """Results of 64 MiB that wait for the consumer stop the reading, but for two items a worker."""
    bench = Bench(range(10_000), n_slots=2)
    warm_up(bench, n_batches=3)
    bench.supply(most=2)
    bench.answer(1, bytes_each=MAX_WINDOW_BYTES)
    assert bench.supply() == []


def test_window_is_the_least_while_items_fill_the_pipes():
    """Items of 64 MiB under way stop the reading until their batches are answered."""
    bench = Bench(range(10_000), item_bytes=MAX_WINDOW_BYTES)
    warm_up(bench, n_batches=1)
    assert sizes(bench.supply()) == [1, 1]
    assert bench.engine._window._bytes_sent == 2 * MAX_WINDOW_BYTES
    bench.answer(seconds_each=0.0001)
    bench.answer(seconds_each=0.0001)
    assert bench.engine._window._bytes_sent == 0


def test_nothing_limits_the_room_when_unbounded():
    """With `bounded=False` a full window stops nobody."""
    bench = Bench(n_slots=2, window=2, is_bounded=False, is_unordered=True)
    for _ in range(10):
        assert bench.supply() != []
        bench.answer(0)


def test_long_input_goes_out_in_batches_when_it_was_read_at_once():
    """Reading all at once does not mean sending all at once."""
    bench = Bench([], n_slots=2, is_bounded=False)
    bench.engine.feed(list(range(10)))
    assert bench.supply() == [(0, [0]), (1, [1])]
    assert bench.finish() == [done(item) for item in range(10)]


def test_no_item_is_missed_when_more_were_read_than_a_batch_may_take():
    """An input of any length goes through, each item in its place."""
    n_items = 2 * MAX_BATCH_ITEMS + 1
    bench = Bench([], is_bounded=False)
    bench.engine.feed(list(range(n_items)))
    assert bench.engine.next_sequence_number == n_items
    assert bench.finish(seconds_each=1e-7) == [done(item) for item in range(n_items)]


@pytest.mark.parametrize("rules", [{}, {"retries": 1}])
def test_item_that_goes_out_again_comes_before_what_is_queued(rules):
    """What was read first goes out first, though it was sent before, for the ordered results wait for it."""
    bench = Bench([], is_bounded=False, **rules)
    bench.engine.feed(list(range(10)))
    assert bench.supply() == [(0, [0])]
    bench.lose(0, current=0 if rules else NOWHERE)
    assert bench.supply() == [(0, [0])]


# ---- exceptions


def test_failure_stands_in_its_place_when_ignored():
    """In mode `ignore` the exception is handed out where the value would be."""
    bench = Bench(range(5), window=50)
    warm_up(bench, n_batches=1)
    bench.supply(most=1)
    bench.answer(failing=[0, 2])
    first, second, third, fourth = bench.take_all()
    assert (second, fourth) == (done(2), done(4))
    assert [first.args, third.args] == [(1,), (3,)]
    assert bench.engine.failures.n_errors == 2
    assert bench.finish() == []
    assert bench.engine.final_error() is None


def test_failures_are_raised_together_in_input_order_when_deferred():
    """In mode `deferred` one exception at the end has all of them, in the order of the input."""
    bench = Bench(range(3), n_slots=3, is_unordered=True, behaviour="deferred")
    bench.supply()
    for index in [2, 0]:
        bench.answer(index, failing=[0])
    handed_out = bench.take_all()
    assert [error.args for error in handed_out] == [(2,), (0,)]
    bench.finish()
    error = bench.engine.final_error()
    assert isinstance(error, DeferredExceptions)
    assert list(error.args) == handed_out[::-1]


def test_nothing_is_raised_at_the_end_when_nothing_was_deferred():
    """In mode `deferred` an iteration without failures ends as any other."""
    bench = Bench(range(3), behaviour="deferred")
    bench.finish()
    assert bench.engine.final_error() is None


def test_first_failure_ends_the_iteration_when_immediate():
    """In mode `immediate` no more is read or sent after the first failure, and what came before it stands."""
    bench = Bench(n_slots=2, behaviour="immediate")
    bench.supply()
    bench.answer(0)
    bench.supply()
    bench.answer(0, failing=[0])
    assert bench.engine.next_want() is None
    assert bench.engine.is_over
    assert bench.engine.final_error().args == (2,)
    assert bench.engine.failures.n_errors == 1
    assert bench.take_all() == [done(0)]


def test_outcomes_after_the_first_failure_are_dropped_when_immediate():
    """In mode `immediate` nothing that comes after the first failure is handed out, or raised instead of it."""
    bench = Bench(n_slots=2, behaviour="immediate", is_unordered=True)
    warm_up(bench, n_batches=1)
    bench.supply(most=2)
    bench.answer(0, failing=[1])
    assert bench.take_all() == [done(2)]
    bench.answer(1, failing=[1])
    assert bench.take_all() == []
    assert bench.engine.final_error().args == (3,)


def test_item_that_could_not_be_sent_fails_with_what_the_backend_said():
    """What the receipt foretold is the item's outcome, whatever the worker answers."""
    bench = Bench(range(1))
    error = FailedError("unsendable")
    bench.engine.on_sent(0, make_batch(0, 1), Receipt(failures={0: error}))
    bench.answer()
    assert bench.take_all() == [error]


# ---- input that raises


def test_error_of_the_input_comes_after_all_results():
    """If the input raises, what was read before is done and handed out, and then that error is raised."""
    error = FailedError("input")
    bench = Bench(failing_input(3, error), n_slots=2)
    assert bench.finish() == [done(0), done(1), done(2)]
    assert bench.engine.final_error() is error
    assert error.__cause__ is None


def test_deferred_failures_are_the_cause_when_the_input_raises():
    """No deferred failure is lost if the input raises."""
    error = FailedError("input")
    bench = Bench(failing_input(1, error), behaviour="deferred")
    bench.supply()
    bench.answer(failing=[0])
    (failure,) = bench.take_all()
    bench.finish()
    assert bench.engine.final_error() is error
    assert isinstance(error.__cause__, DeferredExceptions)
    assert error.__cause__.args == (failure,)


# ---- retries


def test_failed_item_is_tried_again_when_it_may_be():
    """With `retries=1` an item that failed once has the outcome of its second run."""
    bench = Bench(range(1), retries=1)
    bench.supply()
    bench.answer(failing=[0])
    assert bench.take_all() == []
    assert bench.supply() == [(0, [0])]
    bench.answer()
    assert bench.take_all() == [done(0)]
    assert bench.engine.failures.n_errors == 0


def test_failed_item_is_tried_no_more_often_than_it_may_be():
    """With `retries=2` an item runs three times at most, and then its last failure stands."""
    bench = Bench(range(1), retries=2)
    n_runs = 0
    while not bench.engine.has_outcomes:
        assert bench.supply() == [(0, [0])]
        bench.answer(failing=[0])
        n_runs += 1
    assert n_runs == 3
    assert bench.engine.failures.n_errors == 1
    assert isinstance(bench.take_all()[0], FailedError)


def test_retried_item_keeps_its_place():
    """In order, what stands behind a retried item waits for it."""
    bench = Bench(range(4), retries=1, window=50)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.answer(failing=[1])
    assert bench.take_all() == [done(1)]
    assert bench.finish() == [done(2), done(3)]


def test_retried_item_comes_before_what_is_still_to_be_read():
    """An item that is tried again goes out before any more is read."""
    bench = Bench(retries=1)
    bench.supply()
    bench.answer(failing=[0])
    assert bench.supply() == [(0, [0])]
    assert bench.n_read == 1


def test_item_is_tried_again_when_its_worker_died():
    """The loss of a worker is a failure like any other, so `retries` counts."""
    bench = Bench(range(1), retries=1)
    bench.supply()
    bench.lose(current=0)
    assert bench.supply() == [(0, [0])]
    bench.lose(current=0)
    (error,) = bench.take_all()
    assert isinstance(error, WorkerDiedError)


def test_first_failure_does_not_end_the_iteration_when_it_may_be_retried():
    """In mode `immediate` only an item that failed for good ends the iteration."""
    bench = Bench(range(1), retries=1, behaviour="immediate")
    bench.supply()
    bench.answer(failing=[0])
    assert not bench.engine.is_over
    assert bench.finish() == [done(0)]
    assert bench.engine.final_error() is None


# ---- loss of a worker


def lose_amid_batch(current, **rules):
    """Lose a worker that holds items 1 to 4 and 5 to 8, and has answered 1."""
    bench = Bench(range(9), n_slots=1, window=100, **rules)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.answer(n_items=1, seconds_each=0.0001)
    assert bench.take_all() == [done(1)]
    bench.lose(current=current)
    return bench


def test_item_at_which_its_worker_died_fails():
    """The item that the worker was at has a `WorkerDiedError` that says who, where and how."""
    bench = lose_amid_batch(current=2)
    (error,) = bench.take_all()
    assert isinstance(error, WorkerDiedError)
    assert (error.exitcode, error.signal_name, error.worker_index, error.item_index) == (-9, "SIGKILL", 0, 2)
    assert str(error) == "worker 0 died at item 2: SIGKILL"


def test_outcomes_that_a_dead_worker_left_say_nothing_of_its_speed():
    """What is read from the journal of a dead worker has no time with it, and counts as done all the same."""
    bench = Bench(range(1))
    bench.supply()
    bench.engine.on_run(Run(0, 0, [done(0)], {}, busy_seconds=-1.0))
    assert bench.slots[0].pace.seconds_per_item is None
    assert bench.take_all() == [done(0)]


def test_item_that_could_not_be_sent_keeps_its_error_when_its_worker_died():
    """The death of a worker that held an empty value in its place is not what became of the item."""
    bench = Bench(range(2))
    want = bench.engine.next_want()
    bench.engine.feed([0])
    error = FailedError("not pickled")
    bench.engine.on_sent(0, bench.engine.cut(want), Receipt(1, {0: error}))
    bench.lose(current=0)
    assert bench.take_all() == [error]


def test_item_index_counts_from_the_start_of_the_iteration():
    """The index in the error is the item's place in this input."""
    bench = Bench(["a", "b"], first=100)
    bench.supply()
    bench.lose(current=100)
    assert bench.take_all()[0].item_index == 0


def test_items_that_may_have_run_fail_when_their_worker_died():
    """Items whose outcomes were lost with their worker fail once each, for they are not run twice."""
    bench = lose_amid_batch(current=4)
    assert [error.item_index for error in bench.take_all()] == [2, 3, 4]
    assert bench.engine.failures.n_errors == 3
    assert bench.finish() == [done(5), done(6), done(7), done(8)]


def test_items_that_had_not_started_run_elsewhere_when_their_worker_died():
    """What had surely not started when its worker died goes to the others, in order, and to each item once."""
    bench = lose_amid_batch(current=2)
    resent = []
    while sent := bench.supply():
        resent += [item for _, items in sent for item in items]
        bench.answer(seconds_each=0.001)
    assert resent == [3, 4, 5, 6, 7, 8]
    assert bench.n_read == 9


def test_all_that_a_worker_held_fails_when_nobody_knows_where_it_was():
    """Each item that may have run has one `WorkerDiedError`, which says so and what would run it again."""
    bench = lose_amid_batch(current=SOMEWHERE)
    errors = bench.take_all()
    assert [error.item_index for error in errors] == [2, 3, 4, 5, 6, 7, 8]
    text = "worker 0 died while it held item 2, which may have run (only `retries` run it again): SIGKILL"
    assert (type(errors[0]), str(errors[0])) == (WorkerDiedError, text)
    assert bench.finish() == []


def test_all_that_a_worker_held_runs_again_with_retries_when_nobody_knows_where_it_was():
    """With `retries`, each item that may have run is tried once more."""
    bench = lose_amid_batch(current=SOMEWHERE, retries=1)
    assert bench.finish() == [done(item) for item in range(2, 9)]


def test_item_that_kills_uses_up_its_own_retries_only_when_nobody_knows_where_its_worker_was():
    """What was held together with it is tried again one by one, so that the next death has one item to blame."""
    bench = lose_amid_batch(current=SOMEWHERE, retries=1, behaviour="ignore")
    outcomes = []
    while sent := bench.supply():
        ((_, items),) = sent
        assert len(items) == 1
        if items == [5]:
            bench.lose(current=SOMEWHERE)
        else:
            bench.answer(seconds_each=0.0001)
        outcomes += bench.take_all()
    (error,) = (outcome for outcome in outcomes if isinstance(outcome, WorkerDiedError))
    assert error.item_index == 5
    assert [outcome for outcome in outcomes if outcome is not error] == [done(item) for item in (2, 3, 4, 6, 7, 8)]


def test_item_that_was_alone_with_a_lost_worker_takes_no_other_along_when_it_is_tried_again():
    """It is sent alone again, so that an item that kills each time costs no other item a try."""
    bench = Bench(range(9), n_slots=1, window=2, retries=1, behaviour="ignore")
    warm_up(bench, n_batches=1)
    first, _ = (items for _, items in bench.supply())
    bench.answer(seconds_each=0.0001)
    bench.lose(current=SOMEWHERE)
    bench.take_all()
    killer = [first[0] + 1]
    assert [items for _, items in bench.supply()] == [killer]
    bench.lose(current=SOMEWHERE)
    while bench.supply():
        bench.answer(seconds_each=0.0001)
        bench.take_all()
    assert bench.engine.failures.n_errors == bench.slots[0].tally.n_retries == 1


def test_quick_worker_gets_two_batches_again_once_no_item_is_suspected():
    """When all that was held with a lost worker has its outcome, work goes on as before."""
    bench = Bench(range(100), n_slots=1, window=100, retries=1)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.lose(current=SOMEWHERE)
    n_sent = []
    for _ in range(30):
        n_sent.append(len(bench.supply()))
        while bench.slots[0].batches:
            bench.answer(seconds_each=0.0001)
    assert n_sent[0] == 1
    assert max(n_sent) == 2


def test_worker_that_was_killed_for_being_late_and_told_nothing_costs_all_that_it_held():
    """The item that it was taken to be at is late, and what else may have run is not run again."""
    bench = Bench(range(9), n_slots=1, window=100, task_timeout=1.0)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.engine.on_killed(0, 1)
    bench.lose(current=SOMEWHERE)
    late, *others = bench.take_all()
    assert (type(late), late.item_index) == (TaskTimeoutError, 1)
    assert {type(error) for error in others} == {WorkerDiedError}
    assert bench.engine.failures.n_errors == 1 + len(others)


def test_idle_worker_of_which_nobody_knows_where_it_was_costs_nothing():
    """A worker that holds nothing and is lost each time is given up in the end."""
    bench = Bench(range(2), n_slots=2)
    for _ in range(MAX_IDLE_DEATHS):
        assert bench.slots[1].is_live
        bench.lose(1, current=SOMEWHERE)
    assert not bench.slots[1].is_live
    assert bench.engine.failures.n_errors == 0


def test_no_item_fails_when_its_worker_died_before_it_started_any():
    """A worker that dies with its batches untouched costs no item."""
    bench = Bench(range(2), n_slots=2)
    bench.supply()
    bench.engine.on_lost(Lost(0, NOWHERE, -9, "SIGKILL"))
    assert bench.engine.failures.n_errors == 0
    bench.answer(1)
    assert bench.supply() == [(1, [0])]
    bench.answer(1)
    assert bench.take_all() == [done(0), done(1)]


def test_lost_worker_gets_nothing_until_its_successor_is_up():
    """A slot whose worker died is served again when the new worker is up."""
    bench = Bench(n_slots=1)
    bench.supply()
    bench.engine.on_lost(Lost(0, 0, -9, "SIGKILL"))
    assert bench.supply() == []
    bench.engine.on_ready(Ready(0))
    assert bench.supply() == [(0, [1])]


def test_worker_that_was_lost_idle_gets_nothing():
    """A worker that was waiting for a batch when it died is not waiting any more."""
    bench = Bench()
    bench.engine.on_lost(Lost(0, NOWHERE, -9, "SIGKILL"))
    assert bench.engine.next_want() is None


def test_loss_ends_the_iteration_when_immediate():
    """In mode `immediate` the loss of an item's worker is raised as any other failure."""
    bench = Bench(behaviour="immediate")
    bench.supply()
    bench.lose(current=0)
    assert bench.engine.is_over
    assert isinstance(bench.engine.final_error(), WorkerDiedError)


def test_lost_items_no_longer_weigh():
    """What a lost worker held is no longer counted among the bytes under way."""
    bench = Bench(item_bytes=1000)
    bench.supply()
    bench.lose(current=0)
    assert bench.engine._window._bytes_sent == 0


def test_large_batch_is_sent_in_parts_when_it_was_queued_again():
    """What was queued again is cut to what its new worker should take."""
    bench = Bench(range(10), n_slots=2, is_ready=False)
    bench.slots[0].pace.batch_size = 4
    bench.engine.on_ready(Ready(0))
    assert bench.supply() == [(0, [0, 1, 2, 3])]
    bench.engine.on_lost(Lost(0, NOWHERE, -9, "SIGKILL"))
    bench.engine.on_ready(Ready(1))
    assert bench.supply() == [(1, [0])]
    bench.answer(1)
    assert bench.supply() == [(1, [1])]
    bench.answer(1)
    assert bench.finish() == [done(item) for item in range(10)]


# ---- workers that cannot be


def test_slot_is_given_up_when_its_workers_die_idle_again_and_again():
    """Some workers in a row that die with no item done are enough: nothing respawns for ever."""
    bench = Bench(n_slots=2)
    for _ in range(MAX_IDLE_DEATHS):
        assert bench.slots[0].is_live
        bench.lose(0)
    assert not bench.slots[0].is_live
    assert [slot for slot, _ in bench.supply()] == [1]
    assert not bench.engine.is_over


def test_slot_is_kept_when_an_item_is_done_between_idle_deaths():
    """Deaths with items done in between are not in a row."""
    bench = Bench()
    for _ in range(2 * MAX_IDLE_DEATHS):
        bench.lose(0)
        bench.supply()
        bench.answer(0)
        bench.take_all()
    assert bench.slots[0].is_live


def test_slot_is_kept_when_its_workers_die_at_items():
    """A worker that dies at an item costs that item and is replaced, however often."""
    bench = Bench()
    for item in range(2 * MAX_IDLE_DEATHS):
        bench.lose(0)
        bench.supply()
        bench.lose(0, current=item)
        bench.take_all()
    assert bench.slots[0].is_live
    assert bench.engine.failures.n_errors == 2 * MAX_IDLE_DEATHS


def test_slot_is_kept_when_its_workers_are_killed_for_abandoned_items():
    """Deaths that were ordered do not count, though no item of this iteration was done."""
    bench = Bench(task_timeout=5.0)
    for _ in range(2 * MAX_IDLE_DEATHS):
        bench.supply()
        bench.engine.abandon()
        number = bench.engine.next_sequence_number
        bench = Bench(slots=bench.slots, first=number, is_ready=False, task_timeout=5.0)
        bench.engine.on_killed(0, number - 1)
        bench.lose(0, current=number - 1)
    assert bench.slots[0].is_live


def test_error_says_why_when_the_last_slot_is_given_up():
    """When no worker can live, `WorkerInitError` is raised from what became of the last."""
    bench = Bench()
    for _ in range(MAX_IDLE_DEATHS):
        bench.lose(0)
    error = bench.engine.final_error()
    assert bench.engine.is_over
    assert isinstance(error, WorkerInitError)
    assert isinstance(error.__cause__, WorkerDiedError)
    assert error.__cause__.item_index is None
    assert "no worker could be made: WorkerDiedError: worker 0 died before it was at any item: SIGKILL" in str(error)


@pytest.mark.parametrize("behaviour", ["ignore", "deferred"])
def test_others_do_the_work_when_a_worker_cannot_be_made(behaviour):
    """Outside of mode `immediate`, a constructor that raises costs no item while another worker lives."""
    bench = Bench(range(3), n_slots=2, is_ready=False, behaviour=behaviour)
    bench.fail_init(0)
    bench.engine.on_ready(Ready(1))
    assert bench.finish() == [done(0), done(1), done(2)]
    assert bench.engine.final_error() is None


@pytest.mark.parametrize("behaviour", ["ignore", "deferred", "immediate"])
def test_error_is_raised_when_no_worker_can_be_made(behaviour):
    """When no worker is left, `WorkerInitError` is raised from the constructor's exception in every mode."""
    bench = Bench(n_slots=2, is_ready=False, behaviour=behaviour)
    cause = bench.fail_init(0)
    last = bench.fail_init(1)
    error = bench.engine.final_error()
    assert isinstance(error, WorkerInitError)
    assert error.__cause__ is (cause if behaviour == "immediate" else last)
    assert bench.n_read == 0


def test_error_is_raised_at_the_first_worker_that_cannot_be_made_when_immediate():
    """In mode `immediate` one constructor that raises ends the iteration."""
    bench = Bench(n_slots=2, behaviour="immediate")
    cause = bench.fail_init(1)
    error = bench.engine.final_error()
    assert isinstance(error, WorkerInitError)
    assert error.__cause__ is cause
    assert str(error) == "worker 1 could not be made: FailedError: constructor"
    assert bench.engine.is_over


def test_error_is_raised_when_no_worker_was_left_by_the_last_iteration():
    """An iteration over a pool without workers raises at once, and reads nothing."""
    bench = Bench()
    bench.fail_init(0)
    after = Bench(slots=bench.slots, is_ready=False)
    assert after.engine.is_over
    assert isinstance(after.engine.final_error(), WorkerInitError)
    assert after.supply() == []
    assert after.n_read == 0


def test_first_error_stands_when_a_worker_cannot_be_made_after_it():
    """A constructor that raises after an item failed does not take that failure's place."""
    bench = Bench(n_slots=2, behaviour="immediate")
    bench.supply()
    bench.answer(0, failing=[0])
    bench.fail_init(1)
    assert isinstance(bench.engine.final_error(), FailedError)


# ---- workers that may do only so much


def test_worker_gets_no_more_items_than_its_quota():
    """With `max_tasks_per_child=3` a worker is given three items in all."""
    bench = Bench(max_tasks=3)
    warm_up(bench)
    assert bench.n_read == 3
    assert bench.supply() == []


def test_spent_worker_is_to_be_replaced_once():
    """A worker that has done its quota is named once, and its successor has a new quota."""
    bench = Bench(max_tasks=1, n_slots=2)
    bench.supply()
    assert bench.engine.take_spent_slots() == []
    bench.answer(1)
    assert bench.engine.take_spent_slots() == [1]
    assert bench.engine.take_spent_slots() == []
    assert bench.supply() == []
    bench.engine.on_ready(Ready(1))
    assert bench.supply() == [(1, [2])]


def test_second_batch_is_within_the_quota():
    """A batch behind another takes what the quota leaves."""
    bench = Bench(max_tasks=7)
    warm_up(bench, n_batches=1)
    assert sizes(bench.supply()) == [4, 2]


# ---- deadlines


def test_worker_is_late_when_its_item_runs_past_the_limit():
    """A worker is late once its item has run for `task_timeout` seconds."""
    bench = Bench(n_slots=2, task_timeout=5.0)
    bench.supply()
    assert bench.engine.late_slots([(0, 0, 100.0), (1, 1, 103.0)], 104.5) == ([], 0.5)
    assert bench.engine.late_slots([(0, 0, 100.0), (1, 1, 103.0)], 105.0) == ([(0, 0)], 3.0)


def test_next_look_is_after_the_limit_when_no_worker_is_at_work():
    """An item that starts now cannot be late any sooner."""
    bench = Bench(task_timeout=5.0)
    assert bench.engine.late_slots([], 100.0) == ([], 5.0)


def test_no_worker_is_late_when_there_is_no_limit():
    """Without a `task_timeout` no item runs too long."""
    bench = Bench()
    bench.supply()
    late, seconds_left = bench.engine.late_slots([(0, 0, 0.0)], 1e9)
    assert late == []
    assert seconds_left > 1e9


def test_worker_is_not_late_when_its_item_is_answered():
    """The board may still name an item whose outcome is here."""
    bench = Bench(task_timeout=5.0)
    bench.supply()
    bench.answer(0)
    assert bench.engine.late_slots([(0, 0, 100.0)], 200.0) == ([], 5.0)


def test_worker_is_late_when_it_is_stuck_in_an_item_of_an_abandoned_iteration():
    """An abandoned item has the same limit, or its worker would be missing for ever."""
    bench = Bench(task_timeout=5.0)
    bench.supply()
    bench.engine.abandon()
    after = Bench(slots=bench.slots, first=bench.engine.next_sequence_number, is_ready=False, task_timeout=5.0)
    assert after.engine.late_slots([(0, 0, 100.0)], 104.0) == ([], 1.0)
    assert after.engine.late_slots([(0, 0, 100.0)], 105.0) == ([(0, 0)], 5.0)


def test_late_item_fails_with_a_timeout():
    """The late item's outcome is a `TaskTimeoutError` that says which and how long; what stood behind it goes on."""
    bench = Bench(range(9), task_timeout=5.0, window=100)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.engine.on_killed(0, 1)
    bench.lose(0, current=1)
    (error,) = bench.take_all()
    assert isinstance(error, TaskTimeoutError)
    assert (error.seconds, error.worker_index, error.item_index) == (5.0, 0, 1)
    assert str(error) == "item 1 ran longer than `task_timeout`, 5.0 s; worker 0 was replaced"
    assert bench.finish() == [done(item) for item in range(2, 9)]


def test_item_that_its_worker_found_late_fails_with_a_timeout():
    """It ended by itself, but past the limit, and nobody came to end it: its value does not count."""
    bench = Bench(range(2), first=7, task_timeout=5.0)
    bench.supply()
    bench.engine.on_run(Run(0, 7, [None], {0: FoundLate()}, 6.0))
    (error,) = bench.take_all()
    assert type(error) is TaskTimeoutError
    assert (error.item_index, error.worker_index) == (0, 0)


def test_late_item_is_tried_again_when_it_may_be():
    """A timeout is a failure like any other, so `retries` counts, and the second run is not late from the start."""
    bench = Bench(range(1), task_timeout=5.0, retries=1)
    bench.supply()
    bench.engine.on_killed(0, 0)
    bench.lose(0, current=0)
    assert bench.supply() == [(0, [0])]
    bench.lose(0, current=0)
    assert isinstance(bench.take_all()[0], WorkerDiedError)


def test_only_the_late_item_timed_out_when_others_were_lost_with_it():
    """An item that finished unheard before the late one was not late itself."""
    bench = Bench(range(9), task_timeout=5.0, window=100)
    warm_up(bench, n_batches=1)
    bench.supply()
    bench.engine.on_killed(0, 2)
    bench.lose(0, current=2)
    assert [type(error) for error in bench.take_all()] == [WorkerDiedError, TaskTimeoutError]


@pytest.mark.parametrize("what", [CONSTRUCTING, UNPACKING])
def test_worker_is_late_when_it_is_made_or_unpickles_past_the_limit(what):
    """What runs before any item does has the same limit."""
    bench = Bench(is_ready=False, task_timeout=5.0)
    assert bench.engine.late_slots([(0, what, 100.0)], 104.0) == ([], 1.0)
    assert bench.engine.late_slots([(0, what, 100.0)], 105.0) == ([(0, what)], 5.0)


def test_worker_is_not_late_when_it_has_unpickled_what_it_holds_no_more():
    """The board may still say that it unpickles, though the whole batch is answered."""
    bench = Bench(task_timeout=5.0)
    bench.supply()
    bench.answer(0)
    assert bench.engine.late_slots([(0, UNPACKING, 100.0)], 200.0) == ([], 5.0)


def test_item_fails_with_a_timeout_when_it_is_late_in_being_unpickled_twice():
    """An item whose unpickling does not end has a `TaskTimeoutError`; one that only stood beside it has not."""
    bench = Bench(range(9), task_timeout=5.0, window=100)
    warm_up(bench, n_batches=1)
    taken = []
    while not any(isinstance(outcome, Exception) for outcome in taken):
        bench.supply()
        first = bench.slots[0].batches[0]
        if 3 in first.batch.items:
            bench.engine.on_killed(0, UNPACKING)
            bench.lose(0, current=UNPACKING)
        else:
            bench.answer(0, seconds_each=0.0001)
        taken += bench.take_all()
    (error,) = [outcome for outcome in taken if isinstance(outcome, Exception)]
    assert isinstance(error, TaskTimeoutError)
    assert error.item_index == 3
    assert taken + bench.finish() == [done(1), done(2), error, *[done(item) for item in range(4, 9)]]


# ---- iterations that were given up


def test_workers_that_hold_items_are_told_when_the_iteration_is_abandoned():
    """Only those that hold anything must drop it, and they get nothing until they say that they have."""
    bench = Bench(range(3), n_slots=3)
    bench.supply()
    bench.answer(1)
    assert bench.engine.abandon() == [0, 2]
    after = Bench(["a", "b"], slots=bench.slots, first=bench.engine.next_sequence_number, is_ready=False)
    assert after.supply() == [(1, ["a"])]
    after.engine.on_ready(Ready(2))
    assert after.supply() == [(2, ["b"])]


def test_late_outcomes_never_reach_the_next_iteration():
    """What was on its way when an iteration was given up is dropped when it comes."""
    bench = Bench(range(2), n_slots=2)
    bench.supply()
    bench.engine.abandon()
    after = Bench(["a"], slots=bench.slots, first=bench.engine.next_sequence_number, is_ready=False)
    after.engine.on_run(Run(0, 0, ["late"], {}, 1.0))
    after.engine.on_run(Run(1, 1, [None], {0: FailedError("late")}, 1.0))
    assert not after.engine.has_outcomes
    after.engine.on_ready(Ready(0))
    assert after.finish() == [done("a")]
    assert after.engine.failures.n_errors == 0


def test_no_item_fails_when_a_worker_dies_at_one_of_an_abandoned_iteration():
    """The loss of a worker that was dropping what it had costs the next iteration nothing."""
    bench = Bench(range(2))
    bench.supply()
    bench.engine.abandon()
    after = Bench(["a"], slots=bench.slots, first=bench.engine.next_sequence_number, is_ready=False)
    after.lose(0, current=0)
    assert after.finish() == [done("a")]
    assert after.engine.failures.n_errors == 0


def test_death_that_was_ordered_for_another_item_is_no_mark_against_the_next():
    """A late worker that had just begun to unpickle its next batch when it was killed does not blame that."""
    bench = Bench(range(2))
    bench.supply()
    bench.engine.on_killed(0, 77)
    for _ in range(3):
        bench.lose(current=UNPACKING)
        bench.supply()
        bench.engine.on_killed(0, 77)
    assert bench.take_all() == []


# ---- reading ahead of what workers want


def test_one_item_is_read_ahead_while_all_workers_are_at_long_ones():
    """So that a slow input and slow items take their time together; one, on whose result the next may depend."""
    bench = Bench(n_slots=2)
    assert not bench.engine.may_read_ahead  # nobody is at work
    bench.supply()
    assert bench.engine.may_read_ahead
    bench._read(1)
    assert not bench.engine.may_read_ahead
    bench.answer(0, seconds_each=1.0)
    assert bench.supply() == [(0, [2])]
    assert bench.engine.may_read_ahead


@pytest.mark.parametrize(
    "rules",
    [{"n_slots": 1}, {"task_timeout": 1.0}, {"window": 2}, {"items": range(2)}],
    ids=["one_worker", "time_limit", "window", "end_of_input"],
)
def test_nothing_is_read_ahead(rules):
    """Where nobody else works meanwhile, where items may be late, where the window is full, at the input's end."""
    bench = Bench(**{"n_slots": 2, **rules})
    bench.supply()
    if "items" in rules:
        bench.engine.end_input()
    assert not bench.engine.may_read_ahead


def test_nothing_is_read_ahead_of_quick_workers():
    """They have a second batch, and what is read for them should be a batch, too."""
    bench = Bench(n_slots=2)
    for _ in range(5):
        bench.supply()
        bench.answer(0, seconds_each=0.001)
        bench.answer(1, seconds_each=0.001)
        bench.take_all()
    bench.supply()
    assert not bench.engine.may_read_ahead


def test_nothing_is_read_ahead_after_a_failure_that_ends_all():
    """In mode `immediate`, no more input is read."""
    bench = Bench(n_slots=2, behaviour="immediate")
    bench.supply()
    bench.answer(0, failing=[0])
    assert not bench.engine.may_read_ahead
