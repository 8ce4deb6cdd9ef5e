"""Messages in pieces that Ray sends along with a call or its answer, instead of through its object store.

What goes through the store stays there when nobody holds it any more, until there are a hundred such objects, or for
a second. With quick items of some bytes each, batches and results alike, that would soon be more than the whole window.
So answers are sent along, up to half a mebibyte in pieces, which also costs less time. Large arrays are better off in
the store, and go there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from mtasklite._backends._adapter import Frames

PIECE_BYTES = 90 << 10
"""Ray sends values of less than 100 KiB along."""

MOST_PIECES = 8
"""So many are as fast as the store; they hold what `MAX_MESSAGE_BYTES` lets be said at once, and some more."""


def to_pieces(messages: Sequence[Frames], most: int) -> Optional[tuple[list[int], list[bytes]]]:
    """Return the size of each message, and all of them in at most so many pieces; ``None``: they are too large."""
    sizes = [sum(memoryview(frame).nbytes for frame in frames) for frames in messages]
    n_bytes = sum(sizes)
    if n_bytes > most * PIECE_BYTES:
        return None
    whole = b"".join([memoryview(frame).cast("B") for frames in messages for frame in frames])
    return sizes, [whole[start : start + PIECE_BYTES] for start in range(0, n_bytes, PIECE_BYTES)]


def from_pieces(sizes: Sequence[int], pieces: Sequence[bytes]) -> list[Frames]:
    """Undo `to_pieces`; each message is in memory of its own, that can be written."""
    whole = bytearray().join(pieces)
    if len(sizes) == 1:
        return [[whole]]
    messages: list[Frames] = []
    start = 0
    for size in sizes:
        messages.append([whole[start : start + size]])
        start += size
    return messages
