"""Dask's own ways to map a function over items, and what is held in its cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Callable

from distributed import Client, LocalCluster, get_client

NAME = "dask"

Run = Callable[[Iterable[Any]], Iterable[Any]]


def start(n_workers: int) -> None:
    """Start Dask on this machine; its client is the one that is in use."""
    Client(LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"))


def stop() -> None:
    """Stop it."""
    client = get_client()
    cluster = client.cluster
    client.close()
    cluster.close()


def stored_bytes() -> int:
    """Return how much the workers hold as results of tasks."""
    return sum(get_client().run(lambda dask_worker: dask_worker.state.nbytes).values())


@contextmanager
def client_map(function: Callable[[Any], Any], n_workers: int) -> Iterator[Run]:
    """`Client.map`, whose results are gathered."""
    client = get_client()
    yield lambda items: client.gather(client.map(function, list(items), pure=False))


@contextmanager
def client_map_in_batches(function: Callable[[Any], Any], n_workers: int) -> Iterator[Run]:
    """`Client.map` that is told to submit 10,000 items at a time."""
    client = get_client()
    yield lambda items: client.gather(client.map(function, list(items), pure=False, batch_size=10_000))


CONTENDERS = {"Client.map": client_map, "Client.map, batch_size=10000": client_map_in_batches}
