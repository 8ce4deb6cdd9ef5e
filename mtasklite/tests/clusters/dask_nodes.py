"""A Dask scheduler and workers of their own, each started by the command that Dask has for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

from distributed import Client

import mtasklite
from mtasklite.tests.clusters.dask_cluster import left_in
from mtasklite.tests.workers import LIMIT_SECONDS, wait_until


class Nodes:
    """A scheduler, some nodes with one worker each, and a client, which is the one that is in use in the `with` block.

    Args:
        folder: Where their files are.
        options: What each node is told beside what all are.
        paths: Where their workers find modules, beside this library.
    """

    def __init__(self, folder: Path, options: Sequence[Sequence[str]] = ((), ()), paths: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._options = options
        self._paths = [Path(mtasklite.__file__).parents[1], *paths]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._common: list[str] = []

    def __enter__(self) -> Nodes:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        file = self._folder / "scheduler.json"
        self._common = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
        self._run("scheduler", *self._common, "--port", "0", "--no-dashboard")
        wait_until(file.exists)
        for options in self._options:
            self.start_worker(*options)
        self.client = Client(scheduler_file=str(file))
        if self._options:
            self.client.wait_for_workers(len(self._options), timeout=LIMIT_SECONDS)

    def start_worker(self, *options: str) -> None:
        """Start another node."""
        one = ["--name", f"node{len(self._processes) - 1}", "--nthreads", "1", "--no-dashboard"]
        self._run("worker", *self._common, *one, "--local-directory", str(self._folder), *options)

    def _run(self, *args: str) -> None:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self._paths))}
        with open(self._folder / f"log{len(self._processes)}", "wb") as log:
            command = [sys.executable, "-m", "dask", *args]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)
        self._processes.append(process)

    @property
    def addresses(self) -> dict[str, str]:
        """The nodes' workers: addresses by name."""
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        return {one["name"]: address for address, one in found.items()}

    def kill(self, number: int) -> None:
        """Kill a node: nanny and worker."""
        process = self._processes[1 + number]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT_SECONDS)

    def check_nothing_left(self) -> None:
        """Raise if anything of a pool is left there."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not left_in(self.client), 15)
        left = left_in(self.client)
        assert not left, f"left behind: {dict(left)}"

    def _stop(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT_SECONDS)

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> Any:
        self._stop()
