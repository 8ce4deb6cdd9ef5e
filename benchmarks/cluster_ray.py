"""Ray's own ways to map a function over items, and what is in its object store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Callable

import ray
import ray.util.multiprocessing
from ray._private.internal_api import memory_summary
from ray.util import ActorPool

NAME = "ray"

Run = Callable[[Iterable[Any]], Iterable[Any]]


def start(n_workers: int) -> None:
    """Start Ray on this machine."""
    ray.init("local", num_cpus=n_workers, include_dashboard=False, log_to_driver=False)


def stop() -> None:
    """Stop it."""
    ray.shutdown()


def stored_bytes() -> int:
    """Return how much is in the object store."""
    address = ray.get_runtime_context().gcs_address  # there may be other clusters on this machine
    found = re.search(r"Plasma memory usage (\d+) MiB", memory_summary(address, stats_only=True))
    return int(found[1]) << 20 if found else 0


@contextmanager
def actor_pool(function: Callable[[Any], Any], n_workers: int) -> Iterator[Run]:
    """Actors in an `ActorPool`, with its `map_unordered`."""

    class Actor:
        def work(self, item: Any) -> Any:
            return function(item)

    actors = [ray.remote(Actor).remote() for _ in range(n_workers)]
    pool = ActorPool(actors)
    yield lambda items: pool.map_unordered(lambda actor, item: actor.work.remote(item), items)
    for actor in actors:
        ray.kill(actor)


@contextmanager
def multiprocessing_pool(function: Callable[[Any], Any], n_workers: int) -> Iterator[Run]:
    """`ray.util.multiprocessing.Pool`, with its `imap`."""
    pool = ray.util.multiprocessing.Pool(n_workers)
    yield lambda items: pool.imap(function, items)
    pool.terminate()
    pool.join()


CONTENDERS = {"ActorPool.map_unordered": actor_pool, "ray.util.multiprocessing.Pool.imap": multiprocessing_pool}
