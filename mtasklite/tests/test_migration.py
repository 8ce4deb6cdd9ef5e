"""The lines of docs/migration.md: ours run, and give what those of the other package give where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite

ROOT = Path(mtasklite.__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "migration.md"
if not PAGE.is_file():
    pytest.skip("the docs are not beside the package: this is an installed one", allow_module_level=True)

TEXT = PAGE.read_text("utf-8")
SECTIONS = dict(re.findall(r"^## From (\S+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PEERS = ["pqdm", "multiprocessing.Pool", "concurrent.futures", "joblib", "mpire", "p_tqdm", "tqdm.contrib.concurrent"]
LIMIT_SECONDS = 90

RUN_LINES = """

def value_of(line, names):
    try:
        code = compile(line, line, "eval")
    except SyntaxError:
        exec(line, names)
        return None
    value = eval(code, names)
    return repr(list(value) if hasattr(value, "__next__") else value)


if __name__ == "__main__":
    import functools, json, sys
    lines = json.load(sys.stdin)
    names = dict(globals())
    values = [value_of(line, names) if line else None for line in lines]
    print(json.dumps(values))
"""


def lines_of(section):
    """Return the pairs of lines of a section's table: theirs and ours, which may be missing."""
    rows = [row[1:-1].split("|") for row in re.findall(r"^\| `.*$", SECTIONS[section], re.MULTILINE)]
    return [(theirs.strip(" `"), ours.strip(" `")) for theirs, ours, _ in rows]


def run(lines, folder):
    """Run lines after the page's own code, as a script, and return their values as text; ``None`` for a statement."""
    script = folder / "script.py"
    script.write_text("\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)) + RUN_LINES)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def in_order(value, line):
    """Return the value of a line, sorted if the line asks for no order."""
    return sorted(json.loads(value)) if value and "is_unordered" in line else value


def test_all_packages_have_a_table():
    """No section, and no line of one, is left out of the tests below by a slip."""
    assert list(SECTIONS) == PEERS
    n_rows = sum(len(lines_of(peer)) for peer in PEERS)
    n_lines = sum(line.startswith("| ") and "there | here" not in line for line in TEXT.splitlines())
    assert n_rows == n_lines > 60


@pytest.mark.parametrize("peer", PEERS)
def test_our_lines_run_and_give_what_theirs_give(peer, tmp_path):
    """Each line of ours runs, has a value where theirs has one, and the same one if the other package is there."""
    pairs = lines_of(peer)
    ours = run([our_line for _, our_line in pairs], tmp_path)
    has_value = [not re.match(r"from |import |\w+ = |$", our_line) for _, our_line in pairs]
    assert [value is not None for value in ours] == has_value
    if importlib.util.find_spec(peer.partition(".")[0]) is None:
        return
    theirs = run([their_line for their_line, _ in pairs], tmp_path)
    for (their_line, our_line), their_value, our_value in zip(pairs, theirs, ours):
        if our_value is not None:
            assert in_order(our_value, our_line) == in_order(their_value, our_line), f"{their_line} and {our_line}"
