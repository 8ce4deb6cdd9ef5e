"""One Ctrl-C, whatever the program is at: a KeyboardInterrupt with one traceback, and nothing is left."""

from __future__ import annotations

import random
import signal
import sys
import time

import pytest

from mtasklite.tests.programs import Program, by_speed, script
from mtasklite.tests.workers import PARALLEL, PROCESSES, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no process groups")

INPUTS = {
    "sleep": "time.sleep(600)",
    "queue": "queue.Queue().get()",
    "socket": "SOCKETS[0].recv(1)",
}

INPUT_BLOCKS = """
import queue, socket

SOCKETS = socket.socketpair()

def items():
    yield 0
    mark("blocked")
    BLOCK

if __name__ == "__main__":
    list(CALL)
"""

CALLS = {
    "pool": "Pool(abs, **KWARGS)(items())",
    "unbounded": "Pool(abs, bounded=False, **KWARGS)(items())",
    "pqdm": "pqdm(items(), abs, disable=True, **KWARGS)",
}


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("block", list(INPUTS))
def test_interrupt_ends_all_while_the_input_blocks(kind, block, tmp_path):
    """A Ctrl-C reaches an input that blocks in any of the usual ways."""
    code = INPUT_BLOCKS.replace("BLOCK", INPUTS[block]).replace("CALL", CALLS["pool"])
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.wait_for("blocked")
        program.interrupt()
        program.check_interrupted()


@pytest.mark.parametrize("call", ["unbounded", "pqdm"])
def test_interrupt_ends_all_while_the_input_blocks_elsewhere(call, tmp_path):
    """So it does with `pqdm`, and where all input is read at once."""
    code = INPUT_BLOCKS.replace("BLOCK", INPUTS["sleep"]).replace("CALL", CALLS[call])
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL["fork"])) as program:
        program.wait_for("blocked")
        program.interrupt()
        program.check_interrupted()


TASKS = {
    "sleep": "time.sleep(600)",
    "loop": "while True: pass",
    "c_code": "ctypes.PyDLL(None).sleep(600)",
}

TASK_IS_LONG = """
import ctypes

def work(item):
    mark(item)
    TASK

if __name__ == "__main__":
    list(CALL)
"""


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize("task", ["loop", "c_code"])
def test_interrupt_ends_all_while_workers_are_busy(method, task, tmp_path):
    """A Ctrl-C does not wait for workers that compute, not even in C code that holds the interpreter's lock."""
    code = TASK_IS_LONG.replace("TASK", TASKS[task]).replace("CALL", "Pool(work, **KWARGS)(range(10))")
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method])) as program:
        program.wait_for("0", "1")
        program.interrupt()
        program.check_interrupted()


@pytest.mark.parametrize("kind", ["spawn", "threads"])
def test_interrupt_ends_all_while_pqdm_waits(kind, tmp_path):
    """With a progress bar and a thread of its own there is one traceback too."""
    code = TASK_IS_LONG.replace("TASK", TASKS["sleep"]).replace("CALL", "pqdm(range(10), work, **KWARGS)")
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.wait_for("0", "1")
        program.interrupt()
        program.check_interrupted()


def test_interrupt_ends_all_while_the_calling_thread_works(tmp_path):
    """With one worker the item itself is interrupted."""
    code = TASK_IS_LONG.replace("TASK", TASKS["sleep"]).replace("CALL", "Pool(work, 1)(range(10))")
    with Program(tmp_path, script(tmp_path, code)) as program:
        program.wait_for("0")
        program.interrupt()
        program.check_interrupted()


WORKERS_ARE_STARTED = """
import multiprocessing  # as the first bar does, which would be interrupted amid that

@delayed_init
class Slow:
    def __init__(self, name):
        mark(name)
        time.sleep(600)
    def __call__(self, item):
        return item

if __name__ == "__main__":
    shells = [Slow("first"), Slow("second")]
    pool = Pool(shells, **KWARGS)
    USE
"""

USES_AT_START = {
    "next": "next(pool([1, 2, 3]))",
    "end_of_block": "with pool: wait_for('first')",
    "pqdm": "list(pqdm([1, 2], shells, **KWARGS))",
}


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("use", ["next", "pqdm"])
def test_interrupt_ends_all_while_workers_are_made(kind, use, tmp_path):
    """A Ctrl-C does not wait for constructors."""
    code = WORKERS_ARE_STARTED.replace("USE", USES_AT_START[use])
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.wait_for("first", "second")
        program.interrupt()
        program.check_interrupted()


@pytest.mark.parametrize("kind", ["fork", "threads"])  # the others are made at the first item
def test_interrupt_ends_all_while_a_block_waits_for_constructors(kind, tmp_path):
    """A Ctrl-C at the end of a block does not wait for constructors either."""
    code = WORKERS_ARE_STARTED.replace("USE", USES_AT_START["end_of_block"])
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.wait_for("first", "second")
        program.interrupt()
        program.check_interrupted()


BIG_ITEM_IS_SENT = """
class Bytes:
    def __reduce__(self):
        mark("packed")
        return bytes, (bytes(100 << 20),)

if __name__ == "__main__":
    with Pool(type, chunk_size=1, **KWARGS) as pool:
        next(pool([0]))
        mark("up")
        wait_for("go")
        list(pool(Bytes() for _ in itertools.count()))
"""


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize("is_stopped", [False, True], ids=["taken", "not_taken"])
def test_interrupt_ends_all_while_a_big_item_is_sent(method, is_stopped, tmp_path):
    """A Ctrl-C amid 100 MB on their way to a worker, which takes them or not, cuts them off."""
    with Program(tmp_path, script(tmp_path, BIG_ITEM_IS_SENT, KWARGS=PROCESSES[method])) as program:
        program.wait_for("up")
        for worker in program.workers() if is_stopped else []:
            worker.suspend()
        (tmp_path / "go").touch()
        program.wait_for("packed")
        program.interrupt()
        program.check_interrupted()


POOL_IS_CLOSED = """
def work(item):
    if item == "quick":
        return wait_for("slow")
    mark(item)
    time.sleep(600)

if __name__ == "__main__":
    pool = Pool(work, is_unordered=True, chunk_size=1, **KWARGS)
    items = ["slow", "quick"]
    CLOSE
"""

CLOSES = {
    "block": """
    with pool:
        next(pool(items))
        mark("closing")
    """,
    "iterator_block": """
    with pool(items) as results:
        next(results)
        mark("closing")
    """,
    "close": """
    results = pool(items)
    next(results)
    mark("closing")
    results.close()
    """,
    "break": """
    for result in pool(items):
        threading.Timer(0.2, mark, ["closing"]).start()  # amid the body the loop would not be left by `break`
        break
    time.sleep(60)  # where it must be raised, for it cannot be in a loop that is left
    """,
    "break_of_pqdm": """
    for result in pqdm(items, work, is_unordered=True, chunk_size=1, disable=True, **KWARGS):
        threading.Timer(0.2, mark, ["closing"]).start()
        break
    time.sleep(60)
    """,
}


@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("close", list(CLOSES))
def test_interrupt_ends_all_while_a_pool_is_closed(kind, close, tmp_path):
    """A Ctrl-C ends the waiting for running items."""
    code = POOL_IS_CLOSED.replace("    CLOSE\n", CLOSES[close])
    with Program(tmp_path, script(tmp_path, code, KWARGS=PARALLEL[kind])) as program:
        program.wait_for("closing")
        program.interrupt()
        program.check_interrupted()


AT_ANY_MOMENT = """
if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()  # may be the one to get the signal
    mark("going")
    while True:
        with Pool(abs, **{**KWARGS, "n_jobs": 8}) as pool:
            list(pool(range(5)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", by_speed(PARALLEL))
def test_interrupt_ends_all_at_any_moment(kind, tmp_path):
    """Workers that are being started, made, told to end: a Ctrl-C that hits that moment leaves none of them."""
    dice = random.Random(20)
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = script(folder, AT_ANY_MOMENT, KWARGS=PARALLEL[kind])
        with Program(folder, "-W", "ignore", path) as program:
            program.wait_for("going")
            time.sleep(dice.uniform(0, 0.2))
            program.interrupt()
            wait_until(lambda program=program: program.process.poll() is not None or "ignored" in program.err, 30)
            if "ignored" in program.err:  # it came amid a `__del__`, where Python itself drops it
                time.sleep(0.5)  # and another one too, until it has said so
                program.interrupt()
            assert program.end() == -signal.SIGINT
            program.check_nothing_left()


AT_ANY_LINE = """
import gc, psutil

STEP = 29

def body():
    with Pool(abs, **KWARGS) as pool:
        list(pool(range(5)))
    list(pqdm(range(5), workers.fail_on_odd, disable=True, **KWARGS))

class Tracer:
    def __init__(self, at):
        self.at, self.n_lines, self.place = at, 0, None

    def __call__(self, frame, event, arg):
        names = frame.f_code.co_filename, frame.f_code.co_name
        if not ("mtasklite" in names[0] or "multiprocess" in names[0]) or names[1] in ("__del__", "_remove"):
            return None  # Python drops what is raised there
        if event == "line":
            self.n_lines += 1
            if self.n_lines == self.at:
                self.place = (*names, frame.f_lineno)
                sys.settrace(None)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.001)  # another thread may be the one to get it
        return self

def run(at):
    tracer = Tracer(at)
    sys.settrace(tracer)
    try:
        body()
        time.sleep(0.01)
    except BaseException as error:
        sys.settrace(None)
        return tracer, type(error).__name__
    finally:
        sys.settrace(None)
    return tracer, None

def count():
    gc.collect()
    return len(psutil.Process().children()), psutil.Process().num_fds(), threading.active_count()

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    body()
    body()
    before = count()
    for at in range(1, run(0)[0].n_lines, STEP):
        tracer, error = run(at)
        with contextlib.suppress(TimeoutError):
            workers.wait_until(lambda: count() == before, 2)
        if tracer.place and (error, count()) != ("KeyboardInterrupt", before):
            print(tracer.place, error, count(), before, flush=True)
            before = count()
    os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "fork"])
def test_interrupt_leaves_nothing_at_any_line(kind, tmp_path):
    """A program that catches a Ctrl-C goes on without a process, thread or descriptor of the pool, wherever it came."""
    with Program(tmp_path, script(tmp_path, AT_ANY_LINE, KWARGS=PARALLEL[kind])) as program:
        program.end(100)
        assert program.out == ""


NOTED_MASKS = """
if __name__ == "__main__":
    noted, set_mask = [], signal.pthread_sigmask
    signal.pthread_sigmask = lambda how, signals: (noted.append(how.name), set_mask(how, signals))[1]
    list(Pool(abs, **KWARGS)([1]))
    assert "SIG_BLOCK" in noted
    for one, next_one in zip(noted, noted[1:]):
        assert (one, next_one) != ("SIG_BLOCK", "SIG_BLOCK"), noted
"""


@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_nothing_lets_an_interrupt_through_amid_the_first_start(method, tmp_path):
    """What `multiprocess` starts once, and unblocks SIGINT for, runs before the first worker does."""
    with Program(tmp_path, script(tmp_path, NOTED_MASKS, KWARGS=PROCESSES[method])) as program:
        program.check_quiet()
