"""The backend for clusters, on a cluster within this process: what holds whatever the engine is."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace

import numpy
import pytest

import mtasklite.dask
import mtasklite.pool
import mtasklite.ray
from mtasklite import (
    ArgumentPassing,
    Pool,
    PoolClosedError,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerInitError,
    delayed_init,
    is_exception,
)
from mtasklite._backends import _cluster, _cluster_starting, _cluster_wire, _cluster_worker
from mtasklite._backends._adapter import Shortage
from mtasklite._backends._cluster_host import Host
from mtasklite._backends._cluster_wire import MAX_MESSAGE_BYTES, pack
from mtasklite._backends._tags import HELLO
from mtasklite._wire import Codec
from mtasklite.tests import workers
from mtasklite.tests.local_cluster import ActorGoneError, LocalAdapter
from mtasklite.tests.workers import wait_until


@pytest.fixture
def adapter(monkeypatch):
    """The cluster that pools with `backend='ray'` work on here."""
    adapter = LocalAdapter()
    monkeypatch.setattr(mtasklite.pool, "make_adapter", lambda engine, needs: adapter)
    yield adapter
    assert adapter.n_open == 0
    assert all(actor.is_gone for actor in adapter.actors)


def _pool(worker, n_jobs=2, **kwargs):
    return Pool(worker, n_jobs, backend="ray", **kwargs)


@delayed_init
class Logging:
    """Writes down what happens to it."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("enter")

    def __exit__(self, *exc_info):
        self.log.append("exit")

    def __call__(self, item):
        return item


def _exit_at_5(item):
    if item == 5:
        raise SystemExit(3)
    return item


def _be_stuck_at_3(item):
    if item == 3:
        workers.GATE.wait(workers.LIMIT_SECONDS)
    return item


@pytest.fixture(params=[False, True], ids=["threads", "coroutines"])
def any_adapter(request, adapter):
    """The cluster, with actors whose methods are called in threads, or in an event loop."""
    adapter.are_async = request.param
    return adapter


# ---- the work


@pytest.mark.parametrize("is_unordered", [False, True])
def test_results_are_those_of_map(any_adapter, is_unordered):
    """A pool on a cluster gives what `map` gives."""
    results = list(_pool(workers.square, is_unordered=is_unordered)(range(2000)))
    assert (sorted(results) if is_unordered else results) == [item * item for item in range(2000)]


def test_n_jobs_left_out_is_what_the_cluster_can_have(adapter):
    """Without `n_jobs` there are as many workers as the cluster has places."""
    adapter.n_places = 3
    assert (Pool(abs, backend="ray").num_workers, Pool(abs, -2, backend="ray").num_workers) == (3, 2)


def test_one_job_is_done_in_the_cluster(adapter):
    """With one worker, too, the work is not done in the calling thread."""
    assert threading.get_ident() not in {ident for _, ident in _pool(workers.where, 1)(range(3))}


def test_answer_takes_no_more_than_an_engine_moves_well():
    """What a host has to say beyond that is said in the next answers, in order."""
    host = Host([b""])
    assert _said(host, 0) == [len(pack(Codec(), HELLO)[0])]
    for n_bytes in (300, 200, 400, 900, 10):
        host._put([bytes(n_bytes << 10)])
    assert [_said(host, number) for number in range(1, 5)] == [
        [300 << 10, 200 << 10],
        [400 << 10],
        [900 << 10],
        [10 << 10],
    ]


def _said(host, number):
    events, *_ = host.exchange(number, [])
    return [len(frames[0]) for frames in events]


def test_batch_costs_one_call(any_adapter):
    """While batches follow one another, an exchange takes one and answers with the outcomes of another."""
    with _pool(workers.square, 1) as pool:
        list(pool(range(100)))
        n_before = pool._crew.backend._by_slot[0]._n_begun
        n_batches = _count_batches(pool, range(50_000))
        n_calls = pool._crew.backend._by_slot[0]._n_begun - n_before
    assert n_calls <= 2 * n_batches + 20


def _count_batches(pool, items):
    backend = pool._crew.backend
    sent = []
    send = backend.send
    backend.send = lambda slot, batch: sent.append(slot) or send(slot, batch)
    list(pool(items))
    return len(sent)


@pytest.mark.parametrize(("n_workers", "is_longer"), [(2, False), (64, True)])
def test_batches_are_longer_where_there_are_many_workers(adapter, n_workers, is_longer):
    """So many workers take no more of the driver's time, for what an exchange costs is measured."""
    backend = _cluster.ClusterBackend(adapter, [workers.square] * n_workers, ArgumentPassing.AS_SINGLE_ARG, None)
    assert (backend.batch_scale > 10) == is_longer
    assert backend.batch_scale >= 1
    backend.terminate()


def test_large_values_come_in_memory_of_their_own(adapter):
    """A large buffer arrives as the receiver's own: it can be written, and nobody else sees that."""
    items = [numpy.zeros(1 << 20, dtype="uint8") for _ in range(3)]
    results = list(_pool(_mark)(items))
    assert [(item[0], result[0], len(result)) for item, result in zip(items, results)] == [(0, 1, 1 << 20)] * 3
    results[0][1] = 2


def _mark(item):
    item[0] = 1
    return item


def test_iteration_that_was_given_up_leaves_its_results_to_nobody(adapter):
    """What a worker held of an iteration that was given up never reaches the next."""
    with _pool(workers.square) as pool:
        for result in pool(range(1000)):
            if result == 100:
                break
        assert list(pool(range(50))) == [item * item for item in range(50)]


def test_worker_is_replaced_after_its_tasks(adapter):
    """With `max_tasks_per_child` each actor is left in good order and a new one takes its place."""
    log = []
    assert list(_pool(Logging(_Shared(log)), 1, max_tasks_per_child=2)(range(6))) == list(range(6))
    assert log.count("enter") == log.count("exit") == len(adapter.actors) >= 3


class _Shared:
    """A list that is the same on both sides, for both are in one process."""

    lists: dict[int, list] = {}

    def __init__(self, content):
        self.lists[id(content)] = content
        self.key = id(content)

    def append(self, item):
        self.lists[self.key].append(item)


# ---- ends


@pytest.mark.parametrize("retries", [0, 5])
def test_actor_that_is_lost_costs_what_it_held(any_adapter, retries):
    """What an actor held when it was lost may have run, so it fails, or is tried again; all others are done."""
    pool = _pool(workers.square, exception_behavior="ignore", retries=retries, chunk_size=50)
    results = []
    for result in pool(range(3000)):
        results.append(result)
        if len(results) == 500:
            any_adapter.actors[0].end(ActorGoneError("its node died"))
    failed = [result for result in results if is_exception(result)]
    assert len(results) == 3000
    assert {type(error) for error in failed} <= ({WorkerDiedError} if not retries else set())
    assert all(result == item * item for item, result in enumerate(results) if not is_exception(result))
    assert len(any_adapter.actors) >= 3


def test_answer_that_was_lost_with_its_machine_holds_nobody_up(adapter, monkeypatch):
    """A call that never ends is seen through: another one tells that the actor is gone."""
    monkeypatch.setattr(_cluster_worker, "OVERDUE_SECONDS", 0.3)
    monkeypatch.setattr(_cluster_worker, "EARLIER_SECONDS", 0.1)
    pool = _pool(workers.square, 1, exception_behavior="ignore", chunk_size=2)
    results = pool(range(50))
    taken = [next(results)]
    adapter.actors[0].end(are_lost=True)
    taken += results
    assert len(taken) == 50
    assert [result for result in taken if not is_exception(result)][-1] == 49 * 49
    assert {type(result) for result in taken if is_exception(result)} <= {WorkerDiedError}


def test_pool_without_a_place_warns_and_is_an_error_in_the_end(adapter, monkeypatch):
    """When the cluster has no place for any worker, nobody waits for ever, and not in silence."""
    monkeypatch.setattr(_cluster, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(_cluster_starting, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(_cluster_starting, "WARN_SECONDS", 0.1)
    monkeypatch.setattr(_cluster_starting, "PLACE_SECONDS", 0.5)
    start_actor = adapter.start_actor

    def start_mute(slot, payload):
        actor = start_actor(slot, payload)
        actor.is_mute = True
        return actor

    monkeypatch.setattr(adapter, "start_actor", start_mute)
    text = "no worker of this pool is up: the local cluster had no place for it"
    with pytest.warns(RuntimeWarning, match=text), pytest.raises(WorkerInitError, match="end what holds its places"):
        list(_pool(workers.square)([1]))


def _start_mute(adapter, monkeypatch):
    """Let actors that are started from now on say nothing."""
    start_actor = adapter.start_actor

    def start_mute(slot, payload):
        actor = start_actor(slot, payload)
        actor.is_mute = True
        return actor

    monkeypatch.setattr(adapter, "start_actor", start_mute)


def test_engine_that_knows_what_is_lacking_says_so_and_how_long_to_wait(adapter, monkeypatch):
    """An engine's own reason, remedy and times go before the general ones."""
    monkeypatch.setattr(_cluster, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(_cluster_starting, "LOOK_SECONDS", 0.0)
    adapter.lacks = Shortage("nobody was at home", "ring twice", 0.1, 0.5)
    _start_mute(adapter, monkeypatch)
    text = "nobody was at home, for . s: ring twice"
    with pytest.warns(RuntimeWarning, match=text), pytest.raises(WorkerInitError, match=text):
        list(_pool(workers.square)([1]))


def test_time_without_a_place_begins_anew_when_the_last_worker_dies(adapter):
    """A worker that waits while others work is not given up at once when these are gone."""
    adapter.lacks = Shortage("nobody was at home", "ring twice", 1000.0, 1000.0)
    now = time.monotonic()
    waiting = SimpleNamespace(has_greeted=False, is_over=False, begun_at=now - 5000.0)
    other = SimpleNamespace(has_greeted=True, is_over=False, begun_at=now - 5000.0)
    starting = _cluster_starting.Starting(adapter)
    starting.note_end(other)
    assert starting.look_after([waiting]) == ([], "")
    late = _cluster_starting.Starting(adapter)
    assert late.look_after([waiting]) == ([waiting], "nobody was at home, for 5000 s: ring twice")


def test_no_more_actors_are_asked_for_at_once_than_the_engine_likes(adapter, monkeypatch):
    """Of many workers few are asked for at first; with those, little work is done."""
    adapter.most_starting = 3
    assert list(_pool(workers.square, 500)([1, 2, 3])) == [1, 4, 9]
    assert len(adapter.actors) < 400
    adapter.actors.clear()
    _start_mute(adapter, monkeypatch)
    with _pool(workers.square, 500):
        assert len(adapter.actors) == 3


def test_workers_that_were_put_off_do_not_wait_for_constructors(adapter):
    """However long constructors take, all workers are asked for as soon as those before are up."""
    adapter.most_starting = 1
    log = []
    with _pool(_Meeting(_Shared(log)), 5) as pool:
        assert list(pool([1])) == [1]
    assert len(adapter.actors) == 5


@delayed_init
class _Meeting:
    """Can be made once five are being made."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        self.log.append("here")
        wait_until(lambda: len(_Shared.lists[self.log.key]) == 5)

    def __exit__(self, *exc_info):
        pass

    def __call__(self, item):
        return item


def test_workers_without_a_place_keep_no_other_from_being_asked_for(adapter, monkeypatch):
    """What waits for a place for long does not count among those that are being started."""
    monkeypatch.setattr(_cluster, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(_cluster_starting, "YOUNG_SECONDS", 0.1)
    adapter.most_starting = 1
    start_actor = adapter.start_actor

    def start_some_mute(slot, payload):
        actor = start_actor(slot, payload)
        actor.is_mute = slot < 2
        return actor

    monkeypatch.setattr(adapter, "start_actor", start_some_mute)
    assert list(_pool(workers.square, 3)([1, 2])) == [1, 4]


def test_answers_that_overtake_each_other_are_taken_in_their_order(adapter, monkeypatch):
    """The ends of calls may come in any order; outcomes are where they belong all the same."""
    delays = random.Random(1)

    def call(actor, number, messages, then):
        seconds = delays.random() / 100
        actor.call(number, messages, lambda *end: threading.Timer(seconds, then, end).start())

    monkeypatch.setattr(adapter, "call", call)
    assert list(_pool(workers.square, 1)(range(300))) == [item * item for item in range(300)]


def test_exchanges_that_overtake_each_other_are_taken_in_their_order(any_adapter, monkeypatch):
    """Calls may begin in any order; what they bring is taken in as it was said."""
    delays = random.Random(2)

    def call(actor, number, messages, then):
        threading.Timer(delays.random() / 100, actor.call, (number, messages, then)).start()

    monkeypatch.setattr(any_adapter, "call", call)
    assert list(_pool(workers.square, 1)(range(300))) == [item * item for item in range(300)]


def test_task_that_ends_its_worker_costs_its_item_alone(adapter):
    """A worker that says itself what ends it costs one item, whose error has the exit code."""
    results = list(_pool(_exit_at_5, exception_behavior="ignore")(range(300)))
    failed = {index: result for index, result in enumerate(results) if is_exception(result)}
    assert list(failed) == [5]
    assert (type(failed[5]), failed[5].exitcode, failed[5].item_index) == (WorkerDiedError, 3, 5)


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("answer_bytes", [1, MAX_MESSAGE_BYTES])
def test_late_item_costs_itself_alone(any_adapter, monkeypatch, answer_bytes):
    """An item past `task_timeout` has its error; what was behind it is done by the next worker."""
    monkeypatch.setattr(_cluster_wire, "MAX_MESSAGE_BYTES", answer_bytes)
    results = list(_pool(_be_stuck_at_3, exception_behavior="ignore", task_timeout=0.5)(range(100)))
    assert [index for index, result in enumerate(results) if is_exception(result)] == [3]
    assert type(results[3]) is TaskTimeoutError


def _print_much(item):
    for _ in range(20):
        print("x" * 20_000)
    return item


def test_item_that_waits_to_print_while_the_consumer_is_busy_is_not_late(adapter, capsys):
    """What is printed waits until the consumer looks, in whose time no item is late."""
    adapter.are_async = True
    results = []
    with _pool(_print_much, task_timeout=0.5, exception_behavior="ignore", forward_output=True) as pool:
        for result in pool(range(6)):
            results.append(result)
            time.sleep(1.0)
    assert results == list(range(6))


def test_actor_that_does_not_answer_is_late_with_what_it_holds(adapter, monkeypatch):
    """An actor that holds an item for longer than its time and cannot be spoken to is killed and replaced."""
    monkeypatch.setattr(_cluster, "HOLD_ANSWER_SECONDS", 0.1)
    with _pool(workers.square, 1, exception_behavior="ignore", task_timeout=0.3) as pool:
        assert list(pool([1])) == [1]
        adapter.actors[0].is_mute = True
        results = list(pool(range(20)))
    assert type(results[0]) is TaskTimeoutError
    assert results[-1] == 19 * 19
    assert {type(result) for result in results} <= {int, TaskTimeoutError, WorkerDiedError}


@pytest.mark.parametrize("reason", ["killed", "node"])
def test_actor_that_is_lost_before_its_worker_was_made(adapter, monkeypatch, reason):
    """A machine that is lost then is nobody's fault, and another actor is started; else the constructor is to blame."""
    start_actor = adapter.start_actor

    def start_once_in_vain(slot, payload):
        actor = start_actor(slot, payload)
        if len(adapter.actors) == 1:
            actor.end()
            actor.call = lambda number, messages, then: then(None, ActorGoneError(reason))
        return actor

    monkeypatch.setattr(adapter, "start_actor", start_once_in_vain)
    if reason == "node":
        assert list(_pool(workers.square, 1)([1, 2])) == [1, 4]
    else:
        with pytest.raises(WorkerInitError, match="killed"):
            list(_pool(workers.square, 1)([1, 2]))


def test_worker_that_cannot_be_sent_leaves_the_work_to_others(adapter):
    """A worker that cannot be pickled is one that could not be made."""
    with pytest.warns(RuntimeWarning, match="worker 0 could not be made"):
        results = list(_pool([threading.Lock().acquire, workers.square], None, exception_behavior="ignore")([1, 2]))
    assert results == [1, 4]


def test_close_does_not_wait_for_an_actor_that_is_not_up(adapter):
    """A pool whose actors were never heard of ends at once."""
    started = []
    start_actor = adapter.start_actor

    def start_mute(slot, payload):
        actor = start_actor(slot, payload)
        actor.is_mute = True
        started.append(actor)
        return actor

    adapter.start_actor = start_mute
    started_at = time.monotonic()
    with _pool(workers.square):
        assert len(started) == 2
    assert time.monotonic() - started_at < workers.LIMIT_SECONDS / 2


def test_cluster_that_was_left_amid_work_is_an_error(adapter):
    """When other code has left the cluster, nobody waits for answers that never come."""
    with _pool(_be_stuck_at_3, 1) as pool:
        results = pool(range(3))
        assert next(results) == 0
        adapter.is_joined = False
        adapter.actors[0].is_mute = True
        with pytest.raises(PoolClosedError, match="the program has left the local cluster that this pool is on"):
            list(results)


def test_cluster_that_was_left_is_not_waited_for_at_the_end(adapter):
    """When other code has left the cluster, a pool that ends does not wait for what its workers would say."""
    with _pool(workers.square, 2) as pool:
        assert list(pool(range(3))) == [0, 1, 4]
        for actor in adapter.actors:
            actor.is_mute = True
        adapter.is_joined = False


def test_task_that_prints_does_not_wait_for_a_slow_consumer(adapter):
    """While the consumer is busy with a result, its workers go on, though what they print is not shown yet."""
    adapter.are_async = True  # whose output is taken thread by thread
    log = []
    results = iter(_pool(partial(_print_and_log, log=_Shared(log)), 1, forward_output=True)(range(3)))
    next(results)
    wait_until(lambda: len(log) >= 2 * N_LINES)
    assert list(results) == [1, 2]


N_LINES = 10


def _print_and_log(item, log):
    for number in range(N_LINES):
        time.sleep(0.015)
        print("item", item, "line", number)
        log.append(item)
    return item


@delayed_init
class NeverLeaving:
    """Ends its worker, and is stuck when it is left."""

    def __enter__(self):
        pass

    def __exit__(self, *exc_info):
        workers.GATE.wait(workers.LIMIT_SECONDS)

    def __call__(self, item):
        return _exit_at_5(item)


@pytest.mark.usefixtures("gate")
def test_worker_that_ends_and_does_not_come_to_its_end_is_not_waited_for(adapter, monkeypatch):
    """What ends a worker by being raised costs its item, also if the `__exit__` after that never ends."""
    monkeypatch.setattr(_cluster_worker, "DYING_SECONDS", 0.2)
    pool = _pool(NeverLeaving(), 1, exception_behavior="ignore", join_timeout=0)
    results = list(pool(range(10)))
    assert [index for index, result in enumerate(results) if is_exception(result)] == [5]


def test_pool_that_the_engines_own_thread_ends_waits_for_nothing_there(adapter):
    """In a thread in which the engine calls back, the end of a pool is left to another thread."""
    adapter.are_async = True
    pool = _pool(workers.square, 1)
    results = iter(pool(range(1000)))
    assert next(results) == 0
    loop = adapter.actors[0]._loop
    backend = pool._crew.backend
    wait_until(lambda: backend._calls.engine_threads._threads)
    closed = threading.Event()
    loop.call_soon_threadsafe(lambda: (backend.close(None), closed.set()))
    assert closed.wait(workers.LIMIT_SECONDS)
    wait_until(lambda: all(actor.is_gone for actor in adapter.actors))
    wait_until(lambda: not backend._finalize.alive)


def test_worker_that_cannot_be_sent_is_told_of_though_nothing_was_asked_for(adapter):
    """What befell a worker before the first item is said when the block is left."""
    with pytest.warns(RuntimeWarning, match="worker 0 could not be made"):  # noqa: SIM117
        with _pool([threading.Lock().acquire, workers.square], None, exception_behavior="ignore"):
            pass


def test_pool_that_is_dropped_leaves_nothing(adapter):
    """An iteration that nobody holds any more ends its actors."""
    results = iter(_pool(workers.square)(range(10_000)))
    assert next(results) == 0
    del results
    wait_until(lambda: all(actor.is_gone for actor in adapter.actors))


def test_pool_that_is_dropped_amid_its_block_leaves_nothing(adapter):
    """A pool that was entered, used, and never left ends its actors when nobody holds it any more."""
    pool = _pool(workers.square)
    pool.__enter__()
    assert list(pool(range(3))) == [0, 1, 4]
    assert adapter.actors
    del pool
    gc.collect()
    wait_until(lambda: all(actor.is_gone for actor in adapter.actors))


class _Interrupted(SimpleQueue):
    """A queue that is interrupted once what is waited for is taken from it, as by `_thread.interrupt_main`."""

    is_interrupted = False

    def get(self, *args, **kwargs):
        taken = super().get(*args, **kwargs)
        if _Interrupted.is_interrupted:
            _Interrupted.is_interrupted = False
            raise KeyboardInterrupt
        return taken


def _dismiss_and_end(actor):
    def end():
        wait_until(lambda: actor.host.has_left and not actor.host._events)
        time.sleep(0.1)  # for what it has said to be on its way
        actor.end()

    actor.host.dismiss()
    threading.Thread(target=end).start()


def test_answer_that_an_interrupt_has_lost_is_not_waited_for(any_adapter, monkeypatch):
    """A Ctrl-C that comes when an answer was just taken ends the pool at once, also if its actors end in peace."""
    monkeypatch.setattr(_cluster, "SimpleQueue", _Interrupted)
    monkeypatch.setattr(any_adapter, "kill", _dismiss_and_end)
    results = iter(_pool(partial(workers.nap, seconds=0.05), chunk_size=1)(range(1000)))
    next(results)
    _Interrupted.is_interrupted = True
    started_at = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert time.monotonic() - started_at < _cluster.GRACE_SECONDS


# ---- what is refused


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"start_method": "spawn"}, ValueError, r"`start_method` is for processes, and `backend='ray'` was asked for"),
        ({"use_threads": True}, ValueError, r"`use_threads=True` means"),
        ({"resources": 3}, TypeError, r"`resources` must be a dict of names and amounts"),
        ({"resources": {1: 1}}, TypeError, r"`resources` must be a dict of names and amounts"),
        ({"resources": {"num_gpus": "one"}}, TypeError, r"`resources\['num_gpus'\]` must be a number of at least 0"),
        ({"resources": {"num_gpus": -1}}, ValueError, r"`resources\['num_gpus'\]` must be a number of at least 0"),
        ({"resources": [{}]}, ValueError, r"`resources` must be one for all, but got a list of 1"),
        ({"worker_or_worker_arr": [abs, abs], "n_jobs": None, "resources": [{}]}, ValueError, r"a list of 2, one for"),
    ],
    ids=str,
)
def test_argument_that_a_cluster_cannot_have_is_an_error(adapter, kwargs, error, text):
    """What makes no sense on a cluster is refused before anything starts."""
    with pytest.raises(error, match=text):
        Pool(**{"worker_or_worker_arr": abs, "n_jobs": 2, "backend": "ray", **kwargs})
    assert adapter.actors == []


@pytest.mark.parametrize("kwargs", [{"retries": -1}, {"chunk_size": 0}, {"start_method": "spawn"}], ids=str)
def test_wrong_argument_is_an_error_before_the_cluster_is_asked_for_anything(adapter, monkeypatch, kwargs):
    """A cluster is not started to find out how many workers it could have, if the pool cannot be made."""
    monkeypatch.setattr(adapter, "capacity", lambda: pytest.fail("it was asked"))
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        Pool(abs, backend="ray", **kwargs)


@pytest.mark.parametrize("door", [mtasklite.ray, mtasklite.dask], ids=["ray", "dask"])
def test_door_of_a_cluster_refuses_threads(adapter, door):
    """`use_threads=True` contradicts the module that `pqdm` was imported from; `False` changes nothing."""
    name = door.__name__.rpartition(".")[2]
    with pytest.raises(ValueError, match=f"`use_threads=True` means `backend='threads'` but `backend` is: '{name}'"):
        door.pqdm([1], abs, n_jobs=2, use_threads=True)
    results = door.pqdm([-1], abs, n_jobs=2, use_threads=False, disable=True)
    assert f"on {name}" in repr(results.pool_obj.parent_obj)
    assert list(results) == [1]


def test_resources_without_a_cluster_are_an_error():
    """`resources` is for clusters only."""
    with pytest.raises(ValueError, match=r"`resources` is for the backends 'ray', 'dask', and `backend` is None"):
        Pool(abs, 2, resources={"num_cpus": 1})


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_engine_that_is_not_installed_is_one_clear_error(monkeypatch, engine, package):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"mtasklite._backends.{engine}", raising=False)
    with pytest.raises(ImportError) as caught:
        Pool(abs, 2, backend=engine)
    assert str(caught.value) == f'`backend={engine!r}` needs what is not installed: pip install "mtasklite[{engine}]"'
    assert caught.value.__suppress_context__  # what was looked for where tells no more
