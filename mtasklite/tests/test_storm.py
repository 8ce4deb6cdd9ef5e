"""A storm: workers are killed all the time, and each item still has its one outcome."""

from __future__ import annotations

import random
import sys
import threading
from functools import partial

import psutil
import pytest

from mtasklite import Pool, WorkerDiedError
from mtasklite.tests import workers

SEED = 11
KILL_EVERY_SECONDS = 0.05
ITEM_SECONDS = 0.001
MAX_LOST_A_KILL = 12
"""Items of 1 ms that a worker may not have sent: 10 ms of them, the running one, and one more for the clock."""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the platform has no SIGKILL"),
]


class Killer(threading.Thread):
    """Kills a worker of this process, drawn at random, every now and then.

    Args:
        folder: Where workers that have begun to work have left their numbers; ``None``: those that have not are
            killed too.
        results: Where results are put; if that is given, one more must have come before the next kill.
    """

    def __init__(self, folder=None, results=None):
        super().__init__(daemon=True)
        self.n_kills = 0
        self._results = results
        self._n_seen = 0
        self._folder = folder
        self._dice = random.Random(SEED)
        self._is_over = threading.Event()
        self._others = {child.pid for child in psutil.Process().children(recursive=True)}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc_info):
        self._is_over.set()
        self.join()

    def run(self):
        while not self._is_over.wait(KILL_EVERY_SECONDS):
            victims = [child for child in psutil.Process().children(recursive=True) if self._is_victim(child.pid)]
            if victims and self._has_come_on():
                self._dice.choice(victims).kill()
                self.n_kills += 1

    def _has_come_on(self):
        if self._results is None:
            return True
        n_before, self._n_seen = self._n_seen, len(self._results)
        return self._n_seen > n_before

    def _is_victim(self, pid):
        has_begun = self._folder is None or (self._folder / str(pid)).exists()
        return has_begun and pid not in self._others and not workers.is_gone(pid)


def check_outcomes(results, n_items, n_kills):
    """Raise unless each item has one outcome, and few enough have none but the death of their worker."""
    lost = [result for result in results if isinstance(result, Exception)]
    done = [result for result in results if not isinstance(result, Exception)]
    assert {type(error) for error in lost} <= {WorkerDiedError}
    assert {error.signal_name for error in lost} <= {"SIGKILL"}
    assert sorted([*done, *(error.item_index for error in lost)]) == list(range(n_items))
    assert n_kills > 3
    assert len(lost) <= MAX_LOST_A_KILL * n_kills


@pytest.mark.parametrize(
    ("method", "n_items", "is_busy"),
    [("fork", 20_000, False), ("fork", 5_000, True), ("forkserver", 1_500, False)],
    ids=["fork-asleep", "fork-busy", "forkserver-asleep"],
)
@pytest.mark.parametrize("is_unordered", [False, True], ids=["ordered", "unordered"])
def test_each_item_has_one_outcome_while_workers_are_killed(method, n_items, is_busy, is_unordered, tmp_path):
    """A kill costs a worker what it had not sent, and nobody else anything; no item is lost, or done twice."""
    worker = partial(workers.toil, folder=tmp_path, seconds=ITEM_SECONDS, is_busy=is_busy)
    pool = Pool(worker, 4, exception_behavior="ignore", start_method=method, is_unordered=is_unordered)
    with Killer(tmp_path) as killer:
        results = list(pool(range(n_items)))
    check_outcomes(results, n_items, killer.n_kills)
    if not is_unordered:
        indices = [result.item_index if isinstance(result, Exception) else result for result in results]
        assert indices == list(range(n_items))


# On a busy machine a worker may be struck ten times before it is up, and its place is given up with a warning.
@pytest.mark.filterwarnings("ignore:worker . could not be made, so the others do its work:RuntimeWarning")
@pytest.mark.parametrize(("method", "n_items"), [("fork", 20_000), ("forkserver", 4_000)])
def test_each_item_has_one_outcome_while_workers_are_killed_at_their_start_too(method, n_items, tmp_path):
    """A worker that is killed before it was up was not at fault, and is replaced like any other."""
    worker = partial(workers.toil, folder=tmp_path, seconds=ITEM_SECONDS)
    results = []
    with Killer(results=results) as killer:
        for result in Pool(worker, 4, exception_behavior="ignore", start_method=method)(range(n_items)):
            results.append(result)
    check_outcomes(results, n_items, killer.n_kills)


def test_each_item_has_its_value_when_it_may_be_tried_again(tmp_path):
    """With enough retries a storm costs time and nothing else."""
    worker = partial(workers.toil, folder=tmp_path, seconds=ITEM_SECONDS)
    with Killer(tmp_path):
        assert list(Pool(worker, 4, retries=50, start_method="fork")(range(4_000))) == list(range(4_000))
