"""Log records in a process that is not a worker's own: those of its thread go to the driver, others where they went.

Levels belong to the process, not to a thread. So where the driver wants records that the process does not, these are
let through for all threads, and those of other threads are dropped before they reach a handler.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, Optional

from mtasklite._backends._process_output import attributes_of
from mtasklite._stdio import Levels, all_loggers

Sink = Callable[[dict[str, Any]], None]


class _Local(threading.local):
    sink: Optional[Sink] = None


_local = _Local()
_lock = threading.RLock()
_n_users = 0
_levels_before: dict[str, int] = {}  # of loggers that let more through now
_changed: list[Any] = []  # handlers with a guard, loggers with a handler of ours


class _Guard(logging.Filter):
    """Keeps from a handler what would not have come to it, or goes to a driver."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _local.sink is None and record.levelno >= _level_before(record.name)


class _Handler(logging.Handler):
    """Hands records of workers' threads to their sinks."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record without taking the lock, which nothing here needs, and which would be held amid a wait."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        if _local.sink is None:
            _show_at_last(record)
            return
        try:
            attributes = attributes_of(record)
        except Exception:  # such as arguments that do not go with the message
            self.handleError(record)
            return
        _local.sink(attributes)


_guard, _handler = _Guard(), _Handler()


def begin(levels: Levels, sink: Sink) -> None:
    """Let the records of this thread go to a sink, those that are wanted and perhaps others; in place of handlers."""
    global _n_users
    with _lock:
        _n_users += 1
        for name, level in levels.by_name.items():
            logger = logging.getLogger(name)
            if level < logger.getEffectiveLevel():
                _levels_before.setdefault(logger.name, logger.level)
                logger.setLevel(level)
        for logger in all_loggers():
            for handler in logger.handlers:
                if handler is not _handler and _guard not in handler.filters:
                    handler.addFilter(_guard)
                    _changed.append(handler)
            is_end = logger is logging.getLogger() or not logger.propagate
            if is_end and _handler not in logger.handlers:
                logger.addHandler(_handler)
                _changed.append(logger)
    _local.sink = sink


def end() -> None:
    """Undo `begin`, in the same thread; the last one leaves the process as it was."""
    global _n_users
    _local.sink = None
    with _lock:
        _n_users -= 1
        if _n_users:
            return
        for changed in _changed:
            if isinstance(changed, logging.Handler):
                changed.removeFilter(_guard)
            else:
                changed.removeHandler(_handler)
        _changed.clear()
        for name, level in _levels_before.items():
            logging.getLogger(name).setLevel(level)
        _levels_before.clear()


def _level_before(name: str) -> int:
    """Return from which level on a logger let records through before."""
    for logger in _chain(name):
        level = _levels_before.get(logger.name, logger.level)
        if level:
            return level
    return logging.NOTSET


def _show_at_last(record: logging.LogRecord) -> None:
    """Do with a record what `logging` does if there is no handler, which is so here but for ours."""
    for logger in _chain(record.name):
        if any(handler is not _handler for handler in logger.handlers):
            return
        if not logger.propagate:
            break
    last = logging.lastResort
    if last is not None and record.levelno >= max(last.level, _level_before(record.name)):
        last.handle(record)


def _chain(name: str) -> list[logging.Logger]:
    """Return a logger and those above it."""
    chain = [logging.getLogger(name)]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    return chain
