"""Log records of a worker's thread in a process that it shares with others."""

from __future__ import annotations

import contextlib
import io
import logging
import threading

import pytest

from mtasklite._backends import _cluster_logs
from mtasklite._stdio import Levels

NAME = "mtasklite-test-logs"


@contextlib.contextmanager
def _bare_root(*handlers):
    """Give the root logger these handlers alone, and the level that it has where nobody has set one."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    root.handlers = list(handlers)
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers = before
        root.setLevel(level)


@pytest.fixture
def own():
    """A handler of the process itself, and what it has written."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    return handler


def _while_a_worker_logs(levels, function):
    """Call a function in this thread while another is a worker's; return what that logs meanwhile."""
    sent, is_up, may_end = [], threading.Event(), threading.Event()

    def work():
        _cluster_logs.begin(Levels(levels, 0), sent.append)
        is_up.set()
        may_end.wait()
        logging.getLogger(NAME).info("work %d", 1)
        logging.getLogger(NAME).warning("work %d", 2)
        _cluster_logs.end()

    thread = threading.Thread(target=work)
    thread.start()
    is_up.wait()
    function()
    may_end.set()
    thread.join()
    return [(record["name"], record["levelname"], record["msg"]) for record in sent]


def test_records_of_the_workers_thread_are_sent(own):
    """What is wanted of the worker's records is sent, and not handled where it works."""
    with _bare_root(own):
        sent = _while_a_worker_logs({"root": logging.INFO}, lambda: None)
    assert sent == [(NAME, "INFO", "work 1"), (NAME, "WARNING", "work 2")]
    assert own.stream.getvalue() == ""


def test_records_that_nobody_wants_are_not_made():
    """A worker's records below the levels of process and driver do not travel."""
    with _bare_root():
        assert _while_a_worker_logs({"root": logging.ERROR}, lambda: None) == [(NAME, "WARNING", "work 2")]


def test_records_of_other_threads_are_handled_as_before(own):
    """Other threads' records come to the process's own handlers, and none that did not before."""

    def log():
        logging.getLogger(NAME).info("below the level of this process")
        logging.getLogger(NAME).warning("as ever")

    with _bare_root(own):
        _while_a_worker_logs({"root": logging.DEBUG, NAME: logging.DEBUG}, log)
    assert own.stream.getvalue() == "WARNING as ever\n"


def test_handler_of_last_resort_is_there_for_other_threads(monkeypatch, own):
    """In a process without handlers, warnings of other threads are shown as `logging` does it."""
    monkeypatch.setattr(logging, "lastResort", own)

    def log():
        logging.getLogger(NAME).info("below the level of this process")
        logging.getLogger(NAME).warning("as ever")

    with _bare_root():
        _while_a_worker_logs({"root": logging.DEBUG}, log)
    assert own.stream.getvalue() == "WARNING as ever\n"


def test_logging_is_as_it_was_when_the_last_worker_has_ended(own):
    """Levels, handlers and filters are put back, after the last of several workers."""
    root, logger = logging.getLogger(), logging.getLogger(NAME)

    def another():
        assert root.level == logging.DEBUG
        _while_a_worker_logs({"root": logging.INFO, NAME: 5}, lambda: None)
        assert root.level == logging.DEBUG

    with _bare_root(own):
        _while_a_worker_logs({"root": logging.DEBUG}, another)
        assert (root.handlers, root.level, logger.level, own.filters) == ([own], logging.WARNING, 0, [])


def test_record_that_cannot_be_formatted_is_told_of_and_harms_nothing(monkeypatch, capsys):
    """Arguments that do not go with a message are reported as `logging` does it."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    sent = []

    def work():
        _cluster_logs.begin(Levels({}, 0), sent.append)
        logging.getLogger(NAME).error("%d", "no number")
        _cluster_logs.end()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not sent
    assert "TypeError: %d format" in capsys.readouterr().err
