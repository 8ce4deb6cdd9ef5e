"""What driver and host of a cluster say to each other: messages as what an engine carries.

A message travels as a list of *frames*: small parts of it as bytes, large ones as buffers, which an engine moves
without copying them into its own pickle. Where they arrive they are joined once, into memory that can be written.
"""

from __future__ import annotations

import pickle
from typing import Any, Optional, Union

from mtasklite import _wire
from mtasklite._backends._adapter import Frames

HEARTBEAT_SECONDS = 10.0
"""An exchange that has nothing to say is answered after so long."""

MAX_MESSAGE_BYTES = 512 << 10
"""What a host says at once, and what it is sent, are no more than this, unless one item alone is. Ray keeps a hundred
objects that nobody holds any more, for a second at most, on each node: all of them are less than the 64 MiB that may be
read ahead."""

LARGE_BYTES = 64 << 10
"""Frames of fewer bytes are copied into the engine's own pickle: that costs less than to keep them apart."""


class SecuringCodec(_wire.Codec):
    """A codec for messages that lie here for a while, or that the engine pickles later."""

    def freeze(self, value: Any) -> Any:
        frozen = super().freeze(value)
        _wire.secure([frozen])
        return frozen


def to_frames(message: _wire.Message) -> Frames:
    """Return a message as an engine carries it; its buffers are not copied."""
    parts = [message] if isinstance(message, bytes) else message.parts
    return [part if len(part) < LARGE_BYTES else pickle.PickleBuffer(part) for part in map(_plain, parts)]


def _plain(part: Any) -> Union[bytes, memoryview]:
    return part if isinstance(part, bytes) else memoryview(part)


def joined(frames: Frames) -> _wire.Arrived:
    """Return a message that has arrived, in one piece; where it has buffers, in memory of its own."""
    if len(frames) == 1:
        return memoryview(frames[0])
    whole = bytearray(size_of(frames))
    view = memoryview(whole)
    start = 0
    for frame in frames:
        part = memoryview(frame).cast("B")
        view[start : start + part.nbytes] = part
        start += part.nbytes
    return view


def size_of(frames: Frames) -> int:
    """Return a message's size in bytes."""
    return sum(memoryview(frame).nbytes for frame in frames)


def pack(codec: _wire.Codec, tag: bytes, head: Any = None, values: Optional[list[Any]] = None) -> Frames:
    """Pack a message whose values can surely be pickled, or that has none."""
    return to_frames(codec.pack_frozen(tag, head, values or []))
