"""Whole lines, made of what threads write piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

OUT, ERR, LOG = "stdout", "stderr", "log"
"""What a piece of output is: lines for one of the streams of `sys`, by its name there, or a log record."""

Piece = tuple[str, Any]
"""Name of a stream and lines, or `LOG` and the attributes of a record."""

FLUSH_SECONDS = 0.010
"""Lines that follow one another faster than this are shown together."""

MAX_PENDING_CHARS = 8 << 10
"""So much at the most waits for that."""

MAX_PORTION_CHARS = 32 << 10
"""Lines are handed on in portions of no more, or alone."""

MAX_LINE_CHARS = 128 << 10
"""A line that is longer is cut, for nothing here may grow without limit."""


class Lines:
    """Makes whole lines of what is written to one stream, for each thread apart."""

    def __init__(self) -> None:
        self._begun: dict[int, list[str]] = {}
        self._n_chars: dict[int, int] = {}

    def add(self, text: str) -> Iterator[str]:
        """Take in what this thread writes, and yield the lines that are whole now, many at a time."""
        thread = threading.get_ident()
        end = text.rfind("\n") + 1
        if end:
            self._n_chars.pop(thread, None)
            yield from portions("".join(self._begun.pop(thread, [])) + text[:end])
            text = text[end:]
        if not text:
            return
        pieces = self._begun.setdefault(thread, [])
        pieces.append(text)
        self._n_chars[thread] = self._n_chars.get(thread, 0) + len(text)
        # A progress bar writes on and on without ending its line. Joined when pieces are many, not at each.
        if self._n_chars[thread] > 2 * MAX_LINE_CHARS or not len(pieces) % 1024:
            line = _visible("".join(pieces))
            n_cut = len(line) - len(line) % MAX_LINE_CHARS
            pieces[:] = [line[n_cut:]]
            self._n_chars[thread] = len(line) - n_cut
            for start in range(0, n_cut, MAX_LINE_CHARS):
                yield line[start : start + MAX_LINE_CHARS] + "\n"

    @property
    def is_begun(self) -> bool:
        """Whether any thread has begun a line."""
        return bool(self._begun)

    def rest(self) -> Iterator[str]:
        """Yield the lines that were begun, by any thread, and not ended."""
        for thread in list(self._begun):
            line = _visible("".join(self._begun.pop(thread, [])))
            if line:
                yield from portions(line + "\n")


def portions(lines: str) -> Iterator[str]:
    """Divide whole lines into portions, and lines that are too long."""
    start = 0
    while start < len(lines):
        end = lines.rfind("\n", start, start + MAX_PORTION_CHARS) + 1
        end = end or lines.find("\n", start, start + MAX_LINE_CHARS + 1) + 1
        if end:
            portion = lines[start:end]
        else:
            end = start + MAX_LINE_CHARS
            portion = lines[start:end] + "\n"
        if "\r" in portion:
            portion = "".join(_visible(line) + "\n" for line in portion[:-1].split("\n"))
        yield portion
        start = end


def _visible(line: str) -> str:
    """Return what a terminal shows in the end of a line whose beginning was overwritten, as progress bars do."""
    kept = line.rstrip("\r")
    return kept[kept.rfind("\r") + 1 :] if "\r" in kept else kept
