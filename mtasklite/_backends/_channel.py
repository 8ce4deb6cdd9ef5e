"""The private channel between the parent and one worker process: messages of any size, whole or not at all.

On POSIX it is a socket pair. The parent's end never blocks: what the worker does not take yet waits in an outbox, and
what comes is put together piece by piece, so no worker, alive, stopped or dead, can hold the parent up. Elsewhere it is
a pipe of ``multiprocess``, whose reads and writes block, and which must be used with more care.

A message in a socket is its length in eight bytes, its bytes, and, on the way to the parent, its length once more. What
a dying interpreter writes there instead, its fault handler's traceback, would be a length that no message has; and amid
a message it makes one without the right end. That is how it is known.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Any, Optional, Protocol, Union

HAS_SOCKETS = os.name == "posix"

MAX_MESSAGE_BYTES = 1 << 48
READ_BYTES = 1 << 16
MAX_PARTS = 16
MAX_PART_BYTES = 1 << 30
"""Of one write or read; the platforms' limits are higher."""

_LENGTH = struct.Struct("!Q")
_FIRST_WORDS = b"Fatal Python error"
# A user may have made that signal deadly again.
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
_SO_NOSIGPIPE = 0x1022

Message = Union[bytes, bytearray]


class ParentEnd(Protocol):
    """What the parent has of a channel.

    Attributes:
        waitable: What to wait for.
        may_block: Whether sending blocks until the worker has taken what the pipe cannot hold.
        has_ended: Whether nothing more will come.
    """

    waitable: Any
    may_block: bool
    has_ended: bool

    @property
    def fault(self) -> str:
        """What the worker's fault handler wrote."""

    def send(self, message: Message) -> None:
        """Send a message, or as much of it as can be sent now; to a worker that is gone it is not sent."""

    def push(self) -> bool:
        """Send what could not be sent before; return whether all is sent."""

    def receive(self) -> list[Message]:
        """Return some of the messages that have come, without waiting for any."""

    def drain(self) -> list[Message]:
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

    def receive(self) -> Message:
        """Wait for a message.

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
        ours, theirs = socket.socketpair()
        if sys.platform == "darwin":
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
        return SocketParentEnd(ours), SocketWorkerEnd(theirs)
    ours, theirs = context.Pipe(duplex=True)
    return PipeParentEnd(ours), PipeWorkerEnd(theirs)


def _parts_for_one_write(parts: deque[memoryview]) -> list[memoryview]:
    chosen: list[memoryview] = []
    for part in islice(parts, MAX_PARTS):
        chosen.append(part[:MAX_PART_BYTES])
        if len(part) > MAX_PART_BYTES:
            break
    return chosen


def _drop_sent(parts: deque[memoryview], n_bytes: int) -> None:
    while parts and n_bytes >= len(parts[0]):
        n_bytes -= len(parts.popleft())
    if n_bytes:
        parts[0] = parts[0][n_bytes:]


class SocketParentEnd:
    """The parent's end of a socket pair."""

    may_block = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.waitable = sock
        self.has_ended = False
        self._is_empty = False  # at the last attempt to read
        self._outbox: deque[memoryview] = deque()
        self._rest = b""  # of what was read, the beginning of a message
        self._body: Optional[bytearray] = None  # a long message of which a part has come
        self._gap = memoryview(b"")  # the part that has not
        self._fault: Optional[bytes] = None  # all that came since it was no message any more

    @property
    def fault(self) -> str:
        data = self._fault or bytes(self._body or b"")
        start = data.find(_FIRST_WORDS)
        return data[start:].rstrip(b"\0").decode("utf-8", "replace") if start >= 0 else ""

    def send(self, message: Message) -> None:
        self._outbox.append(memoryview(_LENGTH.pack(len(message))))
        self._outbox.append(memoryview(message))
        self.push()

    def push(self) -> bool:
        try:
            while self._outbox:
                n_sent = self.waitable.sendmsg(_parts_for_one_write(self._outbox), [], _NO_SIGPIPE)
                _drop_sent(self._outbox, n_sent)
        except BlockingIOError:
            return False
        except ConnectionError:
            self._outbox.clear()  # the worker is dead, and its death handle says so
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                return False  # the system may have room later
            self._outbox.clear()
            with suppress(OSError):
                self.waitable.shutdown(socket.SHUT_RDWR)  # which is noticed as the end of the channel
        return True

    def drain(self) -> list[Message]:
        messages: list[Message] = []
        self._is_empty = False
        while not self.has_ended and not self._is_empty:
            messages += self.receive()
        return messages

    def receive(self) -> list[Message]:
        try:
            if self._body is not None:
                return self._read_body(self._body)
            chunk = self.waitable.recv(READ_BYTES)
        except BlockingIOError:
            self._is_empty = True
            return []
        except OSError:
            chunk = b""
        if not chunk:
            self.has_ended = True
            return []
        return self._divide(chunk)

    def _read_body(self, body: bytearray) -> list[Message]:
        while self._gap:
            n_bytes = self.waitable.recv_into(self._gap[:MAX_PART_BYTES])
            if not n_bytes:
                self.has_ended = True
                return []
            self._gap = self._gap[n_bytes:]
        self._body, self._gap = None, memoryview(b"")
        n_bytes = len(body) - _LENGTH.size
        if _LENGTH.unpack_from(body, n_bytes) != (n_bytes,):
            self._fault = bytes(body)
            return []
        del body[n_bytes:]
        return [body]

    def _divide(self, chunk: bytes) -> list[Message]:
        """Divide what was read into messages, and keep the beginning of the one after them."""
        if self._fault is not None:
            self._fault += chunk
            return []
        messages: list[Message] = []
        data = self._rest + chunk if self._rest else chunk
        start = 0
        while len(data) - start >= _LENGTH.size:
            (n_bytes,) = _LENGTH.unpack_from(data, start)
            end = start + _LENGTH.size + n_bytes
            if n_bytes > MAX_MESSAGE_BYTES:
                self._fault, start = data[start:], len(data)
            elif end + _LENGTH.size <= len(data):
                if _LENGTH.unpack_from(data, end) != (n_bytes,):
                    self._fault, start = data[start:], len(data)
                    break
                messages.append(data[start + _LENGTH.size : end])
                start = end + _LENGTH.size
            elif n_bytes > READ_BYTES:
                self._begin_body(n_bytes, data[start + _LENGTH.size :])
                start = len(data)
            else:
                break
        self._rest = data[start:]
        return messages

    def _begin_body(self, n_bytes: int, beginning: bytes) -> None:
        self._body = bytearray(n_bytes + _LENGTH.size)
        self._body[: len(beginning)] = beginning
        self._gap = memoryview(self._body)[len(beginning) :]

    def close(self) -> None:
        self.waitable.close()


class SocketWorkerEnd:
    """The worker's end of a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)  # whatever the default timeout is
        sock.set_inheritable(False)  # as it came by spawn
        self.waitable = sock

    def __reduce__(self) -> Any:
        return SocketWorkerEnd, (self.waitable,)

    def send(self, message: Message) -> None:
        length = memoryview(_LENGTH.pack(len(message)))
        parts = deque([length, memoryview(message), length])
        while parts:
            _drop_sent(parts, self.waitable.sendmsg(_parts_for_one_write(parts), [], _NO_SIGPIPE))

    def receive(self) -> Message:
        return self._receive_exactly(_LENGTH.unpack(self._receive_exactly(_LENGTH.size))[0])

    def _receive_exactly(self, n_bytes: int) -> bytearray:
        body = bytearray(n_bytes)
        gap = memoryview(body)
        while gap:
            n_received = self.waitable.recv_into(gap[:MAX_PART_BYTES])
            if not n_received:
                raise EOFError
            gap = gap[n_received:]
        return body

    def close(self) -> None:
        self.waitable.close()


class PipeParentEnd:
    """The parent's end of a pipe of ``multiprocess``."""

    may_block = True
    fault = ""

    def __init__(self, connection: Any) -> None:
        self.waitable = connection
        self.has_ended = False

    def send(self, message: Message) -> None:
        with suppress(OSError):  # if it is dead, its death handle will say so
            self.waitable.send_bytes(message)

    def push(self) -> bool:
        return True

    def receive(self) -> list[Message]:
        try:
            return [self.waitable.recv_bytes()] if self.waitable.poll() else []
        except (EOFError, OSError):
            self.has_ended = True
            return []

    def drain(self) -> list[Message]:
        messages: list[Message] = []
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
        self.waitable.send_bytes(message)

    def receive(self) -> Message:
        message: bytes = self.waitable.recv_bytes()
        return message

    def close(self) -> None:
        self.waitable.close()
