"""A Ray cluster for the tests, and what is left in it; without a dashboard, which takes long to start."""

from __future__ import annotations

import os
import re
from collections import Counter

import ray
import ray._private.state
from ray._private.internal_api import memory_summary

N_CPUS = 4

OBJECT = re.compile(r"\b[0-9a-f]{56}$")
"""How a line of Ray's ends that is about a reference to an object."""


def start() -> None:
    """Start a cluster on this machine, and join it."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.pop("RAY_ADDRESS", None)  # by which Ray would look elsewhere for what is left behind
    ray.init(
        "local",  # whatever runs on this machine already
        num_cpus=N_CPUS,
        resources={"tool": N_CPUS},
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 << 20,
    )


def stop() -> None:
    """Stop it."""
    ray.shutdown()


def stored_bytes() -> int:
    """Return how much is in the object store."""
    found = re.search(r"Plasma memory usage (\d+) MiB", _memory_summary(stats_only=True))
    if found is None:
        raise LookupError("Ray does not say what is in its store")
    return int(found[1]) << 20


def left_behind() -> Counter[str]:
    """Return what is in the cluster: actors that live or are to live, tasks that are not done, and objects."""
    if not ray.is_initialized():
        return Counter()
    found: Counter[str] = Counter()
    for name, actor in ray._private.state.actors().items():
        if actor["State"] != "DEAD":
            found[f"actor {actor['ActorClassName']} {name} {actor['State']}"] += 1
    for line in _memory_summary().splitlines():
        if OBJECT.search(line):
            found["object " + " ".join(line.split()[-2:])] += 1  # with what refers to it
    return found


def _memory_summary(**kwargs: bool) -> str:
    address = ray.get_runtime_context().gcs_address  # there may be other clusters on this machine
    return str(memory_summary(address, line_wrap=False, **kwargs))
