"""The loop that joins an engine to a backend, with workers that follow a script and a clock that is told the time."""

from __future__ import annotations

import contextlib
import warnings
from unittest import mock

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mtasklite import _driver, _reader
from mtasklite._driver import MAX_PORTION, PIECE, _Portion
from mtasklite._engine import MAX_IDLE_DEATHS
from mtasklite._messages import InitFailed
from mtasklite._reader import Reader
from mtasklite._window import UNLIMITED
from mtasklite.errors import (
    DeferredExceptions,
    PoolClosedError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerInitError,
)
from mtasklite.tests.scripted import (
    FailedError,
    FakeClock,
    ScriptedBackend,
    done,
    followed,
    make_crew,
    make_iteration,
)


@contextlib.contextmanager
def patched_time(clock):
    """Let the driver and the reader go by a scripted clock."""
    with mock.patch.object(_driver, "time", clock), mock.patch.object(_reader, "time", clock):
        yield


@pytest.fixture
def clock(monkeypatch):
    """The driver's clock."""
    fake = FakeClock()
    monkeypatch.setattr(_driver, "time", fake)
    monkeypatch.setattr(_reader, "time", fake)
    return fake


class Input:
    """An input that says how far it was read, and takes its time; not one that is known to be instant.

    Args:
        items: What it yields.
        clock: Moves on by `seconds` before each item.
        on_read: Called with each item before it is yielded.
    """

    def __init__(self, items, clock=None, seconds=0.0, on_read=lambda item: None):
        self._items = items
        self._clock = clock or FakeClock()
        self._seconds = seconds
        self._on_read = on_read
        self.n_read = 0

    def __iter__(self):
        for item in self._items:
            self._clock.advance(self._seconds)
            self._on_read(item)
            self.n_read += 1
            yield item


class InterruptError(BaseException):
    """Stands for a Ctrl-C."""


def raising(error):
    """Return a function that raises whatever it is called with."""

    def raise_it(*args):
        raise error

    return raise_it


def results_of(iteration):
    """Return all that an iteration yields, and what it raises at the end, if anything."""
    results = []
    try:
        for result in iteration.results():
            results.append(result)
    except AssertionError:
        raise
    except Exception as error:
        return results, error
    return results, None


# ---- reading


def test_reader_reads_as_many_as_it_is_asked_for(clock):
    """No more items are read than are wanted."""
    reader = Reader(Input(range(5)))
    assert reader.read(2) == ([0, 1], False)
    assert reader.read(2) == ([2, 3], False)
    assert reader.read(2) == ([4], True)
    assert reader.read(2) == ([], True)


def test_reader_closes_a_batch_when_the_input_is_slow(clock):
    """A batch that takes longer than 5 ms to read is closed with what there is."""
    reader = Reader(Input(range(10), clock, seconds=0.002))
    assert reader.read(10) == ([0, 1, 2], False)


def test_reader_waits_for_one_item_when_it_is_very_slow(clock):
    """The first item is waited for, and no second one."""
    reader = Reader(Input(range(10), clock, seconds=60.0))
    assert reader.read(10) == ([0], False)
    assert reader.read(10) == ([1], False)


def test_reader_reads_all_when_the_number_is_unlimited(clock):
    """Where the whole input is wanted, no clock closes the batch."""
    reader = Reader(Input(range(10), clock, seconds=60.0))
    assert reader.read(UNLIMITED) == (list(range(10)), True)


def test_reader_keeps_what_it_read_before_an_error(clock):
    """An input that raises has ended; what it gave before stands."""
    error = FailedError()
    reader = Reader(Input(range(5), on_read=lambda item: item < 2 or raising(error)()))
    assert reader.read(5) == ([0, 1], True)
    assert reader.error is error
    assert reader.read(5) == ([], True)


def test_reader_keeps_the_error_of_an_input_that_gives_no_iterator():
    """An input whose `__iter__` raises has ended before its first item."""
    error = FailedError()
    source = mock.MagicMock()
    source.__iter__.side_effect = error
    reader = Reader(source)
    assert reader.error is error
    assert reader.read(1) == ([], True)


def test_reader_lets_an_interruption_pass(clock):
    """What is no `Exception` is not taken for an error of the input."""
    with pytest.raises(InterruptError):
        Reader(Input(range(5), on_read=raising(InterruptError))).read(1)


@pytest.mark.parametrize(("source", "is_instant"), [([], True), (range(3), True), ("ab", True), (iter([]), False)])
def test_reader_knows_what_takes_no_time(source, is_instant):
    """Only containers of the language itself surely take no time to read."""
    assert Reader(source).is_instant is is_instant


def test_input_is_read_to_its_end_when_unbounded(clock):
    """With `bounded=False` the whole input is read before the first result, whatever the workers are at."""
    source = Input(range(1000), clock, seconds=1.0)
    results = make_iteration(make_crew(ScriptedBackend()), source, is_bounded=False, window=2).results()
    assert next(results) == done(0)
    assert source.n_read == 1000
    assert list(results) == [done(item) for item in range(1, 1000)]


# ---- the workers


def test_workers_start_when_the_first_result_is_asked_for(clock):
    """An iteration that was only made has started nothing."""
    backend = ScriptedBackend()
    results = make_iteration(make_crew(backend, 2), range(3)).results()
    assert backend.calls == []
    assert next(results) == done(0)
    assert sorted(backend.calls) == [("start", 0), ("start", 1)]
    results.close()


def test_workers_start_once_when_asked_twice():
    """A crew that is up is not started again."""
    backend = ScriptedBackend()
    crew = make_crew(backend, 2)
    assert crew.start() is crew.start() is backend
    assert len(backend.calls) == 2


def test_worker_is_started_later_when_its_start_failed(clock):
    """A slot whose worker could not be started for want of a resource is not forgotten."""
    backend = ScriptedBackend()
    crew = make_crew(backend, 1)
    with mock.patch.object(backend, "start", side_effect=OSError("no more processes")):
        assert isinstance(results_of(make_iteration(crew, range(2)))[1], OSError)
    assert results_of(make_iteration(crew, range(2))) == ([done(0), done(1)], None)


@pytest.mark.parametrize("leaves_crew", [True, False])
def test_workers_end_with_the_iteration_unless_they_are_left(clock, leaves_crew):
    """At the end of the input the workers end, unless the pool lives on."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    results_of(make_iteration(crew, range(3), leaves_crew))
    assert ("close" in backend.calls) is not leaves_crew
    assert (crew.backend is None) is not leaves_crew


def test_workers_are_started_anew_when_they_had_ended(clock):
    """A crew that was closed starts again for the next iteration."""
    backends = []
    crew = make_crew(ScriptedBackend())
    crew._make_backend = lambda: backends.append(ScriptedBackend()) or backends[-1]
    for _ in range(2):
        assert results_of(make_iteration(crew, range(3), leaves_crew=False))[0] == [done(0), done(1), done(2)]
    assert [backend.calls for backend in backends] == [[("start", 0), "close"]] * 2


def test_workers_are_terminated_when_closing_is_interrupted():
    """A Ctrl-C while closing waits ends the workers at once, and passes on."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    crew.start()
    with mock.patch.object(backend, "close", side_effect=InterruptError), pytest.raises(InterruptError):
        crew.close(None)
    assert backend.calls[-1] == "terminate"
    assert crew.backend is None


@pytest.mark.parametrize("end", [lambda crew: crew.close(None), lambda crew: crew.terminate()])
def test_ending_does_nothing_when_no_worker_runs(end):
    """A crew that is not running may be ended any number of times."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    end(crew)
    crew.start()
    end(crew)
    end(crew)
    assert len(backend.calls) == 2


def test_lost_worker_is_replaced(clock):
    """A new worker starts where one was lost, and only the item that it was at has failed."""
    backend = ScriptedBackend(followed(ScriptedBackend.do_all, lambda b: b.lose(0, n_started=1)))
    results, error = results_of(make_iteration(make_crew(backend), range(3)))
    assert error is None
    assert isinstance(results[0], WorkerDiedError)
    assert results[1:] == [done(1), done(2)]
    assert backend.calls == [("start", 0), ("start", 0)]


def test_others_do_the_work_when_a_lost_worker_cannot_be_replaced(clock, monkeypatch):
    """A system that has no process left for another worker costs that worker, and no result."""
    backend = ScriptedBackend(followed(ScriptedBackend.do_all, lambda b: b.lose(0)))
    start = backend.start

    def start_twice(slot):
        if len([call for call in backend.calls if call[0] == "start"]) == 2:
            raise BlockingIOError("no process left")
        return start(slot)

    monkeypatch.setattr(backend, "start", start_twice)
    with pytest.warns(RuntimeWarning, match=r"worker 0 could not be made.*BlockingIOError: no process left"):
        results = list(make_iteration(make_crew(backend, 2), range(9), window=4).results())
    failed = [index for index, result in enumerate(results) if isinstance(result, Exception)]
    assert len(results) == 9
    assert len(failed) <= 1
    assert all(results[index] == done(index) for index in range(9) if index not in failed)


def test_lost_worker_is_not_replaced_when_the_iteration_is_over(clock):
    """No worker starts for an iteration that has failed."""
    backend = ScriptedBackend(followed(ScriptedBackend.do_all, lambda b: b.lose(0, n_started=1)))
    crew = make_crew(backend)
    _, error = results_of(make_iteration(crew, range(3), behaviour="immediate"))
    assert isinstance(error, WorkerDiedError)
    assert backend.calls == [("start", 0)]
    assert results_of(make_iteration(crew, range(3)))[0] == [done(0), done(1), done(2)]
    assert backend.calls == [("start", 0)] * 2


def test_nothing_respawns_for_ever_when_workers_die_idle(clock):
    """Workers that die before they are at any item are replaced some times, and then the iteration fails."""

    def play(backend):
        backend.ready(0)
        backend.lose(0, n_started=0)

    backend = ScriptedBackend(play)
    results, error = results_of(make_iteration(make_crew(backend), range(3)))
    assert (results, type(error)) == ([], WorkerInitError)
    assert backend.calls == [("start", 0)] * MAX_IDLE_DEATHS


def test_given_up_worker_is_not_replaced_when_others_live(clock):
    """A slot whose workers die idle again and again stays empty, and the others do the work."""

    def die_idle(backend):
        backend.ready(0)
        backend.lose(0, n_started=0)

    backend = ScriptedBackend(followed(*[die_idle] * MAX_IDLE_DEATHS))
    with pytest.warns(RuntimeWarning, match=r"^worker 0 .*WorkerDiedError: worker 0 died before it was at any item"):
        results, error = results_of(make_iteration(make_crew(backend, 2), range(3)))
    assert (results, error) == ([done(0), done(1), done(2)], None)
    assert backend.calls.count(("start", 0)) == MAX_IDLE_DEATHS
    assert backend.calls.count(("start", 1)) == 1


def test_spent_worker_is_retired_and_replaced(clock):
    """A worker that has done its quota ends in good order, and another takes its place."""
    backend = ScriptedBackend()
    results, _ = results_of(make_iteration(make_crew(backend, max_tasks=2), range(5)))
    assert results == [done(item) for item in range(5)]
    assert backend.calls == [("start", 0), ("retire", 0)] * 2 + [("start", 0)]


def test_others_work_when_a_worker_cannot_be_made(clock):
    """A constructor that raises is warned of where the results are consumed, and costs no item."""
    backend = ScriptedBackend(followed(lambda b: b.fail_init(1)))
    with pytest.warns(RuntimeWarning, match=r"worker 1 could not be made.*FailedError: constructor") as caught:
        results = list(make_iteration(make_crew(backend, 2), range(3)).results())
    assert results == [done(0), done(1), done(2)]
    assert caught[0].filename == __file__


def close_with_failure(behaviour, source):
    """Do all with one worker while the other's constructor raises only at the end; return results and error."""
    backend = ScriptedBackend(followed(lambda b: b.ready(0)))
    backend.failed_at_close = [InitFailed(1, FailedError("constructor"))]
    return results_of(make_iteration(make_crew(backend, 2), source, leaves_crew=False, behaviour=behaviour))


def test_constructor_that_raised_at_the_end_is_warned_of(clock):
    """A worker that turned out not to be made when all was done is not passed over."""
    with pytest.warns(RuntimeWarning, match="worker 1 could not be made"):
        assert close_with_failure("ignore", [0]) == ([done(0)], None)


def test_constructor_that_raised_at_the_end_is_raised_when_immediate(clock):
    """In mode `immediate` a worker that could not be made is an error also when the others did all the work."""
    results, error = close_with_failure("immediate", [0])
    assert results == [done(0)]
    assert isinstance(error, WorkerInitError)
    assert isinstance(error.__cause__, FailedError)


def test_constructor_that_raised_at_the_end_is_warned_of_when_the_input_raised(clock):
    """The error of the input is raised, and the worker that could not be made is warned of."""
    error = FailedError("input")
    with pytest.warns(RuntimeWarning, match="worker 1 could not be made"):
        assert close_with_failure("immediate", Input([0], on_read=raising(error))) == ([], error)


def test_no_warning_is_given_when_the_error_is_raised(clock):
    """Where `WorkerInitError` is raised, no warning says the same."""
    backend = ScriptedBackend(followed(lambda b: b.fail_init(0)))
    _, error = results_of(make_iteration(make_crew(backend, 2), range(3), behaviour="immediate"))
    assert isinstance(error, WorkerInitError)


def test_next_iteration_goes_on_when_a_warning_was_made_an_error(clock):
    """What else had happened by then is not forgotten if the warning of a constructor is raised."""

    def play(backend):
        backend.fail_init(0)
        backend.ready(1)

    crew = make_crew(ScriptedBackend(followed(play)), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(results_of(make_iteration(crew, range(3)))[1], RuntimeWarning)
    assert results_of(make_iteration(crew, range(3))) == ([done(0), done(1), done(2)], None)


def test_batch_is_no_larger_than_the_backend_takes(clock):
    """The backend's own limit on batches holds."""
    backend = ScriptedBackend()
    backend.seconds_each = 1e-6
    backend.max_batch_items = 3
    results_of(make_iteration(make_crew(backend), range(50)))
    assert max(len(items) for _, items in backend.sent) == 3


def test_batch_behind_another_is_no_larger_than_the_backend_allows(clock):
    """The backend's own limit on what is queued behind a batch holds."""
    backend = ScriptedBackend()
    backend.seconds_each, backend.item_bytes, backend.max_ahead_bytes = 1e-6, 100, 300
    results_of(make_iteration(make_crew(backend), range(1000), window=1000))
    sizes = [len(items) for _, items in backend.sent]
    assert max(sizes) > 50
    assert max(map(min, zip(sizes, sizes[1:]))) <= 4  # the first batch behind another was sent before any was weighed


# ---- timeouts


def stick(backend):
    """Come up, start an item, and do not end it."""
    if not backend.workers[0].is_up:
        backend.ready(0)
    elif backend.workers[0].since is None:
        backend.stick(0)


def test_stuck_worker_is_killed_at_its_limit(clock):
    """A worker that is stuck is killed once `task_timeout` has gone, and the others' items are unharmed."""
    steps = [stick] * 3
    backend = ScriptedBackend(followed(*steps), clock)
    results, error = results_of(make_iteration(make_crew(backend), range(3), task_timeout=5.0))
    assert error is None
    assert isinstance(results[0], TaskTimeoutError)
    assert results[1:] == [done(1), done(2)]
    assert backend.calls == [("start", 0), ("kill", 0), ("start", 0)]
    assert clock.now == 1005.0


def test_wait_has_no_end_when_there_is_no_limit(clock):
    """Without a `task_timeout`, a wait ends when something happens, and not before."""
    backend = ScriptedBackend(clock=clock)
    results_of(make_iteration(make_crew(backend), range(3)))
    assert set(backend.waits) == {None}


def test_results_are_not_waited_for_when_some_are_here(clock):
    """With a `task_timeout` too, a look for news takes no time while there is something to do."""
    backend = ScriptedBackend(clock=clock)
    results = make_iteration(make_crew(backend, 2), range(50), task_timeout=5.0).results()
    assert len(list(results)) == 50
    assert clock.now == 1000.0


def test_stuck_worker_of_an_abandoned_iteration_is_killed_in_the_next(clock):
    """A worker that is stuck in an item that nobody waits for is replaced as well, so the next iteration ends."""

    def answer_one_and_stick(backend):
        backend.answer(0, 1)
        backend.stick(0)

    backend = ScriptedBackend(followed(ScriptedBackend.do_all, ScriptedBackend.do_all, answer_one_and_stick), clock)
    backend.seconds_each = 0.001
    crew = make_crew(backend)
    results = make_iteration(crew, range(30), task_timeout=5.0).results()
    assert [next(results), next(results)] == [done(0), done(1)]
    results.close()
    assert backend.calls[-1] == ("cancel", 0)
    assert results_of(make_iteration(crew, "abc", task_timeout=5.0)) == ([done("a"), done("b"), done("c")], None)


# ---- handing out


def test_results_are_handed_out_before_more_is_read(clock):
    """One item for each worker and one ahead; with each look at the workers no more than one batch is read."""
    source = Input(range(20))
    backend = ScriptedBackend()
    seen = [source.n_read for _ in make_iteration(make_crew(backend, 4), source, is_unordered=True).results()]
    assert seen[0] <= 6


def finished_during_read(n_workers, clock):
    """Let four workers finish while the fifth item is read; return what was read when their results came."""
    backend = ScriptedBackend(followed(lambda b: [b.ready(slot) for slot in range(5)]))

    def answer_at_fifth(item):
        if item == 4:
            for slot in range(n_workers):
                backend.answer(slot)

    source = Input(range(8), clock, seconds=60.0, on_read=answer_at_fifth)
    seen = []
    for _ in make_iteration(make_crew(backend, 5), source).results():
        seen.append(source.n_read)
    return seen[:n_workers]


def test_result_waits_for_no_second_read_when_it_was_finished_during_one(clock):
    """A result that was finished while the input was read is handed out before the input is read again."""
    assert finished_during_read(1, clock) == [5]


def test_results_wait_for_no_further_read_when_several_were_finished(clock):
    """All that was finished during one read is handed out before the next, in whatever portions and runs."""
    assert finished_during_read(4, clock) == [5] * 4


def test_portions_grow_fourfold_when_the_consumer_is_quick():
    """The first portion is one result, so that it comes at once; then they grow, up to a limit."""
    portion, seen = _Portion(), []
    for _ in range(9):
        seen.append(portion.size)
        portion.adapt(portion.size, 0.0)
    assert seen == [1, 4, 16, 64, 256, 1024, 4096, 16384, MAX_PORTION]


def test_portions_have_a_most_when_the_consumer_takes_hardly_any_time():
    """No speed of the consumer makes a portion larger than its cap."""
    portion = _Portion()
    portion.size = MAX_PORTION
    portion.adapt(MAX_PORTION, 1e-9)
    assert portion.size == MAX_PORTION


def test_portions_shrink_at_once_when_the_consumer_is_slow():
    """A slow consumer gets one result at a time, so that the workers are looked after in between."""
    portion = _Portion()
    portion.size = 1000
    portion.adapt(1000, 10.0)
    assert portion.size == 1


def test_portions_are_about_5_ms_of_the_consumers_time():
    """A portion is what the consumer takes 5 ms for."""
    portion = _Portion()
    portion.size = 100
    portion.adapt(100, 0.010)
    assert portion.size == 50


def test_workers_are_looked_after_between_portions(clock):
    """While a slow consumer works through the results of one run, the workers get more to do."""
    backend = ScriptedBackend()
    backend.seconds_each = 1e-6
    results = make_iteration(make_crew(backend), range(4000), window=1000).results()
    for _ in range(60):  # until the batches have grown
        next(results)
        clock.advance(1.0)
    for _ in range(3):
        n_sent = len(backend.sent)
        backend.answer(0)
        for _ in range(3):
            next(results)
            clock.advance(1.0)
        assert len(backend.sent) > n_sent
    results.close()


def test_late_worker_is_killed_while_the_consumer_lingers_over_a_long_portion(clock):
    """A consumer that was quick and becomes slow amid thousands of results does not keep the workers waiting for it."""

    def play(backend):
        backend.do_all()
        worker = backend.workers[0]
        if not worker.held and backend.sent and len(backend.sent[-1][1]) > 4 * PIECE:
            stuck.append(True)

    stuck = []
    backend = ScriptedBackend(play)
    backend.seconds_each = 1e-7
    results = make_iteration(make_crew(backend), range(1 << 20), is_bounded=False, task_timeout=5.0).results()
    while not stuck:
        next(results)
    worker = backend.workers[0]
    while not worker.held:
        next(results)
    backend.stick(0)
    for _ in range(2 * PIECE):
        next(results)
        clock.advance(0.1)
    assert ("kill", 0) in backend.calls
    results.close()


# ---- the end


def test_failures_are_counted(clock):
    """The iteration says how many items have failed so far; none have before its start."""
    backend = ScriptedBackend(followed(ScriptedBackend.do_all, lambda b: b.answer(0, failing=[0])))
    iteration = make_iteration(make_crew(backend), range(3))
    assert iteration.n_errors == 0
    results, _ = results_of(iteration)
    assert iteration.n_errors == 1
    assert isinstance(results[0], FailedError)


def test_results_come_before_the_error_of_the_input(clock):
    """What was read before the input raised is handed out, and then its error is raised."""
    error = FailedError("input")
    source = Input(range(5), on_read=lambda item: item < 3 or raising(error)())
    assert results_of(make_iteration(make_crew(ScriptedBackend(), 2), source)) == ([done(0), done(1), done(2)], error)


def test_workers_end_when_the_input_raised(clock):
    """An error ends the workers in good order."""
    backend = ScriptedBackend()
    source = Input(range(5), on_read=raising(FailedError()))
    results_of(make_iteration(make_crew(backend), source, leaves_crew=False))
    assert backend.calls[-1] == "close"


def test_workers_end_in_good_order_when_the_consumer_breaks_off(clock):
    """Closing the results closes the workers; they are not terminated."""
    backend = ScriptedBackend()
    results = make_iteration(make_crew(backend), range(5), leaves_crew=False).results()
    next(results)
    results.close()
    assert backend.calls == [("start", 0), "close"]


def test_workers_are_terminated_when_the_iteration_is_interrupted(clock):
    """A Ctrl-C waits for nobody, though the pool lives on."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    with pytest.raises(InterruptError):
        list(make_iteration(crew, Input(range(5), on_read=raising(InterruptError))).results())
    assert backend.calls == [("start", 0), "terminate"]
    assert crew.backend is None
    assert not crew.is_busy


def test_stop_iteration_of_a_worker_is_no_silent_end(clock):
    """A `StopIteration` that a worker raised cannot be taken for the end of the results."""
    backend = ScriptedBackend(followed(ScriptedBackend.do_all, lambda b: b.answer(0, failing=[0])))
    with mock.patch("mtasklite.tests.scripted.FailedError", StopIteration):
        results, error = results_of(make_iteration(make_crew(backend), range(3), behaviour="immediate"))
    assert results == []
    assert isinstance(error.__cause__, StopIteration)


def test_second_iteration_is_refused_while_one_is_under_way(clock):
    """Two iterations over one crew at a time are a clear error, which does the first no harm."""
    crew = make_crew(ScriptedBackend())
    first = make_iteration(crew, range(3)).results()
    next(first)
    with pytest.raises(RuntimeError, match="another iteration over this pool is under way"):
        next(make_iteration(crew, range(3)).results())
    assert list(first) == [done(1), done(2)]
    assert results_of(make_iteration(crew, range(1))) == ([done(0)], None)


def test_iteration_says_so_when_its_pool_was_closed(clock):
    """An iterator that outlives its pool raises `PoolClosedError`, and starts nothing."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    results = make_iteration(crew, range(3)).results()
    next(results)
    crew.close(None)
    with pytest.raises(PoolClosedError, match="the pool was closed"):
        list(results)
    assert backend.calls == [("start", 0), "close"]


def test_nothing_is_cancelled_when_the_pool_was_closed(clock):
    """An iterator that is closed after its pool has nobody to tell."""
    backend = ScriptedBackend()
    crew = make_crew(backend)
    results = make_iteration(crew, range(9)).results()
    next(results)
    crew.terminate()
    results.close()
    assert backend.calls == [("start", 0), "terminate"]
    assert not crew.is_busy


def test_iteration_is_free_again_when_the_workers_could_not_be_started(clock):
    """An error at the very start leaves the crew free."""
    crew = make_crew(ScriptedBackend())
    crew._make_backend = raising(FailedError)
    assert isinstance(results_of(make_iteration(crew, range(3)))[1], FailedError)
    assert not crew.is_busy


def test_late_results_never_reach_the_next_iteration(clock):
    """What an abandoned iteration's worker still sends is dropped, before and after it says that it is ready."""

    def say_late_and_ready(backend):
        backend.say_late(0)
        backend.ready(0)

    backend = ScriptedBackend(followed(lambda b: b.ready(0), ScriptedBackend.do_all, say_late_and_ready))
    crew = make_crew(backend)
    results = make_iteration(crew, range(9)).results()
    next(results)
    results.close()
    assert backend.calls[-1] == ("cancel", 0)
    results = make_iteration(crew, range(9)).results()
    assert next(results) == done(0)
    results.close()


def test_nothing_is_done_when_the_interpreter_is_at_its_end(clock):
    """A generator that is collected at the very end leaves the workers alone, for they were ended before."""
    backend = ScriptedBackend()
    iteration = make_iteration(make_crew(backend), range(3), leaves_crew=False)
    results = iteration.results()
    next(results)
    iteration._end(is_abrupt=False, is_exiting=lambda: True)
    assert backend.calls == [("start", 0)]
    results.close()


# ---- anything at all


class Fate:
    """A script in which anything may happen at any time, as drawn.

    Args:
        draw: Draws from a strategy.
        n_deaths: Workers that may die at most.
        n_failed_inits: Constructors that may raise at most.
        n_stuck: Items that may be stuck at most.
    """

    def __init__(self, draw, n_deaths=0, n_failed_inits=0, n_stuck=0):
        self._draw = draw
        self._left = {"die": n_deaths, "fail_init": n_failed_inits, "stick": n_stuck}
        self.stuck = set()

    def __call__(self, backend):
        options = [(slot, name) for slot in sorted(backend.workers) for name in self._ways(backend.workers[slot])]
        if options:
            slot, name = self._draw(st.sampled_from(options))
            getattr(self, f"_{name}")(backend, slot)

    def _ways(self, worker):
        if worker.since is not None:
            return []
        ways = [name for name in ["die"] if self._left[name] and worker.is_up]
        if not worker.is_up:
            return ["ready"] + ["fail_init"] * (self._left["fail_init"] > 0 and worker.current is None)
        if worker.held:
            ways += ["answer"] + ["stick"] * (self._left["stick"] > 0)
        return ways

    def _ready(self, backend, slot):
        backend.ready(slot)

    def _answer(self, backend, slot):
        n_items = self._draw(st.integers(1, backend.n_in_first_batch(slot)))
        failing = self._draw(st.sets(st.integers(0, n_items - 1), max_size=2))
        backend.seconds_each = self._draw(st.sampled_from([1.0, 0.01, 1e-6]))
        backend.answer(slot, n_items, failing)

    def _die(self, backend, slot):
        self._left["die"] -= 1
        backend.lose(slot, self._draw(st.integers(0, len(backend.workers[slot].held))))

    def _fail_init(self, backend, slot):
        self._left["fail_init"] -= 1
        backend.fail_init(slot)

    def _stick(self, backend, slot):
        self._left["stick"] -= 1
        backend.stick(slot)
        self.stuck.add(backend.workers[slot].current)


def run_all(backend, iteration, source, window, clock):
    """Return all results and the error at the end; fail if more is held than the window allows."""
    results, error = [], None
    held_most = [0]
    source._on_read = lambda item: held_most.append(source.n_read + 1 - len(results))
    with patched_time(clock), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            for result in iteration.results():
                results.append(result)
        except AssertionError:
            raise
        except Exception as raised:
            error = raised
    assert window is None or max(held_most) <= window
    return results, error


def index_of(outcome):
    """Return which item an outcome is of."""
    if isinstance(outcome, str):
        return int(outcome[len(done("")) :])
    return outcome.args[0] if isinstance(outcome, FailedError) else outcome.item_index


SETTINGS = settings(derandomize=True, deadline=None, database=None, max_examples=300)


@SETTINGS
@given(st.data())
def test_each_item_has_one_outcome_whatever_happens(data):
    """Whatever workers do and whatever the rules are, each item has one outcome, in order, and it comes to an end.

    No more is held than the window allows, and no item may have run more often than its retries allow.
    """
    draw = data.draw
    n_items, n_workers = draw(st.integers(0, 30)), draw(st.integers(1, 4))
    behaviour = draw(st.sampled_from(["ignore", "deferred", "immediate"]))
    window, retries = draw(st.none() | st.integers(1, 12)), draw(st.integers(0, 2))
    max_tasks, is_unordered = draw(st.none() | st.integers(1, 5)), draw(st.booleans())
    task_timeout, is_bounded = draw(st.sampled_from([None, 5.0])), draw(st.sampled_from([True, True, False]))
    fate = Fate(draw, draw(st.integers(0, 6)), draw(st.integers(0, n_workers)), 3 if task_timeout else 0)
    clock = FakeClock()
    backend = ScriptedBackend(fate, clock)
    iteration = make_iteration(
        make_crew(backend, n_workers, max_tasks),
        source := Input(range(n_items)),
        behaviour=behaviour,
        window=window,
        is_bounded=is_bounded,
        retries=retries,
        is_unordered=is_unordered,
        task_timeout=task_timeout,
    )
    results, error = run_all(backend, iteration, source, window if is_bounded else None, clock)
    event(f"ends with {type(error).__name__}")
    indices = [index_of(result) for result in results]
    failures = [result for result in results if not isinstance(result, str)]
    assert indices == sorted(set(indices)) if not is_unordered else len(indices) == len(set(indices))
    assert max(backend.starts.values(), default=0) <= 1 + retries
    late = {result.item_index for result in [*failures, error] if isinstance(result, TaskTimeoutError)}
    assert late <= fate.stuck
    if behaviour == "immediate":
        assert not failures
        assert is_unordered or indices == list(range(len(indices)))
        if error is None:
            assert len(indices) == n_items
        elif not isinstance(error, WorkerInitError):
            assert isinstance(error, (FailedError, WorkerDiedError, TaskTimeoutError))
            assert index_of(error) not in indices
    elif not isinstance(error, WorkerInitError):
        assert sorted(indices) == list(range(n_items))
        assert iteration.n_errors == len(failures)
        assert isinstance(error, DeferredExceptions) == (behaviour == "deferred" and bool(failures))
        if error is not None:
            assert list(error.args) == sorted(failures, key=index_of)


@SETTINGS
@given(st.data())
def test_iterations_do_not_touch_each_other_whenever_they_are_abandoned(data):
    """Iterations over one crew, each broken off at any point, get their own results and no other's."""
    draw = data.draw
    fate = Fate(draw, n_deaths=2)
    backend = ScriptedBackend(fate)
    crew = make_crew(backend, draw(st.integers(1, 3)), draw(st.none() | st.integers(1, 5)))
    for number in range(3):
        items = [f"{number}.{index}" for index in range(draw(st.integers(0, 12)))]
        n_taken = draw(st.integers(0, len(items)))
        results = make_iteration(crew, items, retries=2, is_unordered=draw(st.booleans())).results()
        taken = []
        with patched_time(FakeClock()):
            for _ in range(n_taken):
                taken.append(next(results))
        results.close()
        for slot, worker in backend.workers.items():
            if worker.dropped and draw(st.booleans()):
                backend.say_late(slot)
        good = [result for result in taken if isinstance(result, str)]
        assert set(good) <= {done(item) for item in items}
        assert len(set(good)) == len(good)
        bad = [result for result in taken if isinstance(result, FailedError)]
        assert all(error.args[0] in items for error in bad)
        assert len(taken) == n_taken


def test_sent_items_are_those_to_run_when_nothing_goes_wrong(clock):
    """Without failures and losses each item is sent once."""
    backend = ScriptedBackend()
    results_of(make_iteration(make_crew(backend, 3), range(100)))
    assert sorted(item for _, items in backend.sent for item in items) == list(range(100))
    assert set(backend.starts.values()) == {1}


@SETTINGS
@given(st.data())
def test_items_are_sent_again_only_when_they_may_be(data):
    """An item is sent once, once more for each retry, and once more for each worker that died before it started."""
    draw = data.draw
    retries, n_deaths = draw(st.integers(0, 2)), draw(st.integers(0, 4))
    backend = ScriptedBackend(Fate(draw, n_deaths))
    source = Input(range(draw(st.integers(0, 30))))
    run_all(backend, make_iteration(make_crew(backend, 2), source, retries=retries), source, None, FakeClock())
    n_sent = {}
    for _, items in backend.sent:
        for item in items:
            n_sent[item] = n_sent.get(item, 0) + 1
    assert all(n_sent[item] <= backend.starts[item] + n_deaths for item in n_sent)
    assert all(count <= 1 + retries for count in backend.starts.values())
