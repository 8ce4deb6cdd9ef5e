"""Large messages, in memory that both processes map: no pipe to squeeze through, and the receiver need not copy.

The memory is a Linux memfd, whose descriptor travels over the channel's socket. It has no name, so nothing is left of
it whatever dies, and it is not in /dev/shm, which is tiny in containers. New pages cost more than the copying, so the
sender keeps a few segments, and writes into them again once the receiver has dropped all that it made of their last
message: a byte in the segment's first page, which both map, says whether it is free.

The receiver maps the rest for itself alone (copy on write): what arrives may be changed, and what is changed there, or
in a child that is forked later, changes nowhere else.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Sequence
from typing import Any, Optional

HAS_SEGMENTS = sys.platform == "linux" and hasattr(os, "memfd_create")

MIN_BYTES = 256 << 10
"""Smaller messages are sent over the socket, which takes them as fast."""

MAX_KEPT = 4
MAX_KEPT_BYTES = 32 << 20
"""Of all segments that a sender keeps; what is more goes in segments that live as long as the receiver needs them."""

MAX_PARTS = 1024
MAX_WRITE_BYTES = 1 << 30

_HEADER_BYTES = mmap.ALLOCATIONGRANULARITY
_FREE, _LENT = 0, 1
_PRIVATE = getattr(mmap, "MAP_PRIVATE", 0)


class _Segment:
    """Memory of a sender's, which is lent to a receiver at times."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.descriptor = os.memfd_create("mtasklite")
        try:
            os.ftruncate(self.descriptor, _HEADER_BYTES + capacity)
            self._header = mmap.mmap(self.descriptor, _HEADER_BYTES)
        except BaseException:
            os.close(self.descriptor)
            raise

    @property
    def is_free(self) -> bool:
        return self._header[0] == _FREE

    def fill(self, parts: Sequence[Any]) -> None:
        self._header[0] = _LENT
        at = _HEADER_BYTES
        left = [memoryview(part).cast("B") for part in parts]
        while left:
            chosen = [part[:MAX_WRITE_BYTES] for part in left[:MAX_PARTS]]
            n_bytes = os.pwritev(self.descriptor, chosen, at)
            at += n_bytes
            while left and n_bytes >= len(left[0]):
                n_bytes -= len(left.pop(0))
            if n_bytes:
                left[0] = left[0][n_bytes:]

    def close(self) -> None:
        self._header.close()
        os.close(self.descriptor)


class Lender:
    """A sender's segments. Closing it takes nothing from a receiver."""

    def __init__(self) -> None:
        self._kept: list[_Segment] = []

    def lend(self, parts: Sequence[Any], n_bytes: int) -> Optional[int]:
        """Write a message into a segment, and return a descriptor of it, which is the caller's to close.

        Args:
            parts: What the message consists of.
            n_bytes: Size of all of it.

        Returns:
            ``None`` if the system has no memory or descriptor left: it must be sent otherwise.
        """
        segment: Optional[_Segment] = None
        try:
            segment = self._free_segment(n_bytes) or self._new_segment(n_bytes)
            segment.fill(parts)
            return os.dup(segment.descriptor)
        except OSError:
            if segment in self._kept:
                self._kept.remove(segment)
            self.trim()
            return None
        finally:
            if segment is not None and segment not in self._kept:
                segment.close()

    def _free_segment(self, n_bytes: int) -> Optional[_Segment]:
        fitting = [segment for segment in self._kept if segment.is_free and segment.capacity >= n_bytes]
        return min(fitting, key=lambda segment: segment.capacity, default=None)

    def _new_segment(self, n_bytes: int) -> _Segment:
        if not self._has_room_for(n_bytes):
            self.trim()
        segment = _Segment(n_bytes)
        if self._has_room_for(n_bytes):
            self._kept.append(segment)
        return segment

    def _has_room_for(self, n_bytes: int) -> bool:
        kept_bytes = sum(segment.capacity for segment in self._kept)
        return len(self._kept) < MAX_KEPT and kept_bytes + n_bytes <= MAX_KEPT_BYTES

    def trim(self) -> None:
        """Give back the segments that are free."""
        for segment in [segment for segment in self._kept if segment.is_free]:
            self._kept.remove(segment)
            segment.close()

    def close(self) -> None:
        """Give back all; what was lent lives on with the receiver."""
        while self._kept:
            self._kept.pop().close()


class _Borrowed(mmap.mmap):
    """A message in a segment, as its receiver has it; when nothing refers to it any more, the segment is free."""

    header: Optional[mmap.mmap] = None
    owner = 0

    def __del__(self) -> None:
        if self.header is not None and os.getpid() == self.owner:  # a forked child has but a copy
            self.header[0] = _FREE


def borrow(descriptor: int, n_bytes: int) -> memoryview:
    """Return the message in a segment, and close the descriptor."""
    try:
        header = mmap.mmap(descriptor, _HEADER_BYTES)
        body = _Borrowed(descriptor, n_bytes, flags=_PRIVATE, offset=_HEADER_BYTES)
        body.header, body.owner = header, os.getpid()
        return memoryview(body)
    except OSError:  # so many are mapped that the system allows no more
        return _copy_of(descriptor, n_bytes)
    finally:
        os.close(descriptor)


def _copy_of(descriptor: int, n_bytes: int) -> memoryview:
    body = memoryview(bytearray(n_bytes))
    at = 0
    while at < n_bytes:
        at += os.preadv(descriptor, [body[at : at + MAX_WRITE_BYTES]], _HEADER_BYTES + at)
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, bytes([_FREE]), 0)
    return body
