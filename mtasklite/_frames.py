"""Which lines of code are this package's: they tell a user nothing of the user's own error."""

from __future__ import annotations

import os
import sys

_HERE = os.path.dirname(__file__)
_FOLDERS = (_HERE, os.path.join(_HERE, "_backends"))


def is_ours(filename: str) -> bool:
    """Return whether a source file is this package's; its tests are a user's."""
    return os.path.dirname(filename) in _FOLDERS


def level_of_user() -> int:
    """Return the `stacklevel` with which the caller must warn, so that the warning names a line of the user's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level
