"""Bytes and back: the messages of the codec, and what cannot travel."""

from __future__ import annotations

import functools
import gc
import subprocess
import sys
import textwrap
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtasklite import _wire
from mtasklite._wire import Codec
from mtasklite.delayed_init import ShellObject
from mtasklite.errors import SerializationError
from mtasklite.tests.boundary import TAG, pack, receive, send

# ---- messages


class _Refuses:
    """Cannot be pickled."""

    def __init__(self, method):
        self.method = method

    def __reduce__(self):
        if self.method == "__reduce__":
            raise ValueError("no reduction")
        return super().__reduce__()

    def __getstate__(self):
        if self.method == "__getstate__":
            raise ValueError("no state")
        return vars(self)

    def __reduce_ex__(self, protocol):
        return self.__reduce__() if self.method == "__reduce__" else super().__reduce_ex__(protocol)


class _Unloadable:
    """Can be pickled, but not unpickled."""

    def __getstate__(self):
        return {"some": "state"}

    def __setstate__(self, state):
        raise ValueError("no way back")


class _Box:
    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return type(other) is _Box and other.content == self.content


def _deep():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    return nested


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.just(range(3)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.complex_numbers(allow_nan=False), max_size=3)
        | st.binary().map(bytearray)
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None)
@given(st.lists(PLAIN, max_size=5))
def test_plain_data_is_equal_after_a_round_trip(values):
    """Nested built-in data arrives as it was, whatever it is."""
    message, failures = pack(*values)
    assert (failures, _wire.unpack(message)) == ({}, (None, values, {}))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.one_of(PLAIN, PLAIN.map(_Box)), max_size=5))
def test_instances_among_plain_data_are_equal_after_a_round_trip(values):
    """Instances of classes change nothing for what lies beside them."""
    message, failures = pack(*values)
    assert (failures, _wire.unpack(message)) == ({}, (None, values, {}))


def test_message_has_its_tag_and_head():
    """The tag can be read without unpickling; the head comes with the values."""
    message, _ = Codec().pack(b"Z", (7, 0.5, {}), [1, 2])
    assert _wire.tag_of(bytes(message)) == b"Z"
    assert _wire.unpack(message) == ((7, 0.5, {}), [1, 2], {})


def test_message_without_values_is_a_message():
    """A message may consist of its tag alone."""
    message, _ = Codec().pack(TAG, None, [])
    assert _wire.unpack(message) == (None, [], {})


def test_codec_packs_plain_data_after_instances():
    """A codec that met instances packs the next batches of plain data as before."""
    codec = Codec()
    for values in ([_Box(1)], [1, 2], [3, 4]):
        message, _ = codec.pack(TAG, None, values)
        assert _wire.unpack(message) == (None, values, {})


def test_object_that_is_twice_in_a_value_stays_one():
    """What is one object inside a value is one object inside its copy."""
    box = _Box([])
    first, second = receive(send([box, box]))
    assert first is second


def test_bound_method_and_partial_travel():
    """A bound method and a `functools.partial` are called on the other side as here."""
    method, partial = receive(send([[3, 1].count, functools.partial(pow, 2)]))
    assert (method(3), partial(5)) == (1, 32)


def test_message_in_a_reference_cycle_is_collected_in_peace():
    """A message that is part of a reference cycle can be collected: no crash of the interpreter, no complaint."""
    code = """
        import gc, types
        from mtasklite._wire import Codec
        def leave():
            message, _ = Codec().pack(b"T", None, [1])
            holder = types.SimpleNamespace(message=message)
            holder.holder = holder
        leave()
        gc.collect()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# ---- what cannot travel

UNPICKLABLE = {
    "__reduce__ raises": lambda: _Refuses("__reduce__"),
    "__getstate__ raises": lambda: _Refuses("__getstate__"),
    "generator": lambda: (x for x in ()),
    "too deep": _deep,
    "lambda over a generator": lambda: (lambda inner: lambda: inner)(x for x in ()),
}


@pytest.mark.parametrize("build", UNPICKLABLE.values(), ids=UNPICKLABLE)
def test_unpicklable_value_fails_alone(build):
    """Of a batch, only the value that cannot be pickled fails; the others arrive."""
    message, failures = pack("before", build(), _Box("after"))
    _, values, _ = _wire.unpack(message)
    assert list(failures) == [1]
    assert (values[0], values[2]) == ("before", _Box("after"))


@pytest.mark.parametrize("build", UNPICKLABLE.values(), ids=UNPICKLABLE)
def test_unpicklable_value_becomes_a_serialization_error_with_the_cause(build):
    """The failure names the value's type, and what the pickler said is its cause and in its text."""
    value = build()
    _, failures = pack(value)
    error = failures[0]
    assert type(error) is SerializationError
    assert error.__cause__ is not None
    assert type(error.__cause__).__name__ in str(error)
    assert type(value).__qualname__ in str(error)


@pytest.mark.parametrize("method", ["__reduce__", "__getstate__"])
def test_serialization_error_has_the_raised_exception_as_cause(method):
    """What the value's own method raised is the cause."""
    cause = pack(_Refuses(method))[1][0].__cause__
    assert type(cause) is ValueError


def test_value_that_could_not_be_pickled_is_known_on_the_other_side():
    """The receiver cannot take the empty place for a value."""
    message, _ = pack(_Refuses("__reduce__"), 1)
    _, values, failures = _wire.unpack(message)
    assert (list(failures), values) == ([0], [None, 1])


def test_unloadable_value_fails_alone():
    """Of a batch, only the value that cannot be unpickled fails; the others arrive."""
    message, packing_failures = pack(_Box(1), _Unloadable(), "after")
    _, values, failures = _wire.unpack(message)
    assert packing_failures == {}
    assert values == [_Box(1), None, "after"]
    assert list(failures) == [1]


def test_unloadable_value_becomes_a_serialization_error_with_the_cause():
    """What `__setstate__` raised is the cause, and in the text."""
    error = _wire.unpack(pack(_Unloadable())[0])[2][0]
    assert type(error) is SerializationError
    assert type(error.__cause__) is ValueError
    assert "ValueError: no way back" in str(error)


def test_unpicklable_argument_of_a_worker_names_its_class():
    """What the user wrote is named, not what stands for it on its way."""
    _, failures = pack(ShellObject(_Box, threading.Lock()))
    assert "an object, `_Box(...)` to be made by a worker, could not be pickled: TypeError" in str(failures[0])


def test_unpicklable_value_does_not_stick_to_the_next():
    """After a failure, the next batch of the same codec is complete."""
    codec = Codec()
    codec.pack(TAG, None, [_Refuses("__reduce__")])
    message, failures = codec.pack(TAG, None, [1, _Box(2)])
    assert (failures, _wire.unpack(message)) == ({}, (None, [1, _Box(2)], {}))


def test_serialization_error_keeps_no_other_value_alive():
    """Whoever keeps the error of one item does not keep the values that travelled with it."""

    class Big:
        pass

    big = Big()
    marker = weakref.finalize(big, int)
    failures = pack(_Refuses("__reduce__"), big)[1]
    del big
    gc.collect()
    assert failures
    assert not marker.alive
