"""By value: what has no name to find it by travels with its code, and keeps its identity."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import os
import subprocess
import sys
import textwrap
import threading
import types
import typing

import multiprocess
import pytest

from mtasklite import Pool, _byvalue
from mtasklite.delayed_init import delayed_init
from mtasklite.errors import SerializationError
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


# ---- one test for each kind


def _look(cls, use):
    """Return what `use` finds with the class there, and whether the class came home as itself."""
    home, found = there_and_back(cls, lambda copy: [copy, use(copy)])
    assert home is cls
    return found


def test_metaclass_works_there_and_does_not_run_again():
    """A class of a local metaclass, which may make it unhashable and want keywords, is rebuilt without running it."""

    class Meta(type):
        made: typing.ClassVar[list] = []
        __hash__ = None

        def __new__(mcs, name, bases, namespace, *, tag):
            mcs.made.append(tag)
            return super().__new__(mcs, name, bases, namespace)

        def __init__(cls, name, bases, namespace, *, tag):
            super().__init__(name, bases, namespace)

        def shout(cls):
            return cls.__name__.upper()

    class Tagged(metaclass=Meta, tag="t"):
        pass

    assert _look(Tagged, lambda cls: [cls.shout(), cls.made]) == ["TAGGED", ["t"]]


def test_init_subclass_does_not_run_again():
    """`__init_subclass__` ran where the class was defined; its result travels, and it wants no keyword there."""

    class Base:
        known: typing.ClassVar[list] = []

        def __init_subclass__(cls, *, tag, **kwargs):
            super().__init_subclass__(**kwargs)
            cls.known.append(tag)
            cls.tag = tag

    class Other:
        pass

    class Derived(Other, Base, tag="d"):
        pass

    assert _look(Derived, lambda cls: [cls.tag, cls.known, cls.__mro__[2].__name__]) == ["d", ["d"], "Base"]


def test_init_subclass_of_a_class_with_slots_does_not_run_again():
    """So it is where instances have no ``__dict__``."""

    class Base:
        __slots__ = ("x",)

        def __init_subclass__(cls, *, tag):
            cls.tag = tag

    class Derived(Base, tag="d"):
        __slots__ = ("y",)

    assert _look(Derived, lambda cls: [cls.tag, hasattr(cls(), "__dict__"), len(cls.__bases__)]) == ["d", False, 1]


def test_descriptor_knows_its_name_there():
    """What `__set_name__` did travels, and is not done again."""

    class Field:
        names: typing.ClassVar[list] = []

        def __set_name__(self, owner, name):
            self.name = name
            self.names.append(name)

        def __get__(self, instance, owner):
            return [self.name, *self.names]

    class Record:
        first = Field()

    assert _look(Record, lambda cls: cls().first) == ["first", "first"]


def test_abstract_class_stays_abstract_there():
    """An abstract class cannot be instantiated there either, and `isinstance` works."""
    abstract = type(_abstract()).__mro__[1]

    def use(cls):
        with pytest.raises(TypeError, match="abstract"):
            cls()
        return isinstance(1, cls)

    assert _look(abstract, use) is False


def test_slots_of_base_and_derived_travel():
    """Instances of classes with slots bring the content of all slots."""

    class Base:
        __slots__ = ("__hidden", "x")

        def __init__(self):
            self.x, self.__hidden = 1, 2

        def hidden(self):
            return self.__hidden

    class Derived(Base):
        __slots__ = "y"

    value = Derived()
    value.y = 3
    copy, found = there_and_back(value, lambda copy: [copy, [copy.x, copy.y, copy.hidden()]])
    assert (type(copy), copy.x, copy.y, found) == (Derived, 1, 3, [1, 3, 2])


FORMS = [{}, {"frozen": True}, {"order": True}]
if sys.version_info >= (3, 10):
    FORMS += [{"slots": True}, {"slots": True, "frozen": True}, {"kw_only": True}]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_dataclass_travels_in_all_its_forms(form):
    """A dataclass keeps fields, defaults, factories and equality, there and on the way home."""

    @dataclasses.dataclass(**form)
    class Point:
        x: int = 1
        tags: list = dataclasses.field(default_factory=list, metadata={"unit": "m"})

        origin: typing.ClassVar[typing.Any] = None

    Point.origin = Point(x=0)

    def use(copy):
        names = [field.name for field in dataclasses.fields(copy)]
        changed = dataclasses.replace(copy, tags=["b"])
        return [copy, names, changed, dataclasses.asdict(copy), repr(type(copy)()), copy.origin == type(copy)(x=0)]

    value = Point(x=2)
    assert there_and_back(value, use) == use(value)


def test_frozen_dataclass_is_a_key_there():
    """Its hash works before all of its class is there: keys of a dict that the class itself holds are found."""

    @dataclasses.dataclass(frozen=True)
    class Key:
        x: int
        known: typing.ClassVar[dict] = {}

        def find(self):
            return self.known[self]

    Key.known[Key(1)] = "one"
    assert there_and_back(Key(1), lambda key: key.find()) == "one"


@pytest.mark.parametrize("is_typed", [True, False])
def test_named_tuple_travels_with_defaults_and_methods(is_typed):
    """Both ways to make a named tuple give a class that works there as here."""
    if is_typed:

        class Pair(typing.NamedTuple):
            left: int
            right: int = 2
    else:
        Pair = collections.namedtuple("Pair", "left right", defaults=[2])

    def use(pair):
        return [pair, pair._replace(left=5), pair._asdict(), type(pair)(7), pair.right, repr(pair), type(pair)._fields]

    assert there_and_back(Pair(1), use) == use(Pair(1))


def _enums():
    class Plain(enum.Enum):
        RED = enum.auto()
        BLUE = enum.auto()
        ALSO_RED = RED

        def describe(self):
            return self.name.lower()

    class Number(enum.IntEnum):
        ONE = 1
        TWO = 2

        @property
        def half(self):
            return self.value / 2

    class Access(enum.Flag):
        READ = enum.auto()
        WRITE = enum.auto()
        BOTH = READ | WRITE

    class Bits(enum.IntFlag):
        A = enum.auto()
        B = enum.auto()

    class Text(str, enum.Enum):
        def _generate_next_value_(name, start, count, last_values):
            return name.lower()

        HELLO = enum.auto()
        BYE = enum.auto()

        @classmethod
        def _missing_(cls, value):
            return cls.BYE

    class Planet(enum.Enum):
        EARTH = (5.9, 6.3)
        MARS = (0.6, 3.3)

        def __init__(self, mass, radius):
            self.mass, self.radius = mass, radius

    class Coordinate(bytes, enum.Enum):
        def __new__(cls, value, label):
            member = bytes.__new__(cls, [value])
            member._value_ = value
            member.label = label
            return member

        def __repr__(self):
            return self.label

        PX = (0, "P.X")
        PY = (1, "P.Y")

    class AutoNumber(enum.Enum):
        def __new__(cls):
            member = object.__new__(cls)
            member._value_ = len(cls.__members__) + 10
            return member

    class Numbered(AutoNumber):
        FIRST = ()
        SECOND = ()

    class Pairs(tuple, enum.Enum):
        A = (1, 2)

    return [Plain, Number, Access, Bits, Text, Planet, Coordinate, Numbered, Pairs]


ENUM_NAMES = ["Plain", "Number", "Access", "Bits", "Text", "Planet", "Coordinate", "Numbered", "Pairs"]


@pytest.mark.parametrize("name", ENUM_NAMES)
def test_enum_keeps_members_and_values(name):
    """Members are there what they are here, all of them, and come home as themselves."""
    cls = next(cls for cls in _enums() if cls.__name__ == name)
    copies, found = there_and_back(
        list(cls),
        lambda members: [
            members,
            [
                [
                    (member.name, member.value, str(member), repr(member), member.__reduce_ex__(2)[1:])
                    for member in members
                ],
                [type(members[0])(member.value) is member for member in members],
                list(type(members[0])) == members,
                list(type(members[0]).__members__),
            ],
        ],
    )
    assert all(copy is member for copy, member in zip(copies, cls))
    assert [entry[:4] for entry in found[0]] == [(m.name, m.value, str(m), repr(m)) for m in cls]
    assert found[1:] == [[True] * len(list(cls)), True, list(cls.__members__)]


ENUM_WORK = {
    "Plain": lambda cls: [cls.RED.describe(), cls.ALSO_RED is cls.RED, cls["BLUE"] is cls.BLUE],
    "Number": lambda cls: [cls.ONE.half, cls.ONE < cls.TWO, cls.ONE + 1],
    "Access": lambda cls: [cls.READ | cls.WRITE is cls.BOTH, bool(cls.READ & cls.WRITE), (~cls.READ) is cls.WRITE],
    "Bits": lambda cls: [int(cls.A | cls.B), cls.A in (cls.A | cls.B), int(cls.A | 8)],
    "Text": lambda cls: [cls.HELLO + "!", cls("no such") is cls.BYE, isinstance(cls.HELLO, str)],
    "Planet": lambda cls: [cls.EARTH.mass, cls.MARS.radius, cls((0.6, 3.3)) is cls.MARS],
    "Coordinate": lambda cls: [bytes(cls.PX), bytes(cls.PY), cls.PY.label, cls(1) is cls.PY],
    "Numbered": lambda cls: [cls.FIRST.value, cls.SECOND.value, cls.__mro__[1].__name__],
    "Pairs": lambda cls: [cls.A[1], len(cls.A), cls((1, 2)) is cls.A],
}


@pytest.mark.parametrize("name", ENUM_NAMES)
def test_enum_works_there_as_here(name):
    """Methods, mixed-in types, flags and what a member's `__init__` or `__new__` left work on the other side."""
    cls = next(cls for cls in _enums() if cls.__name__ == name)
    assert _look(cls, ENUM_WORK[name]) == ENUM_WORK[name](cls)


def test_enum_of_the_other_side_refuses_change():
    """A rebuilt enum is closed like any: no new member by assignment, no subclass."""

    def use(cls):
        with pytest.raises(AttributeError):
            cls.RED = 5
        with pytest.raises(TypeError):
            types.new_class("More", (cls,))

    _look(_enums()[0], use)


def test_generic_class_works_there_as_here():
    """A generic class can be parametrized there, with its own type variable, and so can a subclass."""
    T = typing.TypeVar("T", bound=int)

    class Box(typing.Generic[T]):
        def put(self, value: T) -> T:
            return value

    class Derived(Box[T]):
        pass

    home, variable, alias, found = there_and_back(
        (Derived, T, Box[bool]),
        lambda all: [
            *all,
            [all[0].__parameters__ == (all[1],), all[0][int].__args__, all[0]().put(3), all[1].__bound__],
        ],
    )
    assert (home, variable, alias) == (Derived, T, Box[bool])
    assert found == [True, (int,), 3, int]


def test_instance_of_a_parametrized_class_travels():
    """An instance knows with which parameters it was made."""
    box = type(_generic())[int]()
    assert there_and_back(box).__orig_class__ == box.__orig_class__


def test_protocol_works_there_as_here():
    """A runtime protocol recognizes there what fits it."""

    @typing.runtime_checkable
    class Closes(typing.Protocol):
        def close(self): ...

    assert _look(Closes, lambda cls: [isinstance(open, cls), isinstance(collections.deque, cls)]) == [False, False]
    assert _look(Closes, lambda cls: isinstance(types.SimpleNamespace(close=1), cls)) is True


def test_methods_of_all_sorts_work_there():
    """Properties, class methods, static methods, cached properties and partial methods do."""

    class Sorts:
        factor = 2

        def __init__(self):
            self._x = 1

        @property
        def x(self):
            """Documented."""
            return self._x

        @x.setter
        def x(self, value):
            self._x = value * self.factor

        @classmethod
        def make(cls):
            return cls()

        @staticmethod
        def double(value):
            return 2 * value

        @functools.cached_property
        def cached(self):
            return [self._x]

        triple = functools.partialmethod(lambda self, factor, x: factor * x, 3)

    def use(cls):
        made = cls.make()
        made.x = 5
        return [made.x, cls.x.__doc__, cls.double(4), made.cached is made.cached, made.triple(2)]

    assert _look(Sorts, use) == [10, "Documented.", 8, True, 6]


def test_lock_of_a_class_travels_open():
    """A reentrant lock, as in a cached property, can be acquired on the other side."""

    class Guarded:
        lock = threading.RLock()

    assert _look(Guarded, lambda cls: cls.lock.acquire(timeout=1)) is True


def test_super_without_arguments_finds_the_rebuilt_class():
    """`super()` and ``__class__`` mean the class that the method is in there, also in a class method."""

    class Base:
        @classmethod
        def make(cls):
            return [cls.__name__]

    class Derived(Base):
        @classmethod
        def make(cls):
            return [*super().make(), __class__ is cls]

    assert _look(Derived, lambda cls: cls.make()) == ["Derived", True]


def test_nested_class_is_the_outer_s_attribute_there():
    """A class within a class is the same one by either way."""
    inner = type(_nested())

    class Outer:
        Inner = inner

        def make(self):
            return self.Inner()

    assert there_and_back([Outer(), inner], lambda pair: type(pair[0].make()) is pair[1])


def test_class_that_holds_an_instance_of_itself_travels():
    """The instance is one of the class there, also if restoring it needs the class's methods."""

    class Node:
        root = None

        def __init__(self, x):
            self.x = x

        def __getstate__(self):
            return [self.x]

        def __setstate__(self, state):
            (self.x,) = state

        def find(self):
            return default.x

    default = Node.root = Node(7)
    assert _look(Node, lambda cls: [type(cls.root) is cls, cls.root.x, cls(1).find()]) == [True, 7, 7]


def test_exception_with_its_own_arguments_travels():
    """A local exception with attributes of its own comes home with them."""

    class MyError(ValueError):
        def __init__(self, message, code):
            super().__init__(message, code)
            self.code = code

    copy = there_and_back(MyError("m", 5))
    assert (type(copy), copy.args, copy.code) == (MyError, ("m", 5), 5)


def test_recursive_local_functions_travel():
    """A local function that calls itself, and two that call each other, work there."""

    def factorial(n):
        return n * factorial(n - 1) if n else 1

    def is_even(n):
        return is_odd(n - 1) if n else True

    def is_odd(n):
        return is_even(n - 1) if n else False

    assert there_and_back([factorial, is_even], lambda fs: [fs[0](5), fs[1](7)]) == [120, False]


def test_function_keeps_defaults_annotations_and_attributes():
    """Defaults, keyword-only defaults, annotations, docstring, names and attributes go with a function."""

    def work(a: int, b=2, *args, c: str = "c", **kwargs) -> list:
        """Work."""
        return [a, b, args, c, kwargs]

    work.note = "n"

    def use(f):
        return [
            f(1),
            f(1, 3, 4, c=5, d=6),
            f.__annotations__,
            f.__doc__,
            f.__name__,
            f.__qualname__,
            f.__module__,
            f.note,
        ]

    assert there_and_back(work, use) == use(work)
    assert there_and_back(lambda x, *, y=3: x + y, lambda f: f(1)) == 4


def test_closures_share_what_they_enclose():
    """Two functions that share a variable share it there; one that is not bound yet stays so."""

    def make():
        def get():
            return n

        def unbound():
            return later

        def add():
            nonlocal n
            n += 1
            return get()

        n = 0
        if n:
            later = 1
        return add, unbound

    class Holder:
        add, unbound = map(staticmethod, make())

    def use(cls):
        with pytest.raises(NameError):
            cls.unbound()
        return [cls.add(), cls.add()]

    assert _look(Holder, use) == [1, 2]


def test_functions_of_main_that_call_each_other_share_their_globals(monkeypatch):
    """Functions without a name there, which call each other, see one and the same global."""
    source = """
        COUNT = 0
        def even(n):
            global COUNT
            COUNT += 1
            return odd(n - 1) if n else COUNT
        def odd(n):
            global COUNT
            COUNT += 1
            return even(n - 1) if n else COUNT
    """
    module = script(source)
    monkeypatch.setitem(sys.modules, "__main__", module)
    message = send(module.even, names={"other"})
    with elsewhere():
        assert receive(message)(3) == 4


def test_class_known_there_is_not_filled_again():
    """A class that the other side has already stays as it is there, with what was changed in it."""

    class Counter:
        n = 0

    messages = [send(Counter), send([Counter, lambda: Counter])]
    with elsewhere():
        copy = receive(messages[0])
        copy.n = 5
        again, function = receive(messages[1])
        assert copy is again is function()
        assert copy.n == 5


def test_class_whose_content_fails_to_load_is_not_kept():
    """If a part of a class cannot be rebuilt, no half of the class is taken for it the next time."""

    class Part:
        is_bad = True

        def __setstate__(self, state):
            if os.environ.get("MTASKLITE_TEST_FAILS"):
                raise ValueError("bad part")

        def __getstate__(self):
            return 1

    class Whole:
        part = Part()

        def name(self):
            return "whole"

    message = send(Whole())
    with elsewhere():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MTASKLITE_TEST_FAILS", "1")
            with pytest.raises(SerializationError, match="bad part"):
                receive(message)
        whole = receive(message)
        assert (whole.name(), whole.part.is_bad) == ("whole", True)


def test_tokens_differ_after_a_fork():
    """A child's classes are never taken for its parent's, nor for those of a process with the same id."""
    ours = _byvalue._process.prefix
    _byvalue._renew_process()
    assert _byvalue._process.prefix != ours


def test_type_variable_of_main_travels_by_name(monkeypatch):
    """A type variable that the peer's ``__main__`` has is the peer's own there."""
    source = "import typing\nT = typing.TypeVar('T')"
    ours, theirs = script(source), script(source)
    monkeypatch.setitem(sys.modules, "__main__", ours)
    monkeypatch.setattr(ours.T, "__module__", "__main__")
    message = send(ours.T, names={"T"})
    with elsewhere(theirs):
        assert receive(message) is theirs.T


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


GUARDED = """
import dataclasses, enum
from mtasklite import Pool, _byvalue

if __name__ == "__main__":
    class Color(enum.Enum):
        RED = enum.auto()
        def partner(self):
            return Wife(self)

    @dataclasses.dataclass(frozen=True)
    class Husband:
        color: Color
        def partner(self):
            return Wife(self.color)

    @dataclasses.dataclass(frozen=True)
    class Wife:
        color: Color
        def partner(self):
            return Husband(self.color)

    def work(item):
        assert isinstance(item, (Husband, Wife)) and item.color is Color.RED
        back = item.partner().partner()
        assert type(back) is type(item) and back == item
        return back

    items = [Husband(Color.RED), Wife(Color.RED)] * 5
    results = list(Pool(work, 2, start_method={method!r})(items))
    print(results == items, {{type(result) for result in results}} == {{Husband, Wife}},
          all(result.color is Color.RED for result in results))
"""


@pytest.mark.parametrize("start_method", START_METHODS)
def test_enum_and_mutual_dataclasses_of_a_real_main_keep_their_identity(start_method):
    """Under `python -c`, in workers without their names, they are the same classes there and home again."""
    code = GUARDED.format(method=start_method)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["True"] * 3, done.stderr


@pytest.mark.skipif("fork" not in START_METHODS, reason="there is no fork here")
def test_local_class_is_the_one_that_a_forked_worker_has():
    """What is sent to a forked worker is of the class that its inherited function knows, also if sent but now."""
    value = _plain()
    cls = type(value)
    assert list(Pool(lambda item: type(item) is cls, 1, start_method="fork")([value])) == [True]
