"""The helpers that people's code and tests import."""

from __future__ import annotations

import pytest

from mtasklite.errors import DeferredExceptions
from mtasklite.utils import current_function_name, divide_kwargs, is_exception, is_sized_iterator


class _Sized:
    def __len__(self):
        return 3


class _Target:
    def __init__(self, size, *, name="x"):
        self.size, self.name = size, name


@pytest.mark.parametrize("result", [ValueError("bad"), DeferredExceptions(), TimeoutError()])
def test_is_exception_for_an_exception_object(result):
    """An exception that was handed out in an item's place is recognised."""
    assert is_exception(result) is True


@pytest.mark.parametrize("result", [None, 0, "ValueError", ValueError, Exception])
def test_is_not_exception_for_any_other_object(result):
    """A plain result, also an exception class itself, is no exception."""
    assert is_exception(result) is False


@pytest.mark.parametrize("iterable", [[], (), "", {}, set(), range(3), _Sized()])
def test_is_sized_iterator_with_a_length(iterable):
    """Whatever has `__len__` is sized, also when it is empty."""
    assert is_sized_iterator(iterable) is True


@pytest.mark.parametrize("iterable", [iter([]), (x for x in ()), map(abs, []), 3])
def test_is_not_sized_iterator_without_a_length(iterable):
    """Iterators and generators are not sized."""
    assert is_sized_iterator(iterable) is False


def test_current_function_name_in_a_function():
    """It is the name of the calling function, not the helper's own."""
    assert current_function_name() == "test_current_function_name_in_a_function"


def test_current_function_name_in_a_method():
    """In a method it is the plain name, without the class."""

    class Asker:
        def ask(self):
            return current_function_name()

    assert Asker().ask() == "ask"


def test_divide_kwargs_by_a_class():
    """Names in the constructor's signature come first, keyword-only ones too; the rest second."""
    assert divide_kwargs({"size": 1, "desc": "d", "name": "n"}, _Target) == ({"size": 1, "name": "n"}, {"desc": "d"})


def test_divide_kwargs_by_a_function():
    """A function's signature divides as a class's does."""
    assert divide_kwargs({"kwargs": 1, "other": 2}, divide_kwargs) == ({"kwargs": 1}, {"other": 2})


def test_divide_kwargs_does_not_claim_self():
    """An argument called `self` is not the constructor's."""
    assert divide_kwargs({"self": 1}, _Target) == ({}, {"self": 1})


def test_divide_kwargs_leaves_the_input_as_it_is():
    """The dict that was passed has the same content afterwards."""
    kwargs = {"size": 1, "desc": "d"}
    divide_kwargs(kwargs, _Target)
    assert kwargs == {"size": 1, "desc": "d"}


def test_divide_kwargs_returns_dicts_of_its_own():
    """Changing a returned dict does not change the input."""
    kwargs = {"size": 1}
    mine, _ = divide_kwargs(kwargs, _Target)
    mine["size"] = 2
    assert kwargs == {"size": 1}


def test_divide_kwargs_keeps_the_order():
    """The order in which the arguments were given is kept."""
    _, rest = divide_kwargs({"b": 1, "a": 2, "c": 3}, _Target)
    assert list(rest) == ["b", "a", "c"]
