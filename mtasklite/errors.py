"""Everything that the library itself raises or hands out."""

from __future__ import annotations

import reprlib
import signal
from typing import Any, Callable, Optional

_is_in_worker_process = False


class MtaskliteError(Exception):
    """The base of every error below."""


class PoolClosedError(MtaskliteError):
    """A pool, or one of its iterators, was used after the pool was closed."""


class WorkerInitError(MtaskliteError):
    """A worker could not be made; the constructor's own exception is the ``__cause__``."""


class SerializationError(MtaskliteError):
    """An item, a result or a worker could not be sent to the other side, or be rebuilt there.

    What the pickler said is the ``__cause__`` where it is at hand, and in the text in any case.
    """


class TaskTimeoutError(MtaskliteError, TimeoutError):
    """An item ran longer than ``task_timeout``; its worker was replaced.

    Attributes:
        seconds: The limit that was passed.
        worker_index: The worker's place in the list of workers.
        item_index: The item's place in the input.
    """

    def __init__(
        self,
        message: str,
        seconds: Optional[float] = None,
        worker_index: Optional[int] = None,
        item_index: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.seconds = seconds
        self.worker_index = worker_index
        self.item_index = item_index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.seconds, self.worker_index, self.item_index), self.__dict__


class WorkerDiedError(MtaskliteError):
    """A worker ended while it held this item: killed, crashed, or by its own exit.

    Attributes:
        exitcode: As in ``multiprocess.Process.exitcode``: negative for a signal; ``None`` if unknown.
        signal_name: The signal's name, such as ``"SIGKILL"``, or ``None``.
        worker_index: The worker's place in the list of workers.
        item_index: The item's place in the input, or ``None`` if it was not at an item.
        traceback: Where it was when it ended, as text, if it could say: after a segmentation fault, say, but not
            after SIGKILL.
    """

    def __init__(
        self,
        message: str,
        exitcode: Optional[int] = None,
        worker_index: Optional[int] = None,
        item_index: Optional[int] = None,
        traceback: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.exitcode = exitcode
        self.signal_name = signal_name(exitcode)
        self.worker_index = worker_index
        self.item_index = item_index
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        args = (str(self), self.exitcode, self.worker_index, self.item_index, self.traceback)
        return type(self), args, self.__dict__


class RemoteError(MtaskliteError):
    """Stands in for a worker's exception that cannot be rebuilt in the parent.

    Attributes:
        type_name: The exception's class, with its module.
        text: ``str()`` of the exception.
        traceback: The worker's traceback, as text.
    """

    def __init__(self, type_name: str, text: str, traceback: str) -> None:
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type_name, self.text, self.traceback), self.__dict__


class RemoteTraceback(MtaskliteError):
    """The ``__cause__`` of an exception that came from a worker: its traceback there, as text."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback}"""'


class DeferredExceptions(MtaskliteError):
    """Raised once at the end in mode ``deferred``; ``args`` are all the exceptions, in input order."""

    def __str__(self) -> str:
        first = text_of(self.args[0], repr) if self.args else None
        return f"{len(self.args)} items failed; the first of them with {first}"


_CAUSE: Any = vars(BaseException)["__cause__"]


def set_cause(error: BaseException, cause: Optional[BaseException]) -> None:
    """Make an exception the cause of another, whose class may forbid that its attributes are set."""
    _CAUSE.__set__(error, cause)


def text_of(error: object, form: Callable[[Any], str] = str) -> str:
    """Return the text of an exception or other object, or what can be said if it has none: its own code may raise.

    Example:
        >>> text_of(ValueError("too large"), repr)
        "ValueError('too large')"
    """
    try:
        return form(error)
    except BaseException as fault:
        pass_interrupt(fault)
        return f"<{type(error).__name__}, whose text cannot be had>"


def brief(value: object) -> str:
    """Return a short form of a value for a message.

    Example:
        >>> brief([1, 2]), len(brief("a" * 1000)) < 100
        ('[1, 2]', True)
    """
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    return text_of(value, short.repr)


def pass_interrupt(error: BaseException) -> None:
    """Raise again what is no `Exception`: it came from a signal, and not from the object whose code ran.

    In a worker process, where signals raise nothing, it is the object's fault.
    """
    if not isinstance(error, Exception) and not _is_in_worker_process:
        raise error


def note_worker_process() -> None:
    """Say that this is a worker process."""
    global _is_in_worker_process
    _is_in_worker_process = True


def signal_name(exitcode: Optional[int]) -> Optional[str]:
    """Return the name of the signal that an exit code stands for, or ``None`` if it stands for none.

    Example:
        >>> signal_name(-9)
        'SIGKILL'
    """
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"
