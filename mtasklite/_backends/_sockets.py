"""A channel over a socket pair: the parent's end never blocks, and large messages travel beside it.

A message is its length in eight bytes, its bytes, and its length once more. What a dying interpreter writes there
instead, its fault handler's traceback, would be a length that no message has; and amid a message it makes one without
the right end. That is how it is known.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, Optional

from mtasklite._backends._segments import HAS_SEGMENTS, MIN_BYTES, borrow, keep, lend
from mtasklite._wire import Arrived, Joined, Memory, Message, Parts

MAX_MESSAGE_BYTES = 1 << 48
IN_SEGMENT = 1 << 49
"""Added to the length of a message that does not follow, but is in a segment whose descriptor comes along."""

READ_BYTES = 1 << 16
MAX_PARTS = 64
MAX_PART_BYTES = 1 << 30
"""Of one write or read; the platforms' limits are higher."""

NO_ROOM_SECONDS = 0.001
"""Pause before it is tried again to send what the system had no room for: memory, or descriptors on their way."""

_NO_ROOM_NOW = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
_LENGTH = struct.Struct("!Q")
_FIRST_WORDS = b"Fatal Python error"
# A user may have made that signal deadly again.
_NO_SIGPIPE = getattr(socket, "MSG_NOSIGNAL", 0)
_SO_NOSIGPIPE = 0x1022
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(4 * array.array("i").itemsize) if HAS_SEGMENTS else 0


def make_socket_channel() -> tuple[SocketParentEnd, SocketWorkerEnd]:
    """Return the two ends of a new channel."""
    ours, theirs = socket.socketpair()
    if sys.platform == "darwin":
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, _SO_NOSIGPIPE, 1)
    return SocketParentEnd(ours), SocketWorkerEnd(theirs)


class _Outgoing(NamedTuple):
    """A piece of a message, and the descriptor that goes with its first byte."""

    view: memoryview
    descriptor: Optional[int] = None


def _outgoing(parts: Sequence[Any], n_bytes: int, descriptor: Optional[int]) -> Iterable[_Outgoing]:
    """Divide a message into what is to be sent.

    Args:
        parts: What it consists of.
        n_bytes: Its size.
        descriptor: Of the segment that it is in; ``None``: it is in none.
    """
    length = memoryview(_LENGTH.pack(n_bytes if descriptor is None else IN_SEGMENT + n_bytes))
    yield _Outgoing(length, descriptor)
    if descriptor is None:
        yield from (_Outgoing(memoryview(part)) for part in parts)
    yield _Outgoing(length)


def _lend(message: Message) -> tuple[Sequence[Any], Optional[int]]:
    """Return a message's parts, and the descriptor of the segment that they were written to, if they were."""
    parts = message.parts if isinstance(message, Parts) else [message]
    return parts, lend(parts) if HAS_SEGMENTS and len(message) >= MIN_BYTES else None


def _write(sock: socket.socket, outbox: deque[_Outgoing]) -> None:
    """Send as much of the first pieces as the socket takes at once, and drop that from them."""
    first = outbox[0]
    ancillary = []
    chosen = [first.view[:MAX_PART_BYTES]]
    if first.descriptor is not None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [first.descriptor]))]
    elif len(first.view) <= MAX_PART_BYTES:
        for piece in islice(outbox, 1, MAX_PARTS):
            if piece.descriptor is not None or len(piece.view) > MAX_PART_BYTES:
                break
            chosen.append(piece.view)
    n_bytes = sock.sendmsg(chosen, ancillary, _NO_SIGPIPE)
    if first.descriptor is not None:
        outbox[0] = _Outgoing(first.view)
        os.close(first.descriptor)
    while outbox and n_bytes >= len(outbox[0].view) and outbox[0].descriptor is None:
        n_bytes -= len(outbox.popleft().view)
    if n_bytes:
        outbox[0] = _Outgoing(outbox[0].view[n_bytes:])


def _drop(outbox: deque[_Outgoing]) -> None:
    while outbox:
        descriptor = outbox.popleft().descriptor
        if descriptor is not None:
            os.close(descriptor)


def _descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> Iterable[int]:
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found = array.array("i")
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
            yield from found


class _Reader:
    """Reads a socket, and divides what comes into messages.

    Attributes:
        has_ended: Whether nothing more will come.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.has_ended = False
        self._descriptors: deque[int] = deque()  # that came, and whose messages have not been looked at
        self._has_lost_one = False
        self._rest = b""  # of what was read, the beginning of a message
        self._body: Optional[bytearray] = None  # a long message of which a part has come
        self._gap = memoryview(b"")  # the part that has not
        self._fault: Optional[bytes] = None  # all that came since it was no message any more

    @property
    def fault(self) -> str:
        """What a fault handler wrote."""
        data = self._fault or bytes(self._body or self._rest)
        start = data.find(_FIRST_WORDS)
        return data[start:].rstrip(b"\0").decode("utf-8", "replace") if start >= 0 else ""

    def read(self) -> list[Arrived]:
        """Read once, or the rest of a long message, and return the messages that are whole now.

        Raises:
            BlockingIOError: Nothing has come, and the socket does not block.
        """
        if self._body is not None:
            return self._read_body(self._body)
        try:
            chunk = self._read_chunk()
        except BlockingIOError:
            raise
        except OSError:
            chunk = b""
        self.has_ended = not chunk
        return self._divide(chunk)

    def _read_chunk(self) -> bytes:
        if not HAS_SEGMENTS:
            return self._sock.recv(READ_BYTES)
        chunk, ancillary, flags, _ = self._sock.recvmsg(READ_BYTES, _ROOM_FOR_DESCRIPTORS, _CLOSE_ON_EXEC)
        if ancillary:
            self._descriptors += _descriptors_in(ancillary)
        self._has_lost_one = self._has_lost_one or bool(flags & socket.MSG_CTRUNC)
        return chunk

    def _read_body(self, body: bytearray) -> list[Arrived]:
        while self._gap:
            try:
                n_bytes = self._sock.recv_into(self._gap[:MAX_PART_BYTES])
            except BlockingIOError:
                raise
            except OSError:
                n_bytes = 0
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

    def _divide(self, chunk: bytes) -> list[Arrived]:
        """Divide what was read into messages, and keep the beginning of the one after them."""
        if self._fault is not None:
            self._fault += chunk
            return []
        messages: list[Arrived] = []
        data = self._rest + chunk if self._rest else chunk
        start = 0
        while len(data) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            body_at = start + _LENGTH.size
            end = body_at + (length if length <= MAX_MESSAGE_BYTES else 0)
            is_length = length <= MAX_MESSAGE_BYTES or 0 <= length - IN_SEGMENT <= MAX_MESSAGE_BYTES
            if len(data) >= end + _LENGTH.size or not is_length:
                if not is_length or data[start:body_at] != data[end : end + _LENGTH.size]:
                    self._fault, start = data[start:], len(data)
                    break
                messages.append(self._message(length, data[body_at:end]))
                start = end + _LENGTH.size
            elif READ_BYTES < length <= MAX_MESSAGE_BYTES:
                self._begin_body(length, data[body_at:])
                start = len(data)
            else:
                break
        self._rest = data[start:]
        return messages

    def _message(self, length: int, body: bytes) -> Arrived:
        if length > MAX_MESSAGE_BYTES:
            if self._has_lost_one or not self._descriptors:  # which of the messages lost its own, nobody knows
                raise OSError(errno.EMFILE, "no file descriptor is left to receive a large message")
            return borrow(self._descriptors.popleft(), length - IN_SEGMENT)
        # What is large may have buffers, of which arrays are made that can be written.
        return body if length <= READ_BYTES else bytearray(body)

    def _begin_body(self, n_bytes: int, beginning: bytes) -> None:
        self._body = bytearray(n_bytes + _LENGTH.size)
        self._body[: len(beginning)] = beginning
        self._gap = memoryview(self._body)[len(beginning) :]

    def close(self) -> None:
        """Close the descriptors that came and were not used."""
        while self._descriptors:
            os.close(self._descriptors.popleft())


class SocketParentEnd:
    """The parent's end of a socket pair."""

    may_block = False

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.waitable = sock
        self._reader = _Reader(sock)
        self._is_empty = False  # at the last attempt to read
        self._outbox: deque[_Outgoing] = deque()

    @property
    def has_ended(self) -> bool:
        return self._reader.has_ended

    @property
    def fault(self) -> str:
        return self._reader.fault

    def send(self, message: Message) -> Optional[Memory]:
        parts, descriptor = _lend(message)
        memory: Optional[Memory] = None
        if descriptor is not None:
            memory = keep(descriptor, len(message))
        elif isinstance(message, Parts):
            joined = message.joined()  # it may wait here while the user changes what it was made of
            parts, memory = [joined], Joined(joined)
        self._outbox += _outgoing(parts, len(message), descriptor)
        self.push()
        return memory

    def push(self) -> bool:
        try:
            while self._outbox:
                _write(self.waitable, self._outbox)
        except BlockingIOError:
            return False
        except ConnectionError:
            _drop(self._outbox)  # the worker is dead, and its death handle says so
        except OSError as error:
            if error.errno in _NO_ROOM_NOW:
                time.sleep(NO_ROOM_SECONDS)  # for the socket says that it is ready
                return False
            _drop(self._outbox)
            with suppress(OSError):
                self.waitable.shutdown(socket.SHUT_RDWR)  # which is noticed as the end of the channel
        return True

    def drain(self) -> list[Arrived]:
        messages: list[Arrived] = []
        self._is_empty = False
        while not self.has_ended and not self._is_empty:
            messages += self.receive()
        return messages

    def receive(self) -> list[Arrived]:
        try:
            return self._reader.read()
        except BlockingIOError:
            self._is_empty = True
            return []

    def close(self) -> None:
        self.waitable.close()
        _drop(self._outbox)
        self._reader.close()


class SocketWorkerEnd:
    """The worker's end of a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)  # whatever the default timeout is
        sock.set_inheritable(False)  # as it came by spawn
        self.waitable = sock
        self._reader = _Reader(sock)

    def __reduce__(self) -> Any:
        return SocketWorkerEnd, (self.waitable,)

    def send(self, message: Message) -> None:
        parts, descriptor = _lend(message)
        outbox = deque(_outgoing(parts, len(message), descriptor))
        try:
            while outbox:
                self._write(outbox)
        finally:
            _drop(outbox)

    def _write(self, outbox: deque[_Outgoing]) -> None:
        try:
            _write(self.waitable, outbox)
        except OSError as error:
            if error.errno not in _NO_ROOM_NOW:
                raise
            time.sleep(NO_ROOM_SECONDS)

    def receive(self) -> list[Arrived]:
        messages = self._reader.read()
        if self._reader.has_ended:
            raise EOFError
        return messages

    def close(self) -> None:
        self.waitable.close()
        self._reader.close()
