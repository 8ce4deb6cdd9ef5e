"""What all tests share: the size of the matrix, and the check that each test leaves nothing behind."""

from __future__ import annotations

import gc
import importlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import multiprocess
import psutil
import pytest

from mtasklite.tests import workers
from mtasklite.tests.clusters.left_out import LEFT_OUT
from mtasklite.tests.run_all_unittests import BACKEND_VARIABLE, N_ELEM_VARIABLE

LEAVE_SECONDS = 5.0
"""How long what a test leaves may take to go away before the test fails."""

CLUSTER = os.environ.get(BACKEND_VARIABLE)
"""The cluster's engine that the tests run on; ``None``: none."""

N_VARIANTS = {"ray": 1, "dask": 2}
"""So many variants of a test are run where a cluster is to be tested quickly: each starts actors, which takes time."""

CLUSTER_FIXTURES = {"pool_kwargs", "parallel_kwargs", "process_kwargs"}

SLOW_FILES = (
    "docs",
    "endings",
    "interrupts",
    "leaks",
    "main_classes",
    "migration",
    "orphans",
    "notebook",
    "places",
    "soak",
    "storm",
    "ways_to_run",
)
SLOW = (
    *(f"test_{name}.py" for name in SLOW_FILES),
    "test_many_",
    "forkserver",
    "two_gib",
    "whatever_happens",
    "sent_again_only",
)
"""Parts of the names of tests that take seconds, or that repeat with another start method what spawn has shown."""

FAULT_FILES = (
    *("chains", "constructor_faults", "input", "serialization_faults", "timeouts"),
    *("worker_death", "worker_death_reports"),
)
"""Files of tests of faults, which are slow where workers are."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what the quick run on the other Pythons leaves out."""
    if CLUSTER is not None:
        _choose_for(CLUSTER, items)
    for item in items:
        is_slow = any(part in item.nodeid for part in SLOW)
        if is_slow or (item.path.stem[len("test_") :] in FAULT_FILES and "spawn" in item.nodeid):
            item.add_marker(pytest.mark.slow)


def _choose_for(cluster: str, items: list[pytest.Item]) -> None:
    """Leave only what runs on a cluster: its own tests, and those whose pools a fixture chooses."""
    items[:] = [
        item
        for item in items
        if "clusters" in item.path.parts or CLUSTER_FIXTURES & set(getattr(item, "fixturenames", ()))
    ]
    n_variants: Counter[str] = Counter()
    for item in items:
        name = item.nodeid.partition("::")[2]
        n_variants[name.partition("[")[0]] += 1
        if n_variants[name.partition("[")[0]] > N_VARIANTS[cluster]:
            item.add_marker(pytest.mark.slow)
        for part, reason in LEFT_OUT.items():
            if name.startswith(part):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """On a cluster, let what goes by one program be done by one process, first of all; all else by whoever is free."""
    if CLUSTER is None:
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith("_nodes.py") else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=CLUSTER is not None)
def cluster():
    """The cluster that the tests run on, as its module in `clusters` has it."""
    module = importlib.import_module(f"mtasklite.tests.clusters.{CLUSTER}_cluster")
    module.start()
    yield module
    module.stop()


def _ways(ways: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    return ways if CLUSTER is None else {CLUSTER: {"n_jobs": 2, "backend": CLUSTER}}


@pytest.fixture
def n_elem() -> int:
    """Number of input items for tests that run over a matrix; ``--n_elem`` of the test command."""
    return int(os.environ.get(N_ELEM_VARIABLE, "10"))


@pytest.fixture(params=list(_ways(workers.ALL)))
def pool_kwargs(request):
    """Arguments that choose where a pool works."""
    return dict(_ways(workers.ALL)[request.param])


@pytest.fixture(params=list(_ways(workers.PARALLEL)))
def parallel_kwargs(request):
    """As `pool_kwargs`, where there are two workers."""
    return dict(_ways(workers.PARALLEL)[request.param])


@pytest.fixture(params=list(_ways(workers.PROCESSES)))
def process_kwargs(request):
    """As `pool_kwargs`, where there are two processes."""
    return dict(_ways(workers.PROCESSES)[request.param])


@pytest.fixture
def gate():
    """Let threads that are stuck go when the test is over."""
    workers.GATE.clear()
    yield
    workers.GATE.set()


@pytest.fixture(scope="session", autouse=True)
def _helpers_of_multiprocess() -> None:
    """Start what `multiprocess` starts once and keeps until the end, so that no test is blamed for it.

    The server that forks workers imports what they need here, the workers of the tests too, once for all of them; in
    programs that tests start it imports what it does for any user.
    """
    if os.name != "nt":
        multiprocess.set_forkserver_preload(["mtasklite._backends._process_worker", "mtasklite.tests.workers"])
    for method in set(multiprocess.get_all_start_methods()) - {"fork"}:
        process = multiprocess.get_context(method).Process(target=int)
        process.start()
        process.join()
        process.close()


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread or a file descriptor; on a cluster, what that knows of."""
    census = _census if CLUSTER is None else request.getfixturevalue("cluster").left_behind
    before = census()
    yield
    end = time.monotonic() + LEAVE_SECONDS
    while True:
        left = census() - before
        if not left or time.monotonic() > end:
            break
        gc.collect()
        time.sleep(0.02)
    assert not left, f"left behind: {dict(left)}"


def _census() -> Counter[str]:
    """Count what this process has: children, threads, open descriptors."""
    this = psutil.Process()
    found: Counter[str] = Counter(f"process {child.pid}" for child in this.children(recursive=True))
    found.update(
        f"thread {thread.name} {thread.ident}" for thread in threading.enumerate() if thread.name != "tqdm_monitor"
    )
    found.update(_descriptors())
    return found


def _descriptors() -> list[str]:
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        return ["descriptor"] * psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else []
    found = []
    for name in os.listdir(folder):
        try:
            kind = os.readlink(f"{folder}/{name}").partition(":")[0]
        except OSError:  # that of the listing itself
            continue
        if "/mpl-data/fonts/" not in kind:  # matplotlib keeps those that it has drawn with
            found.append(f"descriptor of {kind}")
    return found
