"""A Dask cluster for the tests, and what is left in it."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import Counter
from typing import Any

import dask
from distributed import Client, LocalCluster

_used: dict[str, Any] = {}


def start() -> None:
    """Start a cluster of two processes on this machine, and make its client the one that is in use."""
    # A LocalCluster gives up a process for good that is down, for the second time, so long after the first.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    _used["folder"] = tempfile.mkdtemp()
    _used["cluster"] = LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        memory_limit=None,
        local_directory=_used["folder"],
        silence_logs=50,
    )
    _used["client"] = Client(_used["cluster"])


def stop() -> None:
    """Stop it."""
    _used["client"].close()
    _used["cluster"].close()
    shutil.rmtree(_used["folder"], ignore_errors=True)


def left_behind() -> Counter[str]:
    """Return what is in the cluster, once all its processes are up again."""
    client = _used["client"]
    client.wait_for_workers(2, timeout=30)
    return left_in(client)


def left_in(client: Client) -> Counter[str]:
    """Return what is in a cluster: tasks on the scheduler, actors and threads of ours in the processes."""
    found = Counter(f"task {key} {state}" for key, state in client.run_on_scheduler(_tasks).items())
    for address, (keys, threads) in client.run(_in_process, on_error="ignore").items():
        found.update(f"actor {key} at {address}" for key in keys)
        found.update(f"thread {name} at {address}" for name in threads)
    return found


def _tasks(dask_scheduler: Any) -> dict[str, str]:
    return {str(key): task.state for key, task in dask_scheduler.tasks.items()}


def _in_process(dask_worker: Any) -> tuple[list[str], list[str]]:
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("mtasklite")]
    return list(map(str, dask_worker.state.actors)), names
