"""How many items a second a pool moves when the work itself is nothing, beside a serial `map` in the same run.

    python benchmarks/throughput.py

Each contender runs in turn, several times, and the medians are printed: items a second, and the ratio to the
serial `map`, which no pool can reach on work this small.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from mtasklite import Pool


def do_nothing(item: Any) -> Any:
    """Return the item."""
    return item


def run_serial(items: Iterable[int]) -> list[int]:
    """Map in this very process."""
    return list(map(do_nothing, items))


def run_processes(items: Iterable[int]) -> list[int]:
    """Map on two processes, with default settings."""
    return list(Pool(do_nothing, 2)(items))


def run_threads(items: Iterable[int]) -> list[int]:
    """Map on two threads, with default settings."""
    return list(Pool(do_nothing, 2, use_threads=True)(items))


def run_inline(items: Iterable[int]) -> list[int]:
    """Map in the calling thread, through a pool of one."""
    return list(Pool(do_nothing, 1)(items))


def run_executor(items: Iterable[int]) -> list[int]:
    """Map on the two processes of the standard library's executor, with a chunk size picked by hand."""
    with ProcessPoolExecutor(2) as executor:
        return list(executor.map(do_nothing, items, chunksize=1000))


CONTENDERS: dict[str, Callable[[Iterable[int]], list[int]]] = {
    "serial map": run_serial,
    "Pool, 2 processes": run_processes,
    "Pool, 2 threads": run_threads,
    "Pool, inline": run_inline,
    "ProcessPoolExecutor.map(chunksize=1000)": run_executor,
}


def measure(num_items: int, num_rounds: int) -> dict[str, float]:
    """Return the median items a second of each contender; its start and its end count."""
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    expected = list(range(num_items))
    for _ in range(num_rounds):
        for name, contender in CONTENDERS.items():
            start = time.perf_counter()
            results = contender(range(num_items))
            rates[name].append(num_items / (time.perf_counter() - start))
            if results != expected:
                sys.exit(f"wrong results: {name}")
    return {name: statistics.median(measured) for name, measured in rates.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Items a second, when the work is nothing.")
    parser.add_argument("--items", type=int, default=50_000, help="number of items (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender (default: %(default)s)")
    args = parser.parse_args()
    rates = measure(args.items, args.rounds)
    print(f"{args.items:,} items that do nothing, median of {args.rounds} rounds")
    for name, rate in rates.items():
        print(f"  {name:<40} {rate:>12,.0f} items/s {rate / rates['serial map']:>8.3f} of serial")
    return 0


if __name__ == "__main__":
    sys.exit(main())
