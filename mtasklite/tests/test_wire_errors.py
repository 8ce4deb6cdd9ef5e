"""Exceptions on their way: the true class with its traceback, or a stand-in for what cannot be rebuilt."""

from __future__ import annotations

import linecache
import pickle

import pytest

from mtasklite import _wire
from mtasklite._inbox import Inbox
from mtasklite._status import new_board
from mtasklite._wire import Codec, PackedError
from mtasklite._worker import WorkerLoop
from mtasklite.errors import RemoteError, RemoteTraceback


def _remote(error):
    """Return what arrives of an exception that is raised in a worker."""
    try:
        raise error
    except Exception as raised:
        packed = Codec().pack_error(raised)
    return _wire.unpack_error(pickle.loads(pickle.dumps(packed)))


def _local_exception():
    class LocalError(Exception):
        pass

    return LocalError("text")


class _Coded(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class _Attributed(Exception):
    def __init__(self, code):
        super().__init__("always this text")
        self.code = code


class _Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class _MuteAndUnpicklable(_Mute):
    def __reduce__(self):
        raise TypeError("no way")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("k"),
        OSError(2, "no such file"),
        StopIteration(3),
        UnicodeError(),
        _local_exception(),
    ],
)
def test_exception_arrives_with_class_and_args(error):
    """The true class, and `args` equal to those that it had."""
    arrived = _remote(error)
    assert (type(arrived), arrived.args) == (type(error), error.args)


def test_exception_arrives_with_its_attributes():
    """What was set on the exception is there."""
    error = ValueError("a")
    error.detail = {"line": 3}
    assert _remote(error).detail == {"line": 3}


def test_exception_with_a_constructor_of_its_own_arrives_with_its_attributes():
    """An `__init__` that takes other arguments than `args`, but as many, loses nothing."""
    arrived = _remote(_Attributed(7))
    assert (type(arrived), arrived.code, arrived.args) == (_Attributed, 7, ("always this text",))


def test_exception_has_the_remote_traceback_as_cause():
    """The cause is the worker's traceback, as text with the line that raised."""
    cause = _remote(ValueError("a")).__cause__
    assert type(cause) is RemoteTraceback
    assert "ValueError: a" in cause.traceback


def test_remote_traceback_shows_the_worker_s_frames_but_the_loop_s():
    """The text begins with the user's function, not with the library's loop."""

    def users_function(item):
        raise ValueError("a")

    sent = []
    WorkerLoop(users_function, Inbox(), new_board(), sent.append, limit=None).work(0, [1], {})
    text = Codec().pack_error(sent[0].failures[0]).traceback
    assert "in users_function" in text
    assert "in _work_on" not in text


def test_remote_traceback_gets_the_lines_that_only_this_side_knows():
    """What was typed into a notebook is no file that a worker could read."""
    source = "def invert(item):\n    return 1 / item\n"
    scope = {}
    exec(compile(source, "<a cell>", "exec"), scope)
    try:
        scope["invert"](0)
    except ZeroDivisionError as error:
        packed = Codec().pack_error(error)
    linecache.cache["<a cell>"] = (len(source), None, source.splitlines(keepends=True), "<a cell>")
    try:
        shown = str(_wire.unpack_error(packed).__cause__)
    finally:
        del linecache.cache["<a cell>"]
    assert '  File "<a cell>", line 2, in invert\n    return 1 / item\nZeroDivisionError' in shown
    assert shown.count("return 1 / item") == 1
    assert shown.count('scope["invert"](0)') == 1  # there already


def test_remote_traceback_shows_the_exception_s_own_cause():
    """What the exception was raised from is in the text."""
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as error:
        text = Codec().pack_error(error).traceback
    assert "KeyError: 'first'" in text


@pytest.mark.parametrize("error", [_Coded(7, "bad"), _MuteAndUnpicklable("x")])
def test_exception_that_cannot_be_rebuilt_becomes_a_remote_error(error):
    """A stand-in arrives, with the type's name, and with the traceback as cause."""
    arrived = _remote(error)
    assert type(arrived) is RemoteError
    assert arrived.type_name == f"{__name__}.{type(error).__name__}"
    assert type(arrived.__cause__) is RemoteTraceback
    assert type(error).__name__ in arrived.traceback


def test_remote_error_has_the_text():
    """The stand-in's text is the exception's."""
    assert _remote(_Coded(7, "bad")).text == "7: bad"


def test_exception_without_a_text_keeps_its_class():
    """An exception whose `__str__` raises still arrives as what it is."""
    assert type(_remote(_Mute("x"))) is _Mute


def test_remote_error_says_so_where_there_is_no_text():
    """A stand-in for an exception whose `__str__` raises says that."""
    assert "text cannot be had" in _remote(_MuteAndUnpicklable("x")).text


@pytest.mark.parametrize("blob", [b"nonsense", pickle.dumps("no exception"), pickle.dumps(SystemExit(3)), None])
def test_exception_that_only_this_side_cannot_rebuild_becomes_a_remote_error(blob):
    """Whatever the blob gives here, what arrives is an `Exception` with class name and text."""
    arrived = _wire.unpack_error(PackedError(blob, "module.Theirs", "text", "traceback"))
    assert (type(arrived), arrived.type_name, arrived.text) == (RemoteError, "module.Theirs", "text")
