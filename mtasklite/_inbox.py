"""What a worker is to do next."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any


class Inbox:
    """What a worker is to do next; may be emptied from another thread."""

    STOP = object()
    CANCELLED = object()

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.is_cancelled = False
        self.put = self._queue.put
        self.get = self._queue.get
        self.empty = self._queue.empty

    def cancel(self) -> None:
        """Drop what waits; the worker stops after the item that it is at, and says that it is ready."""
        self._replace_all(self.CANCELLED)

    def stop(self) -> None:
        """Drop what waits; the worker ends after the item that it is at."""
        self._replace_all(self.STOP)

    def _replace_all(self, order: object) -> None:
        self.is_cancelled = True
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            self._queue.put(order)
