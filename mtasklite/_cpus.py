"""How many CPUs this process may use: what the affinity mask and the container's quota leave of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Optional

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Return how many CPUs this process may use, at least 1."""
    try:
        n_cpus = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # only Linux knows the first
        n_cpus = os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    return max(1, n_cpus if quota is None else min(n_cpus, math.ceil(quota)))


def cgroup_quota(root: Path) -> Optional[float]:
    """Return the CPUs that a container's quota amounts to, or ``None`` if there is no quota.

    Args:
        root: Where the control groups are mounted; both versions are understood.
    """
    version_2 = _read(root / "cpu.max").split()
    if len(version_2) == 2:
        quota, period = version_2
    else:
        quota = _read(root / "cpu" / "cpu.cfs_quota_us").strip()
        period = _read(root / "cpu" / "cpu.cfs_period_us").strip()
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or nothing
        return None
    return cpus if cpus > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
