"""What was returned is what arrives, and what was read is what a worker gets: no result sees another's changes."""

from __future__ import annotations

import itertools
import os
import pickle
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from mtasklite import Pool, is_exception
from mtasklite._plain import HELD, is_plain
from mtasklite.processes import pqdm

N_ITEMS = 300

OPTIONS = {
    "plain": {},
    "one by one": {"chunk_size": 1},
    "unbounded": {"bounded": False},
    "retries": {"retries": 2},
    "recycling": {"max_tasks_per_child": 50},
    "time limit": {"task_timeout": 60.0},
}
ALL_OPTIONS = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)

_shared_dict = {}
_shared_list = []
_shared_bytes = bytearray(4)


def count_calls(item):
    number, settings = item
    settings["n_calls"] = settings.get("n_calls", 0) + 1
    return number, settings["n_calls"]


def return_one_dict(item):
    _shared_dict["item"] = item
    return _shared_dict


def return_one_list(item):
    _shared_list[:] = [item] * 3
    return _shared_list


def return_one_part(item):
    _shared_list[:] = [item]
    return {"item": item, "part": _shared_list}


def return_one_buffer(item):
    _shared_bytes[:] = item.to_bytes(4, "big")
    return {"item": item, "buffer": _shared_bytes}


def value_of(item):
    return item["value"]


def are_one_object(pair):
    first, second = pair
    return first is second


def fail_at_first(item):
    """Fail once in each worker with each item that is divisible by ten, and change it before."""
    number, seen = item["value"], item.setdefault("seen", 0)
    item["seen"] += 1
    if number % 10 == 0 and number not in _failed:
        _failed.add(number)
        raise ValueError(number)
    return number, seen


_failed = set()


def refilled_dict(n_items):
    item = {}
    for number in range(n_items):
        item["value"] = number
        yield item


def refilled_buffer(n_items, n_bytes):
    buffer = bytearray(n_bytes)
    for number in range(n_items):
        buffer[:4] = buffer[-4:] = number.to_bytes(4, "big")
        yield _Large(buffer)


class _Large:
    """Has memory that travels apart."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return _Large, (pickle.PickleBuffer(self.memory),)


def ends_of(large):
    time.sleep(0.0005)
    memory = bytes(large.memory)
    return int.from_bytes(memory[:4], "big"), int.from_bytes(memory[-4:], "big")


# ---- items


@ALL_OPTIONS
def test_call_that_changes_a_shared_part_changes_it_for_no_other_item(process_kwargs, options):
    settings = {}
    items = [(number, settings) for number in range(N_ITEMS)]
    assert list(Pool(count_calls, **options, **process_kwargs)(items)) == [(number, 1) for number in range(N_ITEMS)]


@pytest.mark.parametrize("wrap", [list, tuple, iter, lambda items: (item for item in items)])
def test_kind_of_the_input_does_not_matter(process_kwargs, wrap):
    settings = {}
    items = wrap([(number, settings) for number in range(N_ITEMS)])
    assert list(Pool(count_calls, **process_kwargs)(items)) == [(number, 1) for number in range(N_ITEMS)]


@ALL_OPTIONS
def test_item_is_as_it_was_when_it_was_read(process_kwargs, options):
    results = Pool(value_of, **options, **process_kwargs)(refilled_dict(N_ITEMS))
    assert list(results) == list(range(N_ITEMS))


@pytest.mark.parametrize("n_bytes", [1 << 10, 100 << 10, 2 << 20])
def test_memory_of_an_item_is_as_it_was_when_it_was_read(process_kwargs, n_bytes):
    results = Pool(ends_of, **process_kwargs)(refilled_buffer(60, n_bytes))
    assert list(results) == [(number, number) for number in range(60)]


@pytest.mark.parametrize("n_bytes", [100 << 10, 2 << 20])
def test_unbounded_input_may_use_its_memory_again(n_bytes):
    results = Pool(ends_of, n_jobs=2, bounded=False)(refilled_buffer(20, n_bytes))
    assert list(results) == [(number, number) for number in range(20)]


def test_item_that_is_tried_again_is_as_it_was_when_it_was_read(process_kwargs):
    """Also where the one dict that the input yields is another's by then."""
    _failed.clear()
    results = list(Pool(fail_at_first, retries=3, **process_kwargs)(refilled_dict(100)))
    assert results == [(number, 0) for number in range(100)]


def test_memory_of_an_item_that_is_given_back_is_as_it_was_when_it_was_read():
    """The first item runs until others have taken what its worker was given with it."""
    results = Pool(wait_at_first, n_jobs=3, start_method="fork")(refilled_buffer(200, 1 << 20))
    assert list(results) == [(number, number) for number in range(200)]


def wait_at_first(large):
    first, last = ends_of(large)
    if first in (0, 50, 51):
        time.sleep(0.1)
    return first, last


def test_item_is_as_it_was_when_it_was_read_though_the_consumer_changes_it(process_kwargs):
    items = [{"value": number} for number in range(N_ITEMS)]
    results = []
    for result in Pool(value_of, **process_kwargs)(iter(items)):
        results.append(result)
        for item in items[: result + 1]:
            item["value"] = -1
    assert results == list(range(N_ITEMS))


def test_one_object_twice_in_an_item_stays_one(process_kwargs):
    items = [(part, part) for part in ([number] for number in range(20))]
    assert list(Pool(are_one_object, **process_kwargs)(items)) == [True] * 20


# ---- results


@ALL_OPTIONS
@pytest.mark.parametrize("worker", [return_one_dict, return_one_part])
def test_mark_on_one_result_is_on_no_other(process_kwargs, worker, options):
    n_marked = 0
    for result in list(Pool(worker, **options, **process_kwargs)(range(N_ITEMS))):
        part = result.get("part", result)
        n_marked += "mark" in part
        part.append("mark") if isinstance(part, list) else part.setdefault("mark", True)
    assert n_marked == 0


@ALL_OPTIONS
def test_result_is_as_it_was_when_its_call_returned(process_kwargs, options):
    results = list(Pool(return_one_list, **options, **process_kwargs)(range(N_ITEMS)))
    assert results == [[number] * 3 for number in range(N_ITEMS)]


@pytest.mark.parametrize("worker", [return_one_part, return_one_buffer])
def test_part_of_a_result_is_as_it_was_when_its_call_returned(process_kwargs, worker):
    results = list(Pool(worker, **process_kwargs)(range(N_ITEMS)))
    parts = [result.get("part") or [int.from_bytes(result["buffer"], "big")] for result in results]
    assert parts == [[number] for number in range(N_ITEMS)]
    containers = [result.get("part", result.get("buffer")) for result in results]
    assert len({id(part) for part in containers}) == N_ITEMS


def test_result_of_pqdm_is_as_it_was_when_its_call_returned():
    results = pqdm(range(N_ITEMS), return_one_list, n_jobs=2, lazy=False, disable=True)
    assert results == [[number] * 3 for number in range(N_ITEMS)]


def test_threads_hand_over_the_objects_themselves():
    item = [1]
    (result,) = Pool(lambda item: item, n_jobs=2, use_threads=True)([item])
    assert result is item


def test_item_that_cannot_be_pickled_fails_alone_where_others_share_its_batch(process_kwargs):
    items = ({"value": threading.Lock() if number == 5 else number} for number in range(20))
    results = list(Pool(value_of, exception_behavior="ignore", **process_kwargs)(items))
    assert [number for number, result in enumerate(results) if is_exception(result)] == [5]


# ---- what may travel together


def make(call):
    value = call()
    return is_plain(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: None,
        lambda: 1.5,
        lambda: "text",
        lambda: {"id": int("7"), "tags": ["a", "b"]},
        lambda: [int("1"), "a"],
        lambda: (int("1"), "a"),
        lambda: [[int("1")], [2]],
    ],
)
def test_fresh_containers_of_atoms_may_travel_together(call):
    assert make(call)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _shared_dict,
        lambda: [_shared_list],
        lambda: {"part": _shared_list},
        lambda: {"part": [_shared_list]},
        lambda: [bytearray(1)],
        lambda: {"part": bytearray(1)},
        lambda: {(1, 2): 3},
        lambda: [object()],
        lambda: "a" * 100_000,
        lambda: list(range(1000)),
        lambda: [[[1]]],
        lambda: {1, 2},
        lambda: [True, type("Local", (int,), {})(3)],
    ],
)
def test_what_others_may_hold_or_change_travels_alone(call):
    assert not make(call)


def test_one_object_twice_in_a_container_is_noticed():
    part = [1]
    assert not is_plain([part, part], HELD)


# ---- a slow item


def test_items_behind_a_slow_one_are_done_meanwhile(parallel_kwargs, tmp_path):
    """The first item ends when the last of 200 has begun, far more than are read ahead of a consumer that is away."""
    pool = Pool(partial(wait_for_last, 200, tmp_path / "last"), **parallel_kwargs)
    assert list(pool(range(200))) == list(range(200))


def wait_for_last(n_items, path, number):
    if number == n_items - 1:
        path.touch()
    end = time.monotonic() + 60
    while number == 0 and not path.exists():
        assert time.monotonic() < end, "the last item was not begun while the first one ran"
        time.sleep(0.001)
    return number


def test_endless_input_is_read_no_further_than_the_limit_behind_an_item_that_does_not_end(monkeypatch):
    monkeypatch.setattr("mtasklite.pool.MAX_WAITING_IN_THREADS", 500)
    n_read, n_read_meanwhile, let_go = 0, 0, threading.Event()

    def numbers():
        nonlocal n_read
        for number in itertools.count():
            n_read += 1
            if n_read == 500:
                threading.Timer(0.3, let_go.set).start()
            yield number

    def wait_at_first(number):
        nonlocal n_read_meanwhile
        if number == 0:
            assert let_go.wait(60)
            n_read_meanwhile = n_read
        return number

    with Pool(wait_at_first, n_jobs=3, use_threads=True) as pool:
        results = pool(numbers())
        assert next(results) == 0
        assert n_read_meanwhile == 500
        results.close()


# ---- memory


def test_memory_is_bounded_when_results_become_large(process_kwargs, tmp_path):
    """Twenty thousand small results make the batches large; then each is 1 MiB, and the consumer is away."""
    made, n_small, n_taken = tmp_path / "made", 20_000, 0
    made.touch()
    with Pool(partial(become_large, n_small, made), **process_kwargs) as pool:
        results = pool(itertools.count())
        for _ in range(n_small):
            next(results)
        for seconds in (1.0, 0.0, 0.0, 0.5, 0.0, 0.5):
            time.sleep(seconds)
            n_held = made.stat().st_size - n_taken
            assert n_held <= 64 + 3 * pool.num_workers
            next(results)
            n_taken += 1
        results.close()


def test_next_result_is_made_while_the_consumer_is_at_the_last_however_large(process_kwargs, tmp_path):
    made = tmp_path / "made"
    made.touch()
    with Pool(partial(become_large, 0, made, n_bytes=40 << 20), **process_kwargs) as pool:
        results = pool(range(20))
        for n_taken in range(1, 5):
            next(results)
            end = time.monotonic() + 60
            while made.stat().st_size <= n_taken:
                assert time.monotonic() < end, "no worker has begun the next result"
                time.sleep(0.001)
        results.close()


def test_workers_that_paused_go_on_in_the_next_iteration(process_kwargs):
    with Pool(partial(become_large, 0, Path(os.devnull)), **process_kwargs) as pool:
        for _ in range(3):
            results = pool(range(200))
            next(results)
            time.sleep(0.5)  # they come to a stop
            results.close()
        assert len(list(pool(range(100)))) == 100


def become_large(n_small, path, number, n_bytes=1 << 20):
    if number < n_small:
        return number
    with path.open("ab", buffering=0) as made:
        made.write(b"1")
    return bytes(n_bytes)
