"""Which lines of code are this package's: they tell a user nothing of the user's own error."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from types import FrameType

from mtasklite.errors import pass_interrupt, text_of

_FRAME = re.compile(r'  File "(.*)", line (\d+)')
_FAULT_FRAME = re.compile(r'  File "(.*)", line ')
_HERE = os.path.dirname(__file__)
_FOLDERS = (_HERE, os.path.join(_HERE, "_backends"))


def is_ours(filename: str) -> bool:
    """Return whether a source file is this package's; its tests are a user's."""
    return os.path.dirname(filename) in _FOLDERS


def _is_of_a_bar(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "tqdm"


def level_of_user() -> int:
    """Return the `stacklevel` with which the caller must warn, so that the warning names a line of the user's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and (is_ours(frame.f_code.co_filename) or _is_of_a_bar(frame)):
        level, frame = level + 1, frame.f_back
    return level


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as text, without the outermost frames if those are this package's."""
    start = error.__traceback__
    while start is not None and start.tb_next is not None and is_ours(start.tb_frame.f_code.co_filename):
        start = start.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, start))
    except BaseException as fault:
        pass_interrupt(fault)
        return f"{type_name(type(error))}: {text_of(error)}\n"


def with_source(trace: str) -> str:
    """Put in the lines of source that a traceback from a worker lacks, where they are to be had here.

    A worker that was not forked knows nothing of what was typed into a notebook.
    """
    lines = trace.splitlines(keepends=True)
    for index in range(len(lines) - 1, -1, -1):
        place = _FRAME.match(lines[index])
        has_source = "".join(lines[index + 1 : index + 2]).startswith("    ")
        if place is None or has_source:
            continue
        source = linecache.getline(place.group(1), int(place.group(2))).strip()
        if source:
            lines.insert(index + 1, f"    {source}\n")
    return "".join(lines)


def type_name(cls: type) -> str:
    """Return a class's name, with its module unless it is built in."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def without_our_frames(fault: str) -> str:
    """Cut what a fault handler wrote, innermost frame first, where the worker loop begins."""
    kept = []
    for line in fault.splitlines(keepends=True):
        name = _FAULT_FRAME.match(line)
        if name is not None and is_ours(name.group(1)):
            break
        kept.append(line)
    return "".join(kept)
