"""The errors that say what befell a worker: it could not be made, it died, it took too long."""

from __future__ import annotations

from typing import Optional

from mtasklite._messages import SOMEWHERE, Lost
from mtasklite.errors import RemoteTraceback, TaskTimeoutError, WorkerDiedError, WorkerInitError, text_of

GUARD_HINT = (
    "a script that starts workers by spawn or forkserver must do so under"
    ' `if __name__ == "__main__":`, for each worker imports it'
)


class Failures:
    """Counts items that have failed for good.

    Attributes:
        n_errors: Their number.
        first_error: The error of the first that came.
    """

    def __init__(self) -> None:
        self.n_errors = 0
        self.first_error: Optional[Exception] = None
        self._kinds: set[type] = set()

    def add(self, error: Exception) -> None:
        """Count one."""
        self.n_errors += 1
        if self.first_error is None:
            self.first_error = error
        self._kinds.add(type(error))

    def is_all_of_one_kind(self, n_items: int) -> bool:
        """Whether all of so many items, more than one, have failed, and in one way."""
        return len(self._kinds) == 1 < self.n_errors == n_items


def init_error(slot: int, cause: BaseException, is_any_left: bool) -> WorkerInitError:
    """Return the error of a worker that could not be made, raised from what its constructor raised."""
    which = f"worker {slot} could not be made" if is_any_left else "no worker could be made"
    error = WorkerInitError(f"{which}: {type(cause).__name__}: {text_of(cause)}")
    error.__cause__ = cause
    return error


def death_error(event: Lost, item_index: Optional[int] = None, number: Optional[int] = None) -> WorkerDiedError:
    """Return the error of an item that a worker held when it died, or of the worker if it was at none.

    Args:
        event: The loss.
        item_index: The item's place in the input.
        number: The item's sequence number.
    """
    where = f"at item {item_index}"
    if item_index is None:
        where = "before it was at any item"
    elif event.current == SOMEWHERE:
        where = f"while it held item {item_index}, which may have run (only `retries` run it again)"
    elif event.current < 0:
        where = f"when it was given item {item_index}, before that was unpickled"
    elif number != event.current:
        later = item_index + event.current - (number or 0)
        where = f"at item {later}, with the result of item {item_index} not yet sent (only `retries` run that again)"
    text = f"worker {event.slot} died {where}: {event.reason}"
    error = WorkerDiedError(text, event.exitcode, event.slot, item_index, event.traceback)
    if event.traceback is not None:
        error.__cause__ = RemoteTraceback(event.traceback)
    return error


def late_error(event: Lost, item_index: int, limit: Optional[float]) -> TaskTimeoutError:
    """Return the error of an item that ran longer than the limit."""
    text = f"item {item_index} ran longer than `task_timeout`, {limit} s; worker {event.slot} was replaced"
    return TaskTimeoutError(text, limit, event.slot, item_index)


def found_late_error(slot: int, item_index: int, limit: Optional[float]) -> TaskTimeoutError:
    """Return the error of an item that ran longer than the limit while nobody looked."""
    text = f"item {item_index} ran longer than `task_timeout`, {limit} s, and ended by itself meanwhile"
    return TaskTimeoutError(text, limit, slot, item_index)


def death_in_making_error(
    slot: int, reason: str, exitcode: Optional[int] = None, traceback: Optional[str] = None
) -> WorkerDiedError:
    """Return the error of a worker that ended while it was being made."""
    text = f"worker {slot} died while it was being made: {reason}"
    error = WorkerDiedError(text, exitcode, slot, traceback=traceback)
    if traceback is not None:
        error.__cause__ = RemoteTraceback(traceback)
    return error


def late_init_error(slot: int, limit: Optional[float]) -> TaskTimeoutError:
    """Return the error of a worker that took longer to be made than the limit."""
    return TaskTimeoutError(f"worker {slot} took longer than `task_timeout`, {limit} s, to be made", limit, slot)


def late_exit_error(slot: int, limit: Optional[float]) -> TaskTimeoutError:
    """Return the error of a worker whose `__exit__` took longer than the limit."""
    return TaskTimeoutError(f"worker {slot} took longer than `task_timeout`, {limit} s, to be left", limit, slot)
