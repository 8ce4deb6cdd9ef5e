"""The pool on Dask where no client is in use: it starts a cluster on this machine, and nothing of it is left."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests import workers
from mtasklite.tests.programs import Program, script

pytest.importorskip("distributed")


END_SECONDS = 100.0
"""A limit against hanging: on a busy machine the start of a cluster alone may take many seconds."""


def _program(folder, code):
    return Program(folder, script(folder, code), command=[sys.executable])


def _output_of(folder, code):
    """Run a program that must end well, say nothing on its error stream and leave nothing; return what it prints."""
    with _program(folder, code) as program:
        program.end(END_SECONDS)
        program.check_quiet()
        return program.out


def test_pool_ends_though_a_forked_child_lives_on(tmp_path):
    """A child that was forked while the pool worked, and has all its pipes, does not keep the cluster from ending."""
    code = """
        import warnings
        import psutil
        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            with Pool(workers.square, 1, backend="dask") as pool:
                print(list(pool([1, 2])), flush=True)
                child = os.fork()
                if not child:
                    time.sleep(1000)
            print([one.name() for one in psutil.Process().children() if one.name() == "sh"])
            os.kill(child, 9)
            os.waitpid(child, 0)
    """
    assert _output_of(tmp_path, code) == "[1, 4]\n[]\n"


def test_cluster_is_started_and_stopped_where_none_is_in_use(tmp_path):
    """Without a client the pool starts a cluster with a process for each worker; no thread or process outlives it."""
    code = """
        if __name__ == "__main__":
            with Pool(workers.where, 2, backend="dask", chunk_size=1) as pool:
                seen = set()
                for pid, _ in pool(workers.count_until(lambda: len(seen) == 2)):
                    seen.add(pid)
            print(len(seen), os.getpid() in seen, pool.num_workers)
            print(sum(Pool(workers.square, 2, backend="dask")(range(100))))
            kept = ("Dask-Offload", "Profile")  # Dask's own, which it keeps for the next cluster
            print([thread.name for thread in threading.enumerate() if not thread.name.startswith(kept)])
    """
    assert _output_of(tmp_path, code) == "2 False 2\n328350\n['MainThread']\n"


def test_process_that_dies_is_replaced_in_a_cluster_of_our_own(tmp_path):
    """A late item, and one that ends its process, cost themselves in a cluster of our own too."""
    code = """
        if __name__ == "__main__":
            worker = partial(workers.exit_on, fatal=7)
            pool = Pool([workers.be_stuck_on, worker], backend="dask", task_timeout=1, exception_behavior="ignore")
            print({type(result).__name__ for result in pool(range(50))} - {"WorkerDiedError", "TaskTimeoutError"})
    """
    assert _output_of(tmp_path, code) == "{'int'}\n"


def test_clusters_of_two_pools_at_once_are_silent(tmp_path):
    """Nothing of Dask's own is heard at the end of either, whichever ends first; its logs are as before then."""
    code = """
        import logging
        if __name__ == "__main__":
            import distributed
            handlers = logging.getLogger("distributed").handlers
            before = [(handler.level, list(handler.filters)) for handler in handlers]
            with Pool(workers.square, 1, backend="dask") as first:
                second = Pool(workers.square, 1, backend="dask").__enter__()
                print(list(first([1])), list(second([2])))
            logging.getLogger("distributed.scheduler").warning("not now")
            second.__exit__(None, None, None)
            print([(handler.level, list(handler.filters)) for handler in handlers] == before)
    """
    assert _output_of(tmp_path, code) == "[1] [4]\nTrue\n"


def test_classes_of_a_script_keep_their_identity(tmp_path):
    """Objects and exceptions of classes of `__main__` come home as instances of these classes."""
    code = """
        class Point:
            def __init__(self, x):
                self.x = x
        class MyError(Exception):
            pass
        def double(point):
            if point.x == 3:
                raise MyError(point.x)
            return Point(2 * point.x)
        if __name__ == "__main__":
            results = list(Pool(double, 2, backend="dask", exception_behavior="ignore")(map(Point, range(5))))
            print([type(result) in (Point, MyError) for result in results])
            print([result.x for result in results if isinstance(result, Point)], isinstance(results[3], MyError))
    """
    assert _output_of(tmp_path, code) == f"{[True] * 5}\n[0, 2, 4, 8] True\n"


def test_what_a_program_leaves_open_is_stopped_at_its_exit(tmp_path):
    """A program that ends amid an iteration leaves nothing."""
    code = """
        if __name__ == "__main__":
            results = iter(Pool(workers.square, 2, backend="dask")(itertools.count()))
            print(next(results))
    """
    assert _output_of(tmp_path, code) == "0\n"


def test_interrupt_is_not_for_processes_that_have_no_worker_yet(tmp_path):
    """A process of a cluster of our own leaves a Ctrl-C to the driver from the beginning, not from its first worker."""
    code = """
        from mtasklite._backends._dask_client import processes_of
        from mtasklite._backends._dask_local import LocalDask
        if __name__ == "__main__":
            own = LocalDask(2, processes_of)
            pids = own.client.run(os.getpid)
            for pid in pids.values():
                os.kill(pid, signal.SIGINT)
            time.sleep(0.5)  # in which one that heeds it would end
            print(own.client.run(os.getpid) == pids)
            own.stop()
    """
    assert _output_of(tmp_path, code) == "True\n"


def test_one_interrupt_ends_it_all(tmp_path):
    """One Ctrl-C is raised where the results are consumed, and nothing is left."""
    code = """
        if __name__ == "__main__":
            for item in Pool(partial(workers.nap, seconds=0.05), 2, backend="dask")(itertools.count()):
                mark("working")
    """
    with _program(tmp_path, code) as program:
        program.wait_for("working")
        program.interrupt()
        program.end(END_SECONDS)
        program.check_interrupted()


def test_nothing_runs_on_when_the_driver_is_killed(tmp_path):
    """When the driver is killed with SIGKILL, its cluster ends, and leaves no file."""
    code = """
        if __name__ == "__main__":
            for item in Pool(partial(workers.nap, seconds=0.05), 2, backend="dask")(itertools.count()):
                mark("working")
    """
    with _program(tmp_path, code) as program:
        program.wait_for("working")
        program.process.kill()
        program.check_no_process_left()
        workers.wait_until(lambda: not list(Path(program.temporary).glob("mtasklite*")))  # what is below is going
        program.check_no_file_left()


def test_script_without_a_guard_is_told_so(tmp_path):
    """A script that starts its pool at its top, which the processes import, is told what to write; nobody waits."""
    code = 'list(Pool(workers.square, 2, backend="dask")(range(3)))\n'
    with _program(tmp_path, code) as program:
        assert program.end(END_SECONDS) == 1
        assert "WorkerInitError" in program.err
        assert 'if __name__ == "__main__":' in program.err
        program.check_no_process_left()


@pytest.mark.parametrize(("resources", "name"), [({"GPU": 1}, "resources"), ([{}, {"GPU": 1}], "resources[1]")])
def test_resources_without_a_client_are_an_error(tmp_path, resources, name):
    """A cluster that is started for the pool has no resources, and says so before it is started."""
    code = """
        if __name__ == "__main__":
            try:
                list(Pool([abs, abs], backend="dask", resources=RESOURCES)([1]))
            except ValueError as error:
                print(error)
    """
    error = _output_of(tmp_path, code.replace("RESOURCES", repr(resources)))
    assert f"`{name}` must be what some Dask worker has, but got {{'GPU': 1.0}}" in error
    assert "make a Client of one that has them" in error


def test_forked_child_of_a_program_that_uses_dask_is_told_so(tmp_path):
    """A pool in a forked child, where the threads are not that Dask needs, is an error at once."""
    code = """
        import tempfile, warnings
        import dask, distributed
        def in_child(function):
            pid = os.fork()
            if not pid:
                try:
                    print(function())
                except RuntimeError as error:
                    print(error)
                finally:
                    sys.stdout.flush()
                    os._exit(0)
            os.waitpid(pid, 0)
        def square_all():
            return list(Pool(workers.square, 1, backend="dask")(range(3)))
        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            with tempfile.TemporaryDirectory() as folder, dask.config.set({"temporary-directory": folder}):
                with distributed.Client(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"):
                    in_child(square_all)
                    in_child(lambda: Pool(workers.square, backend="dask"))
                    print(square_all(), flush=True)
                    in_child(square_all)
            print(square_all(), flush=True)
            in_child(square_all)
    """
    told = "this process was forked from one in which Dask is in use, by threads that are not here"
    lines = _output_of(tmp_path, code).splitlines()
    assert [line.partition(":")[0] for line in lines] == [told, told, "[0, 1, 4]", told, "[0, 1, 4]", told]


@pytest.mark.parametrize("code", ['Pool(abs, backend="dask")', "__import__('mtasklite.dask').dask.pqdm([1], abs, 1)"])
def test_error_says_what_to_install(tmp_path, code):
    """Without Dask, one error says what to install, and no other module was asked for."""
    lines = f"""
        sys.modules["distributed"] = None
        try:
            {code}
        except ImportError as error:
            print(error)
    """
    text = "`backend='dask'` needs what is not installed: pip install \"mtasklite[dask]\"\n"
    assert _output_of(tmp_path, lines) == text


DOCS = Path(mtasklite.__file__).parents[1] / "docs" / "clusters.md"


@pytest.mark.skipif(not DOCS.exists(), reason="the docs are beside the package only in a checkout")
def test_example_of_the_docs_runs_by_itself(tmp_path):
    """What docs/clusters.md has for Dask needs nothing of what the page has for Ray."""
    (section,) = re.findall(r"^## Dask$(.*?)^## ", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    path = tmp_path / "example.py"
    path.write_text(example, "utf-8")
    with Program(tmp_path, str(path), command=[sys.executable]) as program:
        assert program.end(END_SECONDS) == 0, program.err


def test_dask_is_not_imported_unless_asked_for(tmp_path):
    """Who works on processes imports nothing of Dask."""
    code = """
        if __name__ == "__main__":
            list(Pool(workers.square, 2)(range(3)))
            print([name for name in sys.modules if name.partition(".")[0] in ("dask", "distributed")])
    """
    assert _output_of(tmp_path, code) == "[]\n"
