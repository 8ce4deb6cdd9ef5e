"""Large values: arrays are not copied into pickles, and travel in shared memory where there is such a thing."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from mtasklite import Pool, SerializationError, WorkerDiedError
from mtasklite._backends import _channel, _segments, _sockets, processes
from mtasklite._backends._segments import MAX_BORROWED, MIN_BYTES, borrow, keep, lend
from mtasklite._backends._sockets import make_socket_channel
from mtasklite._backends._waiting import PlainWaiter
from mtasklite._wire import ALIGNMENT, MIN_BUFFER_BYTES, Codec, Parts, unpack
from mtasklite.tests import workers
from mtasklite.tests.programs import Program
from mtasklite.tests.workers import wait_until

segments_only = pytest.mark.skipif(not _segments.HAS_SEGMENTS, reason="the platform has no memory without a name")

LARGE = MIN_BYTES + (64 << 10)


def make_array(value):
    """Return a large array full of this value."""
    return np.full(LARGE // 8, value, dtype=np.float64)


def fill(array):
    """Return what came, changed in place."""
    array += 1
    return array


def nest(value):
    """Return large arrays inside of other things."""
    return {
        "arrays": [make_array(value), (make_array(value + 1), "text")],
        "bytes": bytes(LARGE),
        "small": np.arange(3),
    }


def describe(array):
    """Return how an array arrived."""
    return float(array[-1]), array.flags.writeable, array.flags.aligned, array.nbytes


@pytest.fixture(params=[pytest.param(True, marks=segments_only), False], ids=["segments", "sockets"])
def fork_kwargs(request, monkeypatch):
    """Two forked workers, with shared memory and without."""
    monkeypatch.setattr(_sockets, "HAS_SEGMENTS", request.param)
    return {"n_jobs": 2, "start_method": "fork"}


# ---- pickled


def test_large_buffers_are_not_in_the_pickle():
    """They are sent as they are, after it."""
    array = make_array(1.0)
    message, failures = Codec().pack(b"T", None, [array])
    assert failures == {}
    assert isinstance(message, Parts)
    assert any(np.shares_memory(array, np.frombuffer(part, np.uint8)) for part in message.parts if len(part))


@pytest.mark.parametrize("nbytes", [8, MIN_BUFFER_BYTES - 8, MIN_BUFFER_BYTES, MIN_BUFFER_BYTES + 8, LARGE])
def test_arrays_of_any_size_arrive_writable(nbytes):
    """Whether they go into the pickle or follow it, they can be changed, and stand where arrays should."""
    array = np.arange(nbytes // 8, dtype=np.float64)
    message, _ = Codec().pack(b"T", None, [array, "x", array[:1], array])
    arrived = bytearray(message.joined() if isinstance(message, Parts) else message)
    _, values, failures = unpack(arrived)
    assert failures == {}
    for value in (values[0], values[3]):
        assert (value == array).all()
        assert value.flags.writeable
        assert value.flags.aligned


def test_buffers_are_aligned():
    """They begin at multiples of what fast instructions ask for."""
    message, _ = Codec().pack(b"T", None, ["x" * 7, *map(make_array, range(3))])
    at = 0
    for part in message.parts[:-1]:
        if len(part) >= LARGE:
            assert at % ALIGNMENT == 0
        at += memoryview(part).nbytes


class Troubled:
    """Has a large array, and cannot be rebuilt."""

    def __init__(self):
        self.array = make_array(1.0)

    def __reduce__(self):
        return _fail, (self.array,)


def _fail(_):
    raise ValueError("not rebuilt")


class Unsendable(Troubled):
    """Has a large array, and something that cannot be pickled."""

    def __reduce__(self):
        return list, ([self.array, (one for one in "abc")],)


def test_value_that_cannot_travel_spoils_no_buffer_of_its_neighbours(process_kwargs):
    """Each value gets its own buffers, though one before it failed amid its own."""
    items = [make_array(1.0), Troubled(), make_array(2.0), Unsendable(), make_array(3.0)]
    results = list(Pool(describe, exception_behavior="ignore", **process_kwargs)(items))
    assert [result[0] for result in results if isinstance(result, tuple)] == [1.0, 2.0, 3.0]
    assert [type(results[index]) for index in (1, 3)] == [SerializationError] * 2


def test_arrays_that_are_not_contiguous_arrive():
    """They go into the pickle."""
    array = np.arange(LARGE // 4, dtype=np.float64)[::2]
    message, _ = Codec().pack(b"T", None, [array])
    _, (arrived,), _ = unpack(message.joined() if isinstance(message, Parts) else message)
    assert (arrived == array).all()


# ---- in a pool


def test_arrays_go_in_and_come_out(process_kwargs):
    """What arrives is equal, aligned, and may be changed, on both sides."""
    for index, array in enumerate(Pool(fill, **process_kwargs)(map(make_array, range(20)))):
        assert describe(array) == (index + 1, True, True, LARGE)
        array += 1


def test_arrays_go_in_and_come_out_either_way(fork_kwargs):
    """So it is with shared memory and without."""
    with Pool(fill, **fork_kwargs) as pool:
        kept = list(pool(map(make_array, range(20))))
    assert [describe(array) for array in kept] == [(index + 1, True, True, LARGE) for index in range(20)]


def test_arrays_arrive_inside_of_other_things(fork_kwargs):
    """In dicts and lists, beside large bytes and small arrays."""
    for value, result in enumerate(Pool(nest, **fork_kwargs)(range(5))):
        first, (second, text) = result["arrays"]
        assert (first[0], second[-1], text) == (value, value + 1, "text")
        assert result["bytes"] == bytes(LARGE)
        assert result["small"].tolist() == [0, 1, 2]


def same_array_again_and_again():
    """Yield one array, with other content each time."""
    array = make_array(0.0)
    for value in range(30):
        array[:] = value
        yield array


def test_item_may_be_changed_once_it_was_sent(fork_kwargs):
    """One by one each is sent as soon as it was read, though it may wait in the parent until its worker takes it.

    There is one worker: where there are two, what one has not begun may be taken back, and sent again as it is then.
    """
    kwargs = {**fork_kwargs, "n_jobs": 1, "max_tasks_per_child": 100}
    results = list(Pool(describe, chunk_size=1, **kwargs)(same_array_again_and_again()))
    assert [value for value, *_ in results] == list(range(30))


@segments_only
def test_memory_is_given_back_when_the_last_array_is_dropped(process_kwargs):
    """What nobody refers to is not mapped any more, whatever was kept meanwhile."""
    with Pool(make_array, **process_kwargs) as pool:
        kept = list(pool(range(20)))
        assert _n_mapped() == 20
        part = kept[7][3:5]
        del kept
        gc.collect()
        assert _n_mapped() == 1
        assert part.tolist() == [7.0, 7.0]
        del part
        assert _n_mapped() == 0


def _n_mapped():
    return sum("memfd:mtasklite" in line for line in Path("/proc/self/maps").read_text().splitlines())


@segments_only
def test_pool_works_where_no_segment_can_be_made(monkeypatch):
    """Then large values go over the socket, and what is changed after it was sent arrives as it was."""
    monkeypatch.setattr(os, "memfd_create", _refuse)
    kwargs = {"n_jobs": 1, "max_tasks_per_child": 100, "start_method": "fork"}  # one, which nobody takes from
    results = list(Pool(describe, chunk_size=1, **kwargs)(same_array_again_and_again()))
    assert [value for value, *_ in results] == list(range(30))


def _refuse(*_, **__):
    raise OSError(errno.EMFILE, "none left")


@segments_only
def test_death_with_a_large_item_costs_nothing_else():
    """A worker that is killed over one array is replaced, and the other arrays arrive."""
    items = [make_array(value) for value in range(10)]
    results = list(Pool(workers.kill_if_first_is_five, 2, exception_behavior="ignore")(items))
    assert [type(result) for result in results].count(WorkerDiedError) == 1
    assert [result for result in results if not isinstance(result, WorkerDiedError)] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


# ---- lent and borrowed


def send(content):
    """Lend a message, and return it as it is borrowed."""
    return borrow(lend([content]), len(content))


@segments_only
def test_what_the_receiver_changes_changes_nowhere_else():
    """The receiver has the message for itself."""
    descriptor = lend([b"a" * LARGE])
    arrived = borrow(os.dup(descriptor), LARGE)
    arrived[0] = ord("x")
    assert os.pread(descriptor, 1, 0) == b"a"
    os.close(descriptor)


@segments_only
def test_forked_child_keeps_what_its_parent_drops():
    """What a child has of a result stays as it was, whatever the parent receives meanwhile."""
    with Pool(make_array, 2) as pool:
        results = pool(range(1, 40))
        array = next(results)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(int((array != 1).any()))
        del array
        assert [result[0] for result in results] == list(range(2, 40))
        os.write(writer, b"x")
        assert os.waitpid(child, 0)[1] == 0
    os.close(reader)
    os.close(writer)


@segments_only
def test_kept_results_take_few_descriptors():
    """However many are kept: a user may have no more than a thousand files open."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2 * MAX_BORROWED, limits[1]))
    try:
        kept = list(Pool(make_array, 2)(range(4 * MAX_BORROWED)))
        assert _n_mapped() <= MAX_BORROWED
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [array[-1] for array in kept] == list(range(4 * MAX_BORROWED))
    assert all(array.flags.writeable for array in kept)


@segments_only
def test_message_is_copied_where_nothing_more_can_be_mapped(monkeypatch):
    """The system limits how much may be mapped, not how much is read."""
    descriptor = lend([b"a" * LARGE])
    monkeypatch.setattr(mmap, "mmap", _refuse)
    assert bytes(borrow(descriptor, LARGE)) == b"a" * LARGE


@segments_only
def test_failed_maps_do_not_let_more_be_mapped_later():
    """A map that could not be made, for want of a descriptor, is not taken for one that was dropped."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(3):
        descriptor = lend([b"a" * LARGE])
        lowest_free = os.dup(descriptor)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            assert bytes(borrow(descriptor, LARGE)) == b"a" * LARGE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    kept = [send(b"a" * LARGE) for _ in range(MAX_BORROWED + 3)]
    assert _n_mapped() == MAX_BORROWED
    assert len(kept) == MAX_BORROWED + 3


@segments_only
@pytest.mark.parametrize("line", ["import mtasklite", "import mtasklite.errors", "from mtasklite import Pool"])
def test_program_that_ends_with_results_says_nothing(line, tmp_path):
    """Whatever is torn down first."""
    code = (
        f"import numpy\n{line}\nimport mtasklite\n"
        f"def make(n): return numpy.ones(n)\n"
        f"kept = list(mtasklite.Pool(make, 2, start_method='fork')([{LARGE // 8}] * 4))\n"
    )
    with Program(tmp_path, "-c", code) as program:
        program.check_quiet()


@segments_only
def test_large_result_waits_until_the_system_has_room(monkeypatch):
    """A user may have no more than so many descriptors on their way; that is no reason to give a result up."""
    parent_end, worker_end = make_socket_channel()
    real_write, refusals = _sockets._write, [errno.ETOOMANYREFS, errno.ENOBUFS]

    def write(*args):
        if refusals:
            raise OSError(refusals.pop(), "no room")
        real_write(*args)

    monkeypatch.setattr(_sockets, "_write", write)
    worker_end.send(b"a" * LARGE)
    assert not refusals
    messages = []
    wait_until(lambda: messages.extend(parent_end.receive()) or messages)
    assert bytes(messages[0]) == b"a" * LARGE
    refusals.append(errno.ETOOMANYREFS)
    parent_end.send(b"b" * LARGE)
    assert parent_end.push()
    wait_until(lambda: messages.extend(worker_end.receive()) or len(messages) == 2)
    assert bytes(messages[1]) == b"b" * LARGE
    parent_end.close()
    worker_end.close()


@segments_only
def test_message_of_many_parts_arrives():
    """More parts than the system writes at once."""
    parts = [bytes([number % 256]) * 100 for number in range(3000)]
    assert bytes(borrow(lend(parts), 300_000)) == b"".join(parts)


@segments_only
def test_lost_descriptor_is_an_error_and_no_other_message(monkeypatch):
    """Where a process has no descriptor left, a large message cannot be received; it is not taken for the next one."""
    parent_end, worker_end = make_socket_channel()
    worker_end.send(b"a" * LARGE)
    worker_end.send(b"b" * LARGE)
    monkeypatch.setattr(_sockets, "_ROOM_FOR_DESCRIPTORS", 1)
    with pytest.raises(OSError, match="no file descriptor"):
        parent_end.drain()
    monkeypatch.undo()
    with pytest.raises(OSError, match="no file descriptor"):
        parent_end.drain()
    parent_end.close()
    worker_end.close()


def test_large_arrays_arrive_writable_over_pipes(monkeypatch):
    """Where there are no sockets too."""
    monkeypatch.setattr(_channel, "HAS_SOCKETS", False)
    monkeypatch.setattr(processes, "make_waiter", PlainWaiter)
    results = list(Pool(fill, 2, start_method="fork")(map(make_array, range(6))))
    assert [describe(array)[:2] for array in results] == [(index + 1, True) for index in range(6)]


# ---- over the socket


@segments_only
def test_descriptors_that_were_not_sent_are_closed():
    """So are those that came and were not looked at; the check of what is left behind follows."""
    parent_end, worker_end = make_socket_channel()
    parent_end.send(bytes(8 << 20))
    parent_end.waitable.setblocking(False)
    for _ in range(2000):
        parent_end.send(bytes(1000))
    parent_end.send(bytes(8 << 20))
    assert not parent_end.push()
    worker_end.send(bytes(8 << 20))
    parent_end.waitable.recv(1)
    parent_end.close()
    worker_end.close()


@segments_only
def test_large_and_small_messages_keep_their_order():
    """Whichever way each of them takes."""
    parent_end, worker_end = make_socket_channel()
    sizes = [10, 8 << 20, 20, 1 << 20, 1 << 20, 100_000, 30, 5 << 20, 40]
    for number, size in enumerate(sizes):
        worker_end.send(bytes([number]) * size)
    messages = []
    wait_until(lambda: messages.extend(parent_end.receive()) or len(messages) == len(sizes))
    assert [(message[0], len(message)) for message in messages] == list(enumerate(sizes))
    parent_end.close()
    worker_end.close()


@segments_only
def test_buffers_of_other_types_travel(process_kwargs):
    """Large bytes, byte arrays, and whatever else has a buffer for pickle."""
    items = [bytes(LARGE), bytearray(LARGE), pickle.PickleBuffer(bytes(LARGE))]
    results = list(Pool(bytes, **process_kwargs)(items))
    assert results == [bytes(LARGE)] * 3


@segments_only
def test_forked_child_keeps_no_message_that_its_parent_keeps():
    descriptor = lend([b"x" * MIN_BYTES])
    lent = keep(descriptor, MIN_BYTES)
    os.close(descriptor)
    number = lent._descriptor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork amid threads
        child = os.fork()
    if child == 0:
        is_open = os.path.exists(f"/proc/self/fd/{number}")
        os._exit(int(is_open))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(lent.view()) == b"x" * MIN_BYTES


@segments_only
def test_no_more_messages_are_kept_than_may_be():
    descriptor = lend([b"x" * MIN_BYTES])
    kept = [keep(descriptor, MIN_BYTES) for _ in range(MAX_BORROWED + 2)]
    assert [one is None for one in kept] == [False] * MAX_BORROWED + [True] * 2
    os.close(descriptor)
