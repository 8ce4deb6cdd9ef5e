"""One worker process, as the parent sees it."""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from typing import Any, Optional, cast

from mtasklite import _wire
from mtasklite._backends._starting import no_process_starts
from mtasklite.errors import signal_name

GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL."""


class WorkerProcess:
    """One process and what belongs to it.

    Attributes:
        codec: Packs for it, once it has said which names it knows.
        n_open: Items sent to it and not answered.
        held_back: Batches for when it is idle, each with its number of items.
        is_up: Whether it has been made.
        is_leaving: Whether its end is expected, and nothing that it says matters.
        init_error: Why it could not be made.
    """

    def __init__(self, slot: int, process: Any, connection: Any) -> None:
        self.slot = slot
        self.process = process
        self.connection = connection
        self.death_handle = _death_handle(process)
        self.codec = _wire.Codec()
        self.n_open = 0
        self.held_back: deque[tuple[Any, int]] = deque()
        self.is_up = False
        self.is_leaving = False
        self.init_error: Optional[BaseException] = None

    def tell(self, message: Any) -> None:
        with suppress(OSError):  # if it is dead, its sentinel will say so
            self.connection.send_bytes(message)

    def receive(self) -> Optional[bytes]:
        """Return the next message, or ``None`` if no more will come."""
        try:
            return bytes(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None

    def release(self) -> None:
        """Give back what the ended process held here."""
        with no_process_starts():
            self.connection.close()
            if self.death_handle != self.process.sentinel:
                os.close(self.death_handle)
            with suppress(ValueError):  # where SIGCHLD is ignored, the end of a child cannot be asked for
                self.process.close()

    def reap(self) -> Optional[int]:
        """Wait for the process's end, and return its exit code."""
        self.process.join()
        # Another thread that starts a process collects all that have ended, and may be amid collecting this one.
        end = time.monotonic() + GRACE_SECONDS
        while self.process.exitcode is None and time.monotonic() < end:
            time.sleep(0.001)
        return cast("Optional[int]", self.process.exitcode)


def how_it_ended(exitcode: Optional[int]) -> str:
    """Return in words what an exit code says."""
    if exitcode is None:
        return "its exit code was taken by other code"
    return signal_name(exitcode) or f"exit code {exitcode}"


def _death_handle(process: Any) -> Any:
    """Return what becomes readable when a process ends.

    The sentinel of ``multiprocess`` is a pipe, which the worker's own forked children hold open; a pidfd is not.
    """
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):
            return os.pidfd_open(process.pid)
    return process.sentinel
