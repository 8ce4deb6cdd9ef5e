"""Runs all tests: ``python -m mtasklite.tests.run_all_unittests --n_elem 10``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from mtasklite._cpus import available_cpus

N_ELEM_VARIABLE = "MTASKLITE_TEST_N_ELEM"
"""The environment variable through which the tests learn of `--n_elem`."""

BACKEND_VARIABLE = "MTASKLITE_TEST_BACKEND"
"""The environment variable through which the tests learn of `--backend`."""

CLUSTERS = ("ray", "dask")

ON_CLUSTERS = ("test_contract.py", "test_what_arrives.py")
"""Tests that run wherever workers are."""

MOST_CLUSTERS = 2
"""Processes that run tests on clusters at once, each on one of its own."""

NEEDED = ("pytest", "pytest_timeout", "xdist", "hypothesis", "psutil", "jupyter_client", "ipykernel", "numpy")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the tests and return the exit code: 0 if all passed, 2 if what they need is not installed."""
    parser = argparse.ArgumentParser(description="Run all tests of mtasklite.")
    parser.add_argument(
        "--n_elem", type=int, default=10, help="input items for the tests that run over a matrix (default: 10)"
    )
    parser.add_argument(
        "--backend",
        choices=CLUSTERS,
        help="run the tests of the contract on this cluster's engine instead, and its own (default: all others)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=available_cpus() + 1,
        help="processes that run tests at once, which mostly wait (default: the CPUs and one; 0: this process)",
    )
    args, pytest_args = parser.parse_known_args(argv)
    if args.n_elem < 1:
        parser.error(f"`--n_elem` must be at least 1 but got: {args.n_elem}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f'the tests need {", ".join(missing)}: pip install "mtasklite[test]"', file=sys.stderr)
        return 2
    import pytest

    os.environ[N_ELEM_VARIABLE] = str(args.n_elem)
    tests = Path(__file__).parent
    settings = ["-c", str(tests / "pytest.ini")]
    if args.backend is not None:
        os.environ[BACKEND_VARIABLE] = args.backend
        chosen = [
            *(tests / name for name in ON_CLUSTERS),
            *sorted((tests / "clusters").glob(f"test_{args.backend}*.py")),
        ]
        settings += [*map(str, chosen), "-n", str(min(args.jobs, MOST_CLUSTERS))]
        return int(pytest.main([*settings, *pytest_args]))
    settings += [str(tests), "--ignore", str(tests / "clusters")]
    exitcode = int(pytest.main([*settings, "-n", str(args.jobs), *pytest_args]))
    print("left out: the same on clusters, which `--backend ray` and `--backend dask` run where these are installed")
    return exitcode


if __name__ == "__main__":
    sys.exit(main())
