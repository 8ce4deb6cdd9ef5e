"""The ends of programs that use pools: however one ends, nothing is left, neither process nor file."""

from __future__ import annotations

import sys
import textwrap

import pytest

from mtasklite.tests.programs import Program, by_speed, script
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


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("end", list(ENDS))
def test_program_ends_in_silence_and_leaves_nothing(kind, end, tmp_path):
    """Whatever becomes of an iteration, a program that comes to its end does end, says nothing, and leaves nothing."""
    code = HEAD + textwrap.indent(textwrap.dedent(ENDS[end]), "    ")
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.check_quiet()


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
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


@pytest.mark.parametrize("method", by_speed(PROCESSES))
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


@pytest.mark.parametrize("method", by_speed(PROCESSES))
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


@pytest.mark.parametrize("method", by_speed(PROCESSES))
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


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("use", ["list(pool(range(20)))", "next(pool(itertools.count()))"])
@pytest.mark.parametrize("when", ["before_the_import", "after_a_pool", "without_a_pool"])
def test_exit_handler_may_use_a_pool_or_is_refused(kind, use, when, tmp_path):
    """In an exit handler, where some Pythons start no thread or process any more, a pool works or fails; no hang."""
    code = f"""
    import atexit

    def use():
        global pool
        try:
            pool = Pool(workers.square, **KWARGS)
            {use}
            mark("done")
        except Exception:
            mark("refused")

    if __name__ == "__main__":
        if WHEN != "without_a_pool":
            list(Pool(workers.square, **KWARGS)(range(5)))
        if WHEN != "before_the_import":
            atexit.register(use)
    """
    path = script(tmp_path, code, KWARGS=PARALLEL[kind], WHEN=when)
    if when == "before_the_import":  # so it runs after the exit handlers of all that is imported
        text = (tmp_path / "script.py").read_text()
        head = 'import atexit\nif __name__ == "__main__":\n    atexit.register(lambda: use())\n'
        (tmp_path / "script.py").write_text(head + text)
    with Program(tmp_path, path) as program:
        assert (program.end(), program.err) == (0, "")
        program.check_no_process_left()
        if when == "after_a_pool":  # else `multiprocess` has its own clean-up behind it, or will never have it
            assert (tmp_path / "done").exists()
            program.check_no_file_left()
    assert (tmp_path / "done").exists() or (tmp_path / "refused").exists()


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("mode", ["immediate", "ignore"])
def test_daemon_thread_with_a_pool_does_not_keep_the_program(kind, mode, tmp_path):
    """At the exit a daemon thread may be anywhere in its iteration, and that keeps nothing alive."""
    code = """
    def use():
        with contextlib.suppress(WorkerDiedError):
            for _ in Pool(workers.nap, exception_behavior=MODE, **KWARGS)(itertools.count()):
                mark("working")

    if __name__ == "__main__":
        threading.Thread(target=use, daemon=True).start()
        wait_for("working")
    """
    code = "from mtasklite import WorkerDiedError\n" + textwrap.dedent(code)
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind], MODE=mode)) as program:
        program.check_quiet()


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
def test_daemon_thread_that_starts_pools_does_not_keep_the_program(kind, tmp_path):
    """At the exit a daemon thread may be amid the start or the end of a pool; that keeps nothing alive either."""
    code = """
    def use():
        with contextlib.suppress(Exception):
            while True:
                list(Pool(workers.square, **KWARGS)(range(5)))
                mark("working")

    if __name__ == "__main__":
        threading.Thread(target=use, daemon=True).start()
        wait_for("working")
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        assert program.end() == 0
        program.check_no_process_left()
        program.check_no_file_left(besides="pym-")  # made and unlinked by `multiprocess`; the exit may strike between
