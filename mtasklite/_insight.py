"""Makes a report of what the ledger has: adds up, and finds what held the workers back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from mtasklite._crew import Crew, at_work
from mtasklite._ledger import (
    ABSENT,
    CONSTRUCTING,
    CONSUMER,
    END,
    INPUT,
    N_STATES,
    OVERHEAD,
    PAUSE,
    REMAKING,
    WINDOW,
    WORKING,
    Lane,
)
from mtasklite.delayed_init import ShellObject
from mtasklite.report import Report, Timeline, WorkerReport, percent

WELL_BUSY = 0.9
"""Workers that are busy for so large a share of the time are held back by nothing."""

MANY_DEATHS = 3
"""So many workers must have died for it to be said, and one for each `ITEMS_PER_DEATH` items."""

ITEMS_PER_DEATH = 10

FOR_INPUT = (INPUT, OVERHEAD, END)
TO_HAND_OUT = (CONSUMER, WINDOW)


def make_report(crew: Crew, workers: Sequence[Any], is_unordered: bool) -> Report:
    """Return what the workers of a pool have done until now; any thread may ask.

    Args:
        crew: The pool's workers.
        workers: What they call, one for each slot.
        is_unordered: Whether results are handed out as they finish.
    """
    backend, ledger = crew.backend, crew.ledger
    if backend is not None:
        ledger.note_peaks(backend.peaks())
    lanes = ledger.snapshot(at_work(backend) if backend is not None else (), time.monotonic())
    return report_of(lanes, [name_of(worker) for worker in workers], is_unordered)


def report_of(lanes: Sequence[Lane], names: Sequence[str], is_unordered: bool = False) -> Report:
    """Return the report that says what is in these lanes."""
    seconds = [sum(lane.seconds[state] for lane in lanes) for state in range(N_STATES)]
    paused = min(lane.seconds[PAUSE] for lane in lanes)
    elapsed = max(sum(lane.seconds) - lane.seconds[PAUSE] for lane in lanes)
    efficiency = min(1.0, seconds[WORKING] / (len(lanes) * elapsed)) if elapsed > 0 else 0.0
    bottleneck, summary = find_bottleneck(
        seconds,
        n_items=sum(lane.tally.n_items for lane in lanes),
        n_deaths=sum(lane.n_deaths for lane in lanes),
        n_workers=len(lanes),
        is_unordered=is_unordered,
    )
    workers = tuple(_worker_report(index, lane, name) for index, (lane, name) in enumerate(zip(lanes, names)))
    return Report(workers, elapsed, paused, efficiency, bottleneck, summary)


def find_bottleneck(
    seconds: Sequence[float], n_items: int, n_deaths: int, n_workers: int, is_unordered: bool
) -> tuple[str, str]:
    """Say what held the workers back most: in a word, and in a sentence.

    Args:
        seconds: By state, of all workers together; pauses do not count.
        n_items: Items done.
        n_deaths: Workers that have died.
        n_workers: Slots.
        is_unordered: Whether results are handed out as they finish.
    """
    total = sum(seconds) - seconds[PAUSE]
    if total <= 0:
        return "nothing", "nothing: no worker has been started yet"
    share = [part / total for part in seconds]
    if share[WORKING] >= WELL_BUSY:
        return "nothing", f"nothing: workers were busy {percent(share[WORKING])} of the time"
    after_deaths = share[REMAKING] + (share[ABSENT] if n_deaths else 0.0)
    shares = {
        "input": share[INPUT],
        "consumer": share[CONSUMER],
        "window": share[WINDOW],
        "end": share[END],
        "constructing": share[CONSTRUCTING],
        "deaths": after_deaths,
        "handover": share[OVERHEAD],
        "absent": share[ABSENT] if not n_deaths else 0.0,
    }
    worst = max(shares, key=lambda name: shares[name])
    if n_deaths >= MANY_DEATHS and n_deaths * ITEMS_PER_DEATH >= n_items and after_deaths >= shares[worst] / 2:
        worst = "deaths"
    return worst, _SENTENCES[worst].format(
        share=percent(shares[worst]),
        n_deaths=n_deaths,
        cause="there were fewer items than workers" if n_items < n_workers else "a few items at the end took long",
        remedy="a larger `chunk_size` lets more be read" if is_unordered else "`is_unordered=True` lets nothing wait",
    )


_SENTENCES = {
    "input": "workers waited for input {share} of the time: the input is the bottleneck",
    "consumer": "workers waited to hand out results {share} of the time: the consumer is the bottleneck",
    "window": "workers waited {share} of the time because results waited for slower items before them: {remedy}",
    "end": "workers had nothing left to do {share} of the time: {cause}",
    "constructing": "workers were being made {share} of the time: their construction is the bottleneck",
    "deaths": "workers died again and again ({n_deaths} times): making new ones took {share} of the time",
    "handover": "handing items and results over took {share} of the time: the items are too short, or too large",
    "absent": "slots were without a worker {share} of the time: some could not be made, or took long to leave",
}


def name_of(worker: Any) -> str:
    """Return the name of a worker's function or class, for people."""
    if isinstance(worker, ShellObject):
        worker = worker.cls
    while isinstance(worker, partial):
        worker = worker.func
    return str(getattr(worker, "__name__", None) or type(worker).__name__)


def _worker_report(index: int, lane: Lane, name: str) -> WorkerReport:
    seconds = lane.seconds
    return WorkerReport(
        index=index,
        name=name,
        items=lane.tally.n_items,
        errors=lane.tally.n_errors,
        retries=lane.tally.n_retries,
        restarts=lane.n_restarts,
        deaths=lane.n_deaths,
        seconds_constructing=seconds[CONSTRUCTING] + seconds[REMAKING],
        seconds_working=seconds[WORKING],
        seconds_waiting_for_input=sum(seconds[state] for state in FOR_INPUT),
        seconds_nothing_left=seconds[END],
        seconds_waiting_to_hand_out=sum(seconds[state] for state in TO_HAND_OUT),
        seconds_absent=seconds[ABSENT],
        bytes_in=lane.bytes_in,
        bytes_out=lane.bytes_out,
        peak_memory=lane.peak_bytes or None,
        timeline=_timeline(lane),
    )


def _timeline(lane: Lane) -> Timeline:
    used = lane.timeline.cells[: lane.timeline.n_steps * N_STATES]

    def summed(*states: int) -> list[float]:
        return [sum(parts) for parts in zip(*(used[state::N_STATES] for state in states))]

    return Timeline(
        step_seconds=lane.timeline.step_seconds,
        constructing=summed(CONSTRUCTING, REMAKING),
        working=summed(WORKING),
        waiting_for_input=summed(INPUT, OVERHEAD),
        nothing_left=summed(END),
        waiting_to_hand_out=summed(*TO_HAND_OUT),
        died_at=[moment - lane.timeline.began_at for moment in lane.died_at],
    )
