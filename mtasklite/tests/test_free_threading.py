"""Python without its global lock, where there is one: threads work at once, and nothing takes the lock back."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import mtasklite

CODE = """
import sys, threading
from mtasklite import Pool
from mtasklite.threads import pqdm

meeting = threading.Barrier(2, timeout=60)

def meet(item):
    meeting.wait()  # two at a time, or never
    return sum(range(item))

wanted = [sum(range(item)) for item in range(200)]
assert list(Pool(meet, 2, use_threads=True, chunk_size=2)(range(200))) == wanted
assert pqdm(range(20000), str, 4, lazy=False, disable=True) == list(map(str, range(20000)))
print(sys._is_gil_enabled())
"""


def free_threaded_python():
    """Return an interpreter without the lock, if one is found."""
    named = [shutil.which(f"python3.{minor}t") for minor in range(13, 16)]
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    return next(filter(None, [*named, *sorted(glob.glob(f"{root}/versions/3.*t/bin/python"))]), None)


def test_threads_work_without_the_global_lock():
    """The library imports nothing that would bring the lock back, and its results are right without it."""
    python = free_threaded_python()
    if python is None:
        pytest.skip("no free-threaded Python is found: python3.13t or later")
    folders = [Path(module.__file__).parents[1] for module in (mtasklite, __import__("tqdm"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run([python, "-c", CODE], capture_output=True, text=True, timeout=100, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
