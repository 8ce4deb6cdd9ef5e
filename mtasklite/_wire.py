"""Objects to bytes and back: C pickle for nearly everything, by value only what has no name on the other side.

One message is a tag of one byte and a pickle of ``(is_split, head, values)``. Values travel together in one pickle
as long as they consist of built-in types, which cannot fail to load. Once an instance of any other class is among
them, each value is pickled apart, so that one that cannot be rebuilt spoils no other.
"""

from __future__ import annotations

import io
import pickle
import traceback
from typing import Any, NamedTuple, Optional, Union

from mtasklite._byvalue import ValuePickler
from mtasklite._frames import is_ours
from mtasklite.errors import RemoteError, RemoteTraceback, SerializationError, pass_interrupt, text_of

TAG_SIZE = 1
_NOT_SENT = b""
"""Stands for what could not be pickled: it cannot be unpickled either."""


class PackedError(NamedTuple):
    """An exception on its way: pickled if that can be undone, and as text in any case."""

    blob: Optional[bytes]
    type_name: str
    text: str
    traceback: str


class Codec:
    """Packs for one peer, unpacks from it.

    Args:
        peer_main: Names that the peer's ``__main__`` module has.
    """

    def __init__(self, peer_main: frozenset[str] = frozenset()) -> None:
        self._peer_main = peer_main
        self._is_split = False

    def pack(self, tag: bytes, head: Any, values: list[Any]) -> tuple[bytes, dict[int, Exception]]:
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
                message, has_instances = self._pickle((False, head, values), tag)
            except BaseException as error:
                pass_interrupt(error)
                has_instances = True
            if not has_instances:
                return message, {}
        return self._pack_split(tag, head, values)

    def _pack_split(self, tag: bytes, head: Any, values: list[Any]) -> tuple[bytes, dict[int, Exception]]:
        blobs: list[Optional[bytes]] = []
        failures: dict[int, Exception] = {}
        buffer = io.BytesIO()
        pickler = ValuePickler(buffer, self._peer_main)
        for offset, value in enumerate(values):
            buffer.seek(0)
            buffer.truncate()
            pickler.clear_memo()
            try:
                pickler.dump(value)
                blobs.append(buffer.getvalue())
            except BaseException as error:
                pass_interrupt(error)
                blobs.append(None)
                failures[offset] = _serialization_error("pickled", value, error)
        self._is_split = pickler.has_instances
        return self._pickle((True, head, blobs), tag)[0], failures

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
        return PackedError(blob, _type_name(type(error)), text_of(error), _traceback(error))

    def _pickle(self, value: Any, tag: bytes = b"") -> tuple[bytes, bool]:
        buffer = io.BytesIO(tag)
        buffer.seek(len(tag))
        pickler = ValuePickler(buffer, self._peer_main)
        pickler.dump(value)
        return buffer.getvalue(), pickler.has_instances


def tag_of(message: Union[bytes, bytearray]) -> bytes:
    """Return a message's tag."""
    return bytes(message[:TAG_SIZE])


def unpack(message: Union[bytes, bytearray]) -> tuple[Any, list[Any], dict[int, Exception]]:
    """Return a message's head, its values, and by offset the errors of those that could not be rebuilt."""
    is_split, head, values = pickle.loads(memoryview(message)[TAG_SIZE:])
    return head, values, unpack_in_place(values) if is_split else {}


def unpack_in_place(blobs: list[Any]) -> dict[int, Exception]:
    """Put each value in its pickle's place; return by offset the errors of those that could not be rebuilt."""
    failures: dict[int, Exception] = {}
    for offset, blob in enumerate(blobs):
        blobs[offset] = None
        try:
            blobs[offset] = pickle.loads(blob or _NOT_SENT)
        except BaseException as error:
            pass_interrupt(error)
            failures[offset] = _serialization_error("unpickled", blob, error)
    return failures


def unpack_error(packed: PackedError) -> Exception:
    """Rebuild an exception, with the remote traceback as its cause; a `RemoteError` if that cannot be done."""
    try:
        error = pickle.loads(packed.blob) if packed.blob is not None else None
    except BaseException as fault:
        pass_interrupt(fault)
        error = None
    if not isinstance(error, Exception):
        error = RemoteError(packed.type_name, packed.text, packed.traceback)
    error.__cause__ = RemoteTraceback(packed.traceback)
    return error


def _serialization_error(done: str, value: Any, cause: BaseException) -> SerializationError:
    which = f" of type {_type_name(type(value))}" if done == "pickled" else ""
    error = SerializationError(f"an object{which} could not be {done}: {type(cause).__name__}: {text_of(cause)}")
    error.__cause__ = cause.with_traceback(None)  # its frames would keep the whole batch alive
    return error


def _type_name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _traceback(error: BaseException) -> str:
    # The outermost frames are the worker loop's, which tell a user nothing.
    start = error.__traceback__
    while start is not None and start.tb_next is not None and is_ours(start.tb_frame.f_code.co_filename):
        start = start.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, start))
    except BaseException as fault:
        pass_interrupt(fault)
        return f"{_type_name(type(error))}: {text_of(error)}\n"
