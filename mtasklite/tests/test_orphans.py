"""Workers whose parent was ended by a signal: they notice by themselves, whatever they are at, and leave nothing."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from mtasklite.tests.programs import Program, by_speed, check_gone, script
from mtasklite.tests.workers import PROCESSES, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no SIGKILL")

HEAD = """
import ctypes

def fork():
    if IS_FORKING and not os.fork():
        mark(f"child-{os.getpid()}")
        time.sleep(600)  # with copies of all that is open
"""

BUSY = """
def work(item):
    mark(f"started-{item}")
    TASK

if __name__ == "__main__":
    with Pool(work, is_unordered=True, chunk_size=1, **KWARGS) as pool:
        fork()
        list(pool(range(2)))
"""

IDLE = """
@delayed_init
class Marking:
    def __init__(self, name):
        mark(f"started-{name}")

    def __call__(self, item):
        return item

if __name__ == "__main__":
    with Pool([Marking(0), Marking(1)], **KWARGS) as pool:
        fork()
        list(pool(workers.count_until(lambda: False)))
"""

IMPORTING = """
if __name__ == "__mp_main__":
    mark(f"started-{os.getpid()}")
    wait_for("go")

if __name__ == "__main__":
    with Pool(abs, **KWARGS) as pool:
        fork()
        list(pool(range(20)))
"""

BEING_MADE = """
@delayed_init
class Slow:
    def __init__(self, name):
        mark(f"started-{name}")
        time.sleep(600)

    def __call__(self, item):
        return item

if __name__ == "__main__":
    with Pool([Slow(0), Slow(1)], **KWARGS) as pool:
        fork()
        list(pool(range(2)))
"""

SENDING = """
def work(item):
    mark(f"started-{item}")
    return bytes(100 << 20)

if __name__ == "__main__":
    with Pool(work, chunk_size=1, **KWARGS) as pool:
        fork()
        for _ in pool(range(10)):
            time.sleep(600)  # nobody takes the other results, which no pipe can hold
"""

RECEIVING = """
class Big:
    def __reduce__(self):
        mark("started-1")
        return bytes, (bytes(100 << 20),)

if __name__ == "__main__":
    with Pool(type, chunk_size=1, **KWARGS) as pool:
        fork()
        list(pool([0, 1]))
        mark("started-0")
        wait_for("go")
        list(pool(Big() for _ in itertools.count()))
"""

TASKS = {
    "sleeping": "time.sleep(600)",
    "computing": "while True: pass",
    "in_c_code": "ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock",
}
STATES = {
    "idle": IDLE,
    "being_made": BEING_MADE,
    "sending": SENDING,
    **{name: BUSY.replace("TASK", task) for name, task in TASKS.items()},
}


def end_by(signal_number, program):
    """End a program by a signal once its workers are where they should be."""
    program.wait_for("started-0", "started-1")
    program.process.send_signal(signal_number)
    assert program.end() == -signal_number


def wait_until_asleep(pid):
    """Wait until a process was found asleep at each of many looks."""
    looks = []

    def is_asleep():
        looks.append(psutil.Process(pid).status() == psutil.STATUS_SLEEPING)
        return len(looks) >= 20 and all(looks[-20:])

    wait_until(is_asleep)


def workers_of(program, folder):
    """Return the workers of a program that has forked by the way."""
    return [worker for worker in program.workers() if not (folder / f"child-{worker.pid}").exists()]


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize(
    ("signal_number", "state"),
    [*((signal.SIGKILL, state) for state in STATES), (signal.SIGTERM, "idle"), (signal.SIGTERM, "computing")],
)
def test_workers_end_when_their_parent_was_ended(signal_number, state, method, tmp_path):
    """After SIGKILL or SIGTERM of the parent no process is left, whatever the workers were at."""
    code = HEAD + STATES[state]
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], IS_FORKING=False)) as program:
        end_by(signal_number, program)
        program.check_no_process_left()
        assert program.err == ""


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize("state", list(STATES))
def test_workers_end_when_a_child_holds_the_pipes_of_their_killed_parent(state, method, tmp_path):
    """They need no end of file to notice: another child of the parent may have copies of its descriptors."""
    code = HEAD + STATES[state]
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], IS_FORKING=True)) as program:
        program.wait_for("started-0", "started-1")
        workers = workers_of(program, tmp_path)
        assert len(workers) == 2
        end_by(signal.SIGKILL, program)
        check_gone(workers)
        assert program.err == ""


@pytest.mark.parametrize(("method", "is_forking"), [("spawn", False), ("spawn", True), ("forkserver", False)])
def test_workers_end_when_their_parent_was_killed_before_they_were_up(is_forking, method, tmp_path):
    """A worker whose parent dies while it imports the script has never seen its parent, and ends all the same."""
    code = HEAD + IMPORTING
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], IS_FORKING=is_forking)) as program:
        n_marks = {"spawn": 2, "forkserver": 1}[method]  # a fork server may import the script for all
        wait_until(lambda: len(list(tmp_path.glob("started-*"))) >= n_marks)
        wait_until(lambda: len(list(tmp_path.glob("child-*"))) == is_forking)
        workers = workers_of(program, tmp_path)
        program.process.kill()
        program.end()
        (tmp_path / "go").touch()
        check_gone(workers)


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize("is_forking", [False, True], ids=["alone", "child_holds_the_pipes"])
def test_workers_end_when_their_parent_was_killed_amid_a_message(is_forking, method, tmp_path):
    """A worker that has got half of a message does not wait for the other half."""
    code = HEAD + RECEIVING
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], IS_FORKING=is_forking)) as program:
        program.wait_for("started-0")
        workers = workers_of(program, tmp_path)
        for worker in workers:
            worker.suspend()
        (tmp_path / "go").touch()
        program.wait_for("started-1")
        wait_until_asleep(program.process.pid)  # amid writing, for nobody reads
        program.process.send_signal(signal.SIGSTOP)
        for worker in workers:
            worker.resume()
        for worker in workers:
            wait_until_asleep(worker.pid)  # amid reading, one of them
        end_by(signal.SIGKILL, program)
        check_gone(workers)


@pytest.mark.parametrize("method", by_speed(PROCESSES))
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_no_file_is_left_when_the_parent_was_ended(signal_number, method, tmp_path):
    """After SIGTERM or SIGKILL of the parent no temporary file is left."""
    code = HEAD + STATES["idle"]
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method], IS_FORKING=False)) as program:
        end_by(signal_number, program)
        program.check_nothing_left()


@pytest.mark.parametrize("method", by_speed(PROCESSES))
def test_workers_are_told_nothing_when_their_parent_stops_for_a_while(method, tmp_path):
    """A parent that is stopped (Ctrl-Z) and goes on finds its workers as they were."""
    code = """
    if __name__ == "__main__":
        with Pool(workers.where, **KWARGS) as pool:
            before = {pid for pid, _ in pool(range(500))}
            mark("ready")
            wait_for("continued")
            after = {pid for pid, _ in pool(range(500))}
            sys.exit(not (before & after))
    """
    with Program(tmp_path, script(tmp_path, code, KWARGS=PROCESSES[method])) as program:
        program.wait_for("ready")
        os.killpg(program.process.pid, signal.SIGSTOP)
        (tmp_path / "continued").touch()
        os.killpg(program.process.pid, signal.SIGCONT)
        program.check_quiet()
