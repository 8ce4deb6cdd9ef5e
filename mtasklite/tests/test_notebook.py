"""The kernel of a notebook: interrupted amid a pool, it lives on, and so do pools in it."""

from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import jupyter_client
import psutil
import pytest

import mtasklite
from mtasklite.tests.programs import by_speed
from mtasklite.tests.workers import LIMIT_SECONDS, PARALLEL, is_gone, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SETUP = """
import itertools, os, time
from pathlib import Path
from mtasklite import Pool
from mtasklite.processes import pqdm

class Thing:
    def __init__(self, value):
        self.value = value

def work(item):
    Path(FOLDER, f"{os.getpid()}").touch()
    time.sleep(item)
    return Thing(item)
"""

LONG = {
    "list": "list(Pool(work, chunk_size=1, **KWARGS)([600] * 10))",
    "block": """
        with Pool(work, chunk_size=1, **KWARGS) as pool:
            list(pool([600] * 10))
    """,
    "kept": """
        results = Pool(work, chunk_size=1, **KWARGS)([600] * 10)
        next(results)
    """,
    "pqdm": "list(pqdm([600] * 10, work, chunk_size=1, **KWARGS))",
}

HELPERS = """
import multiprocess

for method in set(multiprocess.get_all_start_methods()) - {"fork"}:  # start what is kept until the end
    process = multiprocess.get_context(method).Process(target=int)
    process.start()
    process.join()
"""

AFTERWARDS = """
things = list(Pool(work, **KWARGS)([0] * 10))
assert all(type(thing) is Thing for thing in things)
print("well")
"""


class Kernel:
    """A kernel in which cells can be run."""

    def __init__(self, manager):
        self.manager = manager
        self.traceback = ""  # of the last error
        self._client = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LIMIT_SECONDS)

    def rests(self):
        """Tell whether the kernel does nothing now: it waits for workers or for a cell."""
        process = psutil.Process(self.manager.provisioner.pid)
        before = process.cpu_times()
        time.sleep(0.1)
        return process.cpu_times() == before

    def begin(self, cell):
        return self._client.execute(textwrap.dedent(cell))

    def finish(self, number):
        """Wait for the end of a cell, and return what it printed and the name of the error, if there was one."""
        printed, error = "", None
        while True:
            message = self._client.get_iopub_msg(timeout=LIMIT_SECONDS)
            if message["parent_header"].get("msg_id") != number:
                continue
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed += content["text"]
            elif message["msg_type"] == "error":
                error, self.traceback = content["ename"], "".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return printed, error

    def run(self, cell):
        return self.finish(self.begin(cell))

    def close(self):
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all tests: that it lives on is what they are about."""
    variables = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1])}
    manager = jupyter_client.KernelManager(kernel_name="python3")
    manager.start_kernel(env=variables)
    kernel = Kernel(manager)
    assert kernel.run(HELPERS) == ("", None)
    yield kernel
    kernel.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", by_speed(PARALLEL))
@pytest.mark.parametrize("cell", list(LONG))
def test_interrupt_of_a_kernel_ends_the_cell_and_no_more(kernel, kind, cell, tmp_path):
    """The cell shows a KeyboardInterrupt, its workers are gone, and the next cell finds pools and classes as before."""

    def with_gaps(code):
        return code.replace("KWARGS", repr(PARALLEL[kind])).replace("FOLDER", repr(str(tmp_path)))

    assert kernel.run(with_gaps(SETUP)) == ("", None)
    number = kernel.begin(with_gaps(LONG[cell]))
    n_marks = 1 if kind == "threads" else 2
    wait_until(lambda: len(list(tmp_path.iterdir())) == n_marks)
    workers = [psutil.Process(int(mark.name)) for mark in tmp_path.iterdir()]
    wait_until(kernel.rests)  # else the innermost frame lies where the second items are sent
    kernel.manager.interrupt_kernel()
    assert kernel.finish(number)[1] == "KeyboardInterrupt"
    assert kernel.traceback.count("/mtasklite/") <= 1, kernel.traceback  # the innermost frame is always shown
    if kind != "threads":
        wait_until(lambda: all(is_gone(worker.pid) for worker in workers), 10)
    assert kernel.run(with_gaps(AFTERWARDS)) == ("well\n", None)
