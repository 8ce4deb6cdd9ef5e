"""A C pickler that sends by value what the other side could not find by name.

Pickle sends functions and classes by name. That is of no use for lambdas and closures, for what is defined inside
a function, and for a ``__main__`` that the other side does not have (a notebook, ``python -c``, a guarded block).
These few are handed to dill; all else stays with C pickle, which is 20 to 40 times as fast.

A class that travelled by value keeps its identity: both sides know it by a token, so its instances come home as
instances of the very class that they left.
"""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
from itertools import count
from types import FunctionType
from typing import Any, Union
from weakref import WeakKeyDictionary, WeakValueDictionary

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
"""A spawned worker runs the script as ``__mp_main__``, and calls that ``__main__`` too."""

Named = Union[type, FunctionType]

_counter = count()
_token_of_class: WeakKeyDictionary[type, str] = WeakKeyDictionary()
_class_of_token: WeakValueDictionary[str, type] = WeakValueDictionary()


def names_in_main() -> frozenset[str]:
    """Return the names that this process's ``__main__`` has now."""
    return frozenset(vars(sys.modules["__main__"]))


class _ByName:
    """Decides how to send functions and classes: by pickle's own way, by name in ``__main__``, or by value."""

    _peer_main: frozenset[str]

    def _reduce_by_name(self, obj: Named) -> Any:
        """Return what pickle's `reducer_override` should, or ``None`` if there is no name to find it by."""
        module = getattr(obj, "__module__", None)
        name = obj.__qualname__
        if module == "builtins":
            return NotImplemented
        if module in MAIN_NAMES:
            if name.partition(".")[0] not in self._peer_main:
                return None
            module = "__main__"
        found = _find(module, name)
        if found is obj and module != "__main__":
            return NotImplemented
        if found is obj:
            return _load_by_name, (module, name, False)
        if getattr(found, "__wrapped__", None) is obj:
            return _load_by_name, (module, name, True)
        return None


class ValuePickler(_ByName, pickle.Pickler):
    """Pickles for one peer.

    Args:
        file: Where to.
        peer_main: Names that the peer's ``__main__`` has.

    Attributes:
        has_instances: Whether anything but built-in types was met, which might fail to load.
    """

    def __init__(self, file: io.BytesIO, peer_main: frozenset[str]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._peer_main = peer_main
        self._reductions: dict[Named, Any] = {}
        self.has_instances = False

    def reducer_override(self, obj: Any) -> Any:
        self.has_instances = True
        if not isinstance(obj, (type, FunctionType)):
            return NotImplemented
        reduction = self._reductions.get(obj)
        if reduction is None:
            reduction = self._reduce_by_name(obj)
            if reduction is None:
                reduction = reduce_by_value(obj, self._peer_main, ())
            self._reductions[obj] = reduction
        return reduction


def reduce_by_value(obj: Named, peer_main: frozenset[str], outer: tuple[type, ...]) -> Any:
    """Return a reduction of a function or class that carries its code.

    Args:
        obj: The function or class.
        peer_main: Names that the peer's ``__main__`` has.
        outer: Classes inside of which this is met.
    """
    if not isinstance(obj, type):
        return _load_by_value, (_dill(obj, peer_main, outer),)
    token = _token_of_class.get(obj)
    if token is None:
        token = _token_of_class[obj] = f"{os.getpid()}.{next(_counter)}"
        _class_of_token[token] = obj
    return _load_class, (token, _dill(obj, peer_main, (*outer, obj)))


def _dill(root: Named, peer_main: frozenset[str], outer: tuple[type, ...]) -> bytes:
    # Imported when first needed: a pool over plain functions of modules never does.
    from mtasklite._dill import dump

    return dump(root, peer_main, outer)


def _find(module: Any, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _load_by_name(module: str, qualname: str, is_wrapped: bool) -> Any:
    importlib.import_module(module)
    found = _find(module, qualname)
    if is_wrapped:
        found = getattr(found, "__wrapped__", None)
    if found is None:
        raise AttributeError(f"module {module!r} has no {qualname!r} here")
    return found


def _load_by_value(blob: bytes) -> Any:
    import dill

    return dill.loads(blob)


def _load_class(token: str, blob: bytes) -> type:
    known = _class_of_token.get(token)
    if known is None:
        known = _load_by_value(blob)
        known = _class_of_token.setdefault(token, known)
        _token_of_class[known] = token
    return known
