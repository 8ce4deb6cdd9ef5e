"""The words that arguments are chosen from."""

from __future__ import annotations

from enum import Enum


class ExceptionBehaviour(str, Enum):
    """What becomes of an exception that a worker raised.

    Each member equals its string, so either may be passed.
    """

    IMMEDIATE = "immediate"
    IGNORE = "ignore"
    DEFERRED = "deferred"

    def __str__(self) -> str:
        return str(self.value)


class ArgumentPassing(str, Enum):
    """How one input item becomes the arguments of one call.

    Each member equals its string, so either may be passed. ``DIRECT`` is pqdm's word for ``AS_SINGLE_ARG``.
    """

    AS_SINGLE_ARG = "single_arg"
    AS_ARGS = "args"
    AS_KWARGS = "kwargs"
    DIRECT = "direct"

    def __str__(self) -> str:
        return str(self.value)
