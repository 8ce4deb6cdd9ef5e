"""Large messages, in memory that both processes map: no pipe to squeeze through, and the receiver need not copy.

The memory is a Linux memfd, whose descriptor travels over the channel's socket. It has no name, so nothing is left of
it whatever dies, and it is not in /dev/shm, which is tiny in containers. It is written once, by the sender, and lives
until the receiver, and whoever was forked from that, has dropped all that was made of it. The receiver maps it for
itself alone (copy on write), so what it changes changes nowhere else.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence
from typing import Any, Optional
from weakref import WeakSet

HAS_SEGMENTS = sys.platform == "linux" and hasattr(os, "memfd_create")

MIN_BYTES = 1 << 20
"""Smaller messages are sent over the socket, which takes them as fast."""

MAX_BORROWED = 64
"""A process maps no more messages at a time, for each takes a file descriptor; what is more is copied."""

MAX_PARTS = 1024
MAX_PIECE_BYTES = 1 << 30

_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0)


def lend(parts: Sequence[Any]) -> Optional[int]:
    """Write a message into new memory, and return its descriptor, which is the caller's to close.

    Args:
        parts: What the message consists of.

    Returns:
        ``None`` if the system has no memory or descriptor left: it must be sent otherwise.
    """
    try:
        descriptor = os.memfd_create("mtasklite")
    except OSError:
        return None
    try:
        _fill(descriptor, [memoryview(part).cast("B") for part in parts])
    except OSError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _fill(descriptor: int, left: list[memoryview]) -> None:
    while left:
        n_bytes = os.writev(descriptor, [part[:MAX_PIECE_BYTES] for part in left[:MAX_PARTS]])
        while left and n_bytes >= len(left[0]):
            n_bytes -= len(left.pop(0))
        if n_bytes:
            left[0] = left[0][n_bytes:]


_borrowed: WeakSet[mmap.mmap] = WeakSet()


def borrow(descriptor: int, n_bytes: int) -> memoryview:
    """Return the message in a segment, which may be changed, and close the descriptor."""
    try:
        if len(_borrowed) >= MAX_BORROWED:
            return _copy_of(descriptor, n_bytes)
        try:
            body = mmap.mmap(descriptor, n_bytes, flags=_PRIVATE)
        except OSError:  # so many are mapped that the system allows no more
            return _copy_of(descriptor, n_bytes)
        _borrowed.add(body)
        return memoryview(body)
    finally:
        os.close(descriptor)


class Lent:
    """A message in a segment, kept by its sender.

    Args:
        descriptor: The segment's, which is this object's from now on.
        n_bytes: The message's size.
    """

    def __init__(self, descriptor: int, n_bytes: int) -> None:
        self._descriptor = descriptor
        self._n_bytes = n_bytes
        _lent.add(self)

    def view(self) -> memoryview:
        return memoryview(mmap.mmap(self._descriptor, self._n_bytes, flags=_PRIVATE))

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close


_lent: WeakSet[Lent] = WeakSet()


def _close_lent() -> None:
    for lent in list(_lent):
        lent.close()


if hasattr(os, "register_at_fork"):  # or a worker that is forked meanwhile would keep the memory for its whole life
    os.register_at_fork(after_in_child=_close_lent)


def keep(descriptor: int, n_bytes: int) -> Optional[Lent]:
    """Return what keeps a segment that was lent; ``None`` if so many are kept, or no descriptor is left."""
    if len(_lent) >= MAX_BORROWED:
        return None
    try:
        return Lent(os.dup(descriptor), n_bytes)
    except OSError:
        return None


def _copy_of(descriptor: int, n_bytes: int) -> memoryview:
    body = memoryview(bytearray(n_bytes))
    at = 0
    while at < n_bytes:
        at += os.preadv(descriptor, [body[at : at + MAX_PIECE_BYTES]], at)
    return body
