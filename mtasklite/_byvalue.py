"""A C pickler that sends by value what the other side could not find by name.

Pickle sends functions and classes by name. That is of no use for lambdas and closures, for what is defined inside
a function, and for a ``__main__`` that the other side does not have (a notebook, ``python -c``, a guarded block).
These few are handed to dill; all else stays with C pickle, which is 20 to 40 times as fast.

A class that travelled by value keeps its identity: both sides know it by a token, so its instances come home as
instances of the very class that they left.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import pickle
import sys
import threading
import typing
from itertools import count
from types import FunctionType
from typing import Any, Optional
from weakref import WeakValueDictionary

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
"""A spawned worker runs the script as ``__mp_main__``, and calls that ``__main__`` too."""

TYPE_VARIABLES = tuple(
    getattr(typing, kind) for kind in ("TypeVar", "ParamSpec", "TypeVarTuple") if hasattr(typing, kind)
)
MAX_KNOWN = 1000
"""A pickler that goes on remembers so many classes and functions."""

_NAMED = (type, FunctionType, *TYPE_VARIABLES)

Named = Any
"""A class, a function or a type variable: what pickle sends by name."""

_counter = count()
# By id, for a metaclass may make classes that cannot be hashed; an entry that outlived its class is seen through.
_token_of_class: dict[int, str] = {}
_class_of_token: WeakValueDictionary[str, Any] = WeakValueDictionary()


class _Process:
    """What a process has for itself: a prefix of tokens that no other has, and the lock of the two registries.

    Args:
        lineage: Prefixes of the processes that it was forked from, whose classes it has too, the nearest last.
    """

    def __init__(self, lineage: tuple[str, ...] = ()) -> None:
        # Not the process id, which is given again to a later process.
        self.prefix = os.urandom(8).hex()
        self.lineage = lineage
        self.is_frozen = False
        # Held while classes are rebuilt, lest another thread get one that is not filled yet.
        self.lock = threading.RLock()

    def prefix_for(self, cls: Named) -> str:
        """Return the prefix of a class's token: that of the process it comes from."""
        is_new = not self.is_frozen or any(found is cls for found in gc.get_objects())
        return self.prefix if is_new else self.lineage[-1]


_process = _Process()


def _renew_process() -> None:
    global _process
    _process = _Process((*_process.lineage, _process.prefix))


def freeze_inheritance() -> None:
    """Keep apart what a forked worker has by fork from what it makes; to be called at its start.

    Frozen objects are left alone by the garbage collector too, which spares the pages that parent and child share.
    """
    gc.freeze()
    _process.is_frozen = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_process)


def names_in_main() -> frozenset[str]:
    """Return the names that this process's ``__main__`` has now."""
    return frozenset(vars(sys.modules["__main__"]))


class _ByName:
    """Decides how to send functions and classes: by pickle's own way, by name in ``__main__``, or by value."""

    _peer_main: frozenset[str]

    def _reduce_by_name(self, obj: Named) -> Any:
        """Return what pickle's `reducer_override` should, or ``None`` if there is no name to find it by."""
        module = getattr(obj, "__module__", None)
        name = getattr(obj, "__qualname__", obj.__name__)  # a type variable has the latter only
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
        buffer_callback: As in `pickle.Pickler`.

    """

    def __init__(self, file: io.BytesIO, peer_main: frozenset[str], buffer_callback: Any = None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL, buffer_callback=buffer_callback)
        self._peer_main = peer_main
        # By id, with the object, so that the id stays its own.
        self._reductions: dict[int, tuple[Named, Any]] = {}
        self._has_functions = False  # among them, by value

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, _NAMED):
            return NotImplemented
        known = self._reductions.get(id(obj))
        if known is None:
            reduction = self._reduce_by_name(obj)
            if reduction is None:
                reduction = _reduce_by_value(obj, self._peer_main)
                self._has_functions = self._has_functions or isinstance(obj, FunctionType)
            known = self._reductions[id(obj)] = (obj, reduction)
        return known[1]

    def forget(self) -> None:
        """Pickle the next object as if it were the first; classes are still known, for they keep their identity."""
        self.clear_memo()
        if self._has_functions or len(self._reductions) > MAX_KNOWN:
            self._has_functions = False
            self._reductions.clear()


def _reduce_by_value(obj: Named, peer_main: frozenset[str]) -> Any:
    # Imported when first needed: a pool over plain functions of modules never does.
    from mtasklite._dill import dump

    token = None if isinstance(obj, FunctionType) else token_of(obj)
    return _load_by_value, (token, dump(obj, peer_main))


def token_of(cls: Named) -> str:
    """Return what a class or a type variable is known by in all processes that have it."""
    with _process.lock:
        token = _token_of_class.get(id(cls))
        if token is None or _class_of_token.get(token) is not cls:
            token = f"{_process.prefix_for(cls)}.{next(_counter)}.{id(cls)}.{cls.__name__}"
            register(token, cls)
        return token


def class_of(token: str) -> Named:
    """Return the class or type variable that has this token, or ``None`` if this process has not met it."""
    known = _class_of_token.get(token)
    if known is None:
        known = _inherited_class(token)
        if known is not None:
            register(token, known)
    return known


def _inherited_class(token: str) -> Optional[type]:
    """Return the class that a fork has given to two processes and one of them a token: its address is the same."""
    prefix, _, address, name = token.split(".", 3)
    if prefix not in (_process.prefix, *_process.lineage):
        return None
    seen: set[int] = set()
    to_visit: list[type] = [object]
    while to_visit:
        # Not `cls.__subclasses__`, nor sets of classes: a metaclass may have its own notion of either.
        subclasses: list[type] = type.__subclasses__(to_visit.pop())
        for cls in subclasses:
            if id(cls) == int(address) and cls.__name__ == name:
                return cls
            if id(cls) not in seen:
                seen.add(id(cls))
                to_visit.append(cls)
    return None


def register(token: str, cls: Named) -> None:
    """Make a class or a type variable known by this token."""
    _token_of_class[id(cls)] = token
    _class_of_token[token] = cls


def forget(token: str) -> None:
    """Undo `register`."""
    _class_of_token.pop(token, None)


def reduce_type_variable(variable: Any) -> Any:
    """Return a reduction of a type variable that makes it where it is not known yet."""
    names = ("bound", "covariant", "contravariant", "infer_variance")
    keywords = {name: getattr(variable, f"__{name}__") for name in names if hasattr(variable, f"__{name}__")}
    if hasattr(variable, "has_default") and variable.has_default():
        keywords["default"] = variable.__default__
    constraints = getattr(variable, "__constraints__", ())
    return _make_type_variable, (token_of(variable), type(variable), variable.__name__, constraints, keywords)


def _make_type_variable(
    token: str, kind: Any, name: str, constraints: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    variable = class_of(token)
    if variable is None:
        if keywords.get("infer_variance"):  # these three exclude each other
            keywords = {**keywords, "covariant": False, "contravariant": False}
        variable = kind(name, *constraints, **keywords)
        register(token, variable)
    return variable


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


def _load_by_value(token: Optional[str], blob: bytes) -> Any:
    with _process.lock:
        known = None if token is None else class_of(token)
        if known is not None:
            return known
        from mtasklite._dill import load

        return load(blob)
