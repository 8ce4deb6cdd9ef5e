"""Shells: they remember the arguments; instances are made where they work."""

from __future__ import annotations

import threading

import pytest

import mtasklite
from mtasklite import _wire
from mtasklite import delayed_init as top_level_delayed_init
from mtasklite.delayed_init import ShellObject, delayed_init, is_decorated_class


@delayed_init
class Adder:
    """Adds a base."""

    made = 0

    def __init__(self, base, *, scale=1):
        type(self).made += 1
        self.base, self.scale = base, scale
        self.lock = threading.Lock()  # cannot be pickled

    def __call__(self, first, second=0, *, bonus=0):
        return (self.base + first + second + bonus) * self.scale


@delayed_init
class Failing:
    def __init__(self):
        raise OSError("no model file")

    def __call__(self, item): ...


class _WithoutCall:
    pass


class _InheritsCall(Adder.__wrapped__):
    pass


@pytest.fixture(autouse=True)
def _count_from_zero(monkeypatch):
    monkeypatch.setattr(Adder.__wrapped__, "made", 0)


def _copy(shell):
    message, _ = _wire.Codec().pack(b"T", None, [shell])
    _, (copy,), _ = _wire.unpack(message)
    return copy


def test_decorated_class_is_at_the_paths_that_people_import():
    """The decorator is one object at the top level and in its module."""
    assert top_level_delayed_init is delayed_init
    assert mtasklite.delayed_init is delayed_init


def test_call_of_a_decorated_class_gives_a_shell():
    """What the constructor's call returns is a `ShellObject`."""
    assert type(Adder(40)) is ShellObject


def test_shell_makes_no_instance_by_itself():
    """The constructor does not run when the shell is made."""
    Adder(40)
    assert Adder.__wrapped__.made == 0


def test_wrong_constructor_is_not_noticed_before_an_instance_is_made():
    """A constructor that raises does so in the worker, not where the shell is made."""
    assert type(Failing()) is ShellObject


@pytest.mark.parametrize("attribute", ["__name__", "__doc__", "__module__", "__qualname__"])
def test_decorated_class_keeps_what_it_is_called(attribute):
    """Name, docstring and module of the decorated name are those of the class."""
    assert getattr(Adder, attribute) == getattr(Adder.__wrapped__, attribute)


def test_decorated_class_has_the_class_as_wrapped():
    """`__wrapped__` is the class itself, which may be used without a shell."""
    assert isinstance(Adder.__wrapped__, type)
    assert Adder.__wrapped__(1)(2) == 3


def test_make_instance_passes_all_arguments():
    """Positional and keyword arguments reach the constructor."""
    instance = Adder(40, scale=2).make_instance()
    assert (type(instance), instance.base, instance.scale) == (Adder.__wrapped__, 40, 2)


def test_make_instance_makes_a_new_one_each_time():
    """Each worker that asks gets an instance of its own."""
    shell = Adder(40)
    assert shell.make_instance() is not shell.make_instance()


def test_make_instance_lets_the_constructor_s_exception_through():
    """What the constructor raises is raised as it is."""
    with pytest.raises(OSError, match="no model file"):
        Failing().make_instance()


def test_call_of_a_shell_calls_an_instance():
    """In the parent a shell works as the object would, with all kinds of arguments."""
    assert Adder(40)(1, 2, bonus=3) == 46


def test_call_of_a_shell_makes_its_instance_once():
    """The second call uses the instance that the first one made."""
    shell = Adder(40)
    shell(1)
    shell(2)
    assert Adder.__wrapped__.made == 1


def test_call_of_a_shell_lets_the_constructor_s_exception_through():
    """A call in the parent raises what the constructor raises."""
    with pytest.raises(OSError, match="no model file"):
        Failing()(1)


def test_sent_shell_leaves_its_instance_behind():
    """A shell that was used in the parent can be sent, and the copy makes an instance anew."""
    shell = Adder(40)
    shell(1)
    copy = _copy(shell)
    assert copy(2) == 42
    assert Adder.__wrapped__.made == 2


def test_sending_a_shell_leaves_it_its_instance():
    """The shell that was sent goes on with the instance that it has."""
    shell = Adder(40)
    shell(1)
    _copy(shell)
    shell(1)
    assert Adder.__wrapped__.made == 1


def test_shell_made_without_the_decorator_can_be_sent():
    """A shell made by hand, without the decorator, travels too."""
    copy = _copy(ShellObject(_InheritsCall, 1))
    assert copy(2) == 3


def test_repr_of_a_shell_shows_class_and_arguments():
    """In a debugger one sees what the shell will make."""
    assert repr(Adder(40, scale=2)) == "<delayed_init shell of Adder(40, scale=2)>"


@pytest.mark.parametrize("cls", [abs, lambda item: item, 3, None, "Adder"])
def test_decorating_what_is_no_class_is_an_error(cls):
    """Functions need no delayed construction: the error says that a class is wanted."""
    with pytest.raises(TypeError, match="`delayed_init` must decorate a class but got: "):
        delayed_init(cls)


@pytest.mark.parametrize("cls", [_WithoutCall, object, int])
def test_decorating_a_class_without_call_is_an_error(cls):
    """A class whose instances cannot be called is refused, with the method that is missing."""
    with pytest.raises(TypeError, match=r"`__call__\(self, item\)` method but got: "):
        delayed_init(cls)


def test_class_that_inherits_its_call_can_be_decorated():
    """`__call__` may stand in a base class."""
    assert delayed_init(_InheritsCall)(40)(2) == 42


def test_decorated_class_is_known_as_such():
    """The decorated class is told from its shells, from its class and from any function."""
    others = [Adder(1), Adder.__wrapped__, abs, None]
    assert [is_decorated_class(worker) for worker in [Adder, *others]] == [True] + [False] * 4


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'base'"),
        ((1, 2), {}, "too many positional arguments"),
        ((1,), {"scales": 2}, "unexpected keyword argument 'scales'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_where_they_are_written(args, kwargs, problem):
    """Not in the workers, after they were started."""
    with pytest.raises(TypeError, match=r"does not fit `Adder\(base, \*, scale=1\)`") as caught:
        Adder(*args, **kwargs)
    assert problem in str(caught.value)
    assert "`Adder(" + ", ".join([*map(repr, args), *(f"{name}={value}" for name, value in kwargs.items())]) + ")`" in (
        str(caught.value)
    )
    assert Adder.__wrapped__.made == 0


def test_class_that_says_nothing_of_its_arguments_is_taken_as_it_is():
    """As those that are written in C."""

    class Opaque(dict):
        __signature__ = "none"

        def __call__(self, item):
            return self[item]

    assert delayed_init(Opaque)(a=1)("a") == 1
