"""Programs: Python interpreters in sessions of their own, and what is left of them when they have ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import psutil
import pytest

import mtasklite
from mtasklite.tests.workers import LIMIT_SECONDS, is_gone, wait_until

LEAVE_SECONDS = 10.0
"""How long what a program leaves may take to go away: typically one second, two where the parent was killed."""

QUICK = ("inline", "threads", "fork")
"""Places where workers start within milliseconds; what the others show is mostly the same."""

PRELUDE = """\
import contextlib, itertools, os, signal, sys, threading, time
from functools import partial
from pathlib import Path

from mtasklite import Pool, delayed_init
from mtasklite.processes import pqdm
from mtasklite.tests import workers

def mark(name):
    Path({folder!r}, str(name)).touch()

def wait_for(name):
    workers.wait_until(Path({folder!r}, str(name)).exists)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests were started with
"""


def by_speed(names: Iterable[str]) -> list[Any]:
    """Return names of places as parameters of tests, with those that take their time to start marked as slow."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


class Program:
    """A Python program, which is over at the latest when the `with` block is left, with all that it has started.

    It may leave marks, files in a folder that the test can wait for. Its temporary files are in a folder of its own.

    Args:
        folder: Where its marks and its output are.
        args: The interpreter's arguments.
        command: What is run instead of the interpreter.
        popen_kwargs: What else `subprocess.Popen` is told.
    """

    def __init__(self, folder: Path, *args: str, command: Optional[Sequence[str]] = None, **popen_kwargs: Any) -> None:
        self._folder = folder
        self._shared_before = _shared_files()
        with contextlib.ExitStack() as stack:
            self.temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="m"))  # short: sockets go there
            variables = {
                **os.environ,
                "PYTHONPATH": str(Path(mtasklite.__file__).parents[1]),
                "TMPDIR": self.temporary,
            }
            streams = {name: stack.enter_context(open(folder / name, "wb")) for name in ("stdout", "stderr")}
            self.process = subprocess.Popen(
                [*(command or [sys.executable, "-W", "error"]), *args],
                **{"stdin": subprocess.DEVNULL, **streams, **popen_kwargs},
                env=variables,
                start_new_session=True,
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self.survivors():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(LIMIT_SECONDS)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._stack.close()

    @property
    def out(self) -> str:
        return (self._folder / "stdout").read_text()

    @property
    def err(self) -> str:
        return (self._folder / "stderr").read_text()

    def wait_for(self, *names: str) -> None:
        """Wait until the program has left these marks."""
        wait_until(lambda: self.process.poll() is not None or all((self._folder / name).exists() for name in names))
        missing = [name for name in names if not (self._folder / name).exists()]
        assert not missing, f"the program ended without {missing}: {self.err}"

    def interrupt(self) -> None:
        """Do what Ctrl-C does: send SIGINT to all processes of the terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, seconds: float = LIMIT_SECONDS / 2) -> int:
        """Wait for the end of the program itself, and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the program does not end: {self.err}") from None

    def survivors(self) -> list[psutil.Process]:
        """Return the processes of the program that live."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if os.getsid(pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of the program, which has no other children but those of `multiprocess`."""
        return [
            process
            for process in psutil.Process(self.process.pid).children(recursive=True)
            if not process.children() and "resource_tracker" not in " ".join(process.cmdline())
        ]

    def check_no_process_left(self) -> None:
        """Raise if a process of the program lives on."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.survivors(), LEAVE_SECONDS)
        left = [_describe(process) for process in self.survivors()]
        assert not left, f"left behind: {left}"

    def check_no_file_left(self, besides: str = "\0") -> None:
        """Raise if the program leaves a temporary file, or shared memory that has a name, which does not begin so."""
        # The folder of a forkserver's socket is `multiprocess`'s, and stays where that was killed.
        files = [str(path) for path in Path(self.temporary).rglob("*") if not path.match("pymp-*")]
        files = [name for name in files if not re.search(r"/pymp-\w+/listener-\w+$", name)]
        files += [name for name in _shared_files() - self._shared_before if str(self.process.pid) in name]
        files = [name for name in files if not Path(name).name.startswith(besides)]
        assert not files, f"left behind: {files}"

    def check_nothing_left(self) -> None:
        """Raise if the program, which has ended, leaves a process or a file."""
        self.check_no_process_left()
        self.check_no_file_left()

    def check_interrupted(self) -> None:
        """Raise if the program does not end as after one Ctrl-C, or leaves anything."""
        code = self.end()
        assert (code, "KeyboardInterrupt" in self.err) == (-signal.SIGINT, True), self.err
        assert self.err.count("Traceback (most recent call last)") == 1, self.err
        self.check_nothing_left()

    def check_quiet(self) -> None:
        """Raise if the program does not end well and in silence, or leaves anything."""
        code = self.end()
        assert (code, self.err) == (0, ""), self.err
        self.check_nothing_left()


def script(folder: Path, code: str, name: str = "script.py", **gaps: Any) -> str:
    """Write a script with the prelude above, and return its path.

    Args:
        folder: Where it is written, and where its marks go.
        code: What follows the prelude.
        name: The name of the file.
        gaps: What stands in `code` instead of these names, as literals.
    """
    code = textwrap.dedent(code)
    for gap, value in gaps.items():
        code = code.replace(gap, repr(value))
    path = folder / name
    path.write_text(PRELUDE.format(folder=str(folder)) + code)
    return str(path)


def _shared_files() -> set[str]:
    """Return the names of the shared memory that has one."""
    with contextlib.suppress(OSError):
        return set(os.listdir("/dev/shm"))
    return set()


def check_gone(processes: Iterable[psutil.Process]) -> None:
    """Raise if one of these processes lives on."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: all(is_gone(process.pid) for process in processes), LEAVE_SECONDS)
    left = [_describe(process) for process in processes if not is_gone(process.pid)]
    assert not left, f"left behind: {left}"


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return f"{process.pid} {process.status()}: {' '.join(process.cmdline())}"
    return "ended"
