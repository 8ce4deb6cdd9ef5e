"""The pool on Dask: what the contract has for processes, as it is there, and what only Dask has."""

from __future__ import annotations

import asyncio
import ctypes
import io
import logging
import os
import re
import sys
import threading
import time
from functools import partial

import pytest

from mtasklite import Pool, PoolClosedError, TaskTimeoutError, WorkerDiedError, WorkerInitError, is_exception
from mtasklite.tests import workers
from mtasklite.tests.programs import Program, script

distributed = pytest.importorskip("distributed")

from mtasklite.dask import pqdm  # noqa: E402 - after it is known to be there

N_PROCESSES = 2
"""Of the cluster that the tests run on."""

DIED = re.compile(r"its Dask worker process, tcp://127\.0\.0\.1:\d+, has ended or cannot be reached")


@pytest.fixture
def client(cluster):
    """The client that is in use."""
    return distributed.get_client()


def _pool(worker, n_jobs=2, **kwargs):
    return Pool(worker, n_jobs, backend="dask", **kwargs)


def _address(_):
    return distributed.get_worker().address


def _sleep_holding_the_lock_on(item, fatal=3):
    if item == fatal:
        ctypes.PyDLL(None).sleep(1000)
    return item


def _write_into(array):
    array[0] = -1
    return array


def _shout(item):
    print(f"item {item}", flush=True)
    return item


def _shout_and_sleep(item):
    print(f"item {item}", flush=True)
    time.sleep(0.3)
    return item


def _sum_in_dask(item):
    return distributed.get_client().submit(sum, [item, 1]).result()


def _what_belongs_to_the_process(_):
    root = logging.getLogger()
    return type(sys.stdout).__name__, type(sys.stderr).__name__, sys.getswitchinterval(), root.level, str(root.handlers)


def _of_all_processes(client):
    return sorted(client.run(_what_belongs_to_the_process, None).values())  # whatever their addresses are


def _threads_of_pools():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mtasklite")]


# ---- the cluster


def test_client_in_use_is_used_and_left(client):
    """A pool works on the workers of the client that is in use, and leaves it as it was."""
    assert set(_pool(_address)(range(20))) <= set(client.scheduler_info()["workers"])
    assert client.status == "running"
    assert distributed.get_client() is client


def test_workers_are_spread_over_the_processes():
    """Each worker has a process to itself as far as there are processes."""
    seen = set()
    with _pool(_address, chunk_size=1) as pool:
        for address in pool(workers.count_until(lambda: len(seen) == N_PROCESSES)):
            seen.add(address)
    assert len(seen) == N_PROCESSES


def test_more_workers_than_processes_share_them():
    """Workers for which there is no process of their own share one, and all work."""
    results = list(_pool(workers.square, n_jobs=5)(range(200)))
    assert results == [item * item for item in range(200)]


def test_n_jobs_left_out_is_what_the_cluster_has():
    """Without `n_jobs` there is a worker for each Dask worker process."""
    assert Pool(abs, backend="dask").num_workers == N_PROCESSES
    assert Pool(abs, -2, backend="dask").num_workers == N_PROCESSES - 1


def test_one_job_is_done_in_the_cluster(client):
    """With `n_jobs=1` too the work is done there."""
    assert set(_pool(_address, n_jobs=1)(range(3))) <= set(client.scheduler_info()["workers"])


def test_door_and_pool_do_the_same():
    """`from mtasklite.dask import pqdm` is a pool on Dask with a bar."""
    results = pqdm(range(50), workers.square, n_jobs=2, file=io.StringIO())
    assert list(results) == list(_pool(workers.square)(range(50)))
    assert "on dask" in repr(results.pool_obj.parent_obj)
    assert pqdm.__module__ == "mtasklite.dask"


def test_pool_works_through_the_scheduler(client):
    """Where a client is not to speak to the workers directly, all goes through the scheduler."""
    with distributed.Client(client.scheduler.address, direct_to_workers=False):
        assert list(_pool(workers.square)(range(500))) == [item * item for item in range(500)]


def test_actors_on_processes_that_cannot_be_reached_are_spoken_to_through_the_scheduler(client, monkeypatch):
    """A process that only the scheduler reaches, as inside Kubernetes, works too."""
    with distributed.Client(client.scheduler.address) as other:
        monkeypatch.setattr(other, "rpc", _Unreachable())
        monkeypatch.setattr("mtasklite._backends.dask.REACH_SECONDS", 0.1)
        assert list(_pool(workers.square)(range(50))) == [item * item for item in range(50)]
        monkeypatch.undo()


class _Unreachable:
    def __call__(self, address):
        return self

    async def identity(self):
        await asyncio.sleep(1000)


@pytest.mark.filterwarnings("ignore:worker . could not be made:RuntimeWarning")
def test_client_that_is_closed_amid_the_work_ends_it(client):
    """When the client is closed, nobody waits for answers that cannot come any more."""
    other = distributed.Client(client.scheduler.address)
    results = iter(_pool(workers.identity, chunk_size=1)(workers.count_until(lambda: False)))
    assert next(results) == 0
    other.close()
    with pytest.raises((PoolClosedError, WorkerDiedError, WorkerInitError)):
        list(results)


def test_asynchronous_client_is_refused(client):
    """A pool would block the event loop that an asynchronous client lives in."""

    async def use():
        async with distributed.Client(client.scheduler.address, asynchronous=True):
            list(_pool(abs)([1]))

    with pytest.raises(ValueError, match=r"must not be asynchronous.* without `asynchronous=True`"):
        asyncio.run(use())


def test_tasks_find_the_cluster_that_they_run_on():
    """In a task `distributed.get_client()` is a client of the same cluster."""
    assert list(_pool(_sum_in_dask)(range(4))) == [1, 2, 3, 4]


# ---- what cannot be is refused


@pytest.mark.parametrize("kwargs", [{}, {"task_timeout": 1}], ids=["", "task_timeout"])
def test_resources_that_no_process_has_are_an_error_before_anything_starts(kwargs):
    """What can be placed nowhere does not wait for ever."""
    with pytest.raises(ValueError, match=r"`resources` must be what some Dask worker has, but got \{'GPU': 1.0\}"):
        list(_pool(abs, resources={"GPU": 1}, **kwargs)([1]))


def test_error_names_the_entry_of_a_list_of_resources():
    """Of a list of resources the error names the one that no process has."""
    with pytest.raises(ValueError, match=r"`resources\[1\]` must be what some Dask worker has, but got \{'GPU': 1.0\}"):
        list(_pool([abs, abs], None, resources=[{}, {"GPU": 1}])([1]))


def test_time_limit_with_too_few_processes_is_an_error():
    """A worker that is late is killed with its process, so that must be its own; the error says what to do."""
    with pytest.raises(ValueError, match=r"with `task_timeout` .* there are 2, but `n_jobs` is 3: start more"):
        list(_pool(abs, n_jobs=3, task_timeout=1)([1]))


# ---- workers that are late or die


def test_late_item_costs_itself_and_its_process_is_replaced(client):
    """An item that is late has its error, its process is replaced, and all others are done."""
    before = set(client.scheduler_info()["workers"])
    results = list(_pool(workers.be_stuck_on, task_timeout=1, exception_behavior="ignore", chunk_size=1)(range(20)))
    assert type(results[3]) is TaskTimeoutError
    assert [result for result in results if not is_exception(result)] == [*range(3), *range(4, 20)]
    client.wait_for_workers(N_PROCESSES, timeout=workers.LIMIT_SECONDS)
    assert len(before & set(client.scheduler_info()["workers"])) < N_PROCESSES


def test_late_item_that_lets_no_other_thread_run_is_ended():
    """An item that holds the interpreter's lock, so that nobody can be asked, is ended with what its worker held."""
    pool = _pool(_sleep_holding_the_lock_on, task_timeout=1, exception_behavior="ignore", chunk_size=1)
    results = list(pool(range(20)))
    errors = {item: result for item, result in enumerate(results) if is_exception(result)}
    assert 3 in errors
    assert min(type(error).__name__ for error in errors.values()) == "TaskTimeoutError"
    assert len(errors) <= 3
    assert all(result == item for item, result in enumerate(results) if item not in errors)


def test_process_that_dies_costs_what_its_worker_held():
    """When a process ends, items that its worker held have an error that names it; all others have their results."""
    results = list(_pool(partial(workers.exit_on, fatal=50), exception_behavior="ignore")(range(1000)))
    errors = {item: result for item, result in enumerate(results) if is_exception(result)}
    assert 50 in errors
    assert all(result == item for item, result in enumerate(results) if item not in errors)
    for error in errors.values():
        assert type(error) is WorkerDiedError
        assert DIED.search(str(error))
        assert (error.exitcode, error.signal_name) == (None, None)


def test_items_of_a_dead_worker_are_tried_again_with_retries(tmp_path):
    """With enough `retries` each item has its result, whatever it shared its worker with."""
    worker = partial(workers.die_unless_exists, folder=tmp_path)
    assert list(_pool(worker, retries=6, chunk_size=1)(range(3))) == list(range(3))


@pytest.mark.filterwarnings("ignore:worker:RuntimeWarning")
@pytest.mark.parametrize("mode", ["immediate", "ignore"])
def test_process_that_dies_in_every_constructor_is_worker_init_error(mode, tmp_path):
    """When every worker dies while it is made, `WorkerInitError` is raised from that, and none respawns for ever."""
    with pytest.raises(WorkerInitError) as caught:
        list(_pool(workers.DyingAtInit(tmp_path), exception_behavior=mode)(range(10)))
    assert type(caught.value.__cause__) is WorkerDiedError
    assert len(os.listdir(tmp_path)) <= 2


def test_running_item_is_killed_when_nobody_waits_for_it(tmp_path):
    """After `break` with `join_timeout=0` what still runs is ended with its process, and nothing of it is left."""
    worker = partial(workers.be_stuck_once, folder=tmp_path)
    for item in _pool(worker, join_timeout=0, chunk_size=1, is_unordered=True)(["stuck", "x"]):
        assert item == "x"
        break  # what is left in the cluster is looked for after each test


def test_actors_go_when_the_driver_is_killed(client, cluster, tmp_path):
    """When the driver is killed, its workers end after the items that they are at, and nothing of them is left."""
    before = cluster.left_behind()
    code = """
        import distributed
        def nap(item):
            time.sleep(0.2)
            return item
        if __name__ == "__main__":
            client = distributed.Client(ADDRESS)
            for item in Pool(nap, 2, backend="dask")(itertools.count()):
                mark("working")
    """
    with Program(tmp_path, script(tmp_path, code, ADDRESS=client.scheduler.address)) as program:
        program.wait_for("working")
        assert cluster.left_behind() - before
        program.process.kill()
        workers.wait_until(lambda: not cluster.left_behind() - before)


# ---- items, results, output


@pytest.mark.parametrize("n_bytes", [1 << 10, 4 << 20, 40 << 20])
def test_large_arrays_travel_and_can_be_written(n_bytes):
    """An array, however large, is the worker's own and the consumer's own, and comes back as it was left."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(n_bytes // 8, number, dtype="float64") for number in range(4)]
    for number, (array, result) in enumerate(zip(arrays, _pool(_write_into)(arrays))):
        assert (array[0], result[0], result[1], len(result)) == (number, -1, number, n_bytes // 8)
        result[1] = 7


def test_printed_lines_reach_the_driver(capsys):
    """What workers print is seen here, line by line, before what came of the item."""
    printed = ""
    for item in _pool(_shout, n_jobs=1, forward_output=True)(range(50)):
        printed += capsys.readouterr().out
        assert f"item {item}\n" in printed


def test_printing_by_workers_that_share_a_process_is_told_apart(capsys):
    """Two workers in one process print each under its own name."""
    list(_pool(_shout, n_jobs=4, forward_output="prefixed", chunk_size=1)(range(40)))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition("] ")[2] for line in lines) == sorted(f"item {item}" for item in range(40))
    assert {line.partition("]")[0] for line in lines} <= {f"[worker {slot}" for slot in range(4)}


def test_item_that_prints_is_not_late_for_the_wait(capsys):
    """A worker that waits until its lines were taken is not late for that."""
    pool = _pool(_shout_and_sleep, n_jobs=1, forward_output=True, task_timeout=1, chunk_size=1)
    for _ in pool(range(3)):
        time.sleep(1.2)  # a consumer that takes its time
    assert capsys.readouterr().out == "item 0\nitem 1\nitem 2\n"


def _log(item):
    logging.getLogger("mtasklite-test").info("item %d", item)
    return item


@pytest.mark.parametrize("n_jobs", [2, 4])
def test_log_records_reach_the_handlers_here(caplog, n_jobs):
    """What tasks log comes to the handlers of the driver, by its levels, with the worker's name."""
    with caplog.at_level(logging.INFO, "mtasklite-test"):
        list(_pool(_log, n_jobs, forward_output=True, chunk_size=1)(range(20)))
    records = [record for record in caplog.records if record.name == "mtasklite-test"]
    assert sorted(record.getMessage() for record in records) == sorted(f"item {item}" for item in range(20))
    assert {record.levelname for record in records} == {"INFO"}
    assert {record.processName for record in records} <= {f"mtasklite-worker-{slot}" for slot in range(n_jobs)}


def test_processes_are_as_they_were_at_the_end(client):
    """What a pool changes in the Dask worker processes, such as their streams, is undone with the pool."""
    workers.wait_until(lambda: not any(client.run(_threads_of_pools).values()))  # of an earlier test
    before = _of_all_processes(client)
    list(_pool(_shout, n_jobs=3, forward_output=True)(range(5)))
    workers.wait_until(lambda: _of_all_processes(client) == before)
