"""The channel between the parent and a worker process: whole messages, and a parent that is never held up."""

from __future__ import annotations

import os
import socket
import threading

import multiprocess
import psutil
import pytest

from mtasklite import Pool, WorkerDiedError
from mtasklite._backends import _channel, _sockets, processes
from mtasklite._backends._channel import make_channel
from mtasklite._backends._sockets import READ_BYTES, make_socket_channel
from mtasklite._backends._waiting import PlainWaiter
from mtasklite.tests import workers

LARGE = 8 << 20
"""Bytes of a message that fits in no socket's buffer."""

sockets_only = pytest.mark.skipif(not _channel.HAS_SOCKETS, reason="the platform has no socket pairs")


@pytest.fixture(
    params=[pytest.param("segments", marks=sockets_only), pytest.param("sockets", marks=sockets_only), "pipes"]
)
def ends(request, monkeypatch):
    """The two ends of a channel, by sockets with and without shared memory, and by the fallback."""
    monkeypatch.setattr(_channel, "HAS_SOCKETS", request.param != "pipes")
    if request.param == "sockets":
        monkeypatch.setattr(_sockets, "HAS_SEGMENTS", False)
    ours, theirs = make_channel(multiprocess.get_context())
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def socket_ends(monkeypatch):
    """The two ends of a channel of sockets, over which large messages go too."""
    if not _channel.HAS_SOCKETS:
        pytest.skip("the platform has no socket pairs")
    monkeypatch.setattr(_sockets, "HAS_SEGMENTS", False)
    parent_end, worker_end = make_socket_channel()
    yield parent_end, worker_end
    parent_end.close()
    worker_end.close()


def _receive(end, n_messages=1):
    """Receive so many messages at the parent's end."""
    found = []
    workers.wait_until(lambda: found.extend(end.receive()) or len(found) >= n_messages)
    return [bytes(message) for message in found]


def _in_thread(call, *args):
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    return thread


SIZES = [1, 7, 8, 9, READ_BYTES - 8, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 5, LARGE]


@pytest.mark.parametrize("size", SIZES)
def test_message_of_any_size_arrives_whole(ends, size):
    """What the worker sends the parent receives, byte for byte, however it falls into pieces."""
    parent_end, worker_end = ends
    message = os.urandom(size)
    thread = _in_thread(worker_end.send, message)
    assert _receive(parent_end) == [message]
    thread.join()


@pytest.mark.parametrize("size", SIZES)
def test_message_of_any_size_reaches_the_worker(ends, size):
    """What the parent sends the worker receives; what cannot be sent at once follows as it is pushed."""
    parent_end, worker_end = ends
    message, received = os.urandom(size), []

    def receive():
        while not received:
            received.extend(map(bytes, worker_end.receive()))

    thread = _in_thread(receive)
    parent_end.send(message)
    workers.wait_until(parent_end.push)
    thread.join()
    assert received == [message]


def test_messages_keep_their_order(ends):
    """Small and large ones, sent in a row, arrive in that row."""
    parent_end, worker_end = ends
    messages = [bytes([number]) * size for number, size in enumerate([3, READ_BYTES, 5, 2 * READ_BYTES, 1, 1, 1])]

    def send_all():
        for message in messages:
            worker_end.send(message)

    thread = _in_thread(send_all)
    assert _receive(parent_end, len(messages)) == messages
    thread.join()


def test_nothing_is_received_where_nothing_was_sent(ends):
    """The parent never waits for a message."""
    assert ends[0].receive() == []
    assert not ends[0].has_ended


def test_drained_channel_has_given_all(ends):
    """What came before the worker's end is had, and the end too."""
    parent_end, worker_end = ends
    for number in range(5):
        worker_end.send(bytes([number]))
    worker_end.close()
    assert [bytes(message) for message in parent_end.drain()] == [bytes([number]) for number in range(5)]
    assert parent_end.has_ended


def test_sending_to_a_worker_that_is_gone_does_nothing(ends):
    """The death of a worker is told by its death handle, not by an exception from a send."""
    parent_end, worker_end = ends
    worker_end.close()
    for _ in range(3):
        parent_end.send(b"x")
    assert parent_end.push()


def test_worker_learns_that_the_parent_is_gone(ends):
    """Receiving ends with an error when nobody is there to send."""
    parent_end, worker_end = ends
    parent_end.close()
    with pytest.raises((EOFError, OSError)):
        worker_end.receive()


def test_parent_is_not_held_up_by_a_worker_that_does_not_read(socket_ends):
    """A send returns at once, though the worker takes nothing."""
    parent_end, _ = socket_ends
    parent_end.send(bytes(LARGE))
    parent_end.send(b"more")
    assert not parent_end.push()


def test_parent_is_not_held_up_by_a_message_that_is_cut_off(socket_ends):
    """Of a message whose end never comes nothing is handed out, and nobody waits for it."""
    parent_end, worker_end = socket_ends
    worker_end.waitable.sendall(_sockets._LENGTH.pack(LARGE) + b"the beginning")
    assert parent_end.drain() == []
    assert parent_end.receive() == []
    worker_end.close()
    assert parent_end.drain() == []
    assert parent_end.has_ended


@pytest.mark.parametrize("pieces", [[200], [3, 20, 200], [19, 1, 180]])
def test_last_words_of_an_interpreter_are_known(socket_ends, pieces):
    """What a fault handler writes is no message; what came before it is."""
    parent_end, worker_end = socket_ends
    words = ("Fatal Python error: Segmentation fault\n" + "x" * 200)[: sum(pieces)]
    worker_end.send(b"before")
    received, start = [], 0
    for size in pieces:
        worker_end.waitable.sendall(words[start : start + size].encode())
        received += parent_end.drain()
        start += size
    assert received == [b"before"]
    assert parent_end.fault == words


@pytest.mark.usefixtures("socket_ends")
def test_default_timeout_of_sockets_is_nothing_to_a_channel():
    """A user's `socket.setdefaulttimeout` does not make a worker give up waiting."""
    socket.setdefaulttimeout(0.01)
    try:
        assert list(Pool(workers.nap, 2)([1, 2])) == [1, 2]
    finally:
        socket.setdefaulttimeout(None)


@pytest.fixture
def _only_pipes(monkeypatch):
    """Do without what only some platforms have: sockets for channels, selectors that last."""
    monkeypatch.setattr(_channel, "HAS_SOCKETS", False)
    monkeypatch.setattr(processes, "make_waiter", PlainWaiter)


@pytest.mark.usefixtures("_only_pipes")
def test_pool_works_with_pipes_alone(process_kwargs, n_elem):
    """A pool gives the same results where there are only pipes that block."""
    with Pool(abs, **process_kwargs) as pool:
        rounds = [list(pool(range(-n_elem, 0))) for _ in range(2)]
    assert rounds == [list(range(n_elem, 0, -1))] * 2


@pytest.mark.usefixtures("_only_pipes")
def test_death_costs_its_item_with_pipes_alone(process_kwargs):
    """A worker that dies is reported and replaced."""
    results = list(Pool(workers.exit_on, exception_behavior="ignore", **process_kwargs)(range(20)))
    assert [type(result) for result in results if not isinstance(result, int)] == [WorkerDiedError]


@pytest.mark.usefixtures("_only_pipes")
def test_large_items_pass_busy_workers_with_pipes_alone(process_kwargs):
    """An item that fits in no pipe is held back until its worker reads, both ways at once."""
    items = [bytes([number]) * (1 << 20) for number in range(6)]
    assert list(Pool(workers.identity, **process_kwargs)(items)) == items


@sockets_only
def test_stopped_worker_holds_up_no_other():
    """While one worker is stopped and cannot take its large item, the others work, and then it does too."""
    others = workers.everyone()
    with Pool(workers.type_name, 2, is_unordered=True, chunk_size=4, chunk_prefill_ratio=1) as pool:
        assert list(pool(range(4))) == ["int"] * 4
        (child, _) = (psutil.Process(number) for kind, number in workers.everyone() - others if kind == "process")
        child.suspend()
        try:
            results = pool([bytes(LARGE) for _ in range(8)])
            assert [next(results) for _ in range(6)] == ["bytes"] * 6  # the two others it may have been given
        finally:
            child.resume()
        assert list(results) == ["bytes"] * 2


@pytest.mark.parametrize("size", [100, 3 * READ_BYTES])
def test_last_words_amid_a_message_spoil_it(socket_ends, size):
    """A message that a crash broke off, and filled up with its last words, is not taken for one."""
    parent_end, worker_end = socket_ends
    words = b"Fatal Python error: Segmentation fault\n" + b"x" * 60
    begun = _sockets._LENGTH.pack(size) + bytes(size - 20) + words
    thread = _in_thread(worker_end.waitable.sendall, begun)
    thread.join()
    worker_end.close()
    assert parent_end.drain() == []
    assert parent_end.fault.startswith("Fatal Python error: Segmentation fault\n")
