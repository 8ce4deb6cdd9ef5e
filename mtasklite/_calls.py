"""How an item becomes the arguments of a call, and what to say where it does not fit."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable

from mtasklite._frames import is_ours
from mtasklite.constants import ArgumentPassing
from mtasklite.errors import brief, text_of


def bind(call: Callable[..., Any], argument_type: ArgumentPassing) -> Callable[[Any], Any]:
    """Return what is to be called with an item."""
    if argument_type is ArgumentPassing.AS_ARGS:
        return partial(_with_args, call)
    if argument_type is ArgumentPassing.AS_KWARGS:
        return partial(_with_kwargs, call)
    return call


def _with_args(call: Callable[..., Any], item: Any) -> Any:
    return call(*item)


def _with_kwargs(call: Callable[..., Any], item: Any) -> Any:
    return call(**item)


def explain(error: Exception, item: Any) -> None:
    """Add to a `TypeError` how the worker was called, if the call itself failed: its item may not fit."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if type(error) is not TypeError or innermost is None:
        return
    code = innermost.tb_frame.f_code
    if code is _with_args.__code__:
        is_text = isinstance(item, (str, bytes))
        more = ", which is taken apart into its characters" if is_text else ""
        _add(error, f"called as `worker(*item)`, as `argument_type='args'` says, with the item {brief(item)}{more}")
    elif code is _with_kwargs.__code__:
        _add(error, f"called as `worker(**item)`, as `argument_type='kwargs'` says, with the item {brief(item)}")
    elif is_ours(code.co_filename) and isinstance(item, (tuple, list, dict)):
        stars, name = ("**", "kwargs") if isinstance(item, dict) else ("*", "args")
        would_call = f"`argument_type='{name}'` would call `worker({stars}item)`"
        _add(error, f"called as `worker(item)` with the item {brief(item)}; {would_call}")


def _add(error: Exception, text: str) -> None:
    error.args = (f"{text_of(error)} ({text})",)
