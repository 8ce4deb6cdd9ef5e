"""The status board, which all processes of a pool share."""

from __future__ import annotations

import multiprocess
import multiprocess.heap
import pytest

from mtasklite._backends._board import Board, size_of


def _note(board, slot, number):
    board.of(slot)[0] = number


@pytest.fixture
def board():
    """A board for three workers, in memory that forks inherit."""
    board = Board(3)
    yield board
    board.close()


def test_cleared_slot_has_no_item(board):
    """A slot that was cleared says that its worker has started no item."""
    board.of(1)[0] = 7
    board.clear(1)
    assert board.of(1)[0] == -1


def test_slots_are_apart(board):
    """What one worker writes changes no other's numbers."""
    for slot in range(3):
        board.clear(slot)
    board.of(1)[0], board.of(1)[1] = 41, 2.5
    assert [list(board.of(slot)) for slot in range(3)] == [[-1, -1, 0, 0], [41, 2.5, 0, 0], [-1, -1, 0, 0]]


def test_numbers_are_written_in_place(board):
    """What was written through one view is read through another."""
    numbers = board.of(2)
    board.of(2)[0] = 5
    assert numbers[0] == 5


def test_sequence_number_is_exact_when_large(board):
    """Numbers up to 2**53, more items than a pool will ever see, are kept exactly."""
    board.of(0)[0] = 2**53
    assert int(board.of(0)[0]) == 2**53


@pytest.mark.parametrize("start_method", multiprocess.get_all_start_methods())
def test_board_is_shared_with_a_process(start_method):
    """What a child writes, the parent reads: by fork any memory, else such as can be sent."""
    board = Board(2, None if start_method == "fork" else multiprocess.heap.Arena(size_of(2)))
    process = multiprocess.get_context(start_method).Process(target=_note, args=(board, 1, 12))
    process.start()
    process.join()
    process.close()
    number = board.of(1)[0]
    board.close()
    assert number == 12


def test_closed_board_cannot_be_read():
    """After its end the board refuses to be read rather than to show old numbers."""
    board = Board(1)
    board.close()
    with pytest.raises(ValueError, match="released"):
        board.of(0)
