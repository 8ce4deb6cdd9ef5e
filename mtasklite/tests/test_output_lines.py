"""Whole lines out of pieces: what is handed on, what waits, what is cut."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from mtasklite import _stdio
from mtasklite._lines import ERR, MAX_LINE_CHARS, MAX_PORTION_CHARS, OUT, Lines
from mtasklite._stdio import Route, following


class Screen:
    """Notes what is shown, and does something else amid it."""

    def __init__(self, amid=lambda: None):
        self.shown = []
        self._amid = amid

    def write(self, slot, stream, lines):
        self._amid()
        self.shown.append((slot, stream, lines))


def _add(lines, *texts):
    return [portion for text in texts for portion in lines.add(text)]


def test_pieces_wait_for_the_end_of_their_line():
    """Nothing is handed on before its line is whole, and then all of it at once."""
    lines = Lines()
    assert _add(lines, "a", "b") == []
    assert _add(lines, "c\nd\ne") == ["abc\nd\n"]
    assert lines.is_begun
    assert list(lines.rest()) == ["e\n"]
    assert not lines.is_begun
    assert list(lines.rest()) == []


def test_pieces_of_threads_are_kept_apart():
    """Two threads that write at once do not write into each other's lines."""
    lines, found = Lines(), []
    list(lines.add("mine "))
    thread = threading.Thread(target=lambda: found.extend(lines.add("other\n")))
    thread.start()
    thread.join()
    assert found == ["other\n"]
    assert _add(lines, "line\n") == ["mine line\n"]


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("a\rb\n", "b\n"),
        ("a\r\n", "a\n"),
        ("a\r\nb\rc\r\n\n", "a\nc\n\n"),
        ("\r\n", "\n"),
        ("plain\n", "plain\n"),
    ],
)
def test_what_a_carriage_return_overwrites_is_left_out(written, seen):
    """Of each line that part is kept that a terminal would show at its end."""
    assert "".join(_add(Lines(), written)) == seen
    assert "".join(_add(Lines(), *written)) == seen


def test_line_that_is_drawn_over_and_over_takes_no_memory():
    """A progress bar that writes a million times without an end of line leaves its last state only."""
    lines = Lines()
    for step in range(100_000):
        assert _add(lines, f"\rstep {step}") == []
    assert sum(len(piece) for pieces in lines._begun.values() for piece in pieces) < 20 * 1024
    assert list(lines.rest()) == ["step 99999\n"]


def test_much_text_is_handed_on_in_portions():
    """A text of many lines comes in portions of limited size, each of whole lines, and none is lost."""
    text = "".join(f"line {number}\n" for number in range(50_000))
    portions = _add(Lines(), text)
    assert "".join(portions) == text
    assert max(map(len, portions)) <= MAX_PORTION_CHARS
    assert all(portion.endswith("\n") for portion in portions)


def test_line_within_the_limit_is_whole():
    """A line as long as may be is not cut."""
    line = "x" * MAX_LINE_CHARS + "\n"
    assert _add(Lines(), line) == [line]


@pytest.mark.parametrize("n_pieces", [1, 7, 5000])
def test_line_that_is_too_long_is_cut(n_pieces):
    """A line beyond the limit comes in lines of its length, and nothing is lost."""
    n_chars = (3 * MAX_LINE_CHARS + 5) // n_pieces * n_pieces
    lines = Lines()
    portions = _add(lines, *["x" * (n_chars // n_pieces)] * n_pieces, "\n")
    assert "".join(portions).replace("\n", "") == "x" * n_chars
    assert max(map(len, portions)) <= MAX_LINE_CHARS + 1
    assert not lines.is_begun


def test_route_shows_first_lines_at_once_and_quick_ones_together():
    """The first line is shown when it is written, those that follow at once in few pieces, all in order."""
    screen = Screen()
    route = Route(screen, 3)
    route.write(OUT, "stream", "first\n")
    assert screen.shown == [(3, "stream", "first\n")]
    for number in range(1000):
        route.write(OUT, "stream", f"{number}\n")
    route.write(ERR, "other", "begun")
    route.finish()
    assert "".join(lines for _, stream, lines in screen.shown if stream == "stream") == "first\n" + "".join(
        f"{number}\n" for number in range(1000)
    )
    assert screen.shown[-1] == (3, "other", "begun\n")
    assert len(screen.shown) < 500


def test_line_that_is_written_while_one_is_shown_has_its_turn():
    """What is printed amid the showing, by a finalizer say, is shown after it and not within."""
    prints = iter(["inner\n"])
    screen = Screen(lambda: [route.write(OUT, "stream", text) for text in prints] and route.flush())
    route = Route(screen, 0)
    route.write(OUT, "stream", "outer\n")
    route.finish()
    assert [lines for _, _, lines in screen.shown] == ["outer\n", "inner\n"]


def test_line_waits_for_no_other_line(monkeypatch):
    """Lines that came quickly are shown soon, though nothing else is written."""
    shown = threading.Event()
    screen = Screen()
    route = Route(screen, 0)
    route.write(OUT, "stream", "first\n")
    screen._amid = shown.set
    route.write(OUT, "stream", "second\n")
    assert shown.wait(60)


def test_routes_are_a_threads_own():
    """A thread without a route writes through, even while another has one."""

    class Stream:
        def __init__(self):
            self.written = []

        def write(self, text):
            self.written.append(text)
            return len(text)

    stream, screen = Stream(), Screen()
    proxy = _stdio._Proxy(OUT, stream)
    route = Route(screen, 0)
    with following(route):
        assert proxy.write("routed\n") == 7
        thread = threading.Thread(target=proxy.write, args=("through",))
        thread.start()
        thread.join()
        with following(None):
            proxy.write("suspended")
    route.finish()
    assert stream.written == ["through", "suspended"]
    assert Counter(lines for _, _, lines in screen.shown) == {"routed\n": 1}
