"""What runs inside a worker process: two threads around the worker loop.

The *attendant* reads the pipe at all times, so that the parent's writes end however busy the worker is, sends for the
loop what has lain too long, and ends the process once the parent is gone. The main thread unpacks, calls and packs.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Optional

from mtasklite import _wire
from mtasklite._backends._board import Board
from mtasklite._byvalue import freeze_inheritance, names_in_main
from mtasklite._worker import FLUSH_SECONDS, Inbox, WorkerLoop, hire
from mtasklite.constants import ArgumentPassing

# Tags of messages to a worker ...
WORKER, BATCH, CANCEL, STOP = b"W", b"B", b"C", b"S"
# ... and from it.
HELLO, READY, INIT_FAILED, RUN = b"H", b"Y", b"F", b"R"

ORPHAN_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Contract:
    """What a worker process is told at its start.

    Attributes:
        slot: Its place.
        argument_type: How an item becomes arguments.
        is_timed: Whether the start of each item goes on the board.
        parent_main: Names that the parent's ``__main__`` has.
        is_forked: Whether `worker` came by fork; else it follows as a message.
        worker: The worker.
    """

    slot: int
    argument_type: ArgumentPassing
    is_timed: bool
    parent_main: frozenset[str]
    is_forked: bool
    worker: Any = None


def main(connection: Any, board: Board, contract: Contract, not_ours: Iterable[Any]) -> None:
    """Work until told to stop.

    Args:
        connection: This end of the duplex pipe.
        board: The status board.
        contract: What it is to do.
        not_ours: Connections that came by fork and belong to others: while they are open here, their owners do
            not learn of each other's end.
    """
    if contract.is_forked:
        freeze_inheritance()
    for other in not_ours:
        with suppress(OSError):
            other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked handler would do the parent's clean-up here
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        _ProcessWorker(connection, board.of(contract.slot), contract).run()
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, and with it whoever could be told


class _ProcessWorker:
    def __init__(self, connection: Any, board: Any, contract: Contract) -> None:
        self._connection = connection
        self._board = board
        self._contract = contract
        self._codec = _wire.Codec(contract.parent_main)
        self._lock = threading.Lock()  # one message at a time
        self._inbox = Inbox()
        self._loop: Optional[WorkerLoop] = None

    def run(self) -> None:
        self._tell(HELLO, names_in_main())
        threading.Thread(target=self._attend, name="mtasklite-attendant", daemon=True).start()
        with ExitStack() as stack:
            try:
                call = hire(self._receive_worker(), self._contract.argument_type, stack)
            except Exception as error:
                self._tell(INIT_FAILED, self._codec.pack_error(error))
                sys.exit(1)
            self._loop = WorkerLoop(call, self._inbox, self._board, self._send_run, self._contract.is_timed)
            self._loop.serve(lambda: self._tell(READY), self._unpack)

    def _receive_worker(self) -> Any:
        if self._contract.is_forked:
            return self._contract.worker
        message = self._inbox.get()
        if message is Inbox.STOP:
            sys.exit()
        _, (worker,), failures = _wire.unpack(message)
        if failures:
            raise failures[0]
        return worker

    def _unpack(self, message: bytes) -> tuple[int, list[Any], dict[int, Exception]]:
        first, items, failures = _wire.unpack(message)
        return first, items, failures

    def _send_run(self, first: int, values: list[Any], failures: dict[int, Exception], seconds: float) -> None:
        packed = {offset: self._codec.pack_error(error) for offset, error in failures.items()}
        message, unsendable = self._codec.pack(RUN, (first, seconds, packed), values)
        if unsendable:
            packed.update({offset: self._codec.pack_error(error) for offset, error in unsendable.items()})
            values = [None if offset in unsendable else value for offset, value in enumerate(values)]
            message, _ = self._codec.pack(RUN, (first, seconds, packed), values)
        self._send(message)

    def _tell(self, tag: bytes, head: Any = None) -> None:
        self._send(self._codec.pack(tag, head, [])[0])

    def _send(self, message: Any) -> None:
        with self._lock:
            self._connection.send_bytes(message)

    def _attend(self) -> None:
        parent = os.getppid()
        wait_for_input = _make_waiter(self._connection)
        has_input = False
        try:
            while True:
                loop = self._loop
                is_working = has_input or (loop is not None and (loop.is_amid_batch or not self._inbox.empty()))
                has_input = bool(wait_for_input(FLUSH_SECONDS if is_working else ORPHAN_CHECK_SECONDS))
                if has_input:
                    self._take_in(self._connection.recv_bytes())
                elif os.getppid() != parent:
                    break
                if loop is not None:
                    loop.flush_if_old()
        except (EOFError, OSError):
            pass
        os._exit(1)  # the parent is gone: nobody is left to work for

    def _take_in(self, message: bytes) -> None:
        tag = _wire.tag_of(message)
        if tag == CANCEL:
            self._inbox.cancel()
        elif tag == STOP:
            self._inbox.stop()
        else:
            self._inbox.put(message)


def _make_waiter(connection: Any) -> Any:
    """Return a function that waits so many seconds for input, and says whether there is any."""
    if os.name == "nt":
        return connection.poll
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    return selector.select
