"""A Ray cluster for the tests, and what is left in it."""

from __future__ import annotations

import os
from collections import Counter

import ray
import ray.util.state

N_CPUS = 4


def start() -> None:
    """Start a cluster on this machine, and join it."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        "local",  # whatever runs on this machine already
        num_cpus=N_CPUS,
        resources={"tool": N_CPUS},
        include_dashboard=True,
        log_to_driver=False,
        object_store_memory=256 << 20,
    )


def stop() -> None:
    """Stop it."""
    ray.shutdown()


def left_behind() -> Counter[str]:
    """Return what is in the cluster: actors that live or are to live, tasks that are not done, and objects."""
    if not ray.is_initialized():
        return Counter()
    found: Counter[str] = Counter()
    address = ray.get_runtime_context().gcs_address  # there may be other clusters on this machine
    for actor in ray.util.state.list_actors(address, limit=1000):
        if actor.state != "DEAD":
            found[f"actor {actor.class_name} {actor.actor_id} {actor.state}"] += 1
    for one in ray.util.state.list_objects(address, limit=1000):
        found[f"object {one.object_id} {one.reference_type}"] += 1
    return found
