"""The most memory that a process has had, where the system tells."""

from __future__ import annotations

import sys
from typing import Union


def peak_of(pid: Union[int, str]) -> int:
    """Return the most bytes of memory that a running process has had; 0 if nobody can tell.

    Linux writes it in ``/proc``. What ``getrusage`` says is not asked there: for a spawned process it begins with the
    size of the process that started it.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass  # no such folder, or no such process any more
    return 0


def own_peak() -> int:
    """Return the most bytes of memory that this process has had; 0 if nobody can tell."""
    n_bytes = peak_of("self")
    if n_bytes or sys.platform != "darwin":
        return n_bytes
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
