"""Objects to bytes and back: C pickle for nearly everything, by value only what has no name on the other side.

One message is a tag of one byte, the number of its buffers, and a pickle of ``(head, values, counts)``. Values travel
together in one pickle as long as they consist of built-in types, which cannot fail to load; ``counts`` is ``None``
then. Once an instance of any other class is among them, each value is pickled apart, so that one that cannot be rebuilt
spoils no other.

Large buffers (arrays, and values whose pickle is large) are not copied into the pickle, but follow it (protocol 5, PEP
574), and at the end stand the place and size of each. ``counts`` says how many buffers each value has.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple, Optional, Union

from mtasklite._byvalue import ValuePickler
from mtasklite._frames import traceback_of, type_name, with_source
from mtasklite.delayed_init import ShellObject
from mtasklite.errors import RemoteError, RemoteTraceback, SerializationError, pass_interrupt, text_of

MIN_BUFFER_BYTES = 64 << 10
"""Smaller buffers go into the pickle: to copy them costs less than to keep them apart."""

ALIGNMENT = 64
"""Of buffers, in bytes: what the fastest instructions on arrays ask for."""

TAG_SIZE = 1
_N_BUFFERS = struct.Struct("<I")
_START = TAG_SIZE + _N_BUFFERS.size
_PLACE = struct.Struct("<QQ")
_NOT_SENT = b""
"""Stands for what could not be pickled: it cannot be unpickled either."""


class PackedError(NamedTuple):
    """An exception on its way: pickled if that can be undone, and as text in any case."""

    blob: Optional[bytes]
    type_name: str
    text: str
    traceback: str


class Parts:
    """A message in parts, which are to be sent one after the other.

    Args:
        pickled: Its beginning, up to the end of the pickle.
        buffers: The buffers, which must not change before it is sent.
    """

    def __init__(self, pickled: bytes, buffers: list[memoryview]) -> None:
        self.parts: list[Any] = [pickled]
        places = []
        at = len(pickled)
        for buffer in buffers:
            padding = -at % ALIGNMENT
            self.parts += [bytes(padding), buffer]
            places.append(_PLACE.pack(at + padding, buffer.nbytes))
            at += padding + buffer.nbytes
        self.parts.append(b"".join(places))
        self._n_bytes = at + _PLACE.size * len(buffers)

    def __len__(self) -> int:
        return self._n_bytes

    def joined(self) -> bytes:
        """Return a copy of it in one piece."""
        return b"".join(self.parts)


Message = Union[bytes, Parts]
Arrived = Union[bytes, bytearray, memoryview]


class _Buffers:
    """Collects the buffers of a message while it is pickled."""

    def __init__(self) -> None:
        self.found: list[memoryview] = []

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer; return true if it is to go into the pickle instead."""
        try:
            raw = buffer.raw()
        except BufferError:  # it is not contiguous
            return True
        if raw.nbytes < MIN_BUFFER_BYTES:
            return True
        self.found.append(raw)
        return False


class Codec:
    """Packs for one peer, unpacks from it.

    Args:
        peer_main: Names that the peer's ``__main__`` module has.
    """

    def __init__(self, peer_main: frozenset[str] = frozenset()) -> None:
        self._peer_main = peer_main
        self._is_split = False

    def pack(self, tag: bytes, head: Any, values: list[Any]) -> tuple[Message, dict[int, Exception]]:
        """Pack a message.

        Args:
            tag: One byte.
            head: Built-in types only.
            values: Anything.

        Returns:
            The message; and by offset the errors of the values that could not be pickled, each of which travels
            as ``None``.
        """
        if not self._is_split:
            try:
                message, has_instances = self._pickle((head, values, None), tag + _N_BUFFERS.pack(0))
            except BaseException as error:
                pass_interrupt(error)
                has_instances = True
            if not has_instances:
                return message, {}
        return self._pack_split(tag, head, values)

    def _pack_split(self, tag: bytes, head: Any, values: list[Any]) -> tuple[Message, dict[int, Exception]]:
        blobs: list[Any] = []
        counts: list[int] = []
        failures: dict[int, Exception] = {}
        inner, outer = _Buffers(), _Buffers()
        buffer = io.BytesIO()
        pickler = ValuePickler(buffer, self._peer_main, inner.take)
        for offset, value in enumerate(values):
            buffer.seek(0)
            buffer.truncate()
            pickler.clear_memo()
            n_buffers = len(inner.found)
            try:
                pickler.dump(value)
                blob = buffer.getvalue()
                blobs.append(blob if len(blob) < MIN_BUFFER_BYTES else pickle.PickleBuffer(blob))
            except BaseException as error:
                pass_interrupt(error)
                del inner.found[n_buffers:]
                blobs.append(None)
                failures[offset] = _serialization_error("pickled", value, error)
            counts.append(len(inner.found) - n_buffers)
        self._is_split = pickler.has_instances
        file = io.BytesIO()
        file.seek(_START)
        pickle.Pickler(file, pickle.HIGHEST_PROTOCOL, buffer_callback=outer.take).dump((head, blobs, counts))
        buffers = outer.found + inner.found
        file.seek(0)
        file.write(tag + _N_BUFFERS.pack(len(buffers)))
        return (Parts(file.getvalue(), buffers) if buffers else file.getvalue()), failures

    def pack_one(self, value: Any) -> bytes:
        """Pack one value; whatever the pickler raises comes through."""
        return self._pickle(value)[0]

    def pack_error(self, error: BaseException) -> PackedError:
        """Pack an exception, as an object only if it survives the way there."""
        blob: Optional[bytes]
        try:
            blob = self.pack_one(error)
            if type(pickle.loads(blob)) is not type(error):
                blob = None
        except BaseException as fault:
            pass_interrupt(fault)
            blob = None
        return PackedError(blob, type_name(type(error)), text_of(error), traceback_of(error))

    def _pickle(self, value: Any, tag: bytes = b"") -> tuple[bytes, bool]:
        buffer = io.BytesIO(tag)
        buffer.seek(len(tag))
        pickler = ValuePickler(buffer, self._peer_main)
        pickler.dump(value)
        return buffer.getvalue(), pickler.has_instances


def tag_of(message: Arrived) -> bytes:
    """Return a message's tag."""
    return bytes(message[:TAG_SIZE])


def unpack(message: Arrived) -> tuple[Any, list[Any], dict[int, Exception]]:
    """Return a message's head, its values, and by offset the errors of those that could not be rebuilt.

    Buffers are not copied: what is made of them keeps all of the message.
    """
    view = memoryview(message)
    buffers = iter(_buffers_of(view))
    head, values, counts = pickle.loads(view[_START:], buffers=buffers)
    return head, values, {} if counts is None else unpack_in_place(values, counts, buffers)


def _buffers_of(view: memoryview) -> list[memoryview]:
    (n_buffers,) = _N_BUFFERS.unpack_from(view, TAG_SIZE)
    places = view[len(view) - n_buffers * _PLACE.size :]
    return [view[start : start + n_bytes] for start, n_bytes in _PLACE.iter_unpack(places)] if n_buffers else []


def unpack_in_place(
    blobs: list[Any], counts: Optional[list[int]] = None, buffers: Iterable[memoryview] = ()
) -> dict[int, Exception]:
    """Put each value in its pickle's place; return by offset the errors of those that could not be rebuilt.

    Args:
        blobs: The pickles.
        counts: How many of the buffers each has.
        buffers: The buffers of all of them.
    """
    failures: dict[int, Exception] = {}
    source = iter(buffers)
    for offset, blob in enumerate(blobs):
        blobs[offset] = None
        own = list(islice(source, counts[offset])) if counts and counts[offset] else None
        try:
            blobs[offset] = pickle.loads(blob or _NOT_SENT, buffers=own)
        except BaseException as error:
            pass_interrupt(error)
            failures[offset] = _serialization_error("unpickled", blob, error)
    return failures


def unpack_error(packed: PackedError) -> Exception:
    """Rebuild an exception, with the remote traceback as its cause; a `RemoteError` if that cannot be done."""
    trace = with_source(packed.traceback)
    try:
        error = pickle.loads(packed.blob) if packed.blob is not None else None
    except BaseException as fault:
        pass_interrupt(fault)
        error = None
    if not isinstance(error, Exception):
        error = RemoteError(packed.type_name, packed.text, trace)
    error.__cause__ = RemoteTraceback(trace)
    return error


def _serialization_error(done: str, value: Any, cause: BaseException) -> SerializationError:
    which = ""
    if done == "pickled":
        which = f" of type {type_name(type(value))}"
        if isinstance(value, ShellObject):  # what cannot travel is among the arguments, as a rule
            which = f", `{getattr(value.cls, '__qualname__', value.cls)}(...)` to be made by a worker,"
    error = SerializationError(f"an object{which} could not be {done}: {type(cause).__name__}: {text_of(cause)}")
    error.__cause__ = cause.with_traceback(None)  # its frames would keep the whole batch alive
    return error
