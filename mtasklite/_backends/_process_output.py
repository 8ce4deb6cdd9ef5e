"""What is printed and logged in a worker process, on its way to the parent.

    print ──> stream in `sys` ──┐
    log  ──> handler of root ───┴──> pending ──> sender thread (or who sends a message) ──> channel

The thread that prints never writes to the channel for it: a signal handler of the task's that raises would cut the
message in two. It waits for the sender only where much is pending or nothing was sent for a while. So a parent that
takes nothing makes it wait, and nothing grows; and what was printed before a crash was mostly sent.
"""

from __future__ import annotations

import _thread
import codecs
import io
import logging
import os
import sys
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Callable

from mtasklite._lines import ERR, FLUSH_SECONDS, LOG, MAX_PENDING_CHARS, MAX_PORTION_CHARS, OUT, Lines, Piece
from mtasklite._stdio import Levels, all_loggers
from mtasklite.errors import text_of

_FORMATTER = logging.Formatter()


class Senders:
    """Threads that are amid sending; used with `with` by each of them."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def __enter__(self) -> None:
        self._threads.add(_thread.get_ident())

    def __exit__(self, *exc_info: object) -> None:
        self._threads.discard(_thread.get_ident())

    def __contains__(self, thread: int) -> bool:
        return thread in self._threads


class Printing:
    """Takes what is printed and logged in this process.

    Args:
        send: Sends what is pending, with `take`; called in a thread of its own.
        senders: Threads that are amid sending: what they print, in a finalizer say, is not waited for.
        time_stopped: What to do around a wait of the thread that is at work.
    """

    def __init__(
        self, send: Callable[[], None], senders: Senders, time_stopped: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._send = send
        self._senders = senders
        self._time_stopped = time_stopped
        self._worker_thread = _thread.get_ident()
        self._pending: deque[Piece] = deque()
        self._n_chars = 0
        self._sent_at = -FLUSH_SECONDS
        self._wake: SimpleQueue[Any] = SimpleQueue()
        self._is_running = False
        self._sender_thread = -1
        self._is_broken = False
        self.is_given_back = False
        self._is_ending = False
        self._lines = {OUT: Lines(), ERR: Lines()}
        self._streams: dict[str, Any] = {}  # that were in `sys` before
        self._handlers: list[tuple[logging.Logger, list[logging.Handler]]] = []
        self._handler = _Handler(self)
        self._process_name = ""

    # ---- taking over

    def start(self, levels: Levels, process_name: str) -> None:
        """Take the place of the streams, and of the handlers of log records, which get this process name."""
        for name in (OUT, ERR):
            self._streams[name] = getattr(sys, name)
            setattr(sys, name, _Stream(self, name, self._streams[name]))
        self._process_name = process_name
        if "tqdm.std" in sys.modules:
            # A fork shares the lock of bars with the parent, which may wait for it while this waits for the parent.
            sys.modules["tqdm.std"].tqdm.set_lock(threading.RLock())
        for name, level in levels.by_name.items():
            logging.getLogger(name).setLevel(level)
        logging.disable(levels.disabled)
        self.take_handlers()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._give_back)

    def take_handlers(self) -> None:
        """Take the handlers off that came by fork or import: their like are in the parent, which is sent all."""
        for logger in all_loggers():
            is_end = logger is logging.getLogger() or not logger.propagate
            wanted = [self._handler] if is_end else []
            if logger.handlers != wanted:
                self._handlers.append((logger, logger.handlers))
                logger.handlers = list(wanted)

    def _give_back(self) -> None:
        """Let a child that the task forked write where it would have written without all this."""
        self._is_broken = self.is_given_back = True
        for name, stream in self._streams.items():
            if isinstance(getattr(sys, name), _Stream):
                setattr(sys, name, stream)
        for logger, handlers in reversed(self._handlers):
            logger.handlers = [*handlers, *(one for one in logger.handlers if one is not self._handler)]
        self._handlers.clear()

    # ---- taking in

    def write(self, name: str, text: str) -> None:
        """Take in what is written to a stream."""
        for portion in self._lines[name].add(text):
            self.put(name, portion)

    def put(self, name: str, content: Any, n_chars: int = 0) -> None:
        """Take in lines, or a record; wait if it is time to send."""
        if self._is_broken or sys.is_finalizing():
            return
        self._pending.append((name, content))
        self._n_chars += n_chars or len(content)
        if self._is_ending:
            if not self._is_amid_sending:
                self._try_to_send()  # other threads may have been stopped by the exit of the interpreter
            return
        if not self._is_running and not self._has_started():
            self._try_to_send()
            return
        is_old = time.monotonic() - self._sent_at >= FLUSH_SECONDS
        if (is_old or self._n_chars >= MAX_PENDING_CHARS) and not self._is_amid_sending:
            self._wait_until_sent()
        else:
            self._wake.put(None)

    def _has_started(self) -> bool:
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:  # the system has no thread left
            return False
        self._is_running = True
        return True

    def put_record(self, attributes: dict[str, Any]) -> None:
        """Take in a log record."""
        attributes["processName"] = self._process_name  # `logging` asks `multiprocessing`, which does not know it
        self.put(LOG, attributes, len(attributes["msg"]))

    @property
    def _is_amid_sending(self) -> bool:
        thread = _thread.get_ident()
        return thread == self._sender_thread or thread in self._senders

    def _wait_until_sent(self) -> None:
        done = _thread.allocate_lock()
        done.acquire()
        self._wake.put(done)
        if _thread.get_ident() != self._worker_thread:
            done.acquire()
        elif not done.acquire(True, FLUSH_SECONDS):
            with self._time_stopped():  # not for each short wait, or a late task that prints would not be found late
                done.acquire()

    def _run(self) -> None:
        self._sender_thread = _thread.get_ident()
        while True:
            done = self._wake.get()
            end = time.monotonic() + FLUSH_SECONDS
            while done is None and end > time.monotonic():
                try:
                    done = self._wake.get(timeout=max(0.0, end - time.monotonic()))
                except Empty:
                    break
            self._try_to_send()
            if done is not None:
                done.release()

    def _try_to_send(self) -> None:
        try:
            self._send()
        except Exception:
            self._is_broken = True  # the parent is gone
            self._pending.clear()

    def finish(self) -> None:
        """Let lines that were begun be sent with the next message; from now on nothing waits."""
        self._is_ending = True
        for name, lines in self._lines.items():
            for portion in lines.rest():
                self._pending.append((name, portion))

    def flush(self) -> None:
        """Send lines that were begun too, in the end; before, these are not flushed, for they would be cut."""
        if self._is_ending and any(lines.is_begun for lines in self._lines.values()):
            self.finish()
            self.put(OUT, "")

    # ---- handing on

    def take(self) -> list[Piece]:
        """Return some of what is pending, in order; to be called by one thread at a time."""
        pieces: list[Piece] = []
        n_chars = self._n_chars = 0
        while self._pending and n_chars < MAX_PORTION_CHARS:
            name, content = self._pending.popleft()
            n_chars += len(content["msg"]) if name == LOG else len(content)
            if name != LOG and pieces and pieces[-1][0] == name:
                content = pieces.pop()[1] + content
            pieces.append((name, content))
        if pieces:
            self._sent_at = time.monotonic()
        return pieces


class _Stream(io.TextIOBase):
    """Stands in the place of a stream of `sys`."""

    mode = "w"
    line_buffering = True

    def __init__(self, printing: Printing, name: str, stream: Any) -> None:
        self._printing = printing
        self._key = name
        self._stream = stream
        self.name = f"<{name}>"
        self.buffer = _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._printing.is_given_back and self._stream is not None:
            return int(self._stream.write(text))
        self._printing.write(self._key, text)
        return len(text)

    def flush(self) -> None:
        if self._printing.is_given_back and self._stream is not None:
            self._stream.flush()
        self._printing.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Return the stream's own: what is written there, by a program that the task starts, say, goes there."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return int(self._stream.fileno())

    def close(self) -> None:
        """Do nothing: it is not the task's to close."""

    def reconfigure(self, **options: Any) -> None:
        """Do nothing: any text can be written, and lines are sent soon."""


class _Bytes(io.BufferedIOBase):
    """Takes the bytes that are written to a stream."""

    def __init__(self, text: _Stream) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: Any) -> int:
        self._text.write(self._decoder.decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._text.fileno()

    def close(self) -> None:
        """Do nothing: it is not the task's to close."""


class _Handler(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, printing: Printing) -> None:
        super().__init__()
        self._printing = printing

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record without taking the lock, which nothing here needs, and which would be held amid a wait."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            attributes = attributes_of(record)
        except Exception:  # such as arguments that do not go with the message
            self.handleError(record)
            return
        self._printing.put_record(attributes)


def attributes_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's attributes such that they can be sent anywhere: what is no built-in type as text."""
    attributes = dict(record.__dict__)
    attributes["msg"] = record.getMessage()
    attributes["args"] = None
    attributes.pop("message", None)
    if record.exc_info and not record.exc_text:
        attributes["exc_text"] = _FORMATTER.formatException(record.exc_info)
    attributes["exc_info"] = None
    return {name: value if _is_plain(value) else text_of(value) for name, value in attributes.items()}


def _is_plain(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return type(value) in (str, int, float, bool, bytes, type(None))
