"""Which objects may travel together in one pickle: those that cannot change, and share nothing with others.

Pickling several objects together costs a third of pickling each by itself, mostly because the keys of dicts are
written once. But objects in one pickle share what they had in common, and what is pickled late is pickled as it is by
then. Both can be noticed only of what can change. Numbers and short texts cannot. Nor can a list, tuple or dict of
these that nobody else holds: there is nobody to change it. All else is to be pickled at once, with a memo of its own.
"""

from __future__ import annotations

from sys import getrefcount
from typing import Any, Callable, Optional

NUMBERS = frozenset({type(None), bool, int, float, complex})
"""Types whose instances may travel with any other."""

ATOMS = NUMBERS | {str, bytes}
"""Types whose instances cannot change."""

MAX_TEXT = 1 << 12
"""A longer text, in characters, is pickled by itself, so that its size is known."""

MAX_LENGTH = 32
"""Of containers: to pickle a longer one by itself costs little more than to look at all that is in it."""

HELD = 0
"""Stands for any number of references."""


def is_plain(value: Any, n_references: Optional[int] = None) -> bool:
    """Return whether an object that the caller has in one local variable may travel with others.

    Args:
        value: The object. Of containers in it one level is looked at.
        n_references: How many references it must have if it is a container; ``None``: those of an object that nobody
            else holds; `HELD`: any number, for whoever holds it cannot change it before it is pickled.
    """
    kind = type(value)
    if kind is dict:
        if n_references is None:
            n_references = _LONE
        if (n_references and getrefcount(value) != n_references) or len(value) > MAX_LENGTH:
            return False
        for key in value:
            if type(key) is not str:
                return False
            part = value[key]
            if type(part) not in ATOMS and (getrefcount(part) != _LONE_IN_DICT or not _has_atoms_only(part)):
                return False
        return True
    if kind is list or kind is tuple:
        if n_references is None:
            n_references = _LONE
        if (n_references and getrefcount(value) != n_references) or len(value) > MAX_LENGTH:
            return False
        for part in value:
            if type(part) not in ATOMS and (getrefcount(part) != _LONE_IN_LIST or not _has_atoms_only(part)):
                return False
        return True
    return kind in NUMBERS or (kind in ATOMS and len(value) <= MAX_TEXT)


def _has_atoms_only(value: Any) -> bool:
    kind = type(value)
    if kind is list or kind is tuple:
        return len(value) <= MAX_LENGTH and ATOMS.issuperset(map(type, value))
    if kind is not dict or len(value) > MAX_LENGTH:
        return False
    return _STR.issuperset(map(type, value)) and ATOMS.issuperset(map(type, value.values()))


_STR = frozenset({str})

# How many references an object has that nobody else holds depends on the version of Python. So it is measured here, by
# code of the same form as that above. Where the numbers are not always the same, none is right: then no container is
# ever taken for lone.


def _only(counts: list[int]) -> int:
    return counts[0] if len(set(counts)) == 1 else -1


def _count(value: Any, n_references: Optional[int] = None) -> int:
    kind = type(value)
    if kind is dict:
        if n_references is None:
            n_references = 0
        return getrefcount(value) - n_references
    return 0


def _count_in_dict(value: Any) -> list[int]:
    counts = []
    for key in value:
        part = value[key]
        counts.append(getrefcount(part))
    return counts


def _count_in_list(value: Any) -> list[int]:
    counts = []
    for part in value:
        counts.append(getrefcount(part))  # a comprehension may count otherwise
    return counts


def _count_returned(make: Callable[[], Any]) -> int:
    value = make()
    return _count(value)


_LONE = _only([_count_returned(lambda: {"number": 1}) for _ in range(3)])
_LONE_IN_DICT = _only(_count_in_dict({name: [1] for name in "abc"}))
_LONE_IN_LIST = _only(_count_in_list([[1] for _ in range(3)]))
