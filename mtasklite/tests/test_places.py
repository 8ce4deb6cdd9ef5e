"""Pools in all places that a program has: threads, workers, forked children, exit handlers; beside forks of others."""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing.pool
import os
import subprocess
import sys
import threading
from functools import partial

import pytest

from mtasklite import Pool
from mtasklite.tests import workers
from mtasklite.tests.programs import Program, by_speed, script
from mtasklite.tests.workers import PROCESSES, everyone

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no sessions")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")

SQUARES = [item * item for item in range(20)]


@pytest.fixture(params=by_speed(workers.PARALLEL))
def parallel_kwargs(request):
    """Arguments that choose where a pool works, where there are two workers."""
    return dict(workers.PARALLEL[request.param])


@pytest.fixture(params=by_speed(PROCESSES))
def process_kwargs(request):
    """As `parallel_kwargs`, where they are processes."""
    return dict(PROCESSES[request.param])


# ---- threads


def test_pools_of_many_threads_are_open_at_once(parallel_kwargs):
    """Eight threads, each with several pools that are open together, get each its own results."""
    n_threads, n_pools = (8, 5) if parallel_kwargs.get("start_method", "fork") == "fork" else (4, 2)
    before = everyone()
    barrier = threading.Barrier(n_threads)

    def work(number):
        pools = [Pool(workers.Multiplier(number), **parallel_kwargs) for _ in range(n_pools)]
        iterators = [pool(itertools.count()) for pool in pools]
        barrier.wait(workers.LIMIT_SECONDS)
        taken = [list(itertools.islice(iterator, 20)) for iterator in iterators]
        taken = [list(itertools.islice(iterator, 20)) for iterator in iterators]
        for iterator in iterators:
            iterator.close()
        return taken

    with concurrent.futures.ThreadPoolExecutor(n_threads) as threads:
        taken = list(threads.map(work, range(n_threads)))
    assert taken == [[[number * item for item in range(20, 40)]] * n_pools for number in range(n_threads)]
    assert everyone() == before


@pytest.mark.parametrize("what", ["run", "popen"])
def test_pools_work_while_other_threads_start_programs(process_kwargs, what):
    """Programs that other threads start amid all this get no pipe of ours, and take no result."""
    is_over = threading.Event()
    n_started = 0

    def start_programs():
        nonlocal n_started
        kept = []
        while not is_over.is_set():
            if what == "run":
                subprocess.run(["true"], check=True)
            else:
                kept.append(subprocess.Popen(["sleep", "60"]))
            n_started += 1
        for process in kept:
            process.kill()
            process.wait()

    threads = [threading.Thread(target=start_programs) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        workers.wait_until(lambda: n_started > 0)
        for _ in range(20 if process_kwargs["start_method"] == "fork" else 2):
            assert list(Pool(workers.square, **process_kwargs)(range(20))) == SQUARES
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_pools_work_while_other_threads_fork(process_kwargs):
    """Children that live on with copies of all pipes keep no pool from its end."""
    is_over = threading.Event()
    children = []

    def fork():
        while not is_over.wait(0.002):
            child = os.fork()
            if not child:
                os.execlp("sleep", "sleep", "600")
            children.append(child)

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        workers.wait_until(lambda: children)
        for _ in range(20 if process_kwargs["start_method"] == "fork" else 2):
            assert list(Pool(workers.square, **process_kwargs)(range(20))) == SQUARES
    finally:
        is_over.set()
        thread.join()
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


@pytest.mark.parametrize("kind", by_speed(workers.PARALLEL))
def test_interrupt_ends_a_pool_of_a_daemon_thread(kind, tmp_path):
    """A Ctrl-C is the main thread's; when that ends the program, pools of daemon threads end with it."""
    code = """
    def use():
        for _ in Pool(workers.nap, exception_behavior="ignore", **KWARGS)(itertools.count()):
            mark("working")

    if __name__ == "__main__":
        threading.Thread(target=use, daemon=True).start()
        time.sleep(600)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=workers.PARALLEL[kind])) as program:
        program.wait_for("working")
        program.interrupt()
        program.check_interrupted()


@pytest.mark.parametrize("kind", by_speed(workers.PARALLEL))
def test_interrupt_leaves_a_pool_of_another_thread_alone(kind, tmp_path):
    """A Ctrl-C does no harm to the pool of a thread that is no daemon: the program ends when its work is done."""
    code = """
    def use():
        for number, result in enumerate(Pool(workers.nap, **KWARGS)(range(20))):
            assert number == result
            mark("working")
        mark("done")

    if __name__ == "__main__":
        threading.Thread(target=use).start()
        time.sleep(600)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=workers.PARALLEL[kind])) as program:
        program.wait_for("working")
        program.interrupt()
        program.check_interrupted()
    assert (tmp_path / "done").exists()


# ---- workers


@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_worker_uses_a_pool_of_the_same_kind(method):
    """Workers under any start method may have workers under the same."""
    worker = partial(workers.map_in_pool, start_method=method)
    assert list(Pool(worker, **PROCESSES[method])([[1, 2], [3], []])) == [[1, 4], [9], []]


def test_pools_are_nested_three_deep():
    """Workers of workers may have workers."""
    worker = partial(workers.map_in_pool, start_method="fork", depth=2)
    assert list(Pool(worker, **PROCESSES["fork"])([[1, 2], [3]])) == [[1, 4], [9]]


# ---- other processes


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("is_amid", [False, True], ids=["before", "amid_an_iteration"])
@pytest.mark.parametrize("method", ["fork", "spawn"])  # the server of forkserver is its parent's alone
def test_forked_child_has_pools_of_its_own(method, is_amid):
    """In a child by `os.fork` a new pool works, and an iteration of the parent goes on unharmed."""
    process_kwargs = workers.PROCESSES[method]
    results = Pool(workers.square, **process_kwargs)(range(300))
    first = [next(results)] if is_amid else []
    child = os.fork()
    if not child:
        code = 1
        try:
            code = int(list(Pool(workers.square, **process_kwargs)(range(20))) != SQUARES)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [*first, *results] == [item * item for item in range(300)]


@needs_fork
def test_forked_child_that_goes_on_with_its_parents_iteration_is_refused(tmp_path):
    """A copy of the iterator in a forked child says that it is one, and takes nothing from the parent's."""
    code = """
    with Pool(workers.square, 2, start_method="fork") as pool:
        results = pool(range(3000))
        assert next(results) == 0
        child = os.fork()
        if not child:
            try:
                list(results)
            except Exception:
                mark("refused")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        mark("waited")
        assert list(results) == [item * item for item in range(1, 3000)]
    """
    with Program(tmp_path, script(tmp_path, code)) as program:
        program.wait_for("waited")
        program.check_quiet()
    assert (tmp_path / "refused").exists()


@pytest.mark.parametrize("package", ["multiprocess", "multiprocessing"])
@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_process_of_another_package_has_pools(method, package, tmp_path):
    """In a process that the user started with either package, pools under the same start method work."""
    code = f"""
    import {package}

    def use():
        assert list(Pool(workers.square, **KWARGS)(range(20))) == [item * item for item in range(20)]
        next(Pool(workers.square, **KWARGS)(itertools.count()))
        mark("done")

    if __name__ == "__main__":
        process = {package}.get_context(METHOD).Process(target=use)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], METHOD=method)) as program:
        assert (program.end(), program.err) == (0, "")
        program.check_no_process_left()
        if package == "multiprocess":  # for the other one does not let `multiprocess` clean up
            program.check_no_file_left()
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_daemonic_process_is_told_that_it_may_have_no_workers(method, tmp_path):
    """A daemon of `multiprocess` may have no children: that is an error which says so; threads it may have."""
    code = """
    import multiprocess

    def use():
        try:
            list(Pool(workers.square, **KWARGS)(range(20)))
        except Exception as error:
            assert "daemonic" in str(error), error
            mark("refused")
        assert list(Pool(workers.square, 2, use_threads=True)([3])) == [9]

    if __name__ == "__main__":
        process = multiprocess.get_context(METHOD).Process(target=use, daemon=True)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], METHOD=method)) as program:
        program.check_quiet()
    assert (tmp_path / "refused").exists()


@pytest.mark.parametrize("pool_type", [multiprocessing.get_context("fork").Pool, multiprocessing.pool.ThreadPool])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_worker_of_another_pool_has_pools(pool_type):
    """In the workers of the standard library's pools, which are daemons of another package, pools work."""
    with pool_type(2) as pool:
        assert pool.map(workers.map_in_pool, [[1, 2], [3]]) == [[1, 4], [9]]
        pool.close()
        pool.join()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_process_of_an_executor_has_pools():
    """So they do in the processes of `concurrent.futures`."""
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        assert list(executor.map(workers.map_in_pool, [[1, 2], [3]])) == [[1, 4], [9]]


def test_thread_of_an_executor_has_pools(process_kwargs):
    """So they do in its threads, whose exit handler a forked worker has inherited."""
    worker = partial(workers.map_in_pool, start_method=process_kwargs["start_method"])
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        for _ in range(20 if process_kwargs["start_method"] == "fork" else 1):
            assert list(executor.map(worker, [[1, 2], [3]])) == [[1, 4], [9]]


def test_thread_of_an_executor_has_workers_that_print(capfd):
    """What a worker prints is not lost, whatever thread it was forked from."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        executor.submit(lambda: list(Pool(print, 2, start_method="fork")(range(20)))).result()
    assert sorted(map(int, capfd.readouterr().out.split())) == list(range(20))
