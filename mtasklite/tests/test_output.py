"""What workers print and log: whole lines reach the user, each once, in order, wherever workers run."""

from __future__ import annotations

import _thread
import io
import logging
import os
import pdb
import re
import signal
import sys
import threading
import time
from collections import Counter

import pytest
from tqdm import tqdm

from mtasklite import Pool, WorkerDiedError, WorkerInitError, delayed_init
from mtasklite.processes import pqdm
from mtasklite.tests.programs import Program, by_speed, script
from mtasklite.tests.workers import LIMIT_SECONDS, PROCESSES, identity, wait_until

posix_only = pytest.mark.skipif(os.name != "posix", reason="the platform has no such signals and forks")

LOGGER = "mtasklite.tests.output"


@delayed_init
class Talker:
    """Prints whenever its code runs."""

    def __init__(self):
        print("constructor")

    def __enter__(self):
        print("enter")

    def __exit__(self, *exc_info):
        print("exit")
        print("a line without an end", end="")

    def __call__(self, item):
        print("item", item)
        return item


@delayed_init
class Broken:
    """Prints, and cannot be made."""

    def __init__(self):
        print("before the failure")
        raise ValueError("no")

    def __call__(self, item):
        raise NotImplementedError


class Loud:
    """Prints when it is pickled, and when it is collected."""

    def __reduce__(self):
        print("pickled")
        return identity, (0,)

    def __del__(self):
        print("collected")


def print_pieces(item, n_lines=200):
    """Print lines in small pieces, as fast as can be."""
    for line in range(n_lines):
        print(f"<{item}", line, sep=" ", end="")
        print(" ", end="")
        print("x" * 50 + ">")
    return item


def print_from_threads(item):
    threads = [threading.Thread(target=print_pieces, args=(f"{item}/{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return item


def print_everywhere(item):
    print(f"out {item}", flush=True)
    print(f"err {item}", file=sys.stderr)
    sys.stdout.writelines([f"lines {item}\n", f"more {item}\n"])
    return item


def describe_stream(item):
    stream = sys.stdout
    count = stream.write("five\n")
    stream.buffer.write("bytes \u00e9\n".encode())
    stream.flush()
    return count, stream.isatty(), stream.encoding.lower(), stream.writable()


def write_wrongly(item):
    sys.stdout.write(item)


def print_text(item):
    print(item)


def log_all(item):
    logger = logging.getLogger(LOGGER)
    logger.debug("not %s", "wanted")
    logger.info("info %d of %s", item, LOGGER, extra={"shade": {"red": item}, "thing": threading.Lock()})
    logging.getLogger(LOGGER + ".child").warning("warning")
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("failed")
    return item


def log_wrongly(item):
    logging.getLogger(LOGGER).error("%d", "no number")
    return item


def print_and_die(item):
    print("first")
    time.sleep(0.05)
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)


def print_and_exit(item):
    print("one")
    print("two")
    print("three", end="")
    sys.exit(3)


def print_in_handler(item):
    """Print from a signal handler that strikes at any place, amid prints and the sending of large results."""

    def handle(number, frame):
        sys.stdout.write("handler\n")

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for line in range(300):
            sys.stdout.write(f"line {item} {line}\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return b"x" * 300_000


def raise_in_print(item):
    """Be struck by an alarm that raises while it prints; not at item 0, for where all fail there is a warning."""
    if not item:
        return item

    def handle(number, frame):
        raise TimeoutError("alarm")

    signal.signal(signal.SIGALRM, handle)
    # Again each second: one that strikes a callback of the interpreter's is ignored.
    signal.setitimer(signal.ITIMER_REAL, 0.002, 1.0)
    try:
        while True:
            sys.stdout.write("line " + "x" * 200 + "\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def make_loud(item):
    print("item", item)
    return Loud()


def wait_for_thread(item):
    """Let a thread print that is not the pool's."""
    thread = threading.Thread(target=print, args=("other thread",))
    thread.start()
    thread.join()
    return item


def draw(item):
    """Do what a progress bar does, in a worker."""
    for step in range(5000):
        sys.stderr.write(f"\rstep {step}")
    sys.stderr.write("\rdone \r\n")
    return item


def nest(item):
    return list(Pool(print_text, n_jobs=2, use_threads=True, forward_output=True)([f"inner {item}"]))


@pytest.fixture(autouse=True)
def _streams_are_restored():
    """Fail a test after which the streams or the handlers are not what they were."""

    def look():
        return sys.stdout, sys.stderr, list(logging.getLogger().handlers)

    before = look()
    yield
    assert [type(one).__name__ for one in look()[:2]] == [type(one).__name__ for one in before[:2]]
    assert "mtasklite" not in type(sys.stdout).__module__ + type(sys.stderr).__module__


@pytest.fixture
def records():
    """The records that reach a handler of the root logger here."""
    found = []

    class Collector(logging.Handler):
        def emit(self, record):
            found.append(record)

    root, logger, collector = logging.getLogger(), logging.getLogger(LOGGER), Collector()
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    yield found
    root.removeHandler(collector)
    root.setLevel(level)
    logger.setLevel(logging.NOTSET)


def _run(worker, items, **kwargs):
    return list(Pool(worker, **{"forward_output": True, "exception_behavior": "ignore", **kwargs})(items))


def _lines(text):
    return text.splitlines()


def test_lines_of_four_workers_do_not_mix(pool_kwargs, capfd):
    """Every line arrives whole, once, and those of one item in their order, though four workers print at once."""
    kwargs = {**pool_kwargs, "n_jobs": 4} if pool_kwargs["n_jobs"] > 1 else pool_kwargs
    assert _run(print_pieces, range(8), chunk_size=4, **kwargs) == list(range(8))
    lines = _lines(capfd.readouterr().out)
    assert Counter(lines) == Counter(f"<{item} {line} {'x' * 50}>" for item in range(8) for line in range(200))
    for item in range(8):
        numbers = [int(line.split()[1]) for line in lines if line.startswith(f"<{item} ")]
        assert numbers == list(range(200))


def test_lines_of_a_tasks_threads_do_not_mix(process_kwargs, capfd):
    """In a worker process the threads of the task are heard too, each with lines of its own."""
    assert _run(print_from_threads, range(2), **process_kwargs) == [0, 1]
    expected = [f"<{item}/{number} {line} {'x' * 50}>" for item in (0, 1) for number in range(3) for line in range(200)]
    assert sorted(_lines(capfd.readouterr().out)) == sorted(expected)


def test_streams_stay_apart(pool_kwargs, capfd):
    """`print`, `flush=True`, `file=sys.stderr`, and `writelines` each come out at the stream meant."""
    assert _run(print_everywhere, [1], **pool_kwargs) == [1]
    out, err = capfd.readouterr()
    assert _lines(out) == ["out 1", "lines 1", "more 1"]
    assert _lines(err)[0] == "err 1"


def test_prefix_names_the_worker_on_every_line(pool_kwargs, capfd):
    """With `'prefixed'` every line begins with its worker's index in brackets."""
    _run(print_text, ["a\nb"] * 6, forward_output="prefixed", **pool_kwargs)
    lines = _lines(capfd.readouterr().out)
    assert len(lines) == 12
    assert all(re.fullmatch(r"\[worker [01]\] [ab]", line) for line in lines)


def test_everything_from_the_constructor_to_the_exit_is_heard(pool_kwargs, capfd):
    """What is printed by a constructor, `__enter__`, `__call__` and `__exit__` is there when the pool has closed."""
    n_workers = pool_kwargs["n_jobs"]
    with Pool(Talker(), forward_output=True, **pool_kwargs) as pool:
        assert list(pool(range(6))) == list(range(6))
    found = Counter(_lines(capfd.readouterr().out))
    n_made = found["constructor"]
    assert 1 <= n_made <= n_workers  # one that comes up when the items are done is not made
    expected = dict.fromkeys(("constructor", "enter", "exit", "a line without an end"), n_made)
    assert found == Counter({**expected, **{f"item {item}": 1 for item in range(6)}})


def test_output_of_a_constructor_that_fails_is_heard(pool_kwargs, capfd):
    """What a constructor printed before it raised is shown."""
    with pytest.raises(WorkerInitError):
        list(Pool(Broken(), forward_output=True, **pool_kwargs)([1]))
    assert "before the failure" in _lines(capfd.readouterr().out)


def test_output_stands_before_the_result(pool_kwargs, monkeypatch):
    """When a result is handed out, what its task printed has been shown."""
    screen = io.StringIO()  # what `capfd` reads while threads write, it may lose
    monkeypatch.setattr(sys, "stdout", screen)
    results = Pool(print_text, forward_output=True, **pool_kwargs)([str(item) for item in range(20)])
    for number, item in enumerate(results):
        assert item is None
        assert str(number) in _lines(screen.getvalue())


def test_output_of_a_bare_pool_goes_where_it_went(process_kwargs, capfd):
    """Without `forward_output` a pool leaves the streams of its workers alone."""
    assert _run(type_of_stdout, [1], **{**process_kwargs, "forward_output": None}) != ["_Stream"]
    assert _run(type_of_stdout, [1], **process_kwargs) == ["_Stream"]


def type_of_stdout(item):
    return type(sys.stdout).__name__


def test_pqdm_forwards_unless_told_not_to(process_kwargs):
    """`pqdm` forwards by default, not with `forward_output=False`."""
    assert list(pqdm([1], type_of_stdout, disable=True, **process_kwargs)) == ["_Stream"]
    assert list(pqdm([1], type_of_stdout, disable=True, forward_output=False, **process_kwargs)) != ["_Stream"]


def test_stream_in_a_worker_behaves_like_a_file(process_kwargs, capfd):
    """It counts what is written, is no terminal, has an encoding, and takes bytes through its buffer."""
    assert _run(describe_stream, [0], **process_kwargs) == [(5, False, "utf-8", True)]
    assert _lines(capfd.readouterr().out) == ["five", "bytes \u00e9"]


@pytest.mark.parametrize("wrong", [b"bytes", 3, None])
def test_wrong_type_is_the_tasks_error(wrong, pool_kwargs):
    """`sys.stdout.write` of what is no string raises `TypeError` in the task."""
    (error,) = _run(write_wrongly, [wrong], **pool_kwargs)
    assert isinstance(error, TypeError)


def test_text_that_cannot_be_encoded_is_shown_escaped(pool_kwargs, monkeypatch):
    """What the stream here cannot say fails neither the task nor the pool."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    assert _run(print_text, ["\xe9t\xe9", "snow \u2603", "half \udc80"], **pool_kwargs) == [None] * 3
    lines = stream.buffer.getvalue().splitlines()
    assert sorted(lines) == [b"half \\udc80", b"snow \\u2603", b"\xe9t\xe9"]


def test_what_a_bar_overwrites_is_left_out(pool_kwargs, capfd):
    """Of a line that carriage returns overwrite, the last state is shown."""
    assert _run(draw, [0], **pool_kwargs) == [0]
    assert _lines(capfd.readouterr().err) == ["done "]


def test_records_reach_the_handlers_here(pool_kwargs, records):
    """Log records keep level, logger, text and extra attributes, come once, and only from the level on that is set."""
    assert _run(log_all, [1, 2], **pool_kwargs) == [1, 2]
    found = Counter((record.levelname, record.name, record.getMessage()) for record in records)
    assert found == {
        ("INFO", LOGGER, f"info 1 of {LOGGER}"): 1,
        ("INFO", LOGGER, f"info 2 of {LOGGER}"): 1,
        ("WARNING", LOGGER + ".child", "warning"): 2,
        ("ERROR", LOGGER, "failed"): 2,
    }
    shades = [record.shade["red"] for record in records if record.levelname == "INFO"]
    texts = [logging.Formatter().format(record) for record in records if record.levelname == "ERROR"]
    assert sorted(shades) == [1, 2]
    assert all(text.endswith("KeyError: 'lost'") for text in texts)


def test_record_names_the_worker_that_it_comes_from(process_kwargs, records):
    """A record's process is the worker's, by its number and its name."""
    _run(log_all, [1], **process_kwargs)
    names = {record.processName for record in records}
    assert len(names) == 1
    assert names <= {"mtasklite-worker-0", "mtasklite-worker-1"}
    assert os.getpid() not in {record.process for record in records}


def test_records_on_the_console_are_prefixed(pool_kwargs, capfd, records):
    """A handler that writes to the console writes above the bar and after the prefix, others see plain records."""
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        _run(log_all, [1], forward_output="prefixed", **pool_kwargs)
    finally:
        logging.getLogger().removeHandler(handler)
    lines = _lines(capfd.readouterr().err)
    assert re.fullmatch(rf"\[worker [01]\] info 1 of {re.escape(LOGGER)}", lines[0])
    assert all(line.startswith("[worker ") for line in lines)
    assert handler.stream is sys.stderr
    assert records[0].getMessage() == f"info 1 of {LOGGER}"


def test_record_that_cannot_be_formatted_is_reported(process_kwargs, capfd):
    """Arguments that do not go with a message are reported as `logging` does it, and fail no task."""
    assert _run(log_wrongly, [1], **process_kwargs) == [1]
    assert "--- Logging error ---" in capfd.readouterr().err


@posix_only
def test_killed_worker_loses_no_line_that_was_sent(process_kwargs, capfd):
    """Of a worker that is killed, the lines before its end are there, and its item's error is as ever."""
    (error,) = _run(print_and_die, [1], **process_kwargs)
    assert isinstance(error, WorkerDiedError)
    assert _lines(capfd.readouterr().out) == ["first", "last words"]


def test_worker_that_exits_loses_nothing(process_kwargs, capfd):
    """What was printed before `sys.exit` is shown, the last line too, which had no end."""
    (error,) = _run(print_and_exit, [1], **process_kwargs)
    assert (type(error), error.exitcode) == (WorkerDiedError, 3)
    assert _lines(capfd.readouterr().out) == ["one", "two", "three"]


@posix_only
@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_children_of_a_task_write_for_themselves(method, tmp_path):
    """A child that a task forks, and a program that it starts, write where the worker's own streams lead."""
    code = """
        import logging, subprocess, warnings

        def work(item):
            pid = os.fork()
            if not pid:
                print("from the child", flush=True)
                logging.warning("logged in the child")
                os._exit(0)
            os.waitpid(pid, 0)
            subprocess.run([sys.executable, "-c", "print('from a program')"], check=True)
            print("from the worker")
            logging.warning("logged in the worker")
            warnings.warn("careful", UserWarning)

        if __name__ == "__main__":
            logging.basicConfig()
            list(Pool(work, 2, start_method=METHOD, forward_output="prefixed")([1]))
    """
    path = script(tmp_path, code, METHOD=method)
    with Program(tmp_path, "-W", "ignore::DeprecationWarning", "-W", "default::UserWarning", path) as program:
        assert program.end() == 0, program.err
        out = sorted(re.sub(r"worker \d", "worker N", line) for line in _lines(program.out))
        err = re.sub(r"worker \d", "worker N", program.err)
    assert out == ["[worker N] from the worker", "from a program", "from the child"]
    assert [line for line in _lines(err) if "logged" in line] == [
        "WARNING:root:logged in the child",
        "[worker N] WARNING:root:logged in the worker",
    ]
    assert re.search(r"\[worker N\] .*script.py:\d+: UserWarning: careful\n\[worker N\]   warnings.warn", err)


@posix_only
def test_signal_handler_may_print_at_any_place(process_kwargs, capfd):
    """Prints of a signal handler that strikes amid prints and sends block nothing and lose nothing."""
    results = _run(print_in_handler, range(20), **process_kwargs)
    assert [len(result) for result in results] == [300_000] * 20
    found = Counter(_lines(capfd.readouterr().out))
    assert found.pop("handler") > 0
    assert found == Counter(f"line {item} {line}" for item in range(20) for line in range(300))


@posix_only
def test_alarm_that_raises_amid_a_print_cuts_no_message(process_kwargs, capfd):
    """The task gets its exception, the worker lives on, and every line is whole."""
    first, *errors = _run(raise_in_print, range(30), chunk_size=1, **process_kwargs)
    assert first == 0
    assert {type(error) for error in errors} == {TimeoutError}
    assert set(_lines(capfd.readouterr().out)) == {"line " + "x" * 200}


def test_objects_may_print_when_pickled_or_collected(process_kwargs, capfd):
    """Code of objects that runs while results are packed may print: nothing waits for itself."""
    assert _run(make_loud, range(50), **process_kwargs) == [0] * 50
    found = Counter(_lines(capfd.readouterr().out))
    assert found["pickled"] >= 50
    assert sum(found[f"item {item}"] for item in range(50)) == 50


def test_other_threads_are_left_alone(capfd):
    """A thread that is no worker's writes through the streams as ever, in its own pieces."""
    assert _run(wait_for_thread, [1], n_jobs=2, use_threads=True, forward_output="prefixed") == [1]
    assert capfd.readouterr().out == "other thread\n"


def debug(item):
    debugger = pdb.Pdb(stdin=io.StringIO("p 6 * 7\ncontinue\n"), nosigint=True, readrc=False)
    debugger.use_rawinput = False
    debugger.set_trace()
    return item


def test_debugger_in_the_calling_thread_shows_its_prompt(capfd):
    """What a debugger writes that the task has called passes through at once, prompts too."""
    assert _run(debug, [1], n_jobs=1) == [1]
    sys.settrace(None)
    assert capfd.readouterr().out.endswith("\n(Pdb) 42\n(Pdb) ")


def test_pools_may_overlap(capfd):
    """Streams stay redirected until the last pool of threads has ended, and are wrapped once."""
    before = sys.stdout
    with Pool(print_text, n_jobs=2, use_threads=True, forward_output="prefixed") as outer:
        proxy = sys.stdout
        with Pool(print_text, n_jobs=2, use_threads=True, forward_output=True) as inner:
            assert sys.stdout is proxy
            list(inner(["inner"]))
        list(outer(["outer"]))
        assert sys.stdout is proxy
    assert sys.stdout is before
    assert re.fullmatch(r"inner\n\[worker [01]\] outer\n", capfd.readouterr().out)


def test_pool_in_a_worker_is_heard_through_it(parallel_kwargs, capfd):
    """What a pool inside a worker forwards comes out once."""
    assert _run(nest, [1, 2], **parallel_kwargs) == [[None], [None]]
    assert sorted(_lines(capfd.readouterr().out)) == ["inner 1", "inner 2"]


def test_dropped_pool_of_threads_restores_the_streams():
    """A pool that is dropped amid an iteration leaves the streams as they were."""
    before = sys.stdout
    results = iter(Pool(print_text, n_jobs=2, use_threads=True, forward_output=True)(["a"] * 100))
    next(results)
    assert sys.stdout is not before
    del results
    wait_until(lambda: sys.stdout is before)


def test_output_that_cannot_be_shown_is_warned_of_once(process_kwargs, monkeypatch):
    """A stream that fails here fails no task."""

    class Closed:
        def write(self, text):
            raise BrokenPipeError("gone")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.warns(RuntimeWarning, match="output of workers could not be shown: BrokenPipeError: gone") as found:
        assert _run(print_text, ["a"] * 10, **process_kwargs) == [None] * 10
    assert len(found) == 1


@pytest.mark.parametrize("wrong", ["", "yes", "Prefixed"])
def test_wrong_word_is_refused(wrong):
    """A word that means nothing is a `ValueError` that lists what may be said."""
    rule = f"`forward_output` must be True, False, 'prefixed' or None but got: {wrong!r}"
    with pytest.raises(ValueError, match=re.escape(rule)):
        Pool(identity, 2, forward_output=wrong)


@pytest.mark.parametrize("wrong", [2, [], object])
def test_wrong_kind_is_refused(wrong):
    """What is no word at all is a `TypeError`."""
    with pytest.raises(TypeError, match="`forward_output` must be True, False, 'prefixed' or None"):
        Pool(identity, 2, forward_output=wrong)


def test_waiting_for_the_consumer_is_no_time_of_the_task(capfd):
    """A task that prints more than is taken while the consumer is away is not late for that."""
    kwargs = {**PROCESSES["fork"], "forward_output": True, "task_timeout": 1.0, "chunk_size": 2}
    results = []
    for result in Pool(print_much, exception_behavior="ignore", **kwargs)(range(3)):
        results.append(result)
        time.sleep(1.5)
    assert results == [0, 1, 2]
    assert len(_lines(capfd.readouterr().out)) == 3 * 200


def print_much(item):
    for _ in range(200):
        print("x" * 9_999)
    return item


def test_late_task_that_prints_all_the_time_is_killed(process_kwargs, capfd):
    """Printing does not keep a task from being late."""
    began = time.monotonic()
    results = _run(print_for_ever, [1], task_timeout=0.5, **process_kwargs)
    assert [type(result).__name__ for result in results] == ["TaskTimeoutError"]
    assert time.monotonic() - began < LIMIT_SECONDS
    assert set(_lines(capfd.readouterr().out)) == {"on and on"}


def print_for_ever(item):
    while True:
        print("on and on")


def write_by_bar(item):
    """Write so much above a bar that nobody has, that it waits for the parent, amid holding the lock of bars."""
    tqdm.write(("x" * 200 + "\n") * 3000)
    return item


def test_bars_in_workers_and_here_do_not_wait_for_each_other():
    """A forked worker shares the lock of bars with the parent, if there was a bar before."""
    list(pqdm([1, 2], abs, 2, file=io.StringIO()))
    seen = []
    for item in pqdm(range(6), write_by_bar, 2, start_method="fork", file=io.StringIO(), mininterval=0):
        time.sleep(0.3)
        seen.append(item)
    assert seen == list(range(6))


def log_with_view(item):
    logging.getLogger("views").warning("item %d", item, extra={"view": memoryview(b"abc"), "nested": [{1: object}]})
    print("after", item)
    return item


def test_log_record_with_what_cannot_be_sent_costs_nothing(process_kwargs, capfd, caplog):
    """It arrives with text instead."""
    assert _run(log_with_view, range(5), **process_kwargs) == [*range(5)]
    assert sorted(record.getMessage() for record in caplog.records) == [f"item {number}" for number in range(5)]
    assert all("memory" in record.view for record in caplog.records)
    assert sorted(_lines(capfd.readouterr().out)) == [f"after {number}" for number in range(5)]


def fail_to_start_once(item):
    """Print where no thread can be started, at first."""
    real = _thread.start_new_thread

    def refuse(*args):
        _thread.start_new_thread = real
        raise RuntimeError("can't start new thread")

    if not item:
        _thread.start_new_thread = refuse
    print("one", item)
    print("two", item)
    return item


def test_output_arrives_where_no_thread_can_be_started(process_kwargs, capfd):
    """It is sent by the thread that prints; later a thread may be tried again."""
    assert _run(fail_to_start_once, range(3), **process_kwargs) == [0, 1, 2]
    printed = _lines(capfd.readouterr().out)
    assert sorted(printed) == sorted(f"{word} {number}" for word in ("one", "two") for number in range(3))
