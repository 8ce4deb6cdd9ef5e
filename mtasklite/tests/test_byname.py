"""By name: classes and functions of ``__main__`` are found where the other side has them too."""

from __future__ import annotations

import os
import subprocess
import sys

import multiprocess
import pytest

from mtasklite import _byvalue, _wire
from mtasklite.delayed_init import ShellObject
from mtasklite.tests.boundary import elsewhere, pack, receive, script, send, there_and_back

SCRIPT = """
    from mtasklite.delayed_init import delayed_init
    class Point:
        def __init__(self, x): self.x = x
    class Bad(Exception): pass
    def double(x): return 2 * x
    @delayed_init
    class Parser:
        def __call__(self, x): return x
    class Outer:
        class Inner: pass
"""


@pytest.fixture
def ours(monkeypatch):
    """A script, as this process's ``__main__``."""
    module = script(SCRIPT)
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


@pytest.fixture
def theirs():
    """The same script, as the ``__main__`` of another process that ran it too."""
    return script(SCRIPT)


def test_class_of_main_is_the_peer_s_own_there(ours, theirs):
    """An instance of a class of the script is, on the other side, one of the class that the script has there."""
    message = send(ours.Point(3), names=vars(theirs))
    with elsewhere(theirs):
        point = receive(message)
    assert type(point) is theirs.Point
    assert point.x == 3


def test_class_of_main_comes_home_as_itself(ours, theirs):
    """What the peer makes of its own class of the script is an instance of ours here."""
    with elsewhere(theirs):
        message = send([theirs.Point(3), theirs.Outer.Inner()], names=vars(ours))
    point, inner = receive(message)
    assert (type(point), type(inner)) == (ours.Point, ours.Outer.Inner)


@pytest.mark.parametrize("name", ["Point", "double"])
def test_name_that_the_peer_knows_is_sent_by_name(ours, name):
    """No code travels for what the peer's ``__main__`` has, so a second process costs nothing."""
    by_name = len(send(getattr(ours, name), names={name}))
    assert by_name < 150 < len(send(getattr(ours, name), names={"other"}))


def test_class_of_main_that_the_peer_has_not_travels_by_value(ours):
    """In a peer without the name the object works all the same, and comes home as itself."""
    message = send(ours.Point(3), names={"other"})
    with elsewhere():
        point = receive(message)
        assert type(point) is not ours.Point
        answer = send([point, point.x])
    point, x = receive(answer)
    assert (type(point), x) == (ours.Point, 3)


def test_class_that_was_defined_anew_travels_by_value(ours):
    """An instance of a class whose name stands for another by now keeps its own class."""
    old = ours.Point
    ours.Point = type("Point", (), {"__module__": "__main__"})
    assert type(there_and_back(old(3))) is old


def test_spawned_main_is_known_as_main(monkeypatch, ours, theirs):
    """A spawned worker knows its script as ``__mp_main__``; what it sends is found in our ``__main__``."""
    monkeypatch.setattr(theirs.Point, "__module__", "__mp_main__")
    with elsewhere(theirs):
        message = send(theirs.Point(3), names=vars(ours))
    assert type(receive(message)) is ours.Point


@pytest.mark.parametrize("names", [("Parser",), ()], ids=["by name", "by value"])
def test_shell_of_a_class_of_main_comes_home(ours, theirs, names):
    """A shell, whose class stands behind `delayed_init`'s wrapper, works on the other side and keeps its class."""
    message = send(ours.Parser(), names=names)
    with elsewhere(theirs if names else None):
        shell = receive(message)
        assert (type(shell), shell("x")) == (ShellObject, "x")
        if names:
            assert shell.cls is theirs.Parser.__wrapped__
        answer = send([shell, shell.make_instance()], names=vars(ours) if names else ())
    shell, instance = receive(answer)
    assert shell.cls is type(instance) is ours.Parser.__wrapped__


def test_name_that_is_missing_after_all_fails_alone(ours):
    """A name that the peer announced and does not have costs the one value, with an error that names it."""
    message, _ = pack(ours.Point(3), 4, names={"Point"})
    with elsewhere():
        _, values, failures = _wire.unpack(message)
    assert values == [None, 4]
    assert "'Point'" in str(failures[0])


def test_names_in_main_are_those_of_now(ours):
    """A name that was added to ``__main__`` is announced."""
    ours.added = 1
    assert {"Point", "added"} <= _byvalue.names_in_main()


# ---- real processes

MAIN_SCRIPT = """
from mtasklite import Pool

class Point:
    def __init__(self, x):
        self.x = x

class BadPoint(Exception):
    pass

def move(point):
    if point.x == 1:
        raise BadPoint(point)
    return type(point)(point.x + 10)

if __name__ == "__main__":
    class Guarded(Point):
        pass

    pool = Pool(move, 2, start_method={method!r}, exception_behavior="ignore")
    first, bad, guarded = list(pool([Point(0), Point(1), Guarded(2)]))
    print(type(first) is Point, first.x, type(bad) is BadPoint, type(bad.args[0]) is Point, type(guarded) is Guarded)
"""


@pytest.mark.parametrize("is_file", [True, False], ids=["script", "python -c"])
@pytest.mark.parametrize("start_method", multiprocess.get_all_start_methods())
def test_classes_of_a_real_main_keep_their_identity(start_method, is_file, tmp_path):
    """Objects and exceptions of a script's own classes, also of the guarded part, are instances of them here."""
    code = MAIN_SCRIPT.format(method=start_method)
    (tmp_path / "script.py").write_text(code)
    arguments = [str(tmp_path / "script.py")] if is_file else ["-c", code]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=_environment())
    assert done.stdout.split() == ["True", "10", "True", "True", "True"], done.stderr


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
