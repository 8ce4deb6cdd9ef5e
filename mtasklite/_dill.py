"""dill, taught to leave to names what has a name, and to know again the classes that it has sent before."""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import Any

import dill

from mtasklite._byvalue import Named, _ByName, reduce_by_value


def dump(root: Named, peer_main: frozenset[str], outer: tuple[type, ...]) -> bytes:
    """Pickle a function or class by value, with the globals that it uses.

    Args:
        root: The function or class.
        peer_main: Names that the peer's ``__main__`` has.
        outer: Classes inside of which this is met, this one included.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, root, peer_main, outer).dump(root)
    return buffer.getvalue()


class _Pickler(_ByName, dill.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, root: Named, peer_main: frozenset[str], outer: tuple[type, ...]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, recurse=True, byref=False)
        self._root = root
        self._peer_main = peer_main
        self._outer = outer

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._root or not isinstance(obj, (type, FunctionType)):
            return NotImplemented
        by_name = self._reduce_by_name(obj)
        if by_name is not None:
            return by_name
        # Classes that use each other would go round for ever: what is met inside itself stays in this stream.
        if isinstance(obj, FunctionType) or obj in self._outer:
            return NotImplemented
        return reduce_by_value(obj, self._peer_main, self._outer)
