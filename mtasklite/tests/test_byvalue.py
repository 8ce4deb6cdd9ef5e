"""By value: what has no name to find it by travels with its code, and keeps its identity."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import subprocess
import sys
import textwrap
import typing

import multiprocess
import pytest

from mtasklite import Pool
from mtasklite.delayed_init import delayed_init
from mtasklite.tests.boundary import elsewhere, receive, script, send, there_and_back

START_METHODS = multiprocess.get_all_start_methods()


def _plain():
    class Plain:
        def __init__(self):
            self.x = 1

    return Plain()


def _derived():
    class Base:
        def name(self):
            return "base"

    class Derived(Base):
        def name(self):
            return "derived from " + super().name()

    return Derived()


def _dataclass():
    @dataclasses.dataclass
    class Point:
        x: int

    return Point(1)


def _named_tuple():
    class Pair(typing.NamedTuple):
        x: int

    return Pair(1)


def _slots():
    class Slots:
        __slots__ = ("x",)

    return Slots()


def _abstract():
    class Base(abc.ABC):
        @abc.abstractmethod
        def name(self): ...

    class Concrete(Base):
        def name(self):
            return "concrete"

    return Concrete()


def _enum():
    class Color(enum.Enum):
        RED = 1

    return Color.RED


def _generic():
    T = typing.TypeVar("T")

    class Boxed(typing.Generic[T]):
        pass

    return Boxed()


def _nested():
    class Outer:
        class Inner:
            pass

    return Outer.Inner()


def _registered():
    class Registered:
        known: typing.ClassVar[dict] = {}

    Registered.known["me"] = Registered
    return Registered()


def _self_made():
    class Node:
        def child(self):
            return Node()

    return Node()


def _exception():
    class LocalError(Exception):
        pass

    return LocalError("text")


BUILDERS = [
    _plain, _derived, _dataclass, _named_tuple, _slots, _abstract, _enum, _generic, _nested, _registered, _self_made,
    _exception,
]  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__[1:])
def test_local_class_keeps_its_identity(build):
    """An instance of a class without a name to find it by comes home as an instance of that very class."""
    value = build()
    assert type(there_and_back(value)) is type(value)


WORKS = [
    (_plain, lambda value: value.x),
    (_dataclass, lambda value: [value.x, value == type(value)(1), value == type(value)(2)]),
    (_named_tuple, lambda value: [value.x, value._asdict(), len(value)]),
    (_slots, lambda value: [hasattr(value, "x"), hasattr(value, "__dict__")]),
    (_abstract, lambda value: [value.name(), sorted(type(value).__mro__[1].__abstractmethods__)]),
    (_enum, lambda value: [value.name, value.value, list(type(value)) == [value], type(value)(1) is value]),
    (_generic, lambda value: [len(type(value).__parameters__), type(value)[int].__args__ == (int,)]),
    (_registered, lambda value: [value.known["me"] is type(value)]),
    (_self_made, lambda value: type(value.child()) is type(value)),
    (_exception, lambda value: value.args),
    (_plain, lambda value: [type(value).__name__, type(value).__qualname__, type(value).__module__]),
]


@pytest.mark.parametrize(("build", "use"), WORKS, ids=[build.__name__[1:] for build, _ in WORKS])
def test_local_class_works_there_as_here(build, use):
    """On the other side, an instance of a class that travelled by value does what it does here."""
    value = build()
    assert there_and_back(value, use) == use(value)


def test_local_class_itself_comes_home_as_itself():
    """The class, sent as an object, is the same object when it is back."""
    cls = type(_plain())
    assert there_and_back(cls) is cls


def test_local_class_is_one_class_on_the_other_side():
    """All instances of one class are of one class there, also when they come in several messages."""
    first = _plain()
    second = type(first)()
    messages = [send(first), send(second)]
    with elsewhere():
        types_there = {type(receive(message)) for message in messages}
    assert len(types_there) == 1


def test_local_base_and_derived_keep_their_relation():
    """`isinstance` with a local base class holds there and after the way home."""
    value = _derived()
    base = type(value).__mro__[1]
    copy, name = there_and_back(value, lambda copy: [copy, copy.name()])
    assert isinstance(copy, base)
    assert name == "derived from base"


def test_result_of_a_local_class_made_there_is_ours():
    """What a method makes there of its own class is an instance of ours here."""
    node = _self_made()
    assert type(there_and_back(node, lambda node: node.child())) is type(node)


def _mutual():
    class Husband:
        def partner(self):
            return Wife()

    class Wife:
        def partner(self):
            return Husband()

    return Husband, Wife


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3])
def test_local_classes_that_use_each_other_keep_their_identity(n_steps):
    """However often they call each other there, what comes home is an instance of one of the two."""
    classes = _mutual()

    def walk(person):
        for _ in range(n_steps):
            person = person.partner()
        return person

    assert type(there_and_back(classes[0](), walk)) is classes[n_steps % 2]


def test_many_local_classes_that_use_each_other_stay_small():
    """Six classes that all use each other take some kilobytes, not a power of their number."""
    names = [f"C{number}" for number in range(6)]
    body = f"def all(self): return [{', '.join(names)}]"
    source = "def make():\n" + "".join(f"    class {name}:\n        {body}\n" for name in names)
    module = script(source + f"    return {names[0]}()\n")
    assert len(send(module.make())) < 50_000


def test_lambda_and_closure_travel():
    """A lambda, and a function with what it encloses, can be called on the other side."""
    factor = 3
    assert there_and_back([lambda x: x + 1, lambda x: x * factor], lambda fs: [f(5) for f in fs]) == [6, 15]


def test_function_of_main_travels_with_its_globals(monkeypatch):
    """What a function without a name there uses of its module goes with it."""
    module = script("FACTOR = 3\ndef helper(x): return x * FACTOR\ndef work(x): return helper(x) + 1")
    monkeypatch.setitem(sys.modules, "__main__", module)
    message = send(module.work, names={"other"})
    with elsewhere():
        assert receive(message)(2) == 7


def test_instance_inside_a_closure_keeps_its_class():
    """An instance that a lambda encloses comes home as one of its class."""
    value = _plain()
    assert type(there_and_back(lambda: value, lambda enclosing: enclosing())) is type(value)


def test_functions_of_modules_bring_no_dill():
    """A pool over plain functions and data never imports dill's pickler."""
    code = """
        import sys, os.path
        from mtasklite._wire import Codec, unpack
        unpack(Codec().pack(b"T", None, [os.path.join, dict, 1])[0])
        print("dill" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


# ---- real processes


@delayed_init
class _Tagger:
    def __call__(self, item):
        return collections.Counter({item: 1})


@pytest.mark.parametrize("start_method", START_METHODS)
def test_decorated_class_travels_to_real_processes(start_method):
    """A shell of a decorated class of a module reaches its workers under each start method."""
    assert list(Pool(_Tagger(), 2, start_method=start_method)("ab")) == [{"a": 1}, {"b": 1}]


@pytest.mark.parametrize("start_method", START_METHODS)
def test_local_class_keeps_its_identity_through_real_processes(start_method):
    """Instances of a local class, sent and returned, are instances of it here."""
    value = _self_made()
    results = Pool(lambda item: [item, item.child()], 2, start_method=start_method)([value, value])
    assert {type(made) for pair in results for made in pair} == {type(value)}
