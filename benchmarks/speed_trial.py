"""One run of one contender at one kind of work, in a process of its own; prints what it measured as JSON.

    python benchmarks/speed_trial.py mtasklite noop --items 50000 --workers 2

It runs in the environment of the contender, so it imports nothing but that and the standard library; numpy for arrays.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import random
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Callable

MEBI = 1 << 20


# ---- the work


def do_nothing(item: Any) -> Any:
    """Return the item."""
    return item


def make_dict(item: int) -> dict[str, Any]:
    """Return a small dict."""
    return {"id": item, "name": "item", "score": 0.5, "tags": ["a", "b"]}


def compute(seconds: float) -> float:
    """Keep a CPU busy for so long, not counting the time that others have it."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def sleep(seconds: float) -> float:
    """Wait without needing a CPU."""
    time.sleep(seconds)
    return seconds


def make_array(n_bytes: int) -> Any:
    """Return an array of so many bytes."""
    import numpy as np

    return np.ones(n_bytes // 8)


def measure_array(array: Any) -> float:
    """Return the first number of an array."""
    return float(array[0])


def make_bytes(n_bytes: int) -> bytes:
    """Return so many bytes."""
    return bytes(n_bytes)


def skewed(n_items: int, _: float) -> Iterable[float]:
    """Yield task lengths: half a millisecond, and every fiftieth forty times as long."""
    return (0.020 if number % 50 == 49 else 0.0005 for number in range(n_items))


def every(period: int, slow: float, quick: float, n_items: int, _: float) -> list[float]:
    """Return task lengths of which every so many is a slow one, beginning with the first."""
    return [quick if number % period else slow for number in range(n_items)]


def lognormal(n_items: int, median: float) -> list[float]:
    """Return task lengths that are seldom very long, three seconds at most."""
    chance = random.Random(1)
    return [min(3.0, chance.lognormvariate(math.log(median), 1.5)) for _ in range(n_items)]


def arrays(n_items: int, size: float) -> Iterable[Any]:
    """Yield arrays of so many bytes, each another one: joblib would send one that it knows but once."""
    array = make_array(int(size))
    return (array.copy() for _ in range(n_items))


Work = tuple[Callable[[Any], Any], Callable[[int, float], Iterable[Any]]]

WORKS: dict[str, Work] = {
    "noop": (do_nothing, lambda n_items, _: range(n_items)),
    "noop-generator": (do_nothing, lambda n_items, _: (number for number in range(n_items))),
    "dicts": (make_dict, lambda n_items, _: range(n_items)),
    "compute": (compute, lambda n_items, size: itertools.repeat(size, n_items)),
    "skew": (compute, skewed),
    "uneven-20": (sleep, partial(every, 20, 1.5, 0.05)),
    "uneven-25": (sleep, partial(every, 25, 1.2, 0.03)),
    "uneven-lognormal": (sleep, lognormal),
    "uneven-head": (sleep, partial(every, sys.maxsize, 2.0, 0.001)),
    "sleep": (sleep, lambda n_items, size: itertools.repeat(size, n_items)),
    "arrays-in": (measure_array, arrays),
    "arrays-out": (make_array, lambda n_items, size: itertools.repeat(int(size), n_items)),
    "arrays-both": (do_nothing, arrays),
    "bytes-out": (make_bytes, lambda n_items, size: itertools.repeat(int(size), n_items)),
}
"""The task, and its input for so many items of one size: seconds, or bytes."""


# ---- the contenders


def run_serial(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map in this process."""
    return map(task, items)


def run_mtasklite(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `Pool`, ordered, with default settings."""
    from mtasklite import Pool

    return iter(Pool(task, n_workers)(items))


def run_mtasklite_threads(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `Pool` on threads."""
    from mtasklite import Pool

    return iter(Pool(task, n_workers, use_threads=True)(items))


def run_pqdm(door: str, task: Any, items: Any, n_workers: int, **options: Any) -> Iterator[Any]:
    """Map with our `pqdm`, without a bar."""
    pqdm = importlib.import_module(f"mtasklite.{door}").pqdm
    yield from pqdm(items, task, n_workers, disable=True, **options)


def run_published(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `pqdm` of the published mtasklite, with default settings and without a bar."""
    from mtasklite.processes import pqdm

    with pqdm(items, task, n_workers, exception_behaviour="immediate", disable=True) as results:
        yield from results


def run_mpire(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `WorkerPool.imap`, with default settings."""
    from mpire import WorkerPool

    is_array = task in (measure_array,)
    with WorkerPool(n_jobs=n_workers) as pool:
        length = len(items) if hasattr(items, "__len__") else None
        wrapped = ((item,) for item in items) if is_array else items
        yield from pool.imap(task, wrapped, iterable_len=length)


def run_joblib(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `Parallel` on its default backend, as a generator, with default settings."""
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=n_workers, return_as="generator")(delayed(task)(item) for item in items)


def run_executor(task: Any, items: Any, n_workers: int, **chunks: int) -> Iterator[Any]:
    """Map with `ProcessPoolExecutor.map`, with default settings, or a chunk size picked by hand."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(n_workers) as executor:
        yield from executor.map(task, items, **chunks)


def run_thread_executor(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `ThreadPoolExecutor.map`."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(n_workers) as executor:
        yield from executor.map(task, items)


def run_pool(task: Any, items: Any, n_workers: int, **chunks: int) -> Iterator[Any]:
    """Map with `multiprocessing.Pool.imap`, with default settings, or a chunk size picked by hand."""
    from multiprocessing import Pool

    with Pool(n_workers) as pool:
        yield from pool.imap(task, items, **chunks)


def run_pool_map(task: Any, items: Any, n_workers: int) -> Iterator[Any]:
    """Map with `multiprocessing.Pool.map`."""
    from multiprocessing import Pool

    with Pool(n_workers) as pool:
        yield from pool.map(task, items)


CONTENDERS: dict[str, Callable[[Any, Any, int], Iterator[Any]]] = {
    "serial": run_serial,
    "mtasklite": run_mtasklite,
    "mtasklite, threads": run_mtasklite_threads,
    "pqdm": partial(run_pqdm, "processes"),
    "pqdm, threads": partial(run_pqdm, "threads"),
    "pqdm, lazy=False": partial(run_pqdm, "processes", lazy=False),
    "pqdm, threads, lazy=False": partial(run_pqdm, "threads", lazy=False),
    "mtasklite 0.3.5": run_published,
    "mpire": run_mpire,
    "joblib": run_joblib,
    "executor": run_executor,
    "executor, threads": run_thread_executor,
    "executor, chunksize=1000": partial(run_executor, chunksize=1000),
    "Pool.imap": run_pool,
    "Pool.imap, chunksize=1000": partial(run_pool, chunksize=1000),
    "Pool.map": run_pool_map,
}


def main() -> None:
    """Run it once, and print what was measured."""
    parser = argparse.ArgumentParser(description="One run of one contender at one kind of work.")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--items", type=int, required=True, help="number of items")
    parser.add_argument("--size", type=float, default=0, help="seconds or bytes of one item, as the work has it")
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: %(default)s)")
    parser.add_argument("--consumer", type=float, default=0, help="seconds that the consumer takes every 1000 results")
    args = parser.parse_args()
    task, make_items = WORKS[args.work]
    list(CONTENDERS[args.contender](do_nothing, [], 2))  # for the imports
    items = make_items(args.items, args.size)
    n_results = 0
    start = time.perf_counter()
    for _ in CONTENDERS[args.contender](task, items, args.workers):
        n_results += 1
        if args.consumer and n_results % 1000 == 0:
            time.sleep(args.consumer)
    seconds = time.perf_counter() - start
    if n_results != args.items:
        sys.exit(f"{n_results} results for {args.items} items")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
