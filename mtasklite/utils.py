"""Small helpers that people's code and tests import."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from typing import Any


def is_exception(result: object) -> bool:
    """Return whether a result is an exception that was handed out in its item's place.

    Example:
        >>> is_exception(ValueError("bad")), is_exception("fine")
        (True, False)
    """
    return isinstance(result, Exception)


def is_sized_iterator(iterable: object) -> bool:
    """Return whether an iterable knows its length, that is, has ``__len__``.

    Example:
        >>> is_sized_iterator([1, 2]), is_sized_iterator(iter([1, 2]))
        (True, False)
    """
    return hasattr(iterable, "__len__")


def current_function_name() -> str:
    """Return the name of the function that calls this one.

    Example:
        >>> def outer():
        ...     return current_function_name()
        >>> outer()
        'outer'
    """
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    return caller.f_code.co_name if caller is not None else "<unknown>"


def divide_kwargs(kwargs: Mapping[str, Any], cls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide keyword arguments into those that a class or function names in its signature, and the rest.

    Args:
        kwargs: The arguments; left as they are.
        cls: A class or any other callable.

    Example:
        >>> divide_kwargs({"maxsize": 3, "desc": "work"}, __import__("queue").Queue)
        ({'maxsize': 3}, {'desc': 'work'})
    """
    named = inspect.signature(cls).parameters
    mine = {name: value for name, value in kwargs.items() if name in named}
    rest = {name: value for name, value in kwargs.items() if name not in named}
    return mine, rest


def is_closed(generator: Generator[Any, Any, Any]) -> bool:
    """Return whether a generator has come to its end, or was closed."""
    return inspect.getgeneratorstate(generator) == inspect.GEN_CLOSED
