"""What is defined in ``__main__``, in a script or with `python -c` or on standard input, keeps its identity."""

from __future__ import annotations

import textwrap

import pytest

from mtasklite.tests import workers

METHODS = ["fork", "spawn", "forkserver"]

DEFINITIONS = """
import enum, os, sys
from collections import namedtuple
from dataclasses import dataclass, field
from functools import partial
from mtasklite import Pool, delayed_init
from mtasklite.processes import pqdm

class Thing:
    def __init__(self, value):
        self.value = value
    def method(self, item):
        return Thing(self.value + item)

class Child(Thing):
    def method(self, item):
        return super().method(item + 100)

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class Point:
    x: int
    tags: list = field(default_factory=list)

Pair = namedtuple("Pair", "left right")

class MyError(Exception):
    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code

class Outer:
    class Inner:
        value = 7

FACTOR = 3

def helper(item):
    return FACTOR * item

def work(item):
    return Thing(helper(item.value)) if type(item) is Thing else None

def fail(item):
    raise MyError("no good", item)

def is_red(item):
    return item is Colour.RED, item

def check(item):
    if isinstance(item, Thing):
        return isinstance(item, Thing), item
    if isinstance(item, Point):
        return item == Point(item.x, item.tags), item
    if isinstance(item, Pair):
        return item.left < item.right, item
    if isinstance(item, MyError):
        return item.code == 5, item
    if isinstance(item, Outer.Inner):
        return item.value == 7, item
    return item is Thing, item

@delayed_init
class Stateful:
    def __init__(self, thing):
        self.thing = thing
        self.pid = os.getpid()
    def __call__(self, item):
        assert isinstance(self.thing, Thing) and self.pid == os.getpid() != PARENT
        return Thing(self.thing.value + item)

PARENT = None
"""

BODIES = {
    "objects": """
        results = list(Pool(work, 2, start_method=METHOD)([Thing(n) for n in range(10)]))
        assert all(type(result) is Thing for result in results), results
        assert [result.value for result in results] == [3 * n for n in range(10)]
    """,
    "kinds": """
        items = [Thing(1), Child(2), Point(3, ["a"]), Pair(1, 2), MyError("m", 5), Thing, Outer.Inner()]
        for item, (is_right, back) in zip(items, Pool(check, 2, start_method=METHOD)(items)):
            assert is_right, item
            assert type(back) is type(item), (item, back)
            assert item is not Thing or back is Thing
        assert back.value == 7
    """,
    "enums": """
        results = list(Pool(is_red, 2, start_method=METHOD)([Colour.RED, Colour.BLUE]))
        assert results[0][0] is True and results[0][1] is Colour.RED
        assert results[1][0] is False and results[1][1] is Colour.BLUE
    """,
    "nested": """
        items = [{"things": [Thing(1), (Point(2), Pair(Child, None))]}]
        (back,) = Pool(lambda item: item, 2, start_method=METHOD)(items)
        thing, (point, pair) = back["things"]
        assert type(thing) is Thing and point == Point(2) and type(pair) is Pair and pair.left is Child
    """,
    "exceptions": """
        try:
            list(Pool(fail, 2, start_method=METHOD)([5]))
        except MyError as error:
            assert (error.args, error.code) == (("no good", 5), 5)
            assert "MyError" in str(error.__cause__) and "in fail" in str(error.__cause__)
        else:
            raise AssertionError("nothing was raised")
        (error,) = pqdm([5], fail, 2, start_method=METHOD, disable=True)
        assert type(error) is MyError
    """,
    "stateful": """
        PARENT = os.getpid()
        shell = Stateful(Thing(100))
        results = list(Pool([shell, shell], start_method=METHOD)(range(10)))
        assert all(type(result) is Thing for result in results)
        assert [result.value for result in results] == list(range(100, 110))
    """,
    "lambdas": """
        base = 1000
        def closure(item):
            return Thing(base + helper(item))
        for worker in [lambda item: Thing(base + helper(item)), closure, partial(lambda a, b: Thing(b + a), 5)]:
            results = list(Pool(worker, 2, start_method=METHOD)(range(5)))
            expected = [worker(n).value for n in range(5)]
            assert all(type(result) is Thing for result in results)
            assert [result.value for result in results] == expected
    """,
    "methods": """
        for thing in [Thing(10), Child(10)]:
            results = list(Pool(thing.method, 2, start_method=METHOD)(range(3)))
            assert [result.value for result in results] == [thing.method(n).value for n in range(3)]
            assert all(type(result) is Thing for result in results)
    """,
    "locals": """
        def make():
            class Local(Thing):
                def __init__(self, value):
                    super().__init__(value)
            class LocalError(Exception):
                pass
            def work(item):
                if type(item) is not Local:
                    raise LocalError(item)
                return Local(item.value + 1)
            return Local, LocalError, work
        Local, LocalError, local_work = make()
        pool = Pool(local_work, 2, exception_behavior="ignore", start_method=METHOD)
        results = list(pool([Local(1), 5, Local(2)]))
        assert [type(result) for result in results] == [Local, LocalError, Local], results
        assert isinstance(results[0], Thing) and results[2].value == 3
    """,
    "again": """
        with Pool(lambda item: item, 2, start_method=METHOD) as pool:
            for _ in range(3):
                things = [Thing(n) for n in range(20)]
                assert all(type(result) is Thing for result in pool(things))
            class Later(Thing):
                pass
            (later,) = pool([Later(1)])
            assert type(later) is Later
    """,
}


def script(method, body, is_guarded):
    """Put together a script that prints a word if all is well."""
    lines = textwrap.dedent(BODIES[body]).strip() + '\nprint("well")'
    lines = lines.replace("METHOD", repr(method))
    if is_guarded:
        lines = 'if __name__ == "__main__":\n' + textwrap.indent(lines, "    ")
    return f"{DEFINITIONS}\n{lines}\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", list(BODIES))
def test_script_keeps_its_classes(method, body, tmp_path):
    """Classes, exceptions, functions and workers of a script arrive as what they are, both ways."""
    path = tmp_path / "script.py"
    path.write_text(script(method, body, is_guarded=True))
    assert workers.run_python(str(path)) == "well\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", ["kinds", "enums", "exceptions", "stateful", "lambdas", "locals"])
def test_code_on_the_command_line_keeps_its_classes(method, body):
    """So they do with `python -c`, where a new process has no file to find them in."""
    assert workers.run_python("-c", script(method, body, is_guarded=False)) == "well\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", ["kinds", "stateful"])
def test_code_on_standard_input_keeps_its_classes(method, body):
    """So they do where the code comes on standard input."""
    assert workers.run_python("-", stdin=script(method, body, is_guarded=False)) == "well\n"


@pytest.mark.parametrize("method", METHODS)
def test_names_behind_the_guard_keep_their_classes(method, tmp_path):
    """A class that only the parent's ``__main__`` has, for it stands behind the guard, keeps its identity too."""
    path = tmp_path / "script.py"
    path.write_text(f'if __name__ == "__main__":\n{textwrap.indent(script(method, "kinds", is_guarded=False), "    ")}')
    assert workers.run_python(str(path)) == "well\n"


@pytest.mark.parametrize("method", METHODS)
def test_module_run_with_m_keeps_its_classes(method, tmp_path, monkeypatch):
    """So they do where a module is run with `python -m`."""
    (tmp_path / "module_to_run.py").write_text(script(method, "kinds", is_guarded=True))
    monkeypatch.chdir(tmp_path)
    assert workers.run_python("-m", "module_to_run") == "well\n"


def test_script_without_a_guard_is_a_clear_error_not_a_hang(tmp_path):
    """A script that starts a pool with `spawn` outside of the guard ends, with an error that says what is missing."""
    path = tmp_path / "script.py"
    path.write_text(script("spawn", "objects", is_guarded=False))
    with pytest.raises(AssertionError, match="__main__"):
        workers.run_python(str(path))
