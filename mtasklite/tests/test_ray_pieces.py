"""Messages in pieces: they arrive as they were, in memory that can be written, and what is too large is left whole."""

from __future__ import annotations

import pickle

import pytest

from mtasklite._backends._ray_pieces import PIECE_BYTES, from_pieces, to_pieces

MESSAGES = [
    [],
    [[b""]],
    [[b"abc"]],
    [[b"abc"], [b"d", pickle.PickleBuffer(bytes(range(256)) * 1000)], [b"e" * PIECE_BYTES]],
]


@pytest.mark.parametrize("messages", MESSAGES, ids=len)
def test_messages_arrive_as_they_were(messages):
    """Each message is what its frames were, one after another."""
    sizes, pieces = to_pieces(messages, 8)
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    arrived = [b"".join(bytes(frame) for frame in frames) for frames in from_pieces(sizes, pieces)]
    assert arrived == [b"".join(memoryview(frame) for frame in frames) for frames in messages]


def test_arrived_messages_can_be_written():
    """Arrays that lie in a message are the receiver's own."""
    ((frame,),) = from_pieces(*to_pieces([[b"abc"]], 1))
    frame[0] = 0
    assert bytes(frame) == b"\0bc"


@pytest.mark.parametrize(("n_bytes", "fits"), [(2 * PIECE_BYTES, True), (2 * PIECE_BYTES + 1, False)])
def test_what_needs_more_pieces_than_there_may_be_is_left_whole(n_bytes, fits):
    """The caller is told, and sends it some other way."""
    assert (to_pieces([[b"a"], [bytes(n_bytes - 1)]], 2) is not None) == fits
