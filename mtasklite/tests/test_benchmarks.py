"""The benchmarks run: what they measure is not for a test to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests.workers import LIMIT_SECONDS

CHECKOUT = Path(mtasklite.__file__).parents[1]
TRIAL = CHECKOUT / "benchmarks" / "speed_trial.py"

pytestmark = pytest.mark.skipif(not TRIAL.exists(), reason="benchmarks are in a checkout alone")

SIZES = {
    "uneven-lognormal": 0.001,
    "compute": 0.001,
    "sleep": 0.001,
    "arrays-in": 1 << 20,
    "arrays-out": 1 << 20,
    "arrays-both": 1 << 20,
}
WORKS = ["noop", "noop-generator", "dicts", "skew", "bytes-out", *SIZES]


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("contender", ["mtasklite", "mtasklite, threads", "executor"])
def test_trial_measures_one_run(contender, work):
    """Each kind of work is done by our pools and by the standard library's, and measured."""
    command = [sys.executable, str(TRIAL), contender, work, "--items", "60", "--size", str(SIZES.get(work, 8))]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_SECONDS)
    assert done.stderr == ""
    measured = json.loads(done.stdout)
    assert measured["seconds"] > 0
    assert measured["peak_bytes"] > 1 << 20
