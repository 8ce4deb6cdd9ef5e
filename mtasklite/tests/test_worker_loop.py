"""The loop inside every worker, with a clock that only the items move."""

from __future__ import annotations

import math
import pickle
import threading
import types

import pytest

from mtasklite import _status, _worker
from mtasklite._inbox import Inbox
from mtasklite._status import AT, IS_HELD, SINCE, hold, new_board
from mtasklite._wire import MIN_BUFFER_BYTES, Codec, Packed, PackedError
from mtasklite._worker import FLUSH_SECONDS, MAX_KEPT_BATCH, MAX_UNSENT_BYTES, WorkerLoop
from mtasklite.errors import SerializationError

LONG = FLUSH_SECONDS
SHORT = FLUSH_SECONDS / 8


class Bench:
    """A loop and all that is around it.

    Attributes:
        now: The time.
        runs: What was sent: first number, values, failures, busy seconds.
        turns: The turn of the journal that each run covers.
        n_ready: How often the worker said that it waits.
    """

    def __init__(self, call, is_timed=False, keeper=None, has_room=None):
        self.now = 100.0
        self.runs = []
        self.turns = []
        self.n_ready = 0
        self.inbox = Inbox()
        self.board = new_board()
        limit = 1e9 if is_timed else None
        freezer = None if keeper is None else Codec()
        self.loop = WorkerLoop(
            lambda item: call(self, item), self.inbox, self.board, self._send, limit, keeper, freezer, has_room
        )

    def _send(self, finished):
        self.runs.append(finished[:4])
        self.turns.append(finished.turn)

    def _say_ready(self):
        self.n_ready += 1

    def serve(self, *messages):
        """Serve until all messages, each a tuple for `WorkerLoop.work`, are done."""
        for message in (*messages, Inbox.STOP):
            self.inbox.put(message)
        self.loop.serve(self._say_ready, lambda message: message)

    def outcomes(self):
        """Return what was sent, one entry an item: its number, and its value or failure."""
        return [
            (first + offset, _thawed(failures.get(offset, value)))
            for first, values, failures, _ in self.runs
            for offset, value in enumerate(values)
        ]


def _thawed(outcome):
    if isinstance(outcome, PackedError):
        return pickle.loads(outcome.blob)
    return pickle.loads(outcome.blob) if isinstance(outcome, Packed) else outcome


@pytest.fixture
def make_bench(monkeypatch):
    """Return a function that makes a bench; `call(bench, item)` is the worker."""

    def make(call, is_timed=False, keeper=None, has_room=None, sleep=None):
        bench = Bench(call, is_timed, keeper, has_room)
        monkeypatch.setattr(_worker, "time", types.SimpleNamespace(monotonic=lambda: bench.now, sleep=sleep))
        return bench

    return make


def _square(bench, item):
    return item * item


def _take(bench, seconds):
    bench.now += seconds
    return seconds


def _divide(bench, item):
    return 1 / item


# ---- outcomes


def test_batch_is_answered_in_one_run(make_bench):
    """Quick items are sent together at the end of their batch."""
    bench = make_bench(_square)
    bench.loop.work(10, [1, 2, 3], {})
    assert bench.runs == [(10, [1, 4, 9], {}, 0.0)]


def test_empty_batch_is_not_answered(make_bench):
    """Nothing to do gives nothing to send."""
    bench = make_bench(_square)
    bench.loop.work(10, [], {})
    assert bench.runs == []


def test_failure_stands_at_its_offset(make_bench):
    """An exception is the outcome of its item and of no other."""
    bench = make_bench(_divide)
    bench.loop.work(10, [1, 0, 2], {})
    ((first, values, failures, _),) = bench.runs
    assert (first, values) == (10, [1.0, None, 0.5])
    assert [(offset, type(error)) for offset, error in failures.items()] == [(1, ZeroDivisionError)]


def test_item_that_did_not_arrive_is_answered_with_its_error(make_bench):
    """An item that could not be unpickled is not called with; its error is its outcome."""
    called, error = [], ValueError("not unpickled")
    bench = make_bench(lambda bench, item: called.append(item) or item)
    bench.loop.work(10, ["a", None, "c"], {1: error})
    assert bench.outcomes() == [(10, "a"), (11, error), (12, "c")]
    assert called == ["a", "c"]


@pytest.mark.parametrize("failed", [{0}, {2}, {0, 1}, {1, 2}, {0, 1, 2}, {0, 2}])
def test_items_that_did_not_arrive_may_stand_anywhere(make_bench, failed):
    """At either end of a batch, side by side, or all of them: each item has one outcome."""
    errors = {offset: ValueError(offset) for offset in failed}
    bench = make_bench(_square)
    bench.loop.work(10, [0, 1, 2], errors)
    assert bench.outcomes() == [(10 + offset, errors.get(offset, offset * offset)) for offset in range(3)]


def test_busy_seconds_are_those_of_the_run(make_bench):
    """Each run says how long its own items took."""
    bench = make_bench(_take)
    bench.loop.work(10, [LONG, 2 * LONG], {})
    assert [seconds for _, _, _, seconds in bench.runs] == pytest.approx([LONG, 2 * LONG])


def test_waiting_time_is_not_busy_time(make_bench):
    """The time between two batches counts for neither."""
    bench = make_bench(_take)
    bench.loop.work(10, [SHORT], {})
    bench.now += 50.0
    bench.loop.work(11, [SHORT], {})
    assert bench.runs[1][3] == pytest.approx(SHORT)


def test_exit_of_a_worker_sends_what_was_finished(make_bench):
    """A worker that calls `sys.exit` amid a batch loses only the item that it was at."""

    def call(bench, item):
        if item == 2:
            raise SystemExit(3)
        return item

    bench = make_bench(call)
    with pytest.raises(SystemExit):
        bench.loop.work(10, [0, 1, 2, 3], {})
    assert bench.outcomes() == [(10, 0), (11, 1)]


# ---- flushing


def test_result_is_sent_when_time_is_up(make_bench):
    """A run is sent as soon as so long has passed since the last one, amid a batch."""
    bench = make_bench(_take)
    bench.loop.work(10, [SHORT, LONG, SHORT, SHORT], {})
    assert [(first, values) for first, values, _, _ in bench.runs] == [(10, [SHORT, LONG]), (12, [SHORT, SHORT])]


def test_failure_is_sent_with_its_own_run(make_bench):
    """Offsets of failures count from the first of their run, not of their batch."""

    def call(bench, item):
        bench.now += LONG
        return 1 / item

    bench = make_bench(call)
    bench.loop.work(10, [1, 0], {})
    assert [(first, list(failures)) for first, _, failures, _ in bench.runs] == [(10, []), (11, [0])]


def test_old_result_is_sent_by_another_thread_s_flush(make_bench):
    """While a long item runs, what was finished before it is sent, and not a second time."""
    sent_amid = []

    def call(bench, item):
        if item == "long":
            bench.now += LONG
            bench.loop.flush_if_old()
            sent_amid.extend(bench.outcomes())
        return item

    bench = make_bench(call)
    bench.loop.work(10, ["short", "long"], {})
    assert sent_amid == [(10, "short")]
    assert bench.outcomes() == [(10, "short"), (11, "long")]


def test_young_result_is_kept_for_the_next_run(make_bench):
    """A flush for old results leaves young ones, so that runs stay long."""

    def call(bench, item):
        bench.now += SHORT
        bench.loop.flush_if_old()
        return item

    bench = make_bench(call)
    bench.loop.work(10, [0, 1, 2], {})
    assert [values for _, values, _, _ in bench.runs] == [[0, 1, 2]]


def test_flush_without_results_sends_nothing(make_bench):
    """A flush amid the first item has nothing to send."""
    n_runs = []

    def call(bench, item):
        bench.now += LONG
        bench.loop.flush_if_old()
        n_runs.append(len(bench.runs))

    bench = make_bench(call)
    bench.loop.work(10, [0, 1], {})
    assert n_runs == [0, 1]


def test_worker_is_amid_a_batch_of_several_items_only(make_bench):
    """With a single item there is nothing to flush before its end; after a batch there is not either."""
    seen = []
    bench = make_bench(lambda bench, item: seen.append(bench.loop.is_amid_batch))
    bench.loop.work(10, ["only"], {})
    bench.loop.work(11, ["first", "second"], {})
    assert (seen, bench.loop.is_amid_batch) == ([False, True, True], False)


# ---- the board


def test_board_has_the_number_of_the_running_item(make_bench):
    """While an item runs, its sequence number is on the board."""
    seen = []
    bench = make_bench(lambda bench, item: seen.append(bench.board[0]))
    bench.loop.work(10, ["a", None, "c"], {1: ValueError()})
    assert seen == [10, 12]


def test_board_has_the_start_of_the_running_item(make_bench):
    """Where items have a timeout, the time at which each started is on the board."""
    seen = []

    def call(bench, item):
        seen.append(bench.board[1] == bench.now)
        bench.now += item

    bench = make_bench(call, is_timed=True)
    bench.loop.work(10, [1.0, 2.0], {})
    bench.now += 5.0
    bench.loop.work(12, [1.0], {})
    assert seen == [True, True, True]


def test_board_has_no_start_where_nobody_asks(make_bench):
    """Without a timeout the start is not written."""
    bench = make_bench(_square)
    bench.loop.work(10, [1], {})
    assert bench.board[1] == -1


# ---- serving


def test_worker_says_ready_once_before_its_first_batch(make_bench):
    """Batches follow each other without a word between them."""
    bench = make_bench(_square)
    bench.serve((10, [1], {}), (11, [2, 3], {}))
    assert (bench.n_ready, bench.outcomes()) == (1, [(10, 1), (11, 4), (12, 9)])


def test_stop_ends_after_the_running_item(make_bench):
    """A stop drops the rest of the batch and all that waits; the running item's outcome is sent."""

    def call(bench, item):
        if item == 1:
            bench.inbox.stop()
        return item

    bench = make_bench(call)
    bench.serve((10, [0, 1, 2], {}), (13, [3], {}))
    assert bench.outcomes() == [(10, 0), (11, 1)]


def test_stop_ends_a_worker_that_waits(make_bench):
    """A worker with nothing to do ends at once."""
    bench = make_bench(_square)
    bench.inbox.stop()
    bench.loop.serve(bench._say_ready, lambda message: message)
    assert bench.runs == []


def _cancel_at_first_a(bench, item):
    if item == "a" and not bench.inbox.is_cancelled and bench.n_ready == 1:
        bench.inbox.cancel()
        bench.inbox.put((20, ["x", "y", "z"], {}))
        bench.inbox.put(Inbox.STOP)
    return item


def test_cancel_drops_what_waits_and_says_ready(make_bench):
    """After a cancellation the worker finishes its item, says that it waits, and takes what comes then."""
    bench = make_bench(_cancel_at_first_a)
    bench.serve((10, ["a", "b"], {}), (12, ["c"], {}))
    assert (bench.n_ready, bench.outcomes()) == (2, [(10, "a"), (20, "x"), (21, "y"), (22, "z")])


def test_cancelled_batch_with_failures_does_not_reach_the_next(make_bench):
    """The error of an item that did not arrive, in a batch that was cancelled, is no outcome of a later batch."""
    bench = make_bench(_cancel_at_first_a)
    bench.serve((10, ["a", "b", None, "d"], {2: ValueError("of the cancelled batch")}))
    later = [(first, values, failures) for first, values, failures, _ in bench.runs if first >= 20]
    assert later == [(20, ["x", "y", "z"], {})]


def test_cancelled_batch_with_failures_numbers_its_outcomes_rightly(make_bench):
    """What a cancelled batch still sends stands at the right numbers."""
    bench = make_bench(_cancel_at_first_a)
    bench.serve((10, ["a", "b", None, "d"], {2: ValueError("of the cancelled batch")}))
    assert [outcome for outcome in bench.outcomes() if outcome[0] < 20] == [(10, "a")]


def test_inbox_is_empty_after_a_cancellation_but_for_the_order():
    """What waited is gone; the order itself is what comes next."""
    inbox = Inbox()
    inbox.put("waiting")
    inbox.cancel()
    assert inbox.get() is Inbox.CANCELLED
    assert inbox.empty()


def test_stop_overrides_a_cancellation():
    """A stop that comes after a cancellation replaces it."""
    inbox = Inbox()
    inbox.cancel()
    inbox.stop()
    assert inbox.get() is Inbox.STOP
    assert inbox.empty()


# ---- the journal


class Journal:
    """Keeps what the loop gives it.

    Args:
        most: Bytes of the largest outcome that it keeps.

    Attributes:
        kept: What was kept since the last turn, and whether it is a failure.
        turns: First numbers of all turns.
    """

    def __init__(self, most=math.inf):
        self.kept = []
        self.turns = []
        self._most = most

    def add(self, is_failure, blob):
        has_room = len(blob) <= self._most
        if has_room:
            outcome = pickle.loads(blob)
            self.kept.append((_thawed(outcome) if is_failure else outcome, is_failure))
        return has_room

    def turn(self, first):
        self.kept.clear()
        self.turns.append(first)
        return len(self.turns) - 1


def test_finished_items_are_kept_while_the_next_one_runs(make_bench):
    """Whenever an item runs, the journal has all that is finished and was not sent, failures too."""
    seen = []

    def call(bench, item):
        seen.append([blob if not is_failure else type(blob) for blob, is_failure in journal.kept])
        return 1 / item

    journal = Journal()
    bench = make_bench(call, keeper=journal)
    bench.loop.work(10, [1, 0, 2], {})
    assert seen == [[], [1.0], [1.0, ZeroDivisionError]]
    assert len(bench.runs) == 1


def test_turn_of_a_run_is_the_one_that_it_ends(make_bench):
    """A run says which turn it covers, and the next turn begins with the item after it."""
    journal = Journal()
    bench = make_bench(_take, keeper=journal)
    bench.loop.work(10, [SHORT, LONG, SHORT], {})
    assert journal.turns == [10, 12, 13]
    assert bench.turns == [1, 2]


@pytest.mark.parametrize("n_items", [1, MAX_KEPT_BATCH + 1])
def test_nothing_is_kept_where_that_gains_nothing(make_bench, n_items):
    """One item alone is sent as soon as it is finished; those of a long batch are too short to keep each."""
    seen = []

    def call(bench, item):
        seen.extend(journal.kept)

    journal = Journal()
    make_bench(call, keeper=journal).loop.work(10, [0] * n_items, {})
    assert seen == []


def test_items_of_a_long_batch_are_kept_when_there_is_a_time_limit(make_bench):
    """A worker that will be killed for one item must not lose the others, however short they are."""
    n_kept = []
    journal = Journal()
    bench = make_bench(lambda bench, item: n_kept.append(len(journal.kept)) or item, is_timed=True, keeper=journal)
    bench.loop.work(10, [0] * (MAX_KEPT_BATCH + 1), {})
    assert n_kept == list(range(MAX_KEPT_BATCH + 1))


def test_outcome_that_cannot_be_kept_is_sent_before_the_next_item(make_bench):
    """What has no room in the journal is not left unsent while another item runs."""
    n_sent = []

    def call(bench, item):
        n_sent.append(len(bench.runs))
        return item

    bench = make_bench(call, keeper=Journal(most=0))
    bench.loop.work(10, [1, 2, 3], {})
    assert n_sent == [0, 1, 2]
    assert bench.outcomes() == [(10, 1), (11, 2), (12, 3)]


def test_nothing_is_kept_after_an_outcome_that_could_not_be(make_bench):
    """An outcome that is missing in the journal is sent before the next is kept, which would take its place there."""
    seen = []

    def call(bench, item):
        seen.append((list(journal.kept), len(bench.runs)))
        return item

    journal = Journal(most=100)
    bench = make_bench(call, keeper=journal)
    bench.loop.work(10, ["a" * 1000, "c", "d"], {})
    assert seen == [([], 0), ([], 1), ([("c", False)], 1)]


# ---- what was returned is what is sent


def test_outcome_is_sent_as_it_was_when_its_call_returned(make_bench):
    kept_list = []

    def refill(bench, item):
        kept_list[:] = [item]
        return kept_list

    bench = make_bench(refill, keeper=Journal())
    bench.loop.work(10, [1, 2, 3] * MAX_KEPT_BATCH, {})
    assert bench.outcomes() == [(10 + place, [item]) for place, item in enumerate([1, 2, 3] * MAX_KEPT_BATCH)]


def test_error_is_sent_as_it_was_when_it_was_raised(make_bench):
    error = ValueError()

    def fail(bench, item):
        error.args = (item,)
        raise error

    bench = make_bench(fail, keeper=Journal())
    bench.loop.work(10, [1, 2, 3], {})
    assert [outcome.args for _, outcome in bench.outcomes()] == [(1,), (2,), (3,)]


def test_outcome_that_cannot_be_pickled_is_the_failure_of_its_item_alone(make_bench):
    bench = make_bench(lambda bench, item: item and threading.Lock(), keeper=Journal())
    bench.loop.work(10, [0, 1, 0], {})
    assert [type(outcome) for _, outcome in bench.outcomes()] == [int, SerializationError, int]


def test_outcome_with_memory_of_its_own_is_sent_before_the_next_item(make_bench):
    array = bytearray(MIN_BUFFER_BYTES)
    n_sent = []

    def call(bench, item):
        n_sent.append(len(bench.runs))
        return pickle.PickleBuffer(array)

    make_bench(call, keeper=Journal()).loop.work(10, [1, 2, 3], {})
    assert n_sent == [0, 1, 2]


def test_outcomes_are_sent_when_they_are_many_bytes(make_bench):
    n_sent = []

    def call(bench, item):
        n_sent.append(len(bench.runs))
        return "a" * (MAX_UNSENT_BYTES // 2)

    make_bench(call, keeper=Journal(most=0)).loop.work(10, [1] * 2 * MAX_KEPT_BATCH, {})
    assert n_sent[:6] == [0, 0, 1, 1, 2, 2]


# ---- room


def test_worker_pauses_until_there_is_room(make_bench):
    rooms = [True, False, False, True]  # at the start of the batch, after what was sent amid it, while it waits
    waits = []
    bench = make_bench(_take, has_room=lambda: rooms.pop(0) if rooms else True, sleep=waits.append)
    bench.loop.work(10, [LONG, SHORT], {})
    assert len(waits) == 1
    assert bench.outcomes() == [(10, LONG), (11, SHORT)]


def test_worker_that_waits_for_room_gives_back_what_it_is_asked_for(make_bench):
    called = []

    def call(bench, item):
        called.append(item)
        bench.now += LONG

    def sleep(seconds):
        bench.inbox.take_back(bench.board)

    bench = make_bench(call, has_room=lambda: len(called) < 1, sleep=sleep)
    bench.loop.work(10, [1, 2, 3], {})
    assert called == [1]


def test_worker_that_waits_for_room_stops_when_it_is_told_to(make_bench):
    called = []
    bench = make_bench(
        lambda bench, item: called.append(item), has_room=lambda: False, sleep=lambda seconds: bench.inbox.stop()
    )
    bench.loop.work(10, [1, 2, 3], {})
    assert called == []


def test_time_that_a_worker_waits_for_room_does_not_count_as_work(make_bench):
    rooms = [True, False, False, True]

    def sleep(seconds):
        assert bench.board[SINCE] == math.inf
        bench.now += 1000.0

    bench = make_bench(_take, is_timed=True, has_room=lambda: rooms.pop(0) if rooms else True, sleep=sleep)
    bench.loop.work(10, [LONG, SHORT], {})
    assert sum(busy_seconds for _, _, _, busy_seconds in bench.runs) < 1.0


# ---- being held


def test_held_worker_begins_nothing(make_bench):
    """A worker that is held stays at the item that it has ended, until it is let go."""
    waits = []

    def sleep(seconds):
        waits.append(bench.board[AT])
        bench.board[IS_HELD] = len(waits) < 3

    def call(bench, item):
        bench.board[IS_HELD] = item == 1
        return item

    bench = make_bench(call, is_timed=True, sleep=sleep)
    bench.loop.work(10, [1, 2], {})
    assert waits == [10] * 3
    assert bench.outcomes() == [(10, 1), (11, 2)]


def test_held_worker_ends_when_it_is_cancelled(make_bench):
    """A worker that is given up while it is held begins nothing more."""
    called = []

    def call(bench, item):
        called.append(item)
        bench.board[IS_HELD] = 1
        bench.inbox.stop()

    make_bench(call, is_timed=True).loop.work(10, [1, 2], {})
    assert called == [1]


@pytest.mark.parametrize(("at", "since", "is_still"), [(7, 2.0, True), (8, 3.0, False), (7, math.inf, False)])
def test_hold_says_whether_the_worker_is_still_at_its_item(monkeypatch, at, since, is_still):
    """A worker that has ended its item meanwhile, or sends its outcome, is let go on."""
    board = [7, 2.0, 0]

    def move_on(seconds):
        assert board[IS_HELD]
        board[AT], board[SINCE] = at, since

    monkeypatch.setattr(_status, "time", types.SimpleNamespace(sleep=move_on))
    assert hold(board, 7) is is_still
    assert bool(board[IS_HELD]) is is_still
