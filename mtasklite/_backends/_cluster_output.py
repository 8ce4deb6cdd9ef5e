"""What a worker prints and logs in a process that is not its own: what its thread does so goes to the driver."""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import AbstractContextManager
from typing import Any, Callable

from mtasklite._backends import _cluster_logs
from mtasklite._lines import ERR, LOG, OUT, Piece
from mtasklite._stdio import Levels, Route, following, install, uninstall


class ThreadPrinting:
    """Takes what the thread that starts this prints and logs.

    Args:
        send: Sends what is pending, with `take`, and waits until it was taken.
        time_stopped: What to do around a wait of the thread that is at work.
    """

    def __init__(self, send: Callable[[], None], time_stopped: Callable[[], AbstractContextManager[None]]) -> None:
        self._send = send
        self._time_stopped = time_stopped
        self._pending: deque[Piece] = deque()
        self._route = Route(self, 0)
        self._following = following(self._route)
        self._thread = threading.current_thread()
        self._process_name = ""
        self._is_ending = False
        self._collector = 0  # the thread that takes what is pending

    def start(self, levels: Levels, process_name: str) -> None:
        """Begin; log records, of which these are wanted, get this process name."""
        self._process_name = process_name
        install()
        self._following.__enter__()
        _cluster_logs.begin(levels, self.put_record)

    def write(self, slot: int, stream: Any, lines: str) -> None:
        """Send whole lines; see `Screen`."""
        is_error = stream is getattr(sys.stderr, "stream", sys.stderr)
        self._put((ERR if is_error else OUT, lines))

    def put_record(self, attributes: dict[str, Any]) -> None:
        """Send a log record, after what was printed before it."""
        self._route.flush()
        self._put((LOG, {**attributes, "processName": self._process_name}))

    def _put(self, piece: Piece) -> None:
        self._pending.append(piece)
        if self._is_ending or self._collector == threading.get_ident():
            return
        if threading.current_thread() is self._thread:
            with self._time_stopped():
                self._send()
        else:
            self._send()

    def take(self) -> list[Piece]:
        """Return what is pending, in order; to be called by one thread at a time."""
        self._collector = threading.get_ident()
        try:
            self._route.flush(may_wait=False)  # what was printed goes before what came of the item
        finally:
            self._collector = 0
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def finish(self) -> None:
        """Let what is left go with the next message, and all that is printed from now on where it would have gone."""
        self._is_ending = True
        _cluster_logs.end()
        self._route.finish()
        self._following.__exit__()
        uninstall()
