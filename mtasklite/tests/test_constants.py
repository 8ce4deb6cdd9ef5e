"""The words that arguments are chosen from."""

from __future__ import annotations

import pickle

import pytest

from mtasklite.constants import ArgumentPassing, ExceptionBehaviour

MEMBERS = [
    (ExceptionBehaviour.IMMEDIATE, "immediate"),
    (ExceptionBehaviour.IGNORE, "ignore"),
    (ExceptionBehaviour.DEFERRED, "deferred"),
    (ArgumentPassing.AS_SINGLE_ARG, "single_arg"),
    (ArgumentPassing.AS_ARGS, "args"),
    (ArgumentPassing.AS_KWARGS, "kwargs"),
    (ArgumentPassing.DIRECT, "direct"),
]
each_member = pytest.mark.parametrize(("member", "word"), MEMBERS)


@each_member
def test_member_equals_its_string(member, word):
    """Code that compares with the plain string works."""
    assert member == word


@each_member
def test_member_is_found_by_its_string(member, word):
    """The enumeration called with the string gives the member."""
    assert type(member)(word) is member


@each_member
def test_member_prints_as_its_string(member, word):
    """`str` and an f-string give the plain word on every Python version."""
    assert (str(member), f"{member}") == (word, word)


@each_member
def test_member_stays_itself_when_pickled(member, word):
    """A member that crosses to another process is the same member there."""
    assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize("enumeration", [ExceptionBehaviour, ArgumentPassing])
def test_enumeration_has_no_other_member(enumeration):
    """There are no words but those that the table above names."""
    assert set(enumeration) == {member for member, _ in MEMBERS if type(member) is enumeration}
