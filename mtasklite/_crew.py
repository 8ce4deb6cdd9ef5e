"""The workers of a pool as a whole: started, and ended, together."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import Callable, Optional

from mtasklite._backends.base import Backend
from mtasklite._ledger import PAUSE, Ledger
from mtasklite._messages import UNPACKING, Event, InitFailed
from mtasklite._slots import Slot
from mtasklite.errors import WorkerInitError

OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)

MAX_LOOKS = 3
"""So often another thread looks at the board while workers come and go."""


class Crew:
    """The workers of a pool, from their start to their end.

    Args:
        make_backend: Makes the backend; called at each start.
        n_workers: Number of slots.
        max_tasks: Items after which a worker is replaced.

    Attributes:
        backend: What runs them; ``None`` while they are not running.
        is_busy: Whether an iteration is under way.
        next_number: Sequence number for the next item read.
        vacant: Slots that a worker is to be started in.
        ledger: What the workers' time goes into.
    """

    def __init__(self, make_backend: Callable[[], Backend], n_workers: int, max_tasks: Optional[int]) -> None:
        self._make_backend = make_backend
        self._n_workers = n_workers
        self._max_tasks = max_tasks
        self.backend: Optional[Backend] = None
        self.is_busy = False
        self.slots: list[Slot] = []
        self.vacant: set[int] = set()
        self.next_number = 0
        self.ledger = Ledger(n_workers)

    def start(self) -> Backend:
        """Start the workers that are not running, and return the backend.

        Raises:
            OSError: The system has no process or descriptor left for another one.
            WorkerInitError: The process that should have forked it is gone.
        """
        if self.backend is None:
            self.backend = self._make_backend()
            self.slots = [Slot(index, self._max_tasks, lane.tally) for index, lane in enumerate(self.ledger.lanes)]
            self.ledger.open(time.monotonic())
            self.vacant = set(range(self._n_workers))
        try:
            for index in sorted(self.vacant):
                self._start_in(index)
        except BaseException as error:
            n_started = self._n_workers - len(self.vacant)
            self.terminate()
            if isinstance(error, OSError) and error.errno in OUT_OF_SOMETHING:
                raise _too_many(error, n_started, self._n_workers) from error
            raise
        if not self.is_busy:
            self.ledger.course.enter(PAUSE, time.monotonic())
        return self.backend

    def replace(self) -> list[Event]:
        """Start workers in the place of those that are gone; return those of them that could not be."""
        failures: list[Event] = []
        for index in sorted(self.vacant):
            try:
                self._start_in(index)
            except (OSError, WorkerInitError) as error:
                self.vacant.discard(index)
                failures.append(InitFailed(index, error))
        return failures

    def _start_in(self, index: int) -> None:
        now = time.monotonic()
        if self.backend is not None and self.backend.start(index):  # else later: some must have left first
            self.vacant.discard(index)
            self.ledger.lanes[index].on_start(now)

    def check_free(self) -> None:
        """Raise if an iteration is under way."""
        if self.is_busy:
            raise RuntimeError(
                "another iteration over this pool is under way:"
                " exhaust or close its iterator first, or make a second pool"
            )

    def close(self, seconds: Optional[float]) -> list[Event]:
        """End the workers: let them finish what they are at, at most so long.

        Returns:
            What befell workers at the end: `InitFailed`, `ExitFailed`.
        """
        backend = self._leave()
        if backend is None:
            return []
        try:
            self._balance(backend)
            failures = backend.close(seconds)
            self.ledger.note_peaks(backend.peaks())
            return failures
        except BaseException:
            backend.terminate()
            raise

    def terminate(self) -> None:
        """End the workers at once."""
        backend = self._leave()
        if backend is not None:
            try:
                self._balance(backend)
            finally:
                backend.terminate()

    def _leave(self) -> Optional[Backend]:
        backend, self.backend, self.slots = self.backend, None, []
        return backend

    def _balance(self, backend: Backend) -> None:
        """Account for the workers' time up to their end."""
        self.ledger.close(at_work(backend), time.monotonic())
        self.ledger.note_peaks(backend.peaks())


def at_work(backend: Backend) -> set[int]:
    """Return the slots whose workers are at an item, by the status board; any thread may ask."""
    for _ in range(MAX_LOOKS):
        # Workers may come and go amid this, or their board with them.
        with suppress(RuntimeError, ValueError):
            return {slot for slot, number, _ in backend.running() if number >= 0 or number == UNPACKING}
    return set()


def _too_many(error: OSError, n_started: int, n_workers: int) -> OSError:
    remedy = "ask for fewer (`n_jobs`), or raise the limit (`ulimit -n` for files, `ulimit -u` for processes)"
    return OSError(error.errno, f"{error.strerror}: only {n_started} of {n_workers} workers could be started; {remedy}")
