"""Waiting for pipes and for the end of processes, by either of two ways."""

from __future__ import annotations

import sys
import threading
import types

import multiprocess
import multiprocess.connection
import pytest

from mtasklite import Pool
from mtasklite._backends import _waiting, processes
from mtasklite._backends._waiting import PlainWaiter, SelectorWaiter, make_waiter
from mtasklite.errors import WorkerDiedError

LIMIT_SECONDS = 10.0


def _plain_waiter(wait=multiprocess.connection.wait):
    return PlainWaiter(wait)


@pytest.fixture(params=[SelectorWaiter, _plain_waiter], ids=["selector", "plain"])
def waiter(request):
    waiter = request.param()
    yield waiter
    waiter.close()


@pytest.fixture
def pipes():
    """Two pipes, each as the end to wait for and the end to write to."""
    made = [multiprocess.Pipe(duplex=False) for _ in range(2)]
    yield made
    for pipe in made:
        for end in pipe:
            end.close()


def test_nothing_is_ready_at_once(waiter, pipes):
    """With 0 seconds to wait and no input, the answer is empty."""
    waiter.add(pipes[0][0], "first")
    assert waiter.wait(0) == []


def test_nothing_is_ready_in_time(waiter, pipes):
    """When the seconds are over and no input came, the answer is empty."""
    waiter.add(pipes[0][0], "first")
    assert waiter.wait(0.01) == []


def test_ready_pipe_gives_its_data(waiter, pipes):
    """A pipe with input gives what it was added with, and no other does."""
    for name, (reader, _) in zip(["first", "second"], pipes):
        waiter.add(reader, name)
    pipes[1][1].send_bytes(b"x")
    assert waiter.wait(LIMIT_SECONDS) == ["second"]


def test_wait_without_limit_ends_with_input(waiter, pipes):
    """`None` waits as long as it takes, which is not long if there is input."""
    waiter.add(pipes[0][0], "first")
    pipes[0][1].send_bytes(b"x")
    assert waiter.wait(None) == ["first"]


def test_all_ready_pipes_are_named(waiter, pipes):
    """Where several have input, one answer names them all."""
    for name, (reader, writer) in zip(["first", "second"], pipes):
        waiter.add(reader, name)
        writer.send_bytes(b"x")
    assert sorted(waiter.wait(LIMIT_SECONDS)) == ["first", "second"]


def test_ready_pipe_is_named_again_until_it_is_read(waiter, pipes):
    """What was not read is not forgotten."""
    reader, writer = pipes[0]
    waiter.add(reader, "first")
    writer.send_bytes(b"x")
    waiter.wait(LIMIT_SECONDS)
    assert waiter.wait(0) == ["first"]
    reader.recv_bytes()
    assert waiter.wait(0) == []


def test_removed_pipe_is_not_named(waiter, pipes):
    """What was removed is not waited for any more, and the rest is."""
    for name, (reader, writer) in zip(["first", "second"], pipes):
        waiter.add(reader, name)
        writer.send_bytes(b"x")
    waiter.remove(pipes[0][0])
    assert waiter.wait(LIMIT_SECONDS) == ["second"]


def test_closed_pipe_is_named(waiter, pipes):
    """The end of a pipe counts as input, so that it is noticed."""
    reader, writer = pipes[0]
    waiter.add(reader, "first")
    writer.close()
    assert waiter.wait(LIMIT_SECONDS) == ["first"]


def test_end_of_a_process_is_named(waiter):
    """A process's sentinel becomes ready when it ends."""
    process = multiprocess.Process(target=int)
    process.start()
    waiter.add(process.sentinel, "ended")
    assert waiter.wait(LIMIT_SECONDS) == ["ended"]
    waiter.remove(process.sentinel)
    process.join()
    process.close()


def test_make_waiter_prefers_the_selector(monkeypatch):
    """Where the platform can select on pipes, the lasting selector is used."""
    monkeypatch.setattr(_waiting, "os", types.SimpleNamespace(name="posix"))
    waiter = make_waiter(multiprocess.connection.wait)
    waiter.close()
    assert type(waiter) is SelectorWaiter


def test_make_waiter_is_plain_on_windows(monkeypatch):
    """Windows cannot select on pipes."""
    monkeypatch.setattr(_waiting, "os", types.SimpleNamespace(name="nt"))
    assert type(make_waiter(multiprocess.connection.wait)) is PlainWaiter


@pytest.mark.parametrize("ready", [0, 7, 8])
def test_more_pipes_than_the_platform_can_wait_for_are_waited_for_in_pieces(monkeypatch, ready):
    """Wherever among very many pipes the input is, it ends the wait."""
    monkeypatch.setattr(_waiting, "MAX_HANDLES", 4)
    waiter = _plain_waiter()
    made = [multiprocess.Pipe(duplex=False) for _ in range(9)]
    for number, (reader, _) in enumerate(made):
        waiter.add(reader, number)
    assert waiter.wait(0) == []
    assert waiter.wait(0.03) == []
    timer = threading.Timer(0.05, made[ready][1].send_bytes, [b"x"])
    timer.start()
    assert waiter.wait(None) == [ready]
    timer.join()
    for pipe in made:
        for end in pipe:
            end.close()


@pytest.fixture
def _all_wait_plainly(monkeypatch):
    monkeypatch.setattr(processes, "make_waiter", PlainWaiter)


@pytest.mark.usefixtures("_all_wait_plainly")
@pytest.mark.parametrize("start_method", multiprocess.get_all_start_methods())
def test_pool_works_with_the_plain_waiter(start_method, n_elem):
    """A pool of processes gives the same results without the selector."""
    with Pool(abs, 2, start_method=start_method) as pool:
        rounds = [list(pool(range(-n_elem, 0))) for _ in range(2)]
    assert rounds == [list(range(n_elem, 0, -1))] * 2


@pytest.mark.usefixtures("_all_wait_plainly")
def test_death_is_noticed_with_the_plain_waiter():
    """A worker that ends is reported and replaced without the selector too."""
    results = list(Pool(_exit_on_odd, 2, exception_behavior="ignore", start_method="spawn")([0, 1, 2, 4]))
    assert type(results[1]) is WorkerDiedError
    assert (results[1].exitcode, results[0], results[2:]) == (3, 0, [2, 4])


def _exit_on_odd(item):
    if item % 2:
        sys.exit(3)
    return item


@pytest.mark.parametrize("name", ["task_timeout", "join_timeout"])
@pytest.mark.parametrize("use_threads", [False, True], ids=["processes", "threads"])
def test_pool_takes_a_timeout_of_years(use_threads, name):
    """A timeout of some centuries, which is how people write "none", works like none."""
    assert list(Pool(abs, 2, use_threads=use_threads, **{name: 1e10})([-1, -2])) == [1, 2]
