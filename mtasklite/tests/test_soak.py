"""The soak itself: that it plays the same rounds for the same seed, and that no breach passes it unseen."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mtasklite import DeferredExceptions, SerializationError, TaskTimeoutError, WorkerDiedError
from mtasklite.tests import soak, workers
from mtasklite.tests.soak_check import END_SECONDS, find_breaches
from mtasklite.tests.soak_plan import PLACES, Fate, PoolPlan, Round, Use, draw_round
from mtasklite.tests.soak_record import UNSENT_SECONDS, Killed, PoolRecord, RoundRecord, UseRecord
from mtasklite.tests.soak_work import EXIT_CODES, Fated, Line

N_ITEMS = 4
WORKER = 1000
"""The process that does all items of a made-up round."""


def make_round(fates=None, workers=("object",), **pool_arguments):
    """Build a round of one pool of processes, with one input of a few items."""
    use = Use("generator", N_ITEMS, fates=fates or {})
    return Round(1, 0, (PoolPlan(0, "fork", workers, (use,), **pool_arguments),))


def make_record(outcomes=None, starts=range(N_ITEMS), ends=None):
    """Build what is seen if an item starts each 0.15 s, and ends 0.1 s later."""
    outcomes = [value(index) for index in range(N_ITEMS)] if outcomes is None else outcomes
    lines = [Line("start", 0, 0, index, WORKER, WORKER, 0.15 * index) for index in starts]
    lines += [
        Line("end", 0, 0, index, WORKER, WORKER, 0.15 * index + 0.1) for index in (starts if ends is None else ends)
    ]
    lines.sort(key=lambda line: line.time)
    return RoundRecord([PoolRecord([UseRecord(outcomes, n_read=N_ITEMS, most_ahead=2)])], lines)


def value(index):
    return 0, 0, index, None


def died(index, code=EXIT_CODES["sigkill"]):
    return WorkerDiedError("", code, 0, index)


def fated(index):
    error = Fated(0, 0, index)
    error.__cause__ = Exception("Traceback ...")
    return error


# ---- what is sound


def test_round_in_which_all_is_well_has_no_breach():
    """Values in order, each item run once: there is nothing to complain of."""
    assert find_breaches(make_round(), make_record()) == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("raise", fated(1)),
        ("exit", died(1, EXIT_CODES["exit"])),
        ("late", TaskTimeoutError("", 1.0, 0, 1)),
        ("unsendable", SerializationError()),
    ],
)
def test_error_that_was_injected_is_permitted(kind, error):
    """An item's own fate is no breach."""
    outcomes = [value(0), error, value(2), value(3)]
    ends = [0, 2, 3] if kind in ("exit", "late") else range(4)
    assert find_breaches(make_round({1: Fate(kind)}, task_timeout=1.0), make_record(outcomes, ends=ends)) == []


def test_item_that_a_kill_struck_may_be_lost():
    """A kill from outside may cost what the worker was at, and what it had finished just before."""
    record = make_record([value(0), value(1), died(2), died(3)], ends=[0, 1, 2])
    record.kills = [Killed(WORKER, 0.46)]
    assert find_breaches(make_round(), record) == []


# ---- what is not


def _lose(outcomes):
    del outcomes[1]


def _repeat(outcomes):
    outcomes[2] = value(1)


def _swap(outcomes):
    outcomes[1:3] = reversed(outcomes[1:3])


def _take_a_strangers(outcomes):
    outcomes[1] = (0, 1, 1, None)


def _spoil(outcomes):
    outcomes[1] = (*value(1)[:3], "something else")


def _invent(outcomes):
    outcomes.append(value(N_ITEMS))


def _fail(outcomes):
    outcomes[1] = fated(1)


def _say_that_it_died(outcomes):
    outcomes[1] = died(1)


def _say_that_it_was_late(outcomes):
    outcomes[1] = TaskTimeoutError("", 1.0, 0, 1)


def _say_that_it_cannot_be_sent(outcomes):
    outcomes[1] = SerializationError()


WRONG = [_lose, _repeat, _swap, _take_a_strangers, _spoil, _invent, _fail, _say_that_it_died, _say_that_it_was_late]
WRONG.append(_say_that_it_cannot_be_sent)


@pytest.mark.parametrize("is_unordered", [False, True])
@pytest.mark.parametrize("doctor", WRONG)
def test_wrong_outcomes_are_a_breach(doctor, is_unordered):
    """What is lost, doubled, out of order, wrong, or failed for no reason is noticed in both orders."""
    record = make_record()
    doctor(record.pools[0].uses[0].outcomes)
    breaches = find_breaches(make_round(is_unordered=is_unordered), record)
    assert bool(breaches) == (doctor is not _swap or not is_unordered)


@pytest.mark.parametrize(
    ("doctored", "text"),
    [
        ({"n_read": N_ITEMS + 1}, "5 of 4 items were read"),
        ({"most_ahead": 5}, "5 items were read and not handed out; 4 may be"),
        ({"is_read_elsewhere": True}, "another thread"),
        ({"error": KeyError("of the library")}, "of the library"),
        ({"error": DeferredExceptions()}, "raised together"),
    ],
)
def test_wrong_use_is_a_breach(doctored, text):
    """Reading too far ahead, reading in another thread, and an error out of nowhere are noticed."""
    record = make_record()
    record.pools[0].uses[0] = replace(record.pools[0].uses[0], **doctored)
    assert text in " ".join(find_breaches(make_round(chunk_size=2), record))


@pytest.mark.parametrize(
    ("starts", "text"),
    [([0, 1, 1, 2, 3], "item 1 was run 2 times"), ([0, 1, 2, 3, 4], "item 4 was run and never read")],
)
def test_item_that_is_run_too_often_is_a_breach(starts, text):
    """Without retries no item is run twice, and none that was not read."""
    assert text in " ".join(find_breaches(make_round(), make_record(starts=starts)))


@pytest.mark.parametrize("n_starts", [1, 2, 3])
def test_error_before_all_retries_were_used_is_a_breach(n_starts):
    """An item that fails each time is run as often as it may be."""
    record = make_record([value(0), fated(1), value(2), value(3)], starts=[0, *[1] * n_starts, 2, 3])
    assert bool(find_breaches(make_round({1: Fate("raise")}, retries=2), record)) == (n_starts != 3)


def test_value_of_an_item_that_was_to_fail_is_a_breach():
    """An item that fails at its first attempt has a value only after a second."""
    plan = make_round({1: Fate("raise", is_once=True)}, retries=1)
    assert "was to fail" in " ".join(find_breaches(plan, make_record())).replace("were", "was")
    assert find_breaches(plan, make_record(starts=[0, 1, 1, 2, 3])) == []


def test_result_lost_long_after_it_was_ready_is_a_breach():
    """A kill takes along what was finished an instant before, and nothing older."""
    record = make_record([value(0), died(1), value(2), value(3)])
    record.kills = [Killed(WORKER, 0.25 + UNSENT_SECONDS + 0.5)]
    assert "item 1" in " ".join(find_breaches(make_round(), record))


def test_result_lost_after_its_worker_went_on_is_a_breach():
    """What was ready 10 ms before another item was begun had been sent."""
    record = make_record([value(0), died(1), value(2), died(3)], ends=[0, 1, 2])
    record.kills = [Killed(WORKER, 0.46)]
    assert "item 1" in " ".join(find_breaches(make_round({0: Fate("large", size=1)}), record))


def test_wrong_exit_code_is_a_breach():
    """A worker that exits with 3 was not killed."""
    record = make_record([value(0), died(1), value(2), value(3)], ends=[0, 2, 3])
    assert "item 1" in " ".join(find_breaches(make_round({1: Fate("exit")}), record))


def test_failure_that_is_handed_out_in_mode_immediate_is_a_breach():
    """In mode `immediate` a failure is raised."""
    plan = make_round({1: Fate("raise")}, exception_behavior="immediate")
    record = make_record([value(0), fated(1), value(2), value(3)])
    assert "not raised" in " ".join(find_breaches(plan, record))
    record.pools[0].uses[0] = UseRecord([value(0)], fated(1), N_ITEMS)
    assert find_breaches(plan, record) == []


def test_failure_that_is_not_raised_in_mode_deferred_is_a_breach():
    """In mode `deferred` the failures are raised at the end, those and no others."""
    plan = make_round({1: Fate("raise")}, exception_behavior="deferred")
    record = make_record([value(0), fated(1), value(2), value(3)])
    assert "nothing was raised" in " ".join(find_breaches(plan, record))
    record.pools[0].uses[0].error = DeferredExceptions(fated(1))
    assert "raised together" in " ".join(find_breaches(plan, record))
    record.pools[0].uses[0].error = DeferredExceptions(record.pools[0].uses[0].outcomes[1])
    assert find_breaches(plan, record) == []


@pytest.mark.parametrize("doctored", [{"left": ["process 7"]}, {"strays": ["a cry"]}])
def test_what_is_left_of_a_round_is_a_breach(doctored):
    """A process that outlives its pool is noticed, and so is what is raised where nobody hears it."""
    assert len(find_breaches(make_round(), replace(make_record(), **doctored))) == 1


@pytest.mark.parametrize(
    "doctored", [{"slowest_end": END_SECONDS + 1}, {"warnings": ["of what?"]}, {"error": OSError()}, {"ended_at": 0.5}]
)
def test_wrong_end_of_a_pool_is_a_breach(doctored):
    """A pool that is slow to end, warns, raises when it is left, or is at work after its end is noticed."""
    record = make_record()
    record.pools[0] = replace(record.pools[0], **doctored)
    assert len(find_breaches(make_round(), record)) == 1


def test_worker_that_does_too_much_is_a_breach():
    """A worker is replaced after `max_tasks_per_child` items."""
    assert find_breaches(make_round(max_tasks_per_child=N_ITEMS), make_record()) == []
    assert len(find_breaches(make_round(max_tasks_per_child=N_ITEMS - 1), make_record())) == 1


def test_worker_that_is_entered_and_not_left_is_a_breach():
    """A worker that is a context manager is left on every orderly end."""
    record = make_record()
    record.lines.append(Line("enter", 0, -1, -1, WORKER, WORKER, 0.0))
    assert "not left" in " ".join(find_breaches(make_round(), record))
    record.lines.append(Line("leave", 0, -1, -1, WORKER, WORKER, 9.0))
    assert find_breaches(make_round(), record) == []


@pytest.mark.parametrize("behaviour", ["ignore", "immediate"])
def test_silence_about_a_worker_that_could_not_be_made_is_a_breach(behaviour):
    """A constructor that raises must be heard of: by a warning, or in mode `immediate` by an exception."""
    plan, record = make_round(workers=("object", "raises"), exception_behavior=behaviour), make_record()
    assert find_breaches(plan, record) == []  # the input was at its end before that worker's turn came
    record.lines.append(Line("make", 0, -1, 1, WORKER + 1, WORKER + 1, 0.0))
    assert len(find_breaches(plan, record)) == 1


# ---- the plan


def test_plan_is_the_same_for_the_same_seed():
    """A round can be played again."""
    assert [draw_round(1, number) for number in range(20)] == [draw_round(1, number) for number in range(20)]


def test_plan_differs_for_another_seed_and_another_round():
    """No two rounds are the same."""
    plans = [draw_round(seed, number) for seed in (1, 2) for number in range(20)]
    assert all(plan not in plans[:place] for place, plan in enumerate(plans))


def test_plans_are_of_all_kinds():
    """A few hundred rounds have everything in them that can be drawn."""
    plans = [draw_round(1, number) for number in range(600)]
    pools = [pool for plan in plans for pool in plan.pools]
    uses = [use for pool in pools for use in pool.uses]
    drawn = {fate.kind for use in uses for fate in use.fates.values()} | {use.end for use in uses}
    drawn |= {kind for pool in pools for kind in pool.workers} | {"kill" for plan in plans if plan.kills}
    assert drawn >= set(soak.SKIPPABLE)
    assert {pool.place for pool in pools} == set(PLACES)


def test_plan_leaves_out_what_is_to_be_skipped():
    """Without one kind of harm all else stays as it was."""
    for number in range(50):
        plan, other = draw_round(1, number), draw_round(1, number, ["late", "kill"])
        assert not other.kills
        for pool, other_pool in zip(plan.pools, other.pools):
            assert replace(pool, uses=()) == replace(other_pool, uses=())
            assert not any(fate.kind == "late" for use in other_pool.uses for fate in use.fates.values())


# ---- the run


def test_breach_is_printed_with_what_plays_it_again(capsys):
    """A breach is printed with what was drawn and how to see it again."""
    plan, record = make_round(), make_record([value(0), value(1), value(2)])
    assert not soak._has_no_breach(plan, record, soak._describe(plan, ["late"]))
    printed = capsys.readouterr().out
    assert "BREACH: pool 0, use 0: 4 of 4 items were read, and 3 outcomes handed out" in printed
    assert "--seed 1 --round 0 --times 20 --skip late" in printed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the soak is for POSIX")
def test_short_soak_passes():
    """A few rounds break no promise, and what happened in them is counted."""
    printed = workers.run_python("-m", "mtasklite.tests.soak", "--seconds", "3", "--seed", "1")
    counts = {line[:24].strip(): int(line[24:]) for line in printed.splitlines()[1:]}
    assert printed.startswith("seed 1: no breach\n")
    assert counts["rounds"] > 0
    assert counts["values"] > 0
