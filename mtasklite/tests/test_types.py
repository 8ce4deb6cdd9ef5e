"""What type checkers know of the library: `typing_cases.py` says what, and mypy must agree with each line of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite

CASES = Path(__file__).parent / "typing_cases.py"
CHECKOUT = Path(mtasklite.__file__).parents[1]


def check(path):
    """Run mypy over a file; return its exit code and what it says."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--warn-unused-ignores",
        "--no-incremental",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=110)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_type_checker_knows_what_each_kind_of_call_yields():
    """Functions, partials, shells, lists of these, `lazy=False`; and it refuses what is a mistake."""
    code, said = check(CASES)
    assert code == 0, said


@pytest.mark.slow
def test_type_checker_would_find_a_wrong_type(tmp_path):
    """The check above is one that can fail."""
    path = tmp_path / "wrong.py"
    path.write_text(CASES.read_text().replace("assert_type(number, int)", "assert_type(number, str)"))
    code, said = check(path)
    assert code == 1
    assert said.count('"int", not "str"') == 2, said
