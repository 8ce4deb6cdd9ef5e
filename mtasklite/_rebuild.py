"""Makes classes and functions that travelled by value, in two steps: empty, then with their content.

A class is made empty first and filled afterwards, so that what it contains may refer to it, and to classes that
refer to it, all in one stream::

    make class, empty -> make its functions, empty -> put those into it -> fill the functions -> put in the rest

Content that needs the class to work, such as an instance of it, comes last. What runs when a class is *defined* does
not run when it is rebuilt: a user's metaclass, ``__init_subclass__``, ``__set_name__`` and the ``__new__`` of an
enum have done their work, and its result is part of what travels.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import enum
import importlib
from collections.abc import Iterator
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

from mtasklite._byvalue import class_of, forget, register, token_of

_made: dict[int, Any] = {}
"""By id the classes that the streams now being loaded have made: only these may be filled."""


@contextlib.contextmanager
def all_or_nothing() -> Iterator[None]:
    """While a stream is loaded: if that fails, forget what it made, for half a class must not be found later."""
    made_before = dict(_made)
    try:
        yield
    except BaseException:
        for key, made in _made.items():
            if key not in made_before:
                forget(token_of(made))
        raise
    finally:
        _made.clear()
        _made.update(made_before)


def globals_of(module: str) -> dict[str, Any]:
    return vars(importlib.import_module(module))


def make_cell() -> CellType:
    return CellType()


def make_function(code: CodeType, scope: dict[str, Any], name: str, closure: Any) -> FunctionType:
    scope.setdefault("__builtins__", builtins)
    return FunctionType(code, scope, name, None, closure)


def fill_function(function: FunctionType, state: dict[str, Any]) -> None:
    for index, content in state["cells"].items():
        (function.__closure__ or ())[index].cell_contents = content
    function.__globals__.update(state["globals"])
    for name, value in state["attributes"].items():
        setattr(function, name, value)
    vars(function).update(state["dict"])


class BlankClass(NamedTuple):
    """What a class is made from before it is filled."""

    token: str
    metaclass: Any
    name: str
    bases: tuple[type, ...]
    namespace: dict[str, Any]
    members: dict[str, Any]
    keywords: dict[str, Any]


class _Quiet:
    """A base that keeps a user's ``__init_subclass__`` from running once more, without the keywords it once got."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


class _QuietWithDict:
    """The same for classes whose instances have a ``__dict__``: without one, it could not be taken away again."""

    def __init_subclass__(cls) -> None:
        pass


def make_class(*args: Any) -> Any:
    blank = BlankClass(*args)
    made = class_of(blank.token)
    if made is None:
        made = _make_enum(blank) if issubclass(blank.metaclass, enum.EnumMeta) else _make_quietly(blank)
        register(blank.token, made)
        _made[id(made)] = made
    return made


def _make_quietly(blank: BlankClass) -> Any:
    # Past the user's metaclass: `ABCMeta` alone makes what cannot travel.
    maker: Any = abc.ABCMeta if issubclass(blank.metaclass, abc.ABCMeta) else type
    bases = blank.bases
    owners = {cls.__module__ for base in bases for cls in base.__mro__ if "__init_subclass__" in vars(cls)}
    if owners - {"builtins", "typing"}:
        for quiet in (_Quiet, _QuietWithDict):
            try:
                made = maker.__new__(blank.metaclass, blank.name, (quiet, *bases), dict(blank.namespace))
                type.__setattr__(made, "__bases__", bases)
                return made
            except TypeError:  # the quiet base would lay out instances in another way
                continue
    return maker.__new__(blank.metaclass, blank.name, bases, blank.namespace)


def fill_class(cls: type, content: dict[str, Any]) -> None:
    if id(cls) in _made:
        for name, value in content.items():
            type.__setattr__(cls, name, value)  # past what a metaclass might do


def end_class(cls: type, calls: list[None]) -> None:
    """Do nothing: the calls were made as they were loaded."""


class _Member:
    """An enum's member before it is made: not a tuple, which `EnumMeta` would take apart."""

    def __init__(self, arguments: tuple[Any, ...], value: Any) -> None:
        self.arguments = arguments
        self.value = value


def _make_enum(blank: BlankClass) -> Any:
    def make_member(cls: Any, argument: Any) -> Any:
        source = argument[0] if isinstance(argument, tuple) else argument  # in a tuple if the data type is `tuple`
        member = cls._member_type_.__new__(cls, *source.arguments)
        member._value_ = source.value
        return member

    # Not with a user's `__new__` and `__init__`, a base's perhaps, whose arguments may be unlike the value.
    ours = {"__new__": make_member, "__init__": _do_nothing, "__reduce_ex__": enum.Enum.__reduce_ex__}
    members = {name: _Member(*member) for name, member in blank.members.items()}
    namespace = blank.metaclass.__prepare__(blank.name, blank.bases)
    for name, value in {**blank.namespace, **ours, **members}.items():
        namespace[name] = value
    made: Any = enum.EnumMeta.__new__(blank.metaclass, blank.name, blank.bases, namespace, **blank.keywords)
    for name in {"__init__", "__reduce_ex__", "__new_member__"} & vars(made).keys():
        type.__delattr__(made, name)
    return made


def _do_nothing(*args: Any) -> None:
    pass


def fill_members(cls: enum.EnumMeta, extras: dict[str, dict[str, Any]]) -> None:
    if id(cls) in _made:
        for name, extra in extras.items():
            member: Any = cls.__members__[name]
            member.__dict__.update(extra)
