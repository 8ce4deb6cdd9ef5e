"""What the ledger makes of what it is told: whose time went into what, by a clock that is told the time."""

from __future__ import annotations

import contextlib
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtasklite import _crew, _driver, _insight, _reader
from mtasklite._insight import find_bottleneck, name_of, report_of
from mtasklite._ledger import (
    ABSENT,
    CONSTRUCTING,
    CONSUMER,
    END,
    INPUT,
    MAX_ENTRIES,
    MAX_STEPS,
    MAX_WRITTEN,
    N_STATES,
    OVERHEAD,
    PAUSE,
    REMAKING,
    WINDOW,
    WORKING,
    Course,
    Ledger,
)
from mtasklite._messages import NOWHERE, InitFailed, Lost, Ready, Run
from mtasklite.errors import WorkerDiedError
from mtasklite.tests.scripted import (
    Bench,
    FailedError,
    FakeClock,
    ScriptedBackend,
    followed,
    make_crew,
    make_iteration,
)
from mtasklite.tests.workers import Multiplier, identity

BEGIN = 100.0


def make_ledger(n_workers=1, at=BEGIN):
    """Build a ledger of workers that are up since the beginning, and of which it is the driver's turn."""
    ledger = Ledger(n_workers)
    ledger.open(at)
    for lane in ledger.lanes:
        lane.on_start(at)
        lane.on_ready(at, at)
    ledger.course.enter(OVERHEAD, at)
    return ledger


def run(slot, began_at, ended_at, n_bytes=0):
    """Build a run of one item."""
    return Run(slot, 0, ["value"], {}, ended_at - began_at, n_bytes, ended_at)


def seconds_of(lane):
    """Return what went into each state, without what is nothing."""
    return {state: pytest.approx(seconds) for state, seconds in enumerate(lane.seconds) if seconds > 1e-9}


def seconds_now(ledger, now):
    """Return what went into each state of the first lane until now, when nobody is at work."""
    return seconds_of(ledger.snapshot((), now)[0])


# ---- one lane


def test_time_between_two_runs_is_what_the_driver_did_in_it():
    """Ten seconds: three at work, four in which the input was read, two of the consumer's, and one of handing over."""
    ledger = make_ledger()
    ledger.course.enter(INPUT, 100.0)
    ledger.course.enter(OVERHEAD, 104.0)
    ledger.note(run(0, 104.5, 107.0), 107.0)
    ledger.course.enter(CONSUMER, 107.0)
    ledger.course.enter(OVERHEAD, 109.0)
    ledger.note(run(0, 109.5, 110.0), 110.0)
    assert seconds_now(ledger, 110.0) == {INPUT: 4.0, OVERHEAD: 1.0, CONSUMER: 2.0, WORKING: 3.0}


def test_run_that_is_heard_of_late_counts_when_it_was():
    """The worker had done its work in a second, though the consumer let nobody hear of it for nine more."""
    ledger = make_ledger()
    ledger.course.enter(CONSUMER, 100.0)
    ledger.note(run(0, 100.0, 101.0), 110.0)
    ledger.close((), 110.0)
    assert seconds_of(ledger.lanes[0]) == {WORKING: 1.0, CONSUMER: 9.0}


def test_constructing_lasts_until_the_worker_says_that_it_is_up():
    """Not until it is heard."""
    ledger = Ledger(1)
    ledger.open(100.0)
    ledger.course.enter(CONSUMER, 100.0)
    ledger.lanes[0].on_start(101.0)
    ledger.note(Ready(0, 104.0), 109.0)
    ledger.close((), 110.0)
    assert seconds_of(ledger.lanes[0]) == {CONSTRUCTING: 4.0, CONSUMER: 6.0}


def test_second_ready_changes_nothing():
    """A worker that drops what it had, and says so, was up all the time."""
    ledger = make_ledger()
    ledger.note(Ready(0, 105.0), 105.0)
    ledger.close((), 110.0)
    assert seconds_of(ledger.lanes[0]) == {OVERHEAD: 10.0}


def test_item_that_cost_its_worker_was_work_until_the_death():
    """From when it was given until the worker was lost; then there is none, and then another is made."""
    ledger = make_ledger()
    ledger.lanes[0].on_sent(10, True, 102.0)
    ledger.note(Lost(0, 7, -9, "SIGKILL"), 105.0)
    ledger.lanes[0].on_start(106.0)
    ledger.note(Ready(0, 108.0), 108.0)
    ledger.close((), 108.0)
    assert seconds_of(ledger.lanes[0]) == {OVERHEAD: 2.0, WORKING: 3.0, ABSENT: 1.0, REMAKING: 2.0}
    assert (ledger.lanes[0].n_deaths, ledger.lanes[0].n_restarts) == (1, 1)
    assert list(ledger.lanes[0].died_at) == [105.0]


def test_worker_that_died_without_work_had_waited():
    """It had nothing to do when it was killed."""
    ledger = make_ledger()
    ledger.note(Lost(0, NOWHERE, -9, "SIGKILL"), 105.0)
    assert seconds_of(ledger.lanes[0]) == {OVERHEAD: 5.0}


def test_worker_that_is_replaced_in_order_has_not_died():
    """It is restarted, and the new one is made as the first was."""
    ledger = make_ledger()
    ledger.on_gone(0, 101.0)
    ledger.lanes[0].on_start(101.0)
    ledger.note(Ready(0, 103.0), 103.0)
    assert (ledger.lanes[0].n_deaths, ledger.lanes[0].n_restarts) == (0, 1)
    assert seconds_of(ledger.lanes[0]) == {OVERHEAD: 1.0, CONSTRUCTING: 2.0}


@pytest.mark.parametrize(("error", "n_deaths"), [(FailedError("no"), 0), (WorkerDiedError("gone"), 1)])
def test_worker_that_could_not_be_made_is_absent(error, n_deaths):
    """A constructor that raises is no death; a process that ends in it is one."""
    ledger = Ledger(1)
    ledger.open(100.0)
    ledger.lanes[0].on_start(100.0)
    ledger.note(InitFailed(0, error), 102.0)
    ledger.close((), 105.0)
    assert seconds_of(ledger.lanes[0]) == {CONSTRUCTING: 2.0, ABSENT: 3.0}
    assert ledger.lanes[0].n_deaths == n_deaths


def test_outcomes_from_the_journal_of_a_dead_worker_have_no_time_of_their_own():
    """They are part of the work that its death ended; their bytes are counted nowhere."""
    ledger = make_ledger()
    ledger.lanes[0].on_sent(10, True, 100.0)
    ledger.note(Run(0, 0, ["value"], {}, -1.0), 105.0)
    ledger.note(Lost(0, 1, -9, "SIGKILL"), 105.0)
    assert seconds_of(ledger.lanes[0]) == {WORKING: 5.0}


def test_bytes_are_summed_up():
    """In with each batch, out with each run."""
    ledger = make_ledger()
    for _ in range(3):
        ledger.lanes[0].on_sent(100, True, 100.0)
        ledger.note(run(0, 100.0, 101.0, n_bytes=7), 101.0)
    assert (ledger.lanes[0].bytes_in, ledger.lanes[0].bytes_out) == (300, 21)


def test_peak_is_the_largest_ever_seen():
    """Of all the workers that a slot has had."""
    ledger = make_ledger(2)
    ledger.note_peaks([(0, 5), (1, 0)])
    ledger.note_peaks([(0, 3)])
    assert [lane.peak_bytes for lane in ledger.lanes] == [5, 0]


# ---- snapshots


def test_snapshot_counts_the_item_that_is_under_way():
    """Who has work and is at it has worked since it was given, and who is not has waited."""
    ledger = make_ledger(2)
    ledger.course.enter(WINDOW, 100.0)
    for lane in ledger.lanes:
        lane.on_sent(1, True, 102.0)
    busy, idle = ledger.snapshot({0}, 110.0)
    assert seconds_of(busy) == {WINDOW: 2.0, WORKING: 8.0}
    assert seconds_of(idle) == {WINDOW: 10.0}


def test_snapshot_amid_the_working_in_counts_nothing_twice():
    """What is worked in while another thread copies is in its copy already, and is worked in again there."""
    ledger = make_ledger()
    ledger.course.enter(INPUT, 100.0)
    ledger.course.enter(OVERHEAD, 103.0)
    ledger.note(run(0, 104.0, 107.0), 107.0)
    written, turns = ledger._written, ledger.course._written
    ledger._work_in()
    ledger._written, ledger.course._written = written, turns
    assert seconds_now(ledger, 110.0) == {INPUT: 3.0, OVERHEAD: 4.0, WORKING: 3.0}


def test_snapshot_changes_nothing():
    """What was guessed for it is forgotten: the run that comes says how it really was."""
    ledger = make_ledger()
    ledger.lanes[0].on_sent(1, True, 100.0)
    ledger.snapshot({0}, 110.0)
    ledger.note(run(0, 100.0, 103.0), 111.0)
    assert seconds_now(ledger, 110.0) == {WORKING: 3.0, OVERHEAD: 7.0}
    assert seconds_now(ledger, 110.0) == {WORKING: 3.0, OVERHEAD: 7.0}


def test_snapshot_after_the_end_says_the_same_for_ever():
    """When there are no workers, no time goes by."""
    ledger = make_ledger()
    ledger.close((), 110.0)
    assert seconds_of(ledger.snapshot((), 110.0)[0]) == seconds_of(ledger.snapshot((), 500.0)[0]) == {OVERHEAD: 10.0}


def test_second_start_counts_on():
    """A pool that is used again adds to what it has, does not count the time between, and a start is no restart."""
    ledger = make_ledger()
    ledger.close((), 110.0)
    ledger.open(200.0)
    ledger.lanes[0].on_start(200.0)
    ledger.note(Ready(0, 201.0), 201.0)
    ledger.close((), 202.0)
    assert sum(ledger.lanes[0].seconds) == pytest.approx(12.0)
    assert ledger.lanes[0].n_restarts == 0


# ---- the course and the timeline


def test_course_forgets_details_not_sums():
    """However often the driver turns to something else, what is kept is bounded, and all of it adds up."""
    course = Course(0.0, PAUSE)
    for turn in range(20 * MAX_ENTRIES):
        course.enter(INPUT, turn)
        course.enter(CONSUMER, turn + 0.25)
    course.work_in()
    assert len(course._entries) <= MAX_ENTRIES
    for moment in (0.0, 1000.0, 20000.0, 20.0 * MAX_ENTRIES):
        sums = course.sums_at(moment)
        assert sum(sums) == pytest.approx(moment)
        assert sums[INPUT] == pytest.approx(moment / 4, abs=20)


def test_course_before_its_beginning_is_empty():
    """A worker's clock that is a little behind does no harm."""
    assert set(Course(100.0, PAUSE).sums_at(99.0)) == {0.0}


def test_many_runs_do_not_make_the_ledger_larger():
    """After a million runs over hours the ledger has the size that it had after some thousands."""
    ledger = make_ledger()
    now, sizes = BEGIN, []
    for count in range(1_000_000):
        if count % 100 == 0:  # the driver's turns are as bounded, and tested above
            ledger.course.enter(INPUT, now)
            ledger.course.enter(OVERHEAD, now + 0.005)
        ledger.note(run(0, now + 0.005, now + 0.013), now + 0.013)
        now += 0.014
        if count in (100_000, 999_999):
            sizes.append(len(ledger.lanes[0].timeline.cells) + len(ledger.course._entries) + len(ledger._written))
    assert max(sizes) <= MAX_STEPS * N_STATES + MAX_ENTRIES + MAX_WRITTEN
    ledger.close((), now - 0.001)
    assert ledger.lanes[0].seconds[WORKING] == pytest.approx(8000.0)
    assert sum(ledger.lanes[0].seconds) == pytest.approx(now - 0.001 - BEGIN)


def test_deaths_that_are_kept_for_the_plot_are_bounded():
    """All are counted; of the times only the latest are kept."""
    ledger = make_ledger()
    for count in range(1000):
        ledger.note(Lost(0, NOWHERE, -9, "SIGKILL"), BEGIN + count)
        ledger.lanes[0].on_start(BEGIN + count)
    lane = ledger.lanes[0]
    assert (lane.n_deaths, lane.n_restarts, len(lane.died_at)) == (1000, 1000, 256)


@given(
    st.lists(
        st.tuples(st.sampled_from([INPUT, CONSUMER, END]), st.floats(0, 50), st.floats(0, 50), st.floats(0, 5)),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_times_add_up_to_the_time_that_has_gone(turns):
    """Whatever happens in whatever order, each second is counted once, in the sums as in the steps."""
    ledger = make_ledger()
    now = BEGIN
    for kind, idle, busy, delay in turns:
        ledger.course.enter(kind, now)
        now += idle + busy + delay
        ledger.note(run(0, now - delay - busy, now - delay), now)
    ledger.close((), now)
    lane = ledger.lanes[0]
    assert sum(lane.seconds) == pytest.approx(now - BEGIN)
    assert sum(lane.timeline.cells) == pytest.approx(now - BEGIN, rel=1e-3)
    assert lane.seconds[WORKING] == pytest.approx(sum(busy for _, _, busy, _ in turns))


def test_timeline_shows_when():
    """Steps that are over are what they were, though they have become longer."""
    ledger = make_ledger()
    ledger.course.enter(INPUT, 100.0)
    ledger.note(run(0, 104.0, 106.0), 106.0)
    ledger.close((), 108.0)
    (worker,) = report_of(ledger.lanes, ["f"]).workers
    step = worker.timeline.step_seconds
    working = [number * step for number, seconds in enumerate(worker.timeline.working) if seconds > step / 2]
    assert min(working) == pytest.approx(4.0, abs=2 * step)
    assert max(working) == pytest.approx(6.0, abs=2 * step)
    assert sum(worker.timeline.waiting_for_input) == pytest.approx(6.0, rel=1e-3)
    assert len(worker.timeline.working) <= MAX_STEPS


# ---- the sentence


def sentence(n_items=100, n_deaths=0, n_workers=4, is_unordered=False, **seconds):
    """Return what is said of workers whose time went into this."""
    states = [0.0] * N_STATES
    for name, value in seconds.items():
        states[globals()[name]] = value
    return find_bottleneck(states, n_items, n_deaths, n_workers, is_unordered)


@pytest.mark.parametrize(
    ("seconds", "word", "text"),
    [
        (
            {"INPUT": 62, "WORKING": 38},
            "input",
            "workers waited for input 62 % of the time: the input is the bottleneck",
        ),
        ({"CONSUMER": 50, "WORKING": 50}, "consumer", "the consumer is the bottleneck"),
        ({"WINDOW": 50, "WORKING": 50}, "window", "`is_unordered=True` lets nothing wait"),
        ({"END": 50, "WORKING": 50}, "end", "nothing left to do 50 % of the time: a few items at the end took long"),
        ({"CONSTRUCTING": 70, "WORKING": 30}, "constructing", "workers were being made 70 % of the time"),
        ({"OVERHEAD": 30, "WORKING": 70}, "handover", "handing items and results over took 30 % of the time"),
        ({"ABSENT": 50, "WORKING": 50}, "absent", "slots were without a worker 50 % of the time"),
        ({"WORKING": 97, "INPUT": 3}, "nothing", "nothing: workers were busy 97 % of the time"),
        ({"PAUSE": 97}, "nothing", "nothing: no worker has been started yet"),
        ({"PAUSE": 900, "INPUT": 80, "WORKING": 20}, "input", "waited for input 80 % of the time"),
    ],
)
def test_sentence_names_what_held_it_back(seconds, word, text):
    """The largest share of the time, pauses left out, unless the workers were busy."""
    found, said = sentence(**seconds)
    assert found == word
    assert text in said


def test_deaths_are_named_when_making_new_workers_took_long():
    """With their number."""
    word, text = sentence(n_deaths=12, REMAKING=40, ABSENT=20, WORKING=40)
    assert (word, text) == ("deaths", "workers died again and again (12 times): making new ones took 60 % of the time")


def test_few_items_are_named_as_such():
    """Where there were not enough for all, none took long."""
    assert "there were fewer items than workers" in sentence(n_items=2, END=50, WORKING=50)[1]


def test_window_that_is_too_small_is_named_where_order_does_not_matter():
    """Advice that was followed already is not given."""
    word, text = sentence(is_unordered=True, WINDOW=60, WORKING=40)
    assert word == "window"
    assert "chunk_size" in text


# ---- with the driver


@contextlib.contextmanager
def patched_time(clock):
    """Let all that asks for the time go by a scripted clock."""
    with contextlib.ExitStack() as stack:
        for module in (_driver, _reader, _crew, _insight):
            stack.enter_context(mock.patch.object(module, "time", clock))
        yield


class Scene:
    """A pool's workers whose clock moves when a script says so."""

    def __init__(self, *steps, n_workers=2):
        self.clock = FakeClock()
        self.backend = ScriptedBackend(followed(*steps) if steps else None, self.clock)
        self.backend.now = self.clock.monotonic
        self.crew = make_crew(self.backend, n_workers)
        self.n_workers = n_workers

    def report(self):
        return _insight.make_report(self.crew, [identity] * self.n_workers, False)

    def input(self, n_items, seconds):
        for item in range(n_items):
            self.clock.advance(seconds)
            yield item

    def run(self, items, seconds_each=0.0, consumer_seconds=0.0, **rules):
        self.backend.seconds_each = seconds_each
        with patched_time(self.clock):
            for _ in make_iteration(self.crew, items, leaves_crew=False, **rules).results():
                self.clock.advance(consumer_seconds)
            return self.report()


def work_for(scene_seconds):
    """Return a script step: time goes by, and then everybody has done all that he had."""

    def step(backend):
        backend._clock.advance(scene_seconds)
        backend.do_all()

    return step


def test_slow_input_is_the_bottleneck():
    """The driver was reading while the workers had nothing."""
    scene = Scene(work_for(0.0))
    report = scene.run(scene.input(20, 1.0))
    assert report.bottleneck == "input"
    assert report.seconds_elapsed == pytest.approx(20.0)
    assert report.workers[1].seconds_waiting_for_input == pytest.approx(20.0, abs=2.0)


def test_slow_consumer_is_the_bottleneck():
    """The driver was waiting for the next call of the consumer."""
    report = Scene(work_for(0.0)).run(range(20), consumer_seconds=1.0)
    assert report.bottleneck == "consumer"
    assert report.seconds_elapsed == pytest.approx(20.0)
    assert report.workers[0].seconds_waiting_to_hand_out == pytest.approx(20.0)


def test_slow_constructors_are_the_bottleneck():
    """No worker was up before the fifth second."""
    report = Scene(work_for(5.0)).run(range(20))
    assert report.bottleneck == "constructing"
    assert [worker.seconds_constructing for worker in report.workers] == [5.0, 5.0]


def test_long_item_at_the_end_is_the_bottleneck():
    """One worker is at the last item, and the other has nothing left."""

    def all_up(backend):
        backend.ready(0)
        backend.ready(1)

    def one_is_done(backend):
        backend.answer(1)

    def other_is_done(backend):
        backend._clock.advance(10.0)
        backend.answer(0)

    report = Scene(all_up, one_is_done, other_is_done).run(range(2), seconds_each=10.0)
    assert report.bottleneck == "end"
    assert report.workers[1].seconds_waiting_for_input == pytest.approx(10.0, abs=0.1)
    assert report.workers[0].seconds_working == pytest.approx(10.0, abs=0.1)


def test_results_that_wait_for_a_slower_one_before_them_are_named():
    """The window is full, and the consumer waits for the first."""

    def all_up(backend):
        backend.ready(0)
        backend.ready(1)

    def one_does_all_that_it_may(backend):
        if backend.workers[1].held:
            backend.answer(1)
        else:
            backend._clock.advance(10.0)
            backend.do_all()

    report = Scene(all_up, *[one_does_all_that_it_may] * 4).run(range(8), window=4)
    assert report.bottleneck == "window"
    assert report.workers[1].seconds_waiting_to_hand_out >= 9.9


def test_workers_that_die_again_and_again_are_the_bottleneck():
    """Each new one takes three seconds to be made."""

    def come_up(backend):
        backend._clock.advance(3.0)
        for slot, worker in backend.workers.items():
            if not worker.is_up:
                backend.ready(slot)

    def die(backend):
        backend.lose(0)

    report = Scene(come_up, *[die, come_up] * 6, n_workers=1).run(range(8))
    assert report.bottleneck == "deaths"
    assert (report.workers[0].deaths, report.workers[0].restarts) == (6, 6)
    assert report.workers[0].items == 8
    assert report.workers[0].errors == 6


def test_pause_between_iterations_is_left_out():
    """Inside a `with` block, while nobody iterates, the workers wait for nothing."""
    scene = Scene(work_for(2.0))
    with patched_time(scene.clock):
        list(make_iteration(scene.crew, range(4)).results())
        scene.clock.advance(100.0)
        report = scene.report()
        scene.crew.close(None)
    assert report.seconds_elapsed == pytest.approx(2.0)
    assert report.seconds_paused == pytest.approx(100.0)


def test_bytes_and_memory_come_from_the_backend():
    """What was pickled and what the processes had of memory."""
    scene = Scene()
    scene.backend.item_bytes = 50
    scene.backend.peak_bytes = 7_000_000
    report = scene.run(range(10))
    assert report.total("bytes_in") == 500
    assert [worker.peak_memory for worker in report.workers] == [7_000_000, 7_000_000]


@pytest.mark.parametrize(
    ("worker", "name"), [(identity, "identity"), (Multiplier(3), "Multiplier"), (FailedError(), "FailedError")]
)
def test_worker_is_called_by_the_name_of_its_function_or_class(worker, name):
    """As the user wrote it."""
    assert name_of(worker) == name


def test_pause_is_no_part_of_the_states_that_are_shown():
    """All states but the pause stand in one of the report's columns."""
    ledger = make_ledger()
    lane = ledger.lanes[0]
    for state in range(N_STATES):
        lane.seconds[state] = 2.0**state
    (worker,) = report_of(ledger.lanes, ["f"]).workers
    shown = [
        value for name, value in vars(worker).items() if name.startswith("seconds_") and name != "seconds_nothing_left"
    ]
    assert sum(shown) == sum(lane.seconds) - lane.seconds[PAUSE]


# ---- what the engine says of workers without work


def test_idle_workers_wait_for_the_pool_while_there_are_items_for_them():
    """What was read and is not sent is the pool's to hand over, and so is reading while there is room."""
    bench = Bench(range(4), n_slots=2)
    assert bench.engine.what_idle_workers_wait_for == OVERHEAD
    bench.engine.feed([1])
    assert bench.engine.what_idle_workers_wait_for == OVERHEAD


def test_idle_workers_wait_for_the_window_when_it_is_full():
    """All that may be read was read, and the outcome that is to be handed out first is not there."""
    bench = Bench(n_slots=2, window=2)
    bench.supply()
    bench.answer(1)
    assert bench.engine.what_idle_workers_wait_for == WINDOW


def test_idle_workers_wait_for_the_end_when_the_input_has_ended():
    """There is nothing left for them."""
    bench = Bench(range(2), n_slots=2)
    bench.supply()
    bench.engine.end_input()
    assert bench.engine.what_idle_workers_wait_for == END
