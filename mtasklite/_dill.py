"""dill, taught to leave to names what has a name, and to take classes and functions apart for `_rebuild`."""

from __future__ import annotations

import dataclasses
import dis
import enum
import io
import pickle
import sys
from collections.abc import Iterator
from threading import RLock
from types import CellType, CodeType, FunctionType, MappingProxyType, MemberDescriptorType
from typing import Any, Optional

import dill

from mtasklite._byvalue import MAIN_NAMES, TYPE_VARIABLES, Named, _ByName, reduce_type_variable, token_of
from mtasklite._rebuild import (
    BlankClass,
    all_or_nothing,
    end_class,
    fill_class,
    fill_function,
    fill_members,
    globals_of,
    make_cell,
    make_class,
    make_function,
)  # fmt: skip

_RLOCK = type(RLock())
_LOADS_A_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_FUNCTION_STATE = (
    "__defaults__", "__kwdefaults__", "__annotations__", "__doc__", "__module__", "__qualname__", "__type_params__",
)  # fmt: skip

# Made anew with every class.
_NOT_CARRIED = {"__dict__", "__weakref__", "__module__", "__qualname__", "__slots__", "_abc_impl"}
# Made anew by `EnumMeta` from the members.
_NOT_CARRIED_BY_ENUMS = _NOT_CARRIED | {
    "__new__", "_all_bits_", "_boundary_", "_flag_mask_", "_hashable_values_", "_inverted_", "_member_map_",
    "_member_names_", "_member_type_", "_singles_mask_", "_unhashable_values_", "_unhashable_values_map_",
    "_value2member_map_",
}  # fmt: skip
_MADE_WITH_MEMBERS = {"_value_", "_name_", "_sort_order_", "_inverted_", "__objclass__"}

# `dataclasses` compares its markers by identity, and gives them no way to be pickled.
_MARKERS = {id(value): name for name, value in vars(dataclasses).items() if type(value).__module__ == "dataclasses"}


def dump(root: Named, peer_main: frozenset[str]) -> bytes:
    """Pickle a function, class or type variable by value, with the globals that it uses.

    Args:
        root: The function, class or type variable.
        peer_main: Names that the peer's ``__main__`` has.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, peer_main).dump(root)
    return buffer.getvalue()


def load(blob: bytes) -> Any:
    """Undo `dump`. What is known here by its token is neither made nor filled again."""
    with all_or_nothing():
        # `ignore`: else dill would give the result a class of the same name in ``__main__``.
        return dill.loads(blob, ignore=True)


class _Call:
    """Stands in a stream for a call that is made when the stream is loaded."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduction = (function, args)


class _Pickler(_ByName, dill.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, peer_main: frozenset[str]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, recurse=True, byref=False)
        self._peer_main = peer_main
        self._scopes: dict[int, dict[str, Any]] = {}

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Call):
            return obj.reduction
        if isinstance(obj, CellType):
            return make_cell, ()  # filled with the functions that share it
        if isinstance(obj, _RLOCK):
            return RLock, ()  # dill would give one that nobody can acquire
        if isinstance(obj, MappingProxyType):
            return MappingProxyType, (dict(obj),)
        if id(obj) in _MARKERS:
            return getattr, (dataclasses, _MARKERS[id(obj)])
        if not isinstance(obj, (type, FunctionType, *TYPE_VARIABLES)):
            return NotImplemented
        by_name = self._reduce_by_name(obj)
        if by_name is not None:
            return by_name
        if isinstance(obj, FunctionType):
            return (*self._blank_function(obj), _function_state(obj), None, None, fill_function)
        return self._reduce_class(obj) if isinstance(obj, type) else reduce_type_variable(obj)

    def _blank_function(self, function: FunctionType) -> tuple[Any, tuple[Any, ...]]:
        module = _module_of(function)
        scope: Any
        if module is not None:
            scope = _Call(globals_of, module)
        else:
            # One dict for all functions that share it here.
            names = {"__name__", "__package__", "__file__"} & function.__globals__.keys()
            content = {name: function.__globals__[name] for name in names}
            scope = self._scopes.setdefault(id(function.__globals__), content)
        return make_function, (function.__code__, scope, function.__name__, function.__closure__)

    def _reduce_class(self, cls: type) -> Any:
        early: dict[str, Any] = {}
        late: dict[str, Any] = {}
        functions: list[FunctionType] = []
        for name, value in _content(cls):
            parts = [part for part in _parts(value) if isinstance(part, FunctionType)]
            (early if parts else late)[name] = value
            functions += [part for part in parts if id(part) not in self.memo and self._reduce_by_name(part) is None]
        for function in functions:
            if id(function) not in self.memo:
                # Puts the function into the memo, and leaves the stack as it was.
                self.save_reduce(*self._blank_function(function), obj=function)
                self.write(pickle.POP)
        calls = [_Call(fill_class, cls, early)]
        calls += [_Call(fill_function, function, _function_state(function)) for function in functions]
        # The double underscores first, among which is what a dataclass needs to restore its instances.
        in_order = sorted(late, key=lambda name: not name.startswith("__"))
        calls += [_Call(fill_class, cls, {name: late[name]}) for name in in_order]
        if isinstance(cls, enum.EnumMeta):
            calls.append(_Call(fill_members, cls, _extras_of_members(cls)))
        return make_class, tuple(_blank_class(cls)), calls, None, None, end_class


# ---- functions


def _function_state(function: FunctionType) -> dict[str, Any]:
    cells = {}
    for index, cell in enumerate(function.__closure__ or ()):
        try:
            cells[index] = cell.cell_contents
        except ValueError:  # empty: its name is bound later, or never
            continue
    scope: dict[str, Any] = {}
    if _module_of(function) is None:
        names = set(_global_names(function.__code__))
        scope = {name: value for name, value in function.__globals__.items() if name in names}
    attributes = {name: getattr(function, name) for name in _FUNCTION_STATE if hasattr(function, name)}
    return {"cells": cells, "globals": scope, "attributes": attributes, "dict": dict(vars(function))}


def _module_of(function: FunctionType) -> Optional[str]:
    """Return the name of the module whose globals these are, if another process can import it."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) and name not in MAIN_NAMES else None
    is_importable = getattr(module, "__spec__", None) is not None and vars(module) is function.__globals__
    return name if is_importable else None


def _global_names(code: CodeType) -> Iterator[str]:
    # Not `co_names`, where attributes are too: a global with the name of one might not be able to travel.
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS_A_GLOBAL:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


# ---- classes


def _blank_class(cls: type) -> BlankClass:
    names = {"__module__", "__slots__", "__orig_bases__"} & vars(cls).keys()
    namespace = {"__qualname__": cls.__qualname__, **{name: vars(cls)[name] for name in names}}
    members, keywords = {}, {}
    if isinstance(cls, enum.EnumMeta):
        members = {name: (_arguments(cls, member), member._value_) for name, member in _members(cls)}
        keywords = {"boundary": vars(cls)["_boundary_"]} if vars(cls).get("_boundary_") is not None else {}
    return BlankClass(token_of(cls), type(cls), cls.__name__, cls.__bases__, namespace, members, keywords)


def _content(cls: type) -> Iterator[tuple[str, Any]]:
    is_enum = isinstance(cls, enum.EnumMeta)
    left_out = (_NOT_CARRIED_BY_ENUMS | cls.__members__.keys()) if is_enum else _NOT_CARRIED  # type: ignore[attr-defined]
    for name, value in vars(cls).items():
        is_slot = isinstance(value, MemberDescriptorType) and value.__objclass__ is cls
        if name not in left_out and not is_slot:
            yield name, value


def _parts(value: Any) -> list[Any]:
    """Return the functions that make up a method, or the value itself."""
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    return [value.__func__ if isinstance(value, (classmethod, staticmethod)) else value]


def _members(cls: enum.EnumMeta) -> Iterator[tuple[str, Any]]:
    yield from cls.__members__.items()


def _arguments(cls: enum.EnumMeta, member: Any) -> tuple[Any, ...]:
    """Return what the data type makes its part of a member from: for a `str`, the text."""
    data_type: Any = cls._member_type_  # type: ignore[attr-defined]
    if hasattr(data_type, "__getnewargs__"):
        return tuple(data_type.__getnewargs__(member))
    if data_type.__new__ is object.__new__:
        return ()
    return member._value_ if isinstance(member._value_, tuple) else (member._value_,)


def _extras_of_members(cls: enum.EnumMeta) -> dict[str, dict[str, Any]]:
    extras = {}
    for name, member in _members(cls):
        extras[name] = {key: value for key, value in vars(member).items() if key not in _MADE_WITH_MEMBERS}
    return extras
