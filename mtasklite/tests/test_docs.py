"""README and docs: their code runs, and they name what there is. (Their links: test_links.py.)"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite
from mtasklite import Pool
from mtasklite.processes import pqdm

ROOT = Path(mtasklite.__file__).resolve().parent.parent
DOCS = ROOT / "docs"
if not (DOCS / "pool_arguments.md").is_file():
    pytest.skip("the docs are not beside the package: this is an installed one", allow_module_level=True)

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
PAGES_WITH_CODE = [page for page in PAGES if "```python\n" in page.read_text("utf-8")]
LIMIT_SECONDS = 90
FENCE = "```"


def name_of(page: Path) -> str:
    """Return a page's path within the project."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path, language: str) -> list[tuple[int, list[str]]]:
    """Return the code blocks in a language: number of the line before each, counted from 1, and its lines."""
    blocks: list[tuple[int, list[str]]] = []
    is_open = is_wanted = False
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if line.startswith(FENCE):
            is_open = not is_open
            is_wanted = is_open and line == FENCE + language
            if is_wanted:
                blocks.append((number, []))
        elif is_wanted:
            blocks[-1][1].append(line)
    assert not is_open, f"{page.name} ends inside a code block"
    return blocks


def script_of(page: Path, start_method: str) -> str:
    """Return a page's Python blocks as one script, each line at the number that it has in the page."""
    lines = [""] * len(page.read_text("utf-8").splitlines())
    for number, block in blocks_of(page, "python"):
        lines[number : number + len(block)] = block
    assert not lines[0], f"{page.name} has code in its first line"
    header = f"import multiprocess; multiprocess.set_start_method({start_method!r}) if __name__ == '__main__' else None"
    return "\n".join([header, *lines[1:]]) + "\n"


def start_methods() -> list[str]:
    """Return the start methods that the code is to run under: the one of Linux, and the one of everywhere."""
    return ["spawn"] if os.name == "nt" else ["fork", "spawn"]


ENGINES = ("ray", "distributed")


@pytest.mark.parametrize("start_method", start_methods())
@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name_of)
def test_code_of_page_runs(page, start_method, tmp_path):
    """The Python blocks of a page, one after the other, are a script that runs without error or warning."""
    are_warnings_errors = page.name != "clusters.md"  # for there are those of the engines
    for engine in ENGINES if page.name == "clusters.md" else ():
        pytest.importorskip(engine)
    script = tmp_path / f"{page.stem}.py"
    script.write_text(script_of(page, start_method), "utf-8")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.run(
        [sys.executable, "-W", "error" if are_warnings_errors else "default", str(script)],
        cwd=tmp_path,
        env={
            "RAY_ADDRESS": "local",  # not what runs, or ran once, on this machine
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONIOENCODING": "utf-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_SECONDS,
    )
    assert process.returncode == 0, f"line numbers are those of {page.name}:\n{process.stderr}"
    assert "Traceback" not in process.stderr, "something was reported that did not end the script"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_blocks_of_page_have_a_language(page):
    """Each code block says what it is, so that none is left out of the tests by a slip."""
    fences = [line for line in page.read_text("utf-8").splitlines() if line.startswith(FENCE)]
    assert set(fences[::2]) <= {FENCE + "python", FENCE + "bash", FENCE + "text"}
    assert set(fences[1::2]) <= {FENCE}


@pytest.mark.parametrize(
    "command",
    [
        "pip install . && python examples/stdlib_census.py",
        'pip install ".[test]" && python -m mtasklite.tests.run_all_unittests --n_elem 10',
    ],
)
def test_readme_has_the_command_in_a_block_of_its_own(command):
    """Each of the two commands that people start with is the one line of a shell block."""
    assert [command] in [block for _, block in blocks_of(ROOT / "README.md", "bash")]


def prose_of(page: Path) -> str:
    """Return a page without its code blocks."""
    return "".join(page.read_text("utf-8").split(FENCE)[::2])


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=name_of)
def test_page_is_linked_from_the_readme(page):
    """The README leads to each page that is in no folder; `test_links.py` says that all can be reached."""
    assert f"(docs/{page.name})" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("function", [Pool, pqdm], ids=["Pool", "pqdm"])
def test_each_parameter_has_its_row(function):
    """docs/pool_arguments.md has a row for each parameter of Pool and of pqdm, with the default that it has."""
    heading = f"## Parameters of `{'Pool' if function is Pool else 'pqdm'}`\n"
    section = (DOCS / "pool_arguments.md").read_text("utf-8").partition(heading)[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `\**(\w+)` \| (.*?) \|", section, re.MULTILINE))
    parameters = inspect.signature(function).parameters
    assert list(rows) == list(parameters)
    for name, parameter in parameters.items():
        if isinstance(parameter.default, (bool, str, int, type(None))) and name != "use_threads":
            is_named = rows[name] == f"`{parameter.default!r}`"
            assert is_named, f"the default of `{name}` is {parameter.default!r}, not {rows[name]}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_file_names_of_page_are_of_files(page):
    """What a page calls by the name of a file of this package is one."""
    names = set(re.findall(r"`((?:\w+/)*\w+\.py)`", prose_of(page)))
    known = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*.py")} | {"setup.py"}
    for name in names:
        assert any(path == name or path.endswith("/" + name) for path in known), f"there is no {name}"


def test_guarantees_are_held_by_tests_that_exist():
    """Each test that docs/guarantees.md names is in the suite."""
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "guarantees.md").read_text("utf-8")))
    sources = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    there = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert named
    assert named - there == set()
