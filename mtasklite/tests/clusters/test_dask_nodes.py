"""The pool on Dask over several nodes: a scheduler and workers that were started by their commands."""

from __future__ import annotations

import importlib
import time
from functools import partial
from pathlib import Path

import pytest

import mtasklite
from mtasklite import Pool, WorkerDiedError, is_exception
from mtasklite.tests import workers

distributed = pytest.importorskip("distributed")

from mtasklite.dask import pqdm  # noqa: E402 - after it is known to be there
from mtasklite.tests.clusters.dask_nodes import Nodes  # noqa: E402

EXAMPLES = Path(mtasklite.__file__).parents[1] / "examples"

MOST_HELD = 2 * 4096
"""Items that one worker may hold, in two batches."""


def _name(_):
    return distributed.get_worker().name


def _name_late(_):
    time.sleep(0.02)
    return distributed.get_worker().name


def _work(item):
    end = time.perf_counter() + 0.0005
    while time.perf_counter() < end:
        pass
    return item


@pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are beside the package only in a checkout")
def test_census_over_two_nodes_is_that_of_a_plain_loop(tmp_path, monkeypatch):
    """The census of the standard library, taken on two nodes, is the one that a loop takes."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    census = importlib.import_module("stdlib_census")
    root = Path(census.sysconfig.get_path("stdlib"))
    files = census.find_files(root, census.NOT_THE_STANDARD_LIBRARY)[:400]
    monkeypatch.setattr(census, "process_pqdm", pqdm)
    with Nodes(tmp_path, paths=[EXAMPLES]) as nodes:
        taken = census.take_census(root, files, n_jobs=None, threads=False, unordered=False)
        nodes.check_nothing_left()
    assert taken.summaries == census.take_census_serially(root, files).summaries


def test_node_that_is_killed_amid_the_work_costs_what_it_held(tmp_path):
    """10,000 items while one of two nodes is killed: one outcome for each, in order; the other node does the rest."""
    with Nodes(tmp_path) as nodes:
        results = []
        for result in Pool(_work, 2, backend="dask", exception_behavior="ignore")(range(10_000)):
            results.append(result)
            if len(results) == 2000:
                nodes.kill(0)
        nodes.check_nothing_left()
        assert list(nodes.addresses) == ["node1"]
    errors = [result for result in results if is_exception(result)]
    assert len(results) == 10_000
    assert all(result == item for item, result in enumerate(results) if not is_exception(result))
    assert {type(error) for error in errors} <= {WorkerDiedError}
    assert len(errors) < MOST_HELD


def test_with_retries_a_killed_node_costs_nothing(tmp_path):
    """With `retries` the items of a node that was killed are done on the other one."""
    with Nodes(tmp_path) as nodes:
        results = []
        for result in Pool(_work, 2, backend="dask", retries=1)(range(5000)):
            results.append(result)
            if len(results) == 1000:
                nodes.kill(1)
        nodes.check_nothing_left()
    assert results == list(range(5000))


def test_last_node_that_is_killed_ends_the_work(tmp_path, monkeypatch):
    """When no node is left, each item has an error, after a while in which one might have come back."""
    monkeypatch.setattr("mtasklite._backends._dask_places.NO_PROCESS_SECONDS", 1.0)
    with Nodes(tmp_path, options=[()]) as nodes:
        results = Pool(partial(workers.nap, seconds=0.01), 1, backend="dask", exception_behavior="immediate")(
            workers.count_until(lambda: False)
        )
        assert next(results) == 0
        nodes.kill(0)
        with pytest.raises((mtasklite.WorkerInitError, WorkerDiedError)):
            list(results)


def test_worker_goes_where_its_resources_are(tmp_path):
    """Workers that need what one node has are all on that; those that need nothing may be anywhere."""
    with Nodes(tmp_path, options=[(), ("--resources", "GPU=2")]) as nodes:
        needy = Pool(_name, 2, backend="dask", resources={"GPU": 1})
        assert set(needy(range(20))) == {"node1"}
        assert Pool(_name, backend="dask", resources={"GPU": 1}).num_workers == 1
        one_each = Pool([_name, _name_late], backend="dask", resources=[{"GPU": 2}, {}], chunk_size=1)
        assert "node1" in set(one_each(range(20)))
        nodes.check_nothing_left()


def test_worker_for_which_there_is_no_room_holds_nobody_up(tmp_path):
    """Three workers with one GPU each where there are two: two do all the work."""
    with Nodes(tmp_path, options=[("--resources", "GPU=1")] * 2) as nodes:
        pool = Pool(workers.where, 3, backend="dask", resources={"GPU": 1}, chunk_size=1)
        assert len({pid for pid, _ in pool(range(100))}) <= 2
        nodes.check_nothing_left()


def test_time_limit_without_nannies_is_an_error(tmp_path):
    """A worker without a nanny cannot be replaced, so a time limit is refused before anything starts."""
    expected = r"with `task_timeout` .* there are 0, but `n_jobs` is 1.*without `--no-nanny`"
    with Nodes(tmp_path, options=[("--no-nanny",)]), pytest.raises(ValueError, match=expected):
        list(Pool(abs, 1, backend="dask", task_timeout=1)([1]))
