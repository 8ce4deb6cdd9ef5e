"""What workers print and log, shown where the user is: above the bar, if there is one."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Callable, Optional
from weakref import finalize, ref

from mtasklite._frames import level_of_user
from mtasklite._lines import LOG, Piece
from mtasklite._stdio import Route, following, install, uninstall
from mtasklite.errors import text_of


class Output:
    """Shows what the workers of one pool print.

    Args:
        is_prefixed: Whether each line begins with its worker's index.

    Attributes:
        has_own_redirection: Whether the bar takes care of what is written to `sys.stdout` and `sys.stderr` here.
    """

    def __init__(self, is_prefixed: bool) -> None:
        self._is_prefixed = is_prefixed
        self._writing = threading.RLock()
        self._find_bar: Callable[[], Any] = lambda: None
        self._has_warned = False
        self.has_own_redirection = False

    def stay_above(self, bar: Any) -> None:
        """Show all above this progress bar, as long as it lives."""
        self._find_bar = ref(bar)

    def show(self, slot: int, pieces: list[Piece]) -> None:
        """Show what a worker process has sent, in this thread; raises no `Exception` but a warning."""
        if not any(name == LOG for name, _ in pieces):
            self._show_lines(slot, pieces)
            return
        install()  # for all of them: it looks at all handlers
        try:
            self._show_lines(slot, pieces)
        finally:
            uninstall()

    def _show_lines(self, slot: int, pieces: list[Piece]) -> None:
        for name, content in pieces:
            if name == LOG:
                self._log(slot, content)
            elif content:
                self.write(slot, getattr(sys, name), content)

    def write(self, slot: int, stream: Any, lines: str) -> None:
        """Write whole lines of a worker to a stream; raises no `Exception` but a warning."""
        if stream is None:
            return
        if self._is_prefixed:
            prefix = f"[worker {slot}] "
            lines = prefix + lines[:-1].replace("\n", "\n" + prefix) + "\n"
        try:
            with self._writing, self._above_bar(stream):
                _write(stream, lines)
        except Exception as error:  # what cannot be shown must not spoil the work
            self._warn(error)

    def _log(self, slot: int, attributes: dict[str, Any]) -> None:
        record = logging.makeLogRecord(attributes)
        logger = logging.getLogger(record.name)
        if not logger.isEnabledFor(record.levelno):
            return
        # No lock is held here: handlers have their own, and what they write to the console comes back to `write`.
        route = Route(self, slot)
        try:
            with following(route):
                logger.callHandlers(record)  # the logger's own filters have seen it, in the worker
            route.finish()
        except Exception as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            text = f"output of workers could not be shown: {type(error).__name__}: {text_of(error)}"
            warnings.warn(text, RuntimeWarning, stacklevel=level_of_user())

    def _above_bar(self, stream: Any) -> AbstractContextManager[Any]:
        """Clear the bar inside of this, if what is written to the stream would tear it."""
        bar = self._find_bar()
        place = getattr(bar, "fp", None)
        if place is None or getattr(bar, "gui", False) or getattr(bar, "disable", False):
            return nullcontext()
        if not hasattr(bar, "external_write_mode") or not _is_same_place(place, stream):
            return nullcontext()
        mode: AbstractContextManager[Any] = bar.external_write_mode(file=place) if _is_tty(place) else _cleared(bar)
        return mode


@contextmanager
def _cleared(bar: Any) -> Iterator[None]:
    """Clear a bar that is written to a file: it is seen again when it moves, or each line would have one after it."""
    with bar.get_lock():
        bar.clear(nolock=True)
        yield


def _is_tty(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # it is closed
        return False


def redirect(owner: Any, output: Optional[Output]) -> Callable[[], Any]:
    """Lead what threads of this process write to their routes, until what is returned is called or the owner is gone.

    Args:
        owner: Whoever needs that.
        output: What shows it; ``None``, or one that takes care of it by itself: nothing is done.
    """
    if output is None or output.has_own_redirection:
        return lambda: None
    install()
    restoration = finalize(owner, uninstall)
    restoration.atexit = False
    return restoration


def _is_same_place(first: Any, second: Any) -> bool:
    """Whether two streams lead to the same terminal or file."""
    if first == second:  # bars compare their wrapped streams so
        return True
    try:
        if _is_tty(first) and _is_tty(second):
            return True
        return os.path.samestat(os.fstat(first.fileno()), os.fstat(second.fileno()))
    except (AttributeError, OSError, ValueError):
        return False


def _write(stream: Any, lines: str) -> None:
    try:
        stream.write(lines)
    except UnicodeEncodeError:
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(lines.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
