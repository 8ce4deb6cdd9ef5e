"""The contenders, and how each of them maps a task over an input, with two worker processes.

A *way* is a generator function that takes a `Job` and yields the outcomes in input order: the value of an item, or
its exception as an object. If it raises, the run has ended with an error. A contender may have several ways, all of
them documented by its authors: of these the one counts that stands the fault best. Where a contender lets the user
choose how many items travel together, it is one, so that no item is lost with its neighbours; but mtasklite is tried
with its own batches only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Callable, Optional


@dataclass(frozen=True)
class Job:
    """What is to be mapped.

    Attributes:
        task: Called with each item.
        items: The input.
        setup: Called in each worker before its first item; None: nothing is.
        timeout_seconds: How long an item may run; None: for ever.
    """

    task: Callable[[Any], Any]
    items: Iterable[Any]
    setup: Optional[Callable[[], None]]
    timeout_seconds: Optional[int]


class MadeInWorker:
    """A worker object for mtasklite: the setup is its constructor."""

    def __init__(self, setup: Callable[[], None], task: Callable[[Any], Any]) -> None:
        setup()
        self.task = task

    def __call__(self, item: Any) -> Any:
        return self.task(item)


def mtasklite_pool(job: Job) -> Iterator[Any]:
    """Map with `mtasklite.Pool`, with batches as it chooses them."""
    from mtasklite import Pool, delayed_init

    worker = job.task if job.setup is None else delayed_init(MadeInWorker)(job.setup, job.task)
    pool = Pool(worker, 2, exception_behavior="ignore", task_timeout=job.timeout_seconds, join_timeout=1)
    with pool(job.items) as results:
        yield from results


def mpire_imap(job: Job) -> Iterator[Any]:
    """Map with `mpire.WorkerPool.imap`."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=2) as pool:
        yield from pool.imap(
            job.task,
            ((item,) for item in job.items),  # a tuple is unpacked into arguments
            chunk_size=1,
            worker_init=job.setup,
            task_timeout=job.timeout_seconds,
        )


def mpire_apply(job: Job) -> Iterator[Any]:
    """Map with `mpire.WorkerPool.apply_async`, one call for each item."""
    from mpire import WorkerPool

    with WorkerPool(n_jobs=2) as pool:
        handles = [
            pool.apply_async(job.task, (item,), worker_init=job.setup, task_timeout=job.timeout_seconds)
            for item in job.items
        ]
        for handle in handles:
            try:
                outcome = handle.get()
            except (Exception, SystemExit) as error:
                outcome = error
            yield outcome


def joblib_generator(job: Job) -> Iterator[Any]:
    """Map with `joblib.Parallel`, on its default backend, loky."""
    from joblib import Parallel, delayed

    options = {} if job.setup is None else {"initializer": job.setup}
    parallel = Parallel(n_jobs=2, return_as="generator", batch_size=1, timeout=job.timeout_seconds, **options)
    yield from parallel(delayed(job.task)(item) for item in job.items)


def pebble_map(job: Job) -> Iterator[Any]:
    """Map with `pebble.ProcessPool.map`, whose iterator goes on after an exception."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=2, initializer=job.setup) as pool:
        try:
            results = pool.map(job.task, job.items, timeout=job.timeout_seconds).result()
            while True:
                try:
                    outcome = next(results)
                except StopIteration:
                    break
                except (Exception, SystemExit) as error:
                    outcome = error
                yield outcome
        finally:
            pool.stop()


def pebble_schedule(job: Job) -> Iterator[Any]:
    """Map with `pebble.ProcessPool.schedule`, one call for each item."""
    from pebble import ProcessPool

    with ProcessPool(max_workers=2, initializer=job.setup) as pool:
        try:
            scheduled = [pool.schedule(job.task, args=[item], timeout=job.timeout_seconds) for item in job.items]
            for future in scheduled:
                yield _outcome(future)
        finally:
            pool.stop()


def executor_map(job: Job) -> Iterator[Any]:
    """Map with `concurrent.futures.ProcessPoolExecutor.map`."""
    options = {"buffersize": 8} if sys.version_info >= (3, 14) else {}
    with futures.ProcessPoolExecutor(2, initializer=job.setup) as executor:
        try:
            yield from executor.map(job.task, job.items, **options)
        finally:
            _end(executor)


def executor_submit(job: Job) -> Iterator[Any]:
    """Map with `concurrent.futures.ProcessPoolExecutor.submit`, one call for each item."""
    with futures.ProcessPoolExecutor(2, initializer=job.setup) as executor:
        try:
            submitted = [executor.submit(job.task, item) for item in job.items]
            for future in submitted:
                yield _outcome(future)
        finally:
            _end(executor)


def _outcome(future: futures.Future[Any]) -> Any:
    """Return the value, or the exception."""
    error = future.exception()
    return future.result() if error is None else error


def _end(executor: futures.ProcessPoolExecutor) -> None:
    """Drop what is queued, and from Python 3.14 on kill what is running."""
    if sys.version_info >= (3, 14):
        executor.kill_workers()
    else:
        executor.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Contender:
    """A library, and the ways to map with it.

    Attributes:
        name: Of the distribution.
        ways: By name; the first is the one that the others must beat.
        has_task_timeout: Whether an item's time can be limited, and not only how long its caller waits.
    """

    name: str
    ways: dict[str, Callable[[Job], Iterator[Any]]]
    has_task_timeout: bool = True

    @property
    def version(self) -> Optional[str]:
        """The installed version; "" for a part of Python; None if not installed."""
        if self.name == "concurrent.futures":
            return ""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None


_ALL = [
    Contender("mtasklite", {"Pool": mtasklite_pool}),
    Contender("mpire", {"imap": mpire_imap, "apply_async": mpire_apply}),
    Contender("joblib", {"generator": joblib_generator}),
    Contender("pebble", {"map": pebble_map, "schedule": pebble_schedule}),
    Contender("concurrent.futures", {"map": executor_map, "submit": executor_submit}, has_task_timeout=False),
]

CONTENDERS = {contender.name: contender for contender in _ALL}
