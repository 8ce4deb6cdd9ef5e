"""`sys.stdout` and `sys.stderr` while workers run in this process: what these write goes its own way, line by line.

Each stream is replaced by a proxy, through which all passes as before, but for threads that have a route. Handlers of
`logging` that write to the streams are led to the proxies too.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Protocol

from mtasklite._lines import ERR, FLUSH_SECONDS, MAX_PENDING_CHARS, OUT, Lines


class Screen(Protocol):
    """Shows lines."""

    def write(self, slot: int, stream: Any, lines: str) -> None:
        """Write whole lines of a worker to a stream; raises no `Exception`."""


class _Local(threading.local):
    route: Optional[Route] = None


_local = _Local()
_lock = threading.RLock()
_n_users = 0


class Route:
    """The way of what one worker in this process writes: whole lines, shown together if they come fast.

    Args:
        screen: Shows them.
        slot: The worker.
    """

    def __init__(self, screen: Screen, slot: int) -> None:
        self._screen = screen
        self._slot = slot
        self._lines = {OUT: Lines(), ERR: Lines()}
        self._streams: dict[str, Any] = {}
        self._pending: deque[tuple[Any, str]] = deque()
        self._n_chars = 0
        self._shown_at = -FLUSH_SECONDS
        self._showing = threading.RLock()
        self._is_showing = False
        self._is_due = False

    def write(self, name: str, stream: Any, text: str) -> None:
        """Take in what is written to a stream."""
        self._streams[name] = stream
        for portion in self._lines[name].add(text):
            self._pending.append((stream, portion))
            self._n_chars += len(portion)
            if self._n_chars >= MAX_PENDING_CHARS or time.monotonic() - self._shown_at >= FLUSH_SECONDS:
                self.flush()
            elif not self._is_due:
                self._flush_soon()

    def _flush_soon(self) -> None:
        self._is_due = True
        try:
            _thread.start_new_thread(self._flush_later, ())
        except RuntimeError:  # the interpreter is exiting, or the system has no thread left
            self._is_due = False
            self.flush()

    def _flush_later(self) -> None:
        time.sleep(FLUSH_SECONDS)
        self._is_due = False
        self.flush()

    def flush(self, may_wait: bool = True) -> None:
        """Show the whole lines that wait; leave it to the thread that is amid that, if it may not be waited for."""
        if not self._pending and not self._is_showing:  # else another thread is amid it, and is waited for
            return
        if not self._showing.acquire(blocking=may_wait):
            return
        try:
            if self._is_showing:
                return  # it is printed amid this very call, by a signal handler or a finalizer: it has its turn below
            self._is_showing = True
            try:
                with following(None):
                    self._show_all()
            finally:
                self._is_showing = False
        finally:
            self._showing.release()

    def _show_all(self) -> None:
        while self._pending:
            self._n_chars = 0
            stream, portion = self._pending.popleft()
            portions = [portion]
            while self._pending and self._pending[0][0] is stream and len(portions) < MAX_PENDING_CHARS:
                portions.append(self._pending.popleft()[1])
            self._screen.write(self._slot, stream, "".join(portions))
            self._shown_at = time.monotonic()

    def finish(self) -> None:
        """Show what is left, lines that were not ended too."""
        for name, stream in self._streams.items():
            self._pending += [(stream, portion) for portion in self._lines[name].rest()]
        self.flush()


class following:
    """Lets what this thread writes inside of this go this way; ``None``: where the streams lead."""

    def __init__(self, route: Optional[Route]) -> None:
        self._route = route

    def __enter__(self) -> None:
        self._before, _local.route = _local.route, self._route

    def __exit__(self, *exc_info: object) -> None:
        _local.route = self._before


class _Proxy:
    """Stands in the place of a stream."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self.stream = stream

    def write(self, text: str) -> Any:
        route = _local.route
        if route is None or _is_debugged():
            return self.stream.write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        route.write(self._name, self.stream, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if _local.route is None or _is_debugged():
            self.stream.flush()

    def isatty(self) -> bool:
        return (_local.route is None or _is_debugged()) and bool(self.stream.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.stream == (other.stream if isinstance(other, _Proxy) else other))

    def __hash__(self) -> int:
        return hash(self.stream)


def _is_debugged() -> bool:
    """Whether a debugger is at work in this thread: its prompt is no whole line."""
    debugger = getattr(sys.gettrace(), "__self__", None)
    return debugger is not None and "bdb" in sys.modules and isinstance(debugger, sys.modules["bdb"].Bdb)


def install() -> None:
    """Put the proxies in place, if they are not there."""
    global _n_users
    with _lock:
        _n_users += 1
        proxies = []
        for name in (OUT, ERR):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Proxy):
                stream = _Proxy(name, stream)
                setattr(sys, name, stream)
            if stream is not None:
                proxies.append(stream)
        for handler in _stream_handlers():
            for proxy in proxies:
                if handler.stream is proxy.stream:
                    handler.stream = proxy


def uninstall() -> None:
    """Take the proxies away, unless others still use them."""
    global _n_users
    with _lock:
        _n_users = max(0, _n_users - 1)  # in a forked child, those of its parent do not count
        if not _n_users:
            _take_away()


def _take_away() -> None:
    for name in (OUT, ERR):
        stream = getattr(sys, name)
        if isinstance(stream, _Proxy):
            setattr(sys, name, stream.stream)
    for handler in _stream_handlers():
        if isinstance(handler.stream, _Proxy):
            handler.stream = handler.stream.stream


def _stream_handlers() -> list[Any]:
    """Return the handlers that write to a stream of their own; the one of last resort follows `sys`."""
    handlers = [handler for logger in all_loggers() for handler in logger.handlers]
    return [handler for handler in handlers if "stream" in getattr(handler, "__dict__", {})]


def all_loggers() -> list[logging.Logger]:
    """Return the root and all loggers that there are."""
    root = logging.getLogger()
    named = list(root.manager.loggerDict.values())
    return [root, *(logger for logger in named if isinstance(logger, logging.Logger))]


class Levels(NamedTuple):
    """Which log records are wanted.

    Attributes:
        by_name: The levels of loggers that have one.
        disabled: Up to which level none is wanted from anybody.
    """

    by_name: Mapping[str, int]
    disabled: int


def current_levels() -> Levels:
    """Return which log records this process wants."""
    by_name = {logger.name: logger.level for logger in all_loggers() if logger.level}
    return Levels(by_name, logging.getLogger().manager.disable)


def _forget() -> None:
    """Let a forked child write where this process did: nobody there shows its lines."""
    global _local, _lock, _n_users
    _local, _lock = _Local(), threading.RLock()
    if _n_users:
        _n_users = 0
        _take_away()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
