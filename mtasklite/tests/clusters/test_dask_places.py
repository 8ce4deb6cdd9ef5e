"""Where the workers of a pool on Dask go, how long they wait for that, and what is said meanwhile."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from mtasklite import Pool, WorkerInitError
from mtasklite.tests import workers

distributed = pytest.importorskip("distributed")

import dask  # noqa: E402 - after Dask is known to be there

from mtasklite._backends import _dask_client, _dask_places  # noqa: E402
from mtasklite._backends.dask import DaskAdapter  # noqa: E402
from mtasklite.tests.clusters.dask_nodes import Nodes  # noqa: E402

N_PROCESSES = 2
"""Of the cluster that the tests run on."""

FREEZE_SECONDS = 15.0
"""Less than it takes until an event loop gives up that waits for itself, and far more than anything else."""


@pytest.fixture
def client(cluster):
    """The client that is in use."""
    client = distributed.get_client()
    client.wait_for_workers(N_PROCESSES, timeout=workers.LIMIT_SECONDS)
    return client


def _pool(worker, n_jobs=2, **kwargs):
    return Pool(worker, n_jobs, backend="dask", **kwargs)


# ---- in tasks of Dask


def _squares_by_pool(n_items, n_pools=1):
    for _ in range(n_pools):
        results = list(_pool(workers.square, 1)(range(n_items)))
    return results


def test_pool_in_a_task_that_has_the_last_thread_of_all_processes(client):
    """Tasks that wait for pools on all threads there are leave them to the pools' workers."""
    futures = client.map(_squares_by_pool, [4] * 2 * N_PROCESSES, pure=False)
    for future in futures:
        assert future.result(timeout=workers.LIMIT_SECONDS) == [0, 1, 4, 9]


def test_second_pool_in_a_task(client):
    """A task may have one pool after another."""
    future = client.submit(_squares_by_pool, 3, n_pools=2, pure=False)
    assert future.result(timeout=workers.LIMIT_SECONDS) == [0, 1, 4]


def _leave_a_pool_in_a_cycle():
    gc.disable()
    cycle = [iter(_pool(workers.square, 1)(range(1000)))]
    cycle.append(cycle)
    return next(cycle[0])


def _collect():
    started_at = time.monotonic()
    gc.enable()
    gc.collect()
    return time.monotonic() - started_at


def test_pool_of_a_task_that_is_collected_by_the_event_loop_does_not_stop_it(client):
    """A Dask worker's event loop, which runs in its main thread, does not wait for itself when it collects a pool."""
    assert client.submit(_leave_a_pool_in_a_cycle, pure=False).result(timeout=workers.LIMIT_SECONDS) == 0
    assert max(client.run(_collect).values()) < FREEZE_SECONDS


# ---- the end


def test_scheduler_has_forgotten_a_pool_that_has_ended(client, cluster):
    """When a pool has ended nothing of it is on the scheduler, not for a moment."""
    for _ in range(10):
        list(_pool(workers.square)([1]))
        assert not [key for key in client.run_on_scheduler(cluster._tasks) if "mtasklite" in key]


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.015, 0.02, 0.03])
def test_pool_that_ends_amid_its_start_leaves_nothing(client, cluster, seconds):
    """Actors that are being placed, or made, when their pool ends are not made after all."""
    for _ in range(5):
        with _pool(workers.square, 8):
            time.sleep(seconds)
        assert not [key for key in client.run_on_scheduler(cluster._tasks) if "mtasklite" in key]


# ---- where there is no place


def _hold(number):
    distributed.Event("mtasklite-hold").wait(workers.LIMIT_SECONDS)


def test_cluster_without_a_free_thread_is_told_of_and_not_waited_for_for_ever(client, monkeypatch):
    """While tasks hold all threads no actor can be made: there is a warning, and then an error, with the remedy."""
    monkeypatch.setattr(_dask_places, "BUSY_WARN_SECONDS", 0.1)
    monkeypatch.setattr(_dask_places, "PLACE_SECONDS", 2.0)
    held = client.map(_hold, range(N_PROCESSES), pure=False)
    workers.wait_until(lambda: sum(map(len, client.processing().values())) == N_PROCESSES)
    text = "no Dask worker process had a thread free to make it, for . s: end tasks of yours"
    try:
        with pytest.warns(RuntimeWarning, match=text), pytest.raises(WorkerInitError, match=f"{text}.*--nthreads"):
            list(_pool(workers.square)([1]))
    finally:
        distributed.Event("mtasklite-hold").set()
        client.gather(held)
        distributed.Event("mtasklite-hold").clear()


def test_cluster_without_processes_is_told_of_and_not_waited_for_for_ever(tmp_path, monkeypatch):
    """On a cluster that has no worker process there is a warning, and then an error, both with the remedy."""
    monkeypatch.setattr(_dask_places, "WARN_SECONDS", 0.1)
    monkeypatch.setattr(_dask_places, "NO_PROCESS_SECONDS", 2.0)
    text = "the Dask cluster had no worker process, for . s: start some"
    with (
        Nodes(tmp_path, options=[]),
        pytest.warns(RuntimeWarning, match=text),
        pytest.raises(WorkerInitError, match=text),
    ):
        list(_pool(workers.square)([1]))


def test_processes_that_come_late_are_waited_for(tmp_path):
    """A pool may begin on a cluster whose processes are still to come."""
    with Nodes(tmp_path, options=[]) as nodes:
        timer = threading.Timer(1.0, nodes.start_worker)
        timer.start()
        try:
            assert list(_pool(workers.square)([1, 2])) == [1, 4]
        finally:
            timer.join()
        nodes.check_nothing_left()


@pytest.mark.parametrize(
    ("status", "n_expected", "n_there", "address", "reason", "limit_seconds"),
    [
        ("connecting", 0, 2, None, "scheduler could not be reached", _dask_places.PLACE_SECONDS),
        ("running", 0, None, None, "no worker process", _dask_places.NO_PROCESS_SECONDS),
        ("running", 2, None, None, "no worker process", _dask_places.PLACE_SECONDS),
        ("running", 0, 2, None, "had room for it", _dask_places.PLACE_SECONDS),
        ("running", 0, 2, "tcp://x", "had a thread free", _dask_places.PLACE_SECONDS),
    ],
)
def test_reason_and_limit_are_those_of_what_is_lacking(status, n_expected, n_there, address, reason, limit_seconds):
    """What is said of a pool without a worker goes by what the cluster lacks, and by who will mend it."""
    client = SimpleNamespace(status=status, cluster=SimpleNamespace(worker_spec=range(n_expected)))
    membership = _dask_client.Membership()
    membership._client = client
    places = _dask_places.Places(client, membership, must_kill=False)
    places._n_there = n_there
    lack = places.shortage([SimpleNamespace(address=address)])
    assert reason in lack.reason
    assert lack.limit_seconds == limit_seconds


# ---- what can never be


class _Cluster:
    """A client, and what the scheduler says each time that it is asked; the last thing again and again."""

    def __init__(self, *answers, n_expected=0):
        self.answers = [{f"p{number}": process for number, process in enumerate(answer)} for answer in answers]
        self.scheduler = SimpleNamespace(identity=self._identity)
        self.cluster = SimpleNamespace(worker_spec=dict.fromkeys(range(n_expected)))

    def _identity(self, **kwargs):
        return {"workers": self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]}

    def sync(self, function, **kwargs):
        return function(**kwargs)


PLAIN, GPU = {"nanny": "n"}, {"nanny": "n", "resources": {"GPU": 1}}


@pytest.mark.parametrize(
    ("answers", "n_expected", "is_error"),
    [
        ([[PLAIN, PLAIN]], 2, True),
        ([[PLAIN, PLAIN]], 0, True),
        ([[GPU, PLAIN], [PLAIN], [PLAIN], [PLAIN, GPU]], 0, False),
        ([[PLAIN], [PLAIN], [PLAIN, GPU]], 2, False),
        ([[]], 0, False),
        ([[PLAIN, PLAIN], []], 0, True),
    ],
    ids=["all are there", "nobody knows", "it comes back", "it is to come", "none was ever there", "none had it"],
)
def test_what_no_process_can_have_is_an_error_at_once(answers, n_expected, is_error, monkeypatch):
    """Nobody waits for resources but where a process that may have them is missing."""
    monkeypatch.setattr(_dask_client, "RETURN_SECONDS", math.inf)
    monkeypatch.setattr(_dask_client, "LOOK_SECONDS", 0.0)
    client = _Cluster(*answers, n_expected=n_expected)
    if len(answers) > 1:
        _dask_client._wait_for_places(client, [{}], 1, False)  # an earlier pool
    if is_error:
        with pytest.raises(ValueError, match="`resources` must be what some Dask worker has"):
            _dask_client._wait_for_places(client, [{"GPU": 1}], 1, False)
    else:
        _dask_client._wait_for_places(client, [{"GPU": 1}], 1, False)


def test_time_limit_in_the_only_process_is_an_error_at_once(monkeypatch):
    """In the only process there is, code cannot have a pool with `task_timeout`, and does not wait for it."""
    monkeypatch.setattr(_dask_client, "RETURN_SECONDS", math.inf)
    monkeypatch.setattr(_dask_client, "address_here", lambda: "p0")
    with pytest.raises(ValueError, match="there are 0 beside the one that this code runs in, but `n_jobs` is 1"):
        _dask_client._wait_for_places(_Cluster([PLAIN]), [{}], 1, True)


@pytest.mark.parametrize(("n_expected", "n_jobs"), [(1, 1), (0, None)], ids=["one is to come", "nobody knows"])
def test_n_jobs_left_out_waits_for_processes_that_are_to_come(n_expected, n_jobs, monkeypatch):
    """Where all processes were lost just now, the pool waits until it can count them; where none is to come, not."""
    client = _Cluster([], [], [PLAIN], n_expected=n_expected)
    monkeypatch.setattr(_dask_client, "RETURN_SECONDS", math.inf)
    monkeypatch.setattr(_dask_client, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(_dask_client, "existing_client", lambda: client)
    if n_jobs is not None:
        assert _dask_client.Membership().capacity({}) == n_jobs
    else:
        with pytest.raises(ValueError, match=r"`n_jobs` must be given, .* no workers yet"):
            _dask_client.Membership().capacity({})


def test_pool_waits_for_processes_that_are_to_come_before_its_workers_share_one(monkeypatch):
    """A pool that is made when a process was lost just now knows that there will be another, and waits for it."""
    monkeypatch.setattr(_dask_client, "LOOK_SECONDS", 0.0)
    client = _Cluster([PLAIN], [PLAIN], [PLAIN, PLAIN], n_expected=2)
    client.scheduler = SimpleNamespace(identity=_later(client._identity), has_what=_later(dict))
    places = _dask_places.Places(client, SimpleNamespace(replenish=lambda: None), must_kill=False)
    first, second = (SimpleNamespace(resources={}, address=None, is_up=True) for _ in range(2))
    assert asyncio.run(places.choose(first, [first, second])) == "p0"
    assert asyncio.run(places.choose(second, [first, second])) == "p1"


def _later(function):
    async def answer(**kwargs):
        return function(**kwargs)

    return answer


def test_clients_own_view_that_is_empty_now_and_then_does_not_matter(client, monkeypatch):
    """The scheduler is asked which processes there are, not the client, which overwrites what it knows."""
    monkeypatch.setattr(type(client), "scheduler_info", lambda self, **kwargs: {"workers": {}})
    assert Pool(abs, backend="dask").num_workers == N_PROCESSES
    with pytest.raises(ValueError, match="`resources` must be what some Dask worker has"):
        list(_pool(abs, resources={"GPU": 1})([1]))


# ---- processes that die


def _who_and_where(_, name):
    time.sleep(0.02)
    return name, distributed.get_worker().address


def test_worker_whose_process_died_waits_for_a_process_to_itself(client, monkeypatch):
    """The successor of a dead worker goes to the process that its nanny starts anew, not to that of another worker."""
    monkeypatch.setattr(_dask_places, "RETURN_SECONDS", 0.0)  # for which it waits though nobody works meanwhile
    pids = client.run(os.getpid)
    seen, killed = {}, []
    pool = _pool([partial(_who_and_where, name=name) for name in "ab"], chunk_size=1, retries=2)
    for name, address in pool(workers.count_until(lambda: killed and len(seen) == 2)):
        if address not in killed:  # else it was done before that process died
            seen[name] = address
        if not killed and len(seen) == 2:
            killed.append(seen.pop(name))
            os.kill(pids[killed[0]], signal.SIGKILL)
    assert len(set(seen.values())) == 2


def test_process_that_dies_amid_the_making_of_its_actor_holds_nobody_up(client, monkeypatch):
    """A call that would go on connecting to a process that is gone is given up; the worker goes elsewhere."""
    pids = client.run(os.getpid)
    begin, killed = DaskAdapter._begin_host, []

    async def begin_in_vain(self, actor, payload):
        if not killed:
            killed.append(actor.address)
            os.kill(pids[actor.address], signal.SIGKILL)
            await asyncio.Event().wait()
        return await begin(self, actor, payload)

    monkeypatch.setattr(DaskAdapter, "_begin_host", begin_in_vain)
    assert list(_pool(workers.square)(range(100))) == [item * item for item in range(100)]
    assert killed


def test_processes_that_a_local_cluster_gave_up_are_started_again(tmp_path):
    """A `LocalCluster` that has given up all its processes, each after a second death, gets them back."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path),
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        workers.wait_until(lambda: not cluster.workers)
        assert list(_pool(workers.square, 1)([1, 2, 3])) == [1, 4, 9]
