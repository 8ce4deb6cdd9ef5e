"""The private channel between the parent and one worker process: messages of any size, whole or not at all.

On POSIX it is a socket pair. The parent's end never blocks: what the worker does not take yet waits in an outbox, and
what comes is put together piece by piece, so no worker, alive, stopped or dead, can hold the parent up. Elsewhere it is
a pipe of ``multiprocess``, whose reads and writes block, and which must be used with more care.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Optional, Protocol

from mtasklite._backends._sockets import make_socket_channel
from mtasklite._wire import MIN_BUFFER_BYTES, Arrived, Joined, Memory, Message, Parts

HAS_SOCKETS = os.name == "posix"


class ParentEnd(Protocol):
    """What the parent has of a channel.

    Attributes:
        waitable: What to wait for.
        may_block: Whether sending blocks until the worker has taken what the pipe cannot hold.
    """

    waitable: Any
    may_block: bool

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""

    @property
    def fault(self) -> str:
        """What the worker's fault handler wrote."""

    def send(self, message: Message) -> Optional[Memory]:
        """Send a message, or as much of it as can be sent now; to a worker that is gone it is not sent.

        Returns:
            Where it stays, if it does.
        """

    def push(self) -> bool:
        """Send what could not be sent before; return whether all is sent."""

    def receive(self) -> list[Arrived]:
        """Return some of the messages that have come, without waiting for any."""

    def drain(self) -> list[Arrived]:
        """Return all messages that have come, without waiting for any."""

    def close(self) -> None:
        """Give the channel back."""


class WorkerEnd(Protocol):
    """What the worker has of a channel: both calls block. One thread may send while another receives."""

    waitable: Any

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: The parent is gone.
        """

    def receive(self) -> list[Arrived]:
        """Wait for something to come, and return the messages that are whole then, if any.

        Raises:
            EOFError, OSError: The parent is gone.
        """

    def close(self) -> None:
        """Give the channel back."""


def make_channel(context: Any) -> tuple[ParentEnd, WorkerEnd]:
    """Return the two ends of a new channel.

    Args:
        context: What ``multiprocess.get_context`` returns.
    """
    if HAS_SOCKETS:
        return make_socket_channel()
    ours, theirs = context.Pipe(duplex=True)
    return PipeParentEnd(ours), PipeWorkerEnd(theirs)


def _whole(message: Message) -> bytes:
    return message.joined() if isinstance(message, Parts) else message


def _writable(message: bytes) -> Arrived:
    """Return a message such that arrays made of its buffers can be written."""
    return bytearray(message) if len(message) >= MIN_BUFFER_BYTES else message


class PipeParentEnd:
    """The parent's end of a pipe of ``multiprocess``."""

    may_block = True
    has_ended = False
    fault = ""

    def __init__(self, connection: Any) -> None:
        self.waitable = connection

    def send(self, message: Message) -> Optional[Memory]:
        whole = _whole(message)
        with suppress(OSError):  # if it is dead, its death handle will say so
            self.waitable.send_bytes(whole)
        return Joined(whole) if isinstance(message, Parts) else None

    def push(self) -> bool:
        return True

    def receive(self) -> list[Arrived]:
        try:
            return [_writable(self.waitable.recv_bytes())] if self.waitable.poll() else []
        except (EOFError, OSError):
            self.has_ended = True
            return []

    def drain(self) -> list[Arrived]:
        messages: list[Arrived] = []
        while True:
            some = self.receive()
            if not some:
                return messages
            messages += some

    def close(self) -> None:
        self.waitable.close()


class PipeWorkerEnd:
    """The worker's end of a pipe of ``multiprocess``."""

    def __init__(self, connection: Any) -> None:
        self.waitable = connection

    def send(self, message: Message) -> None:
        self.waitable.send_bytes(_whole(message))

    def receive(self) -> list[Arrived]:
        return [_writable(self.waitable.recv_bytes())]

    def close(self) -> None:
        self.waitable.close()
