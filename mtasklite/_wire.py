"""Objects to bytes and back: C pickle for nearly everything, by value only what has no name on the other side.

Values are *frozen* first, each when it is read or returned. What cannot change and shares nothing stays as it is (see
`_plain`); all else becomes a `Packed`, a pickle of its own. So a change that comes later does not reach a value on its
way, values share nothing where they arrive, and one that cannot be rebuilt spoils no other.

One message is a tag of one byte, the number of its buffers, and a pickle of ``(head, values, counts)``. Large buffers
(arrays, and values whose pickle is large) are not copied into the pickle, but follow it (protocol 5, PEP 574), and at
the end stand the place and size of each. ``counts`` says how many buffers each packed value has, or that it is not
packed; ``None``: none is; `TOGETHER`: the values are one pickle.
"""

from __future__ import annotations

import gc
import io
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Protocol, Union

from mtasklite._byvalue import ValuePickler
from mtasklite._frames import traceback_of, type_name, with_source
from mtasklite._plain import NUMBERS
from mtasklite.delayed_init import ShellObject
from mtasklite.errors import RemoteError, RemoteTraceback, SerializationError, pass_interrupt, set_cause, text_of

MIN_BUFFER_BYTES = 64 << 10
"""Smaller buffers go into the pickle: to copy them costs less than to keep them apart."""

ALIGNMENT = 64
"""Of buffers, in bytes: what the fastest instructions on arrays ask for."""

TAG_SIZE = 1
_N_BUFFERS = struct.Struct("<I")
_START = TAG_SIZE + _N_BUFFERS.size
_PLACE = struct.Struct("<QQ")
PLAIN = -1
"""Stands among counts of buffers for a value that is not packed."""

TOGETHER = -1
"""Stands instead of the counts where the values are one pickle."""

NO_ERRORS: Mapping[int, SerializationError] = MappingProxyType({})

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


Frozen = Any
"""A plain value, or a `Packed`, or an `Unsendable`."""

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


class PackedFoundError(Exception):
    """Values are not all plain: some are packed."""


class Packed:
    """A pickle of one value.

    Attributes:
        blob: The pickle.
        buffers: Large buffers that belong to it. They are the value's own memory, until `secure` or `move` was called.
    """

    __slots__ = ("_memory", "_offset", "blob", "buffers")

    def __init__(self, blob: Arrived, buffers: Sequence[memoryview] = ()) -> None:
        self.blob = blob
        self.buffers = buffers
        self._memory: Optional[Memory] = None
        self._offset = 0

    def __reduce__(self) -> Any:
        raise PackedFoundError

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return len(self.blob) + sum(buffer.nbytes for buffer in self.buffers)

    def secure(self) -> None:
        """Copy what its value's owner could still change."""
        self.buffers = [buffer if type(buffer.obj) is bytes else memoryview(bytes(buffer)) for buffer in self.buffers]

    def move(self, memory: Memory, offset: int) -> None:
        """Let go of what is also the value at this offset of a message that was sent."""
        self.blob, self.buffers, self._memory, self._offset = b"", (), memory, offset

    def fetched(self) -> Packed:
        """Return it with what it may have let go of."""
        if self._memory is None:
            return self
        view = self._memory.view()
        buffers = _buffers_of(view)
        found = iter(buffers)
        _, blobs, counts = pickle.loads(view[_START:], buffers=found)
        n_before = sum(max(0, count) for count in counts[: self._offset])
        first = len(buffers) - len(list(found)) + n_before
        return Packed(blobs[self._offset], buffers[first : first + counts[self._offset]])


class Memory(Protocol):
    """Where a message stays after it was sent."""

    def view(self) -> memoryview:
        """Return the message."""


class Joined(NamedTuple):
    """A message that stays in memory of its own."""

    message: bytes

    def view(self) -> memoryview:
        return memoryview(self.message)


def secure(values: Sequence[Frozen]) -> None:
    """Copy what the owners of frozen values could still change."""
    for value in values if type(values) is list else ():
        if type(value) is Packed and value.buffers:
            value.secure()


def move(values: Sequence[Frozen], memory: Optional[Memory]) -> None:
    """Keep the large ones of values that were sent in one message where that is, or else copy them."""
    for offset, value in enumerate(values):
        if type(value) is Packed and value.n_bytes >= MIN_BUFFER_BYTES:
            if memory is not None:
                value.move(memory, offset)
            else:
                value.secure()


class Unsendable:
    """Stands for a value that could not be pickled.

    Attributes:
        error: Why.
    """

    __slots__ = ("error",)

    def __init__(self, error: SerializationError) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise PackedFoundError


class PackedTogether(Sequence[Any]):
    """Plain values as one pickle: copies of them can be had, as they were when it was made.

    Args:
        values: The values.
    """

    def __init__(self, values: list[Any]) -> None:
        self.blob = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
        self._length = len(values)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return pickle.loads(self.blob)[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(pickle.loads(self.blob))


class Codec:
    """Packs for its peers, unpacks from them.

    Args:
        peer_main: Names that the peers' ``__main__`` modules have; ``None``: no peer is known yet.
    """

    def __init__(self, peer_main: Optional[frozenset[str]] = None) -> None:
        self._known_names = peer_main
        self._spare: Optional[_Freezer] = None  # while it is not at work
        self._has_packed = False  # whether any of the last message's values was not plain

    def add_peer(self, names: frozenset[str]) -> None:
        """A peer has these names in its ``__main__``; what only some have is of no use."""
        self._known_names = names if self._known_names is None else self._known_names & names
        self._spare = None

    @property
    def _peer_main(self) -> frozenset[str]:
        return self._known_names if self._known_names is not None else frozenset()

    def pack(
        self, tag: bytes, head: Any, values: Iterable[Any] = ()
    ) -> tuple[Message, Mapping[int, SerializationError]]:
        """Pack a message of any values.

        Args:
            tag: One byte.
            head: Built-in types only.
            values: Anything.

        Returns:
            The message; and by offset the errors of the values that could not be pickled, each of which travels
            as ``None``.
        """
        frozen = [value if type(value) in NUMBERS else self.freeze(value) for value in values]
        return self.pack_batch(tag, head, frozen)

    def pack_batch(
        self, tag: bytes, head: Any, values: Sequence[Frozen]
    ) -> tuple[Message, Mapping[int, SerializationError]]:
        """Pack a message of values that are frozen; return it as `pack` does."""
        message = self.pack_frozen(tag, head, values)
        return message, errors_in(values) if self._has_packed else NO_ERRORS

    def pack_frozen(self, tag: bytes, head: Any, values: Sequence[Frozen]) -> Message:
        """Pack a message of values that are frozen.

        Args:
            tag: One byte.
            head: Built-in types only.
            values: The values; one that could not be pickled travels as ``None``.
        """
        if type(values) is PackedTogether:
            self._has_packed = False
            return _join(tag, (head, values.blob, TOGETHER), [])
        if not self._has_packed:
            try:
                return _join(tag, (head, values, None), [])
            except PackedFoundError:
                self._has_packed = True
        return self._pack_apart(tag, head, values)

    def _pack_apart(self, tag: bytes, head: Any, values: Sequence[Frozen]) -> Message:
        blobs: list[Any] = []
        counts: list[int] = []
        inner: list[memoryview] = []
        self._has_packed = False
        for value in values:
            kind = type(value)
            if kind is Packed:
                value = value.fetched()
                blob = value.blob
                blobs.append(blob if len(blob) < MIN_BUFFER_BYTES else pickle.PickleBuffer(blob))
                counts.append(len(value.buffers))
                inner += value.buffers
                self._has_packed = True
            elif kind is Unsendable:
                blobs.append(None)
                counts.append(0)
                self._has_packed = True
            else:
                blobs.append(value)
                counts.append(PLAIN)
        return _join(tag, (head, blobs, counts), inner)

    def freeze(self, value: Any) -> Frozen:
        """Pickle one value as it is now; its large buffers are not copied yet: see `Packed.secure`."""
        freezer, self._spare = self._spare, None  # code of the value's own may come here again
        if freezer is None:
            freezer = _Freezer(self._peer_main)
        try:
            packed = freezer.freeze(value)
        except BaseException as error:
            pass_interrupt(error)
            return Unsendable(_serialization_error("pickled", value, error))
        self._spare = freezer
        return packed

    def pack_error(self, error: BaseException) -> PackedError:
        """Pack an exception, as an object only if it survives the way there."""
        blob: Optional[bytes]
        try:
            blob = _Freezer(self._peer_main, keeps_buffers=False).dump(error)
            if type(pickle.loads(blob)) is not type(error):
                blob = None
        except BaseException as fault:
            pass_interrupt(fault)
            blob = None
        return PackedError(blob, type_name(type(error)), text_of(error), traceback_of(error))


class _Freezer:
    """Pickles one value after another, each by itself.

    Args:
        peer_main: Names that the peers' ``__main__`` modules have.
        keeps_buffers: Whether large buffers stay apart.
    """

    def __init__(self, peer_main: frozenset[str], keeps_buffers: bool = True) -> None:
        self._file = io.BytesIO()
        self._buffers = _Buffers()
        self._pickler = ValuePickler(self._file, peer_main, self._buffers.take if keeps_buffers else None)

    def dump(self, value: Any) -> bytes:
        """Return a value's pickle, without the buffers that stay apart."""
        file, pickler = self._file, self._pickler
        pickler.dump(value)
        blob = file.getvalue()
        file.seek(0)
        file.truncate()
        pickler.forget()
        return blob

    def freeze(self, value: Any) -> Packed:
        """Return a value's pickle with its buffers."""
        blob = self.dump(value)
        if not self._buffers.found:
            return Packed(blob)
        buffers, self._buffers.found = self._buffers.found, []
        return Packed(blob, buffers)


def errors_in(values: Iterable[Frozen]) -> dict[int, SerializationError]:
    """Return by offset the errors of the values that could not be pickled."""
    return {offset: value.error for offset, value in enumerate(values) if type(value) is Unsendable}


def _join(tag: bytes, content: tuple[Any, Any, Any], inner: list[memoryview]) -> Message:
    """Return a message with this content, whose packed values have these buffers."""
    outer = _Buffers()
    file = io.BytesIO(tag + _N_BUFFERS.pack(0))
    file.seek(_START)
    pickle.Pickler(file, pickle.HIGHEST_PROTOCOL, buffer_callback=outer.take).dump(content)
    buffers = outer.found + inner
    if not buffers:
        return file.getvalue()
    file.seek(0)
    file.write(tag + _N_BUFFERS.pack(len(buffers)))
    return Parts(file.getvalue(), buffers)


def tag_of(message: Arrived) -> bytes:
    """Return a message's tag."""
    return bytes(message[:TAG_SIZE])


def unpack(message: Arrived) -> tuple[Any, list[Any], dict[int, Exception]]:
    """Return a message's head, its values, and by offset the errors of those that could not be rebuilt.

    Buffers are not copied: what is made of them keeps all of the message.
    """
    view = memoryview(message)
    buffers = iter(_buffers_of(view))
    with _collector_paused():
        head, values, counts = pickle.loads(view[_START:], buffers=buffers)
        if counts == TOGETHER:
            values, counts = pickle.loads(values), None
    return head, values, {} if counts is None else unpack_in_place(values, counts, buffers)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Let no garbage be collected: many objects are made, and none of them is garbage."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


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
        counts: How many of the buffers each has; `PLAIN`: it is no pickle, and stays.
        buffers: The buffers of all of them.
    """
    failures: dict[int, Exception] = {}
    source = iter(buffers)
    for offset, blob in enumerate(blobs):
        if counts is not None and counts[offset] == PLAIN:
            continue
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
    set_cause(error, RemoteTraceback(trace))
    return error


def _serialization_error(done: str, value: Any, cause: BaseException) -> SerializationError:
    which = ""
    if done == "pickled":
        which = f" of type {type_name(type(value))}"
        if isinstance(value, ShellObject):  # what cannot travel is among the arguments, as a rule
            which = f", `{getattr(value.cls, '__qualname__', value.cls)}(...)` to be made by a worker,"
    error = SerializationError(f"an object{which} could not be {done}: {type(cause).__name__}: {text_of(cause)}")
    error.__cause__ = BaseException.with_traceback(cause, None)  # its frames would keep the whole batch alive
    return error
