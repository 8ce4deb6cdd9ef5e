"""A pool on a cluster's engine beside the engine's own ways, in one run.

    python -m benchmarks.clusters ray
    python -m benchmarks.clusters dask --items 20000 --rows noop

The engine runs on this machine, with two workers. The module ``cluster_<engine>`` has what is the engine's own.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, Optional

import psutil

from mtasklite import Pool

ENGINES = ("ray", "dask")
N_WORKERS = 2
NAP_SECONDS = 0.010
BUSY_SECONDS = 0.001
N_TASKS = 2000
MEGABYTE = 1 << 20
STORE_SECONDS = 0.050
"""The store is looked at this often."""


def noop(item: Any) -> Any:
    """Do nothing."""
    return item


def nap(item: Any) -> Any:
    """Take 10 ms."""
    time.sleep(NAP_SECONDS)
    return item


def computation(item: Any) -> Any:
    """Keep a CPU busy for 1 ms."""
    ends_at = time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < ends_at:
        pass
    return item


def noop_row(engine: Any, n_items: int) -> Iterator[str]:
    """Items that take no time: what is measured is what an item costs."""
    yield f"{n_items:,} items that take no time, {N_WORKERS} workers that are up"
    with Pool(noop, N_WORKERS, backend=engine.NAME) as pool:
        list(pool(range(1000)))
        ours = _seconds(lambda: _consume(pool(range(n_items)), n_items))
    yield _line("mtasklite", n_items, ours)
    others = {}
    for name, make in engine.CONTENDERS.items():
        with make(noop, N_WORKERS) as run:
            _consume(run(range(100)), 100)
            others[name] = _seconds(lambda run=run: _consume(run(range(n_items)), n_items))
        yield _line(name, n_items, others[name])
    fastest = min(others, key=lambda name: others[name])
    yield f"  mtasklite is {others[fastest] / ours:.1f} times as fast as {fastest}"


def nap_row(engine: Any, n_items: int) -> Iterator[str]:
    """Items that take 10 ms: how much of the workers' time is left for them."""
    yield from _tasks(engine, nap, NAP_SECONDS)


def busy_row(engine: Any, n_items: int) -> Iterator[str]:
    """Items that compute for 1 ms, where driver and engine may need the workers' CPUs too."""
    yield from _tasks(engine, computation, BUSY_SECONDS)


def _tasks(engine: Any, task: Callable[[Any], Any], task_seconds: float) -> Iterator[str]:
    ideal = N_TASKS * task_seconds / N_WORKERS
    yield f"{N_TASKS:,} items, each a {task.__name__} of {1000 * task_seconds:.0f} ms; ideal {ideal:.1f} s"
    with Pool(task, N_WORKERS, backend=engine.NAME) as pool:
        list(pool(range(100)))
        seconds = _seconds(lambda: _consume(pool(range(N_TASKS)), N_TASKS))
    yield f"  {'mtasklite':<44}{seconds:8.2f} s   {100 * ideal / seconds:5.1f} % of the ideal"


def stream_row(engine: Any, n_items: int) -> Iterator[str]:
    """A million items through a generator: what the driver and the cluster's store hold meanwhile."""
    n_items = 10 * n_items
    this = psutil.Process()
    yield f"{n_items:,} items of 100 bytes through a generator"
    sizes: list[float] = []
    stored: list[float] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(STORE_SECONDS):
            stored.append(engine.stored_bytes() / MEGABYTE)

    looking = threading.Thread(target=look)
    with Pool(noop, N_WORKERS, backend=engine.NAME) as pool:
        list(pool(range(1000)))
        looking.start()
        started_at = time.perf_counter()
        for count, _ in enumerate(pool(bytes(100) for _ in range(n_items)), 1):
            if count % (n_items // 10) == 0:
                memory = this.memory_info()
                sizes.append((memory.rss - getattr(memory, "shared", 0)) / MEGABYTE)  # the store is shared memory
        seconds = time.perf_counter() - started_at
        is_over.set()
        looking.join()
    yield _line("mtasklite", n_items, seconds)
    yield "  driver, MiB at each tenth:  " + " ".join(f"{size:.0f}" for size in sizes)
    yield f"  in the store:                {max(stored):.1f} MiB at most, {len(stored)} times looked at"


def arrays_row(engine: Any, n_items: int) -> Iterator[str]:
    """Large arrays there and back."""
    import numpy

    array = numpy.zeros(4 << 20, dtype="uint8")
    n_arrays = 200
    yield f"{n_arrays} arrays of 4 MiB there and back"
    with Pool(noop, N_WORKERS, backend=engine.NAME) as pool:
        list(pool([array] * 4))
        seconds = _seconds(lambda: _consume(pool(array for _ in range(n_arrays)), n_arrays))
    yield f"  {'mtasklite':<44}{seconds:8.2f} s   {2 * n_arrays * 4 / seconds:7.0f} MiB/s"


ROWS: dict[str, Callable[[Any, int], Iterator[str]]] = {
    "noop": noop_row,
    "nap": nap_row,
    "busy": busy_row,
    "stream": stream_row,
    "arrays": arrays_row,
}


def _consume(results: Iterable[Any], n_items: int) -> None:
    count = sum(1 for _ in results)
    if count != n_items:
        raise RuntimeError(f"{count} results of {n_items} items")


def _seconds(run: Callable[[], None]) -> float:
    started_at = time.perf_counter()
    run()
    return time.perf_counter() - started_at


def _line(name: str, n_items: int, seconds: float) -> str:
    return f"  {name:<44}{seconds:8.2f} s   {1e6 * seconds / n_items:8.1f} µs an item"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="A pool on a cluster's engine beside the engine's own ways.")
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--items", type=int, default=100_000, help="items that take no time (default: 100000)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="what to measure (default: all)")
    args = parser.parse_args(argv)
    engine = importlib.import_module(f"benchmarks.cluster_{args.engine}")
    engine.start(N_WORKERS)
    try:
        for row in args.rows:
            for line in ROWS[row](engine, args.items):
                print(line, flush=True)
    finally:
        engine.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
