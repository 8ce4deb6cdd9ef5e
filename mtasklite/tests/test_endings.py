"""The ends of programs that use pools: however one ends, nothing is left, neither process nor file."""

from __future__ import annotations

import sys
import textwrap

import pytest

from mtasklite.tests.programs import Program, script
from mtasklite.tests.workers import PARALLEL, PROCESSES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no sessions")

HEAD = """
def nap_a_little(item):
    time.sleep(0.05)
    return item

if __name__ == "__main__":
    pool = Pool(abs, **KWARGS)
    count = itertools.count()
"""

ENDS = {
    "exhausted": "assert list(pool(range(50))) == list(range(50))",
    "break": """
        for _ in pool(count):
            break
    """,
    "close": """
        results = pool(count)
        next(results)
        results.close()
    """,
    "dropped": """
        results = pool(count)
        next(results)
        del results
    """,
    "worker_fails": """
        with contextlib.suppress(TypeError):
            list(pool(["no number"]))
    """,
    "consumer_fails": """
        with contextlib.suppress(LookupError):
            for _ in pool(count):
                raise LookupError("of the consumer")
    """,
    "input_fails": """
        with contextlib.suppress(LookupError):
            list(pool(workers.raise_after(5, LookupError("of the input"))))
    """,
    "worker_dies": """
        results = Pool(workers.trouble, exception_behavior="ignore", **KWARGS)([0, SystemExit(3), 2])
        assert [type(result).__name__ for result in results] == ["int", "WorkerDiedError", "int"]
    """,
    "never_called": "",
    "never_consumed": "results = pool(count)",
    "entered_and_never_called": "pool.__enter__()",
    "entered_and_never_consumed": "results = pool.__enter__()(count)",
    "half_consumed": """
        results = pool(range(100))
        for _ in range(50):
            next(results)
    """,
    "idle": """
        pool.__enter__()
        list(pool(range(5)))
    """,
    "busy": """
        results = Pool(nap_a_little, **KWARGS)(count)
        next(results)
    """,
    "busy_in_a_function": """
        def use():
            results = Pool(nap_a_little, **KWARGS)(count)
            next(results)
            sys.exit()
        use()
    """,
    "in_a_cycle": """
        results = pool(count)
        next(results)
        cycle = [results]
        cycle.append(cycle)
        del results, cycle
    """,
    "in_a_generator": """
        def outer():
            yield from pool(count)
        results = outer()
        next(results)
    """,
    "in_a_default_argument": """
        def use(results=pool(count)):
            return next(results)
        use()
    """,
    "kept_by_a_module": """
        sys.results = pool(count)
        next(sys.results)
    """,
    "kept_by_a_traceback": """
        try:
            for _ in pool(count):
                raise LookupError("of the consumer")
        except LookupError as error:
            sys.error = error
    """,
    "two_pools": """
        first, second = pool(count), Pool(abs, **KWARGS)(count)
        next(first), next(second)
    """,
    "pqdm": """
        results = pqdm(count, abs, disable=True, **KWARGS)
        next(results)
    """,
}


@pytest.mark.parametrize("kind", list(PARALLEL))
@pytest.mark.parametrize("end", list(ENDS))
def test_program_ends_in_silence_and_leaves_nothing(kind, end, tmp_path):
    """Whatever becomes of an iteration, a program that comes to its end does end, says nothing, and leaves nothing."""
    code = HEAD + textwrap.indent(textwrap.dedent(ENDS[end]), "    ")
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.check_quiet()


@pytest.mark.parametrize("kind", list(PARALLEL))
@pytest.mark.parametrize("how", ["raise LookupError", "sys.exit(1)"])
def test_program_that_fails_amid_an_iteration_leaves_nothing(kind, how, tmp_path):
    """An exception that nobody catches is shown once, and ends the workers."""
    code = f"""
    if __name__ == "__main__":
        for result in Pool(abs, **KWARGS)(itertools.count()):
            {how}
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        assert program.end() == 1
        assert program.err.count("Traceback") == how.startswith("raise")
        program.check_nothing_left()


@pytest.mark.parametrize("method", list(PROCESSES))
def test_program_that_exits_at_once_leaves_nothing(method, tmp_path):
    """`os._exit` gives a program no time to say goodbye; its workers notice."""
    code = """
    if __name__ == "__main__":
        results = Pool(abs, **KWARGS)(itertools.count())
        next(results)
        os._exit(3)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method])) as program:
        assert program.end() == 3
        program.check_no_process_left()
        assert program.err == ""


@pytest.mark.parametrize("method", list(PROCESSES))
def test_program_ends_while_its_workers_are_stuck(method, tmp_path):
    """At its end a program does not wait for items that nobody will take."""
    code = """
    if __name__ == "__main__":
        results = Pool(workers.nap, is_unordered=True, argument_type="args", chunk_size=1, **KWARGS)(
            itertools.chain([(0, 0)], itertools.repeat((0, 600)))
        )
        next(results)
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method])) as program:
        program.check_quiet()


def test_program_ends_while_its_threads_are_stuck(tmp_path):
    """Threads cannot be ended, and do not keep a program from ending either."""
    code = """
    if __name__ == "__main__":
        results = Pool(workers.nap, 2, is_unordered=True, argument_type="args", chunk_size=1, use_threads=True)(
            itertools.chain([(0, 0)], itertools.repeat((0, 600)))
        )
        next(results)
    """
    with Program(tmp_path, script(tmp_path, code)) as program:
        program.check_quiet()


@pytest.mark.parametrize("method", list(PROCESSES))
def test_workers_end_with_their_own_pools(method, tmp_path):
    """A worker that is ended amid a pool of its own takes the workers of that one along."""
    code = """
    def work(item):
        for _ in Pool(workers.nap, **KWARGS)(itertools.count()):
            mark(f"nested-{item}")

    if __name__ == "__main__":
        results = Pool(work, chunk_size=1, join_timeout=0, **KWARGS)(range(2))
        threading.Thread(target=next, args=(results,), daemon=True).start()
        wait_for("nested-0")
        wait_for("nested-1")
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method])) as program:
        program.end()
        program.check_no_process_left()
