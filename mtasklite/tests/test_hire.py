"""Hiring: what a worker does before its first item, whatever the backend."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mtasklite._status import new_board
from mtasklite._worker import hire
from mtasklite.constants import ArgumentPassing
from mtasklite.delayed_init import ShellObject


class Entered:
    """Writes down what is done to it."""

    def __init__(self, log):
        self.log = log
        log.append("made")

    def __enter__(self):
        self.log.append("entered")
        return "something else"

    def __exit__(self, *exc_info):
        self.log.append("left")

    def __call__(self, *args, **kwargs):
        return args, kwargs


@pytest.mark.parametrize(
    ("argument_type", "item", "expected"),
    [
        (ArgumentPassing.AS_SINGLE_ARG, (1, 2), (((1, 2),), {})),
        (ArgumentPassing.AS_ARGS, (1, 2), ((1, 2), {})),
        (ArgumentPassing.AS_KWARGS, {"a": 1}, ((), {"a": 1})),
    ],
)
def test_hired_worker_gets_the_item_as_was_asked(argument_type, item, expected):
    """The item is passed as one argument, as several, or by name."""
    call = hire(lambda *args, **kwargs: (args, kwargs), argument_type, ExitStack(), new_board())
    assert call(item) == expected


def test_hire_makes_the_instance_of_a_shell():
    """Each hiring makes an instance of its own, also of a shell that was used here."""
    log = []
    shell = ShellObject(Entered, log)
    shell()
    with ExitStack() as stack:
        assert hire(shell, ArgumentPassing.AS_SINGLE_ARG, stack, new_board())(3) == ((3,), {})
    assert log.count("made") == 2


def test_hired_context_manager_is_entered_and_left():
    """It is entered before the first item, and left when the stack is; the instance itself is called."""
    log = []
    with ExitStack() as stack:
        call = hire(ShellObject(Entered, log), ArgumentPassing.AS_SINGLE_ARG, stack, new_board())
        log.append(call("item"))
    assert log == ["made", "entered", (("item",), {}), "left"]


def test_worker_that_is_no_shell_is_not_entered():
    """An object that the user made and may share is the user's to enter."""
    log = []
    with ExitStack() as stack:
        hire(Entered(log), ArgumentPassing.AS_SINGLE_ARG, stack, new_board())
    assert log == ["made"]


def test_hire_lets_the_constructor_s_exception_through():
    """What the constructor raises is the backend's to report."""
    with pytest.raises(ZeroDivisionError):
        hire(ShellObject(lambda: 1 / 0), ArgumentPassing.AS_SINGLE_ARG, ExitStack(), new_board())
