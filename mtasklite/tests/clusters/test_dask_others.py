"""The pool on a Dask cluster that is not its own: what others have there outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from mtasklite import Pool, TaskTimeoutError
from mtasklite.tests import workers

distributed = pytest.importorskip("distributed")

N_PROCESSES = 2
"""Of the cluster that the tests run on."""

EVENT = "mtasklite-tasks"


@pytest.fixture
def client(cluster):
    """The client that is in use."""
    client = distributed.get_client()
    client.wait_for_workers(N_PROCESSES, timeout=workers.LIMIT_SECONDS)
    return client


def _pool(worker, n_jobs=2, **kwargs):
    return Pool(worker, n_jobs, backend="dask", chunk_size=1, is_unordered=True, **kwargs)


def _work_until_told(item, folder):
    Path(folder, str(os.getpid())).touch()
    workers.wait_until(Path(folder, "go").exists)
    return item


@contextlib.contextmanager
def _busy_pool_that_ends(folder, and_then=lambda: None, **kwargs):
    """Interrupt a pool when all its workers are busy, and something else was done; let these go on at the end."""
    waiter = threading.Thread(target=_interrupt_when_busy, args=(folder, and_then))
    waiter.start()
    pool = _pool(partial(_work_until_told, folder=folder), join_timeout=0, **kwargs)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(pool(range(10)))
        waiter.join()
        yield
    finally:
        Path(folder, "go").touch()


def _interrupt_when_busy(folder, and_then):
    try:
        workers.wait_until(lambda: len(os.listdir(folder)) == N_PROCESSES)
        and_then()
    finally:
        os.kill(os.getpid(), signal.SIGINT)


class _Counter:
    def __init__(self):
        self.n_calls = 0

    def count(self):
        self.n_calls += 1
        return self.n_calls


def _places(client):
    return list(client.scheduler_info()["workers"])


@pytest.mark.parametrize("kwargs", [{}, {"task_timeout": 1000}], ids=["", "task_timeout"])
def test_scattered_data_outlives_a_pool_that_ends_amid_its_items(client, tmp_path, kwargs):
    """What the program has scattered is there after a pool whose workers were busy when it ended."""
    data = [client.scatter([place], hash=False, workers=[place])[0] for place in _places(client)]
    with _busy_pool_that_ends(tmp_path, **kwargs):
        assert client.gather(data) == _places(client)


def test_actors_outlive_a_pool_that_ends_amid_its_items(client, tmp_path):
    """Actors of the program's own keep their state when a pool ends whose workers are busy in the same processes."""
    made = [client.submit(_Counter, actor=True, pure=False, workers=[place]) for place in _places(client)]
    counters = [future.result() for future in made]
    assert [counter.count().result() for counter in counters] == [1, 1]
    with _busy_pool_that_ends(tmp_path):
        assert [counter.count().result() for counter in counters] == [2, 2]


def _pid_when_told():
    distributed.Event(EVENT).wait(workers.LIMIT_SECONDS)
    return os.getpid()


def test_tasks_run_on_when_a_pool_ends_amid_its_items(client, tmp_path):
    """Tasks of the program's own that run in the processes of busy workers are not begun anew when the pool ends."""
    pids = client.run(os.getpid)
    event = distributed.Event(EVENT)
    event.clear()

    def submit():
        tasks.extend(client.submit(_pid_when_told, pure=False, workers=[place]) for place in pids)
        workers.wait_until(lambda: sum(map(len, client.processing().values())) == N_PROCESSES)

    tasks = []
    with _busy_pool_that_ends(tmp_path, and_then=submit):
        event.set()
        assert client.gather(tasks) == list(pids.values())


def test_actors_of_a_pool_are_gone_though_its_items_run_on(client, cluster, tmp_path):
    """When the pool has ended, nothing of it is on the cluster but the threads of the items that run on."""
    data = [client.scatter([place], hash=False, workers=[place])[0] for place in _places(client)]
    with _busy_pool_that_ends(tmp_path):
        left = [name for name in cluster.left_in(client) if "mtasklite" in name]
        assert left
        assert all(name.startswith("thread mtasklite-") for name in left)
    assert len(data) == N_PROCESSES


def test_late_item_is_ended_whatever_else_is_there(client):
    """With `task_timeout` a late item's process is replaced, and what was scattered there is lost, as the docs say."""
    before = set(client.run(os.getpid).values())
    data = [client.scatter([place], hash=False, workers=[place])[0] for place in _places(client)]
    pool = _pool(partial(workers.be_stuck_on, fatal=3), task_timeout=1, exception_behavior="ignore")
    results = list(pool(range(6)))
    assert [type(result) for result in results if not isinstance(result, int)] == [TaskTimeoutError]
    client.wait_for_workers(N_PROCESSES, timeout=workers.LIMIT_SECONDS)
    workers.wait_until(lambda: len(client.run(os.getpid)) == N_PROCESSES)
    assert len(before & set(client.run(os.getpid).values())) == N_PROCESSES - 1
    assert sorted(one.status for one in data) == ["cancelled", "finished"]


# ---- a pool in a task, with a time limit


def _use_pool(n_jobs):
    here = distributed.get_worker().address
    return here, os.getpid(), _outcome_of_pool(n_jobs)


def _outcome_of_pool(n_jobs):
    pool = _pool(partial(_address_if_in_time, fatal=3), n_jobs, task_timeout=1, exception_behavior="ignore")
    try:
        return list(pool(range(6)))
    except ValueError as error:
        return str(error)


def _use_pool_in_a_thread(n_jobs):
    here, address = distributed.get_worker().address, distributed.get_client().scheduler.address

    def use():
        with distributed.Client(address):
            return _outcome_of_pool(n_jobs)

    with ThreadPoolExecutor() as executor:
        return here, os.getpid(), executor.submit(use).result()


def _address_if_in_time(item, fatal):
    workers.be_stuck_on(item, fatal)
    return distributed.get_worker().address


@pytest.mark.parametrize("use", [_use_pool, _use_pool_in_a_thread])
def test_pool_in_a_task_ends_late_items_and_not_its_own_task(client, use):
    """With `task_timeout` a pool in a task has its workers in other processes than that which the task runs in."""
    pids = client.run(os.getpid)
    here, pid, results = client.submit(use, 1, pure=False, retries=0).result(timeout=workers.LIMIT_SECONDS)
    assert pid == pids[here]
    assert here not in results
    assert [type(result) for result in results if type(result) is not str] == [TaskTimeoutError]


def test_time_limit_in_a_task_does_not_count_its_own_process(client):
    """A pool in a task is refused where it would need the task's own process; the error says what to do."""
    _, _, error = client.submit(_use_pool, 2, pure=False, retries=0).result(timeout=workers.LIMIT_SECONDS)
    assert "there are 1 beside the one that this code runs in, but `n_jobs` is 2: start more" in error
