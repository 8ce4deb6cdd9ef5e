"""What a worker is to do next; may be emptied, or cut short, from another thread."""

from __future__ import annotations

import math
import threading
from collections.abc import MutableSequence
from queue import Empty, SimpleQueue
from typing import Any

from mtasklite._messages import NOWHERE
from mtasklite._status import AT


class Inbox:
    """The batches of one worker, and what it is told about them.

    Attributes:
        is_cancelled: Whether it is to drop what it has, but for the item that it is at.
        limit: Sequence number of the first item that it may not begin; to be asked again with `forbids`.
    """

    STOP = object()
    CANCELLED = object()

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._lock = threading.Lock()
        self.is_cancelled = False
        self.limit: float = math.inf
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
        with self._lock:
            self.is_cancelled = True
            self.limit = NOWHERE
            self._drain()
            self._queue.put(order)

    def _drain(self) -> list[Any]:
        messages = []
        try:
            while True:
                messages.append(self._queue.get_nowait())
        except Empty:
            return messages

    def take_back(self, board: MutableSequence[Any]) -> tuple[int, int]:
        """Take back what the worker has not begun.

        Args:
            board: Its numbers on the status board.

        Returns:
            How many batches were taken that waited; and the sequence number of the item from which on it will not
            begin those of the batch at hand; `NOWHERE` if it is at no item, or was asked before.
        """
        with self._lock:
            if self.is_cancelled:
                return 0, NOWHERE
            n_batches = len(self._drain())
            # A worker says on the board which item it begins, and looks at the limit then; so does this, the other
            # way round. Whichever comes first, the two agree on who has the next item.
            is_first_time = self.limit == math.inf
            while board[AT] >= 0 and is_first_time:
                number = int(board[AT])
                self.limit = number + 1
                if board[AT] == number:
                    return n_batches, number + 1
            return n_batches, NOWHERE

    def begin_batch(self) -> None:
        """Lift the limit, which was meant for the batch before."""
        with self._lock:
            if not self.is_cancelled:
                self.limit = math.inf

    def forbids(self, number: int) -> bool:
        """Whether this item may not be begun."""
        with self._lock:
            return number >= self.limit
