"""A Dask cluster on this machine that a pool starts for itself, with one process for each worker."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from mtasklite._backends._dask_actor import leave_interrupts
from mtasklite._backends._dask_folder import Folder
from mtasklite._faults import GUARD_HINT, death_in_making_error, init_error
from mtasklite._interrupts import interrupts_put_off
from mtasklite.errors import WorkerInitError

FOLDER_VARIABLE = "MTASKLITE_DASK_FOLDER"
"""The environment variable that leads processes, while they start, to the folder of their cluster."""

UNGUARDED = "unguarded"
"""A file there: a process imports a script that starts its pool at its top, and so would go on starting others."""

START_SECONDS = 60.0
CLOSE_SECONDS = 10.0
LOOK_SECONDS = 0.05


class LocalDask:
    """A cluster of our own; it is started at once.

    Args:
        n_workers: Number of processes.
        count: Asks a client for the processes that there are.

    Attributes:
        client: Its client, which is in use nowhere else.

    Raises:
        WorkerInitError: It could not be started.
    """

    def __init__(self, n_workers: int, count: Callable[[Any], Sized]) -> None:
        check_may_spawn()
        self._n_workers = n_workers
        self._cluster: Any = None
        self._silence = _Silence()
        self.client: Any = None
        with interrupts_put_off():  # else what was started until then would be left
            self._folder = Folder()
        os.environ[FOLDER_VARIABLE] = self._folder.path
        try:
            with interrupts_put_off():
                self._start()
            self._wait(count)
        except BaseException as error:
            self.stop()
            if not isinstance(error, Exception) or isinstance(error, WorkerInitError):
                raise
            raise _start_error(f"the cluster on this machine did not start: {error}") from error
        finally:
            os.environ.pop(FOLDER_VARIABLE, None)

    def _start(self) -> None:
        self._silence.begin()
        with dask.config.set({"temporary-directory": self._folder.path}):  # the scheduler is told so nowhere else
            self._cluster = LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                processes=True,
                dashboard_address="127.0.0.1:0",  # without one it would be on a fixed port of all addresses
                memory_limit=None,
                local_directory=self._folder.path,
                silence_logs=logging.CRITICAL,  # of processes that end amid a word to each other
            )
        self.client = Client(self._cluster, set_as_default=False, direct_to_workers=True)
        self.replenish()

    def _wait(self, count: Callable[[Any], Sized]) -> None:
        end = time.monotonic() + START_SECONDS
        while len(count(self.client)) < self._n_workers:
            if Path(self._folder.path, UNGUARDED).exists():
                raise _start_error(f"each process starts the script from its top; {GUARD_HINT}")
            if time.monotonic() > end:
                raise _start_error(f"the cluster on this machine did not start within {START_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        self.client.run(leave_interrupts, on_error="ignore")  # those that come later are told by their actors

    def replenish(self) -> None:
        """Have processes started that are missing."""
        start_missing(self._cluster, self._n_workers)

    def stop(self) -> None:
        """Stop it, and leave nothing."""
        with interrupts_put_off():
            for part in (self.client, self._cluster):
                if part is not None:
                    with suppress(Exception):  # the interpreter exits, and has closed it
                        part.close(timeout=CLOSE_SECONDS)
            self._silence.end()
            self._folder.remove()


def start_missing(cluster: Any, n_workers: int) -> None:
    """Have processes of a `LocalCluster` started that it has given up; those that come back by themselves do so.

    It gives up one for good that happens to be down 15 s after it had been lost before.
    """
    if len(cluster.workers) < n_workers:
        cluster.scale(n_workers)


class _Silence:
    """Dask's logs in this process say nothing from the beginning of the first to the end of the last of these.

    A `LocalCluster` silences them by the levels of handlers, and leaves alone at its end what was silent before: so the
    first of two clusters to end does not let the other speak.
    """

    _lock = threading.RLock()  # a garbage collection amid it may end another pool in this very thread
    _users: set[_Silence] = set()
    _levels: list[tuple[logging.Handler, int]] = []

    def begin(self) -> None:
        with self._lock:
            if not self._users:
                loggers = map(logging.getLogger, ("distributed", "bokeh"))
                handlers = [handler for logger in loggers for handler in logger.handlers]
                self._levels[:] = [(handler, handler.level) for handler in handlers]
                for handler in handlers:
                    handler.setLevel(logging.CRITICAL)
            self._users.add(self)

    def end(self) -> None:
        with self._lock:
            if self not in self._users:
                return
            self._users.discard(self)
            if not self._users:
                for handler, level in self._levels:
                    handler.setLevel(level)


def check_may_spawn() -> None:
    """Raise in a process that is being started, and imports the script that started it, which did not guard its pool.

    Raises:
        WorkerInitError: This is one.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is not None:
            Path(folder, UNGUARDED).touch()
        raise _start_error(f"this process is being started itself; {GUARD_HINT}")


def _start_error(reason: str) -> WorkerInitError:
    death = death_in_making_error(0, reason)
    error = init_error(0, death, is_any_left=False)
    error.__cause__ = death
    return error
