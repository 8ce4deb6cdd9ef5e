"""The journal: what a worker has finished and not sent, found after its death, and nothing twice."""

from __future__ import annotations

import pytest

from mtasklite._backends._journal import HALF_BYTES, JOURNAL_BYTES, Journal, clear_journal, read_journal


@pytest.fixture
def memory():
    """The memory of an empty journal."""
    memory = memoryview(bytearray(JOURNAL_BYTES))
    clear_journal(memory)
    return memory


def _blobs(entries):
    return [(first, [blob for _, blob in records]) for first, records in entries]


def test_empty_journal_has_nothing(memory):
    """A worker that never wrote leaves nothing to read."""
    assert read_journal(memory, 0) == []


def test_outcomes_are_read_in_order_with_their_first_number(memory):
    """What was added in a turn is read with the number that the turn began with."""
    journal = Journal(memory)
    journal.turn(40)
    assert journal.add(False, b"a")
    assert journal.add(True, b"bc")
    ((first, records),) = read_journal(memory, 0)
    assert (first, records) == (40, [(False, b"a"), (True, b"bc")])


def test_turn_that_was_sent_is_not_read(memory):
    """What the parent has had already it does not get again."""
    journal = Journal(memory)
    journal.turn(0)
    journal.add(False, b"sent")
    sent = journal.turn(1)
    journal.add(False, b"not sent")
    assert _blobs(read_journal(memory, sent)) == [(1, [b"not sent"])]


@pytest.mark.parametrize("n_turns", [1, 2, 3])
def test_turn_that_is_being_sent_is_read_before_the_next(memory, n_turns):
    """While one half is being sent the other takes what comes; if neither arrived, both are read, in order."""
    journal = Journal(memory)
    for number in range(n_turns):
        journal.turn(number)
        journal.add(False, b"sent")
    last_sent = journal.turn(10)
    journal.add(False, b"first")
    journal.turn(11)
    journal.add(False, b"second")
    assert _blobs(read_journal(memory, last_sent)) == [(10, [b"first"]), (11, [b"second"])]


def test_turn_without_outcomes_is_not_read(memory):
    """A turn in which nothing was finished has nothing to tell."""
    Journal(memory).turn(5)
    assert read_journal(memory, 0) == []


def test_outcome_that_does_not_fit_is_refused(memory):
    """A full half says so, and keeps what it has."""
    journal = Journal(memory)
    journal.turn(0)
    assert journal.add(False, bytes(HALF_BYTES // 2))
    assert not journal.add(False, bytes(HALF_BYTES // 2))
    assert journal.add(True, b"small")
    assert [len(blob) for _, blob in read_journal(memory, 0)[0].records] == [HALF_BYTES // 2, 5]


def test_cleared_journal_has_nothing(memory):
    """The next worker in the slot starts with an empty journal."""
    journal = Journal(memory)
    journal.turn(0)
    journal.add(False, b"old")
    clear_journal(memory)
    assert read_journal(memory, 0) == []
