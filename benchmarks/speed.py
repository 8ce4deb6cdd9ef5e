"""Runs the trials, each in a process of its own, the contenders in turn, and keeps the medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from benchmarks.speed_rows import OURS, PUBLISHED, Point

HERE = Path(__file__).parent
TRIAL = HERE / "speed_trial.py"
PUBLISHED_ENV = HERE / ".published"
LIMIT_SECONDS = 600

Measured = dict[str, dict[str, float]]
"""By contender: medians of ``seconds`` and ``peak_bytes``, and ``spread``, the seconds of all runs' range."""


def published_python() -> str:
    """Return the interpreter of an environment with the published mtasklite, which is made if it is not there."""
    python = PUBLISHED_ENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(PUBLISHED_ENV, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "mtasklite==0.3.5", "numpy"], check=True)
    return str(python)


def run(contender: str, point: Point) -> dict[str, float]:
    """Run one trial; return what it measured."""
    is_published = contender == PUBLISHED
    command = [published_python() if is_published else sys.executable, str(TRIAL), contender, point.work]
    command += ["--items", str(point.n_items), "--size", str(point.size), "--workers", str(point.n_workers)]
    command += ["--consumer", str(point.consumer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=HERE)
    if done.returncode:
        raise RuntimeError(f"{contender} at {point}: {done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(contenders: Sequence[str], point: Point, n_rounds: int) -> Measured:
    """Run the contenders in turn, so many rounds; return the medians."""
    runs: dict[str, list[dict[str, float]]] = {contender: [] for contender in contenders}
    for _ in range(n_rounds):
        for contender in contenders:
            runs[contender].append(run(contender, point))
    return {contender: _medians(found) for contender, found in runs.items()}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    seconds = [one["seconds"] for one in runs]
    return {
        "seconds": statistics.median(seconds),
        "peak_bytes": statistics.median(one["peak_bytes"] for one in runs),
        "spread": max(seconds) - min(seconds),
    }


def is_installed(contender: str) -> bool:
    """Whether a contender can be run from this environment."""
    module = {"mpire": "mpire", "joblib": "joblib", OURS: "mtasklite"}.get(contender)
    command = [sys.executable, "-c", f"import {module}"]
    return module is None or subprocess.run(command, cwd=HERE, stderr=subprocess.DEVNULL).returncode == 0


def machine() -> str:
    """Return a line about this machine and its Python."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu_model() or 'unknown CPU'}, {cpus} CPUs, {sys.platform}, Python {sys.version.split()[0]}"


def _cpu_model() -> Optional[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def save(results: dict[str, Any], path: Path) -> None:
    """Write results, so that the page can be written again without measuring."""
    path.write_text(json.dumps(results, indent=1) + "\n")
