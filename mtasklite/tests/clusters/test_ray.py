"""The pool on Ray: what the contract has for processes, as it is on a cluster, and what only a cluster has."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import textwrap
import threading
import time
from functools import partial

import pytest

from mtasklite import Pool, TaskTimeoutError, WorkerDiedError, WorkerInitError, is_exception
from mtasklite._window import MAX_WINDOW_BYTES
from mtasklite.tests import workers
from mtasklite.tests.programs import Program

ray = pytest.importorskip("ray")

N_CPUS = 4
"""Of the cluster that the tests run on."""


@pytest.fixture
def no_cluster(monkeypatch):
    """Let programs find no cluster, whatever runs on this machine."""
    monkeypatch.setenv("RAY_ADDRESS", "local")


@pytest.fixture
def named_cluster(monkeypatch):
    """Let programs find the cluster that the tests run on, which they leave sooner than one of their own."""
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)


def _needs(_):
    """Return what Ray has given to this worker."""
    return dict(ray.get_runtime_context().get_assigned_resources())


def _write_into(array):
    array[0] = -1
    return array


def _shout(item):
    print(f"item {item}", flush=True)
    return item


def _pool(worker, n_jobs=2, **kwargs):
    return Pool(worker, n_jobs, backend="ray", **kwargs)


# ---- the cluster


def test_ray_that_is_in_use_is_used_and_left():
    """A pool joins what `ray.init` has joined, and leaves it running."""
    node = ray.get_runtime_context().get_node_id()
    assert set(_pool(_node)(range(10))) == {node}
    assert ray.is_initialized()


def _node(_):
    return ray.get_runtime_context().get_node_id()


@pytest.mark.usefixtures("no_cluster")
def test_ray_is_started_and_stopped_where_none_is_in_use(tmp_path):
    """Without `ray.init` the pool starts Ray on this machine, and nothing of it runs after the pool's end."""
    code = """
        def square(item):
            return item * item
        with Pool(square, backend="ray") as pool:
            print(ray.is_initialized(), sum(pool(range(100))), pool.num_workers >= 1)
        print(ray.is_initialized())
    """
    assert _output_of(code, tmp_path).split() == ["True", "328350", "True", "False"]


@pytest.mark.usefixtures("named_cluster")
def test_ray_that_is_named_is_joined_and_left_for_each_pool(tmp_path):
    """Without `ray.init` the pool joins the cluster that `RAY_ADDRESS` names, and leaves it; so does the next."""
    code = """
        def square(item):
            return item * item
        for _ in range(2):
            print(sum(Pool(square, 2, backend="ray")(range(10))), ray.is_initialized())
    """
    assert _output_of(code, tmp_path).split() == ["285", "False"] * 2


def _output_of(code, folder):
    """Run a program that has `Pool` and `ray`, and return what it prints; it must leave no process."""
    path = folder / "program.py"
    path.write_text("import time\nimport ray\nfrom mtasklite import Pool\n" + textwrap.dedent(code), "utf-8")
    with Program(folder, str(path), command=[sys.executable]) as program:
        program.process.wait(workers.LIMIT_SECONDS)
        assert program.process.returncode == 0, program.err
        program.check_no_process_left()
        return program.out


def test_n_jobs_left_out_is_what_the_cluster_has():
    """Without `n_jobs` there is a worker for each CPU of the cluster, or for each share of what one needs."""
    assert Pool(abs, backend="ray").num_workers == N_CPUS
    assert Pool(abs, -2, backend="ray").num_workers == N_CPUS - 1
    assert Pool(abs, backend="ray", resources={"num_cpus": 2}).num_workers == N_CPUS // 2


def test_one_job_is_done_in_the_cluster():
    """With `n_jobs=1` too the work is done in an actor."""
    assert os.getpid() not in set(_pool(os_getpid, 1)(range(3)))


def os_getpid(_):
    return os.getpid()


@pytest.mark.parametrize(
    ("resources", "expected"),
    [(None, {"CPU": 1.0}), ({"num_cpus": 2}, {"CPU": 2.0}), ({"num_cpus": 0.5, "tool": 1}, {"CPU": 0.5, "tool": 1.0})],
    ids=str,
)
def test_worker_has_the_resources_that_were_asked_for(resources, expected):
    """Ray gives each worker what `resources` says, by its own names for it; one CPU if nothing is said."""
    assert list(_pool(_needs, 1, resources=resources)([0])) == [expected]


def test_resources_in_a_list_are_for_one_worker_each():
    """A list of resources stands beside the list of workers."""
    found = set()
    with Pool([_needs, _needs], backend="ray", resources=[{"num_cpus": 1}, {"num_cpus": 2}], chunk_size=1) as pool:
        for needs in pool(workers.count_until(lambda: len(found) == 2)):
            found.add(needs["CPU"])
    assert found == {1.0, 2.0}


def test_resources_that_no_node_has_are_an_error_before_anything_starts():
    """What can be placed nowhere does not wait for ever."""
    with pytest.raises(ValueError, match=r"`resources` must be .* none has all of this: .*'unicorns': 1"):
        list(_pool(abs, resources={"unicorns": 1})([1]))


def test_workers_that_have_no_place_hold_nobody_up():
    """More workers than the cluster can place: those that can be placed do all the work."""
    assert list(_pool(workers.square, N_CPUS + 2)(range(100))) == [item * item for item in range(100)]


# ---- items and results


def test_large_arrays_travel_and_can_be_written():
    """An array of some megabytes is the worker's own and the consumer's own, and comes back as it was left."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(1 << 19, number, dtype="float64") for number in range(6)]
    results = list(_pool(_write_into)(arrays))
    for number, (array, result) in enumerate(zip(arrays, results)):
        assert (array[0], result[0], result[1], len(result)) == (number, -1, number, 1 << 19)
        result[1] = 7


def _as_many(n_bytes):
    return bytes(n_bytes)


def test_results_of_any_size_come_as_they_are():
    """Whether results go along with an answer or through the store, alone or with others, is not seen."""
    sizes = [10, 200_000, 90_000, 3_000_000, 300_000, 400_000, 2_000_000, 0, 600_000] * 4
    assert [len(result) for result in _pool(_as_many)(sizes)] == sizes


def test_object_store_holds_no_more_than_may_be_read_ahead(cluster):
    """Many bytes in small items, there and back: what is not needed any more does not gather in the store."""
    with _pool(workers.identity) as pool:
        list(pool(bytes(100) for _ in range(10_000)))
        stored = [
            cluster.stored_bytes() if not index % 5000 else 0
            for index, _ in enumerate(pool(bytes(100) for _ in range(600_000)))
        ]
    assert max(stored) < MAX_WINDOW_BYTES


@pytest.mark.usefixtures("named_cluster")
def test_classes_of_a_script_keep_their_identity(tmp_path):
    """Objects and exceptions of classes of `__main__` come home as instances of these classes."""
    code = """
        class Point:
            def __init__(self, x):
                self.x = x
        class MyError(Exception):
            pass
        def move(point):
            if point.x == 3:
                raise MyError("three")
            return Point(point.x + 1)
        results = list(Pool(move, 2, backend="ray", exception_behavior="ignore")(map(Point, range(5))))
        print([isinstance(result, Point) for result in results], isinstance(results[3], MyError))
        print("in move" in str(results[3].__cause__))
    """
    lines = _output_of(code, tmp_path).splitlines()
    assert lines == ["[True, True, True, False, True] True", "True"]


def test_output_is_forwarded(capsys):
    """With `forward_output` what workers print comes here, line by line."""
    assert list(_pool(_shout, forward_output="prefixed")(range(4))) == [0, 1, 2, 3]
    lines = sorted(line.partition("] ")[2] for line in capsys.readouterr().out.splitlines())
    assert lines == [f"item {item}" for item in range(4)]


# ---- ends


def _hold_lock_at_3(item):
    if item == 3:
        ctypes.PyDLL(None).sleep(int(workers.LIMIT_SECONDS))
    return item


@pytest.mark.parametrize("chunk_size", [1, None])
@pytest.mark.parametrize("worker", [workers.die_on, workers.exit_on])
def test_death_of_an_actor_costs_what_may_have_run(worker, chunk_size):
    """An actor that dies costs the item that it was at, and of the others only such as were sent to it; in order."""
    pool = _pool(worker, exception_behavior="ignore", chunk_size=chunk_size)
    results = list(pool(range(20)))
    failed = {index: result for index, result in enumerate(results) if is_exception(result)}
    assert type(failed[3]) is WorkerDiedError
    assert [result for result in results if not is_exception(result)] == [i for i in range(20) if i not in failed]
    for index, error in failed.items():
        assert (type(error), error.item_index, error.exitcode) == (WorkerDiedError, index, None)
        assert "may have run" in str(error)
    assert len({error.worker_index for error in failed.values()}) == 1


def test_retries_run_what_a_dead_actor_held_again(tmp_path):
    """With `retries` all that an actor held when it died has its result in the end."""
    worker = partial(workers.die_unless_exists, folder=tmp_path)
    assert list(_pool(worker, retries=4, chunk_size=1)(range(4))) == list(range(4))


def test_death_in_the_constructor_of_an_actor_is_worker_init_error():
    """When every worker dies while it is made, `WorkerInitError` is raised from that."""
    with pytest.raises(WorkerInitError) as caught:
        list(_pool(workers.DyingAtInit())(range(10)))
    assert type(caught.value.__cause__) is WorkerDiedError


def test_actor_that_is_killed_from_outside_is_replaced():
    """What Ray itself ends is a lost worker like any other; its successor does the rest."""
    with _pool(workers.nap, exception_behavior="ignore") as pool:
        list(pool(range(2)))
        for worker in pool._crew.backend._by_slot.values():
            ray.kill(worker.actor)
        results = list(pool(range(10)))
        assert len(results) == 10
        assert list(pool(range(10))) == list(range(10))


def test_late_item_that_holds_the_interpreters_lock_is_ended():
    """An actor that does not even answer is killed when its time is up, and replaced."""
    pool = _pool(_hold_lock_at_3, exception_behavior="ignore", task_timeout=1.0, chunk_size=1)
    results = list(pool(range(6)))
    assert TaskTimeoutError in {type(result) for result in results}
    assert len(results) == 6
    assert {type(result) for result in results} <= {int, TaskTimeoutError, WorkerDiedError}


def test_close_does_not_wait_for_actors_without_a_place():
    """A pool whose workers wait for a place in the cluster ends at once."""
    with _pool(workers.square, N_CPUS) as first:
        assert list(first([1])) == [1]
        started_at = time.monotonic()
        with _pool(workers.square, 2):
            pass
        assert time.monotonic() - started_at < workers.LIMIT_SECONDS / 2


@pytest.mark.usefixtures("no_cluster")
def test_one_interrupt_ends_the_pool_and_the_ray_that_it_started(tmp_path):
    """After one Ctrl-C the program ends with `KeyboardInterrupt`, and nothing of Ray runs on."""
    code = """
        import _thread, threading
        def nap(item):
            time.sleep(60)
        pool = Pool(nap, 2, backend="ray")
        def interrupt():
            while pool._crew.backend is None or len(pool._crew.backend.running()) < 2:
                time.sleep(0.1)
            _thread.interrupt_main()
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            list(pool(range(10)))
        except KeyboardInterrupt:
            print("interrupted", ray.is_initialized())
    """
    assert _output_of(code, tmp_path).split() == ["interrupted", "False"]


# ---- what else a program does with Ray


@pytest.mark.usefixtures("named_cluster")
def test_ray_that_the_program_has_left_is_an_error_and_not_started_anew(tmp_path):
    """After `ray.shutdown` an iteration over a pool that is open says so; the next one joins what is in use then."""
    code = """
        from mtasklite import PoolClosedError
        def square(item):
            return item * item
        def try_once(pool):
            try:
                print(list(pool(range(3))))
            except PoolClosedError as error:
                print(error)
        ray.init()
        with Pool(square, 2, backend="ray") as pool:
            try_once(pool)
            ray.shutdown()
            try_once(pool)
            print(ray.is_initialized())
            ray.init()
            try_once(pool)
        print(ray.is_initialized())
    """
    said = "the program has left the Ray cluster that this pool is on"
    assert _output_of(code, tmp_path).splitlines() == ["[0, 1, 4]", said, "False", "[0, 1, 4]", "True"]


@pytest.mark.usefixtures("named_cluster")
def test_ray_that_the_program_has_started_is_never_stopped(tmp_path):
    """A pool that had started Ray, which the program has replaced by its own, leaves that alone."""
    code = """
        pool = Pool(abs, backend="ray")
        print(ray.is_initialized())
        ray.shutdown()
        ray.init()
        del pool
        print(ray.is_initialized())
    """
    assert _output_of(code, tmp_path).split() == ["True", "True"]


@pytest.mark.usefixtures("named_cluster")
def test_forked_child_leaves_the_ray_of_its_parent_alone(tmp_path):
    """A child that drops its copy of a pool harms nothing; one that makes a pool is told that this cannot be."""
    code = """
        import gc, os
        pool = Pool(abs, 2, backend="ray")
        with pool:
            print(list(pool(range(3))), flush=True)
            child = os.fork()
            if not child:
                try:
                    Pool(abs, backend="ray")
                except RuntimeError as error:
                    print("forked" in str(error), flush=True)
                pool._crew = pool._settings = None
                gc.collect()
                os._exit(0)
            os.waitpid(child, 0)
            print(list(pool(range(3))))
    """
    assert _output_of(code, tmp_path).splitlines() == ["[0, 1, 2]", "True", "[0, 1, 2]"]


@pytest.mark.usefixtures("named_cluster")
def test_child_that_was_forked_before_the_first_pool_is_told_so(tmp_path):
    """Where nobody noted the fork, Ray's silence in the child ends in an error that names it."""
    code = """
        import os
        ray.init(log_to_driver=False)
        child = os.fork()
        if not child:
            from mtasklite._backends import ray as adapter
            adapter.ANSWER_SECONDS = 2.0
            try:
                Pool(abs, backend="ray")
            except RuntimeError as error:
                print("did not answer" in str(error), "forked" in str(error), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(list(Pool(abs, 2, backend="ray")(range(3))))
    """
    assert _output_of(code, tmp_path).splitlines() == ["True True", "[0, 1, 2]"]


def test_pool_that_rays_own_thread_collects_ends():
    """A pool in a cycle may be collected in the thread in which Ray calls back, and ends all the same."""

    def leave_in_a_cycle():
        results = iter(_pool(workers.nap, 1)(range(1000)))
        next(results)
        cycle = [results]
        cycle.append(cycle)

    @ray.remote(num_cpus=0)
    def task():
        time.sleep(0.5)

    collected = threading.Event()
    gc.disable()
    try:
        leave_in_a_cycle()
        task.remote().future().add_done_callback(lambda _: (gc.collect(), collected.set()))
        assert collected.wait(workers.LIMIT_SECONDS)
    finally:
        gc.enable()
    assert ray.get(ray.put(1)) == 1


def test_resources_of_one_worker_that_no_node_has_are_an_error():
    """Of a list, too, each must be what some node has; the error says which is not."""
    with pytest.raises(ValueError, match=r"`resources\[1\]` must be .*unicorns"):
        list(Pool([abs, abs], backend="ray", resources=[{}, {"unicorns": 1}])([1]))


@pytest.mark.parametrize(("num_cpus", "count"), [(0.2, 20), (0.1, 40), (0.7, 5), (3, 1)])
def test_n_jobs_left_out_counts_shares_of_a_cpu(num_cpus, count):
    """Shares that add up to a whole CPU use all of it."""
    assert Pool(abs, backend="ray", resources={"num_cpus": num_cpus}).num_workers == count
