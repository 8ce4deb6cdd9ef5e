"""The notebooks: what they are kept with, and that running them tells what has changed."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests.workers import LIMIT_SECONDS

EXAMPLES = Path(mtasklite.__file__).resolve().parents[1] / "examples"
SCRIPT = EXAMPLES / "run_notebooks.py"
if not SCRIPT.is_file():
    pytest.skip("the notebooks are not beside the package: this is an installed one", allow_module_level=True)

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("run_notebooks", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def kept(request):
    """A notebook of the examples as it is kept."""
    return json.loads(request.param.read_text("utf-8"))


def a_notebook(*cells):
    """Return a notebook with cells of code, each given as its code and what it printed."""
    return {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": number,
                "id": f"cell-{number}",
                "metadata": {},
                "outputs": [{"output_type": "stream", "name": "stdout", "text": printed}] if printed else [],
                "source": code,
            }
            for number, (code, printed) in enumerate(cells, start=1)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


# ---- what is kept


def test_notebooks_have_the_names_that_people_link_to():
    """The four are there, and there is no other that would not be looked after."""
    assert [path.name for path in NOTEBOOKS] == [
        "mtasklite_pool_square_demo.ipynb",
        "mtasklite_pqdm_spacy_tokenization_demo.ipynb",
        "mtasklite_pqdm_square_demo.ipynb",
        "pqdm_example.ipynb",
    ]


def test_notebook_is_kept_as_it_ran_from_top_to_bottom(script, kept):
    """Its cells are counted from 1, none raised or wrote to stderr, and its outputs say nothing of a machine."""
    cells = script.code_cells(kept)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert "error" not in {output["output_type"] for output in outputs}
    assert "stderr" not in {output.get("name") for output in outputs}
    assert list(script.traces_of_a_machine(kept)) == []


def test_bars_of_notebook_are_kept_as_they_ended(script, kept):
    """Bars are text, which each viewer shows, and stand where they ended and not where they began."""
    assert "widgets" not in kept["metadata"]
    outputs = [output for cell in script.code_cells(kept) for output in cell["outputs"]]
    bars = [script.text_of(output["data"]["text/plain"]) for output in outputs if script.is_bar(output)]
    assert [bar for bar in bars if not re.search(r"[1-9]\d*/(\d+|\?) \[\d\d:\d\d", bar)] == []
    assert [output for output in outputs if WIDGET in output.get("data", {})] == []


def test_links_of_notebook_lead_to_files(script, kept):
    """A link without a scheme leads to a file of the project."""
    prose = "".join(script.text_of(cell["source"]) for cell in kept["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert links
    for link in links:
        assert re.match(r"https?:", link) or (EXAMPLES / link.partition("#")[0]).is_file(), f"{link} leads nowhere"


# ---- comparing


def test_equal_outputs_are_no_difference(script, kept):
    """A notebook is as it is."""
    assert list(script.differences(kept, copy.deepcopy(kept))) == []


def test_changed_output_is_told(script):
    """What a cell shows now and what it is kept with are both told, with the cell's number."""
    before, after = a_notebook(("print(1)", "1\n"), ("print(2)", "2\n")), a_notebook(("", "1\n"), ("", "3\n"))
    (difference,) = script.differences(before, after)
    assert difference == "cell 2 shows\n3\nand is kept with\n2\n"


def test_output_of_a_cell_that_varies_may_change(script):
    """Timings are not compared, in cells with the tag for it."""
    before, after = a_notebook(("", "0.1 s\n")), a_notebook(("", "0.2 s\n"))
    before["cells"][0]["metadata"]["tags"] = ["varies"]
    assert list(script.differences(before, after)) == []


def test_bar_may_change_but_not_be_lost(script):
    """Bars say how fast it went and are not compared; that there are as many is."""
    before, after = a_notebook(("", "")), a_notebook(("", ""))
    for notebook, speed in [(before, "9 it/s"), (after, "8 it/s")]:
        data = {"text/plain": speed}
        notebook["cells"][0]["outputs"].append({"output_type": "display_data", "data": data, "metadata": {"bar": True}})
    assert list(script.differences(before, after)) == []
    after["cells"][0]["outputs"].clear()
    assert list(script.differences(before, after)) == ["cell 1 shows 0 bars and is kept with 1"]


@pytest.mark.parametrize("text", ["/home/me/x.py", "/tmp/ipykernel_12/3.py", "<x at 0x7f0011223344>", r"C:\Users\x"])
def test_what_is_of_one_machine_is_told(script, text):
    """Paths and addresses in an output are found."""
    assert len(list(script.traces_of_a_machine(a_notebook(("", f"see {text}\n"))))) == 1


# ---- running

GOOD = "import multiprocess\n\nprint(multiprocess.get_start_method())"

BAD = {
    "raises": ("assert 1 == 2", "", "a cell failed"),
    "changed": ("print(3)", "4\n", "is kept with"),
    "stderr": ("import sys\n\nprint('noise', file=sys.stderr)", "", "wrote to stderr"),
    "leaves a process": (
        "import multiprocess, time\n\nmultiprocess.Process(target=time.sleep, args=(600,), daemon=True).start()",
        "",
        "active_children",
    ),
}


def run_script(*arguments):
    """Run the command as a user does."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)


@pytest.fixture
def path(tmp_path):
    """Where a notebook may be written."""
    for module in ("nbclient", "ipywidgets"):
        pytest.importorskip(module, reason="running notebooks needs the extra [notebooks]")
    return tmp_path / "some.ipynb"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_start_method_is_that_which_was_asked_for(path, method):
    """The notebook's workers start as the command says, and nothing of that is kept in the notebook."""
    path.write_text(json.dumps(a_notebook((GOOD, f"{method}\n"))), "utf-8")
    done = run_script("--start-method", method, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"some.ipynb ({method}): as kept" in done.stdout


@pytest.mark.parametrize("kind", list(BAD))
def test_notebook_that_goes_wrong_fails_the_run(path, kind):
    """A wrong number, an error, noise, or a process that is left is told, and the exit code is 1."""
    code, printed, text = BAD[kind]
    path.write_text(json.dumps(a_notebook((code, printed))), "utf-8")
    done = run_script("--start-method", "fork", path)
    assert done.returncode == 1
    assert "some.ipynb (fork): FAILED" in done.stdout
    assert text in done.stdout


def test_bar_is_written_as_it_ended(path):
    """A widget with a bar is kept as a line of text: its end, the length if it is known, and the description."""
    code = "from tqdm.auto import tqdm\n\nfor items in ['ab', iter('abc')]:\n    list(tqdm(items, desc='some'))"
    path.write_text(json.dumps(a_notebook((code, ""))), "utf-8")
    assert run_script("--write", "--start-method", "fork", path).returncode == 0
    known, unknown = json.loads(path.read_text("utf-8"))["cells"][0]["outputs"]
    assert "".join(known["data"]["text/plain"]).startswith(f"some: 100%|{'█' * 20}| 2/2 [")
    assert "".join(unknown["data"]["text/plain"]).startswith("some: 3/? [")
    assert run_script("--start-method", "fork", path).returncode == 0


def test_written_outputs_are_those_of_the_run(path):
    """What is kept is what came, with the cells that were written and no other."""
    path.write_text(json.dumps(a_notebook((GOOD, ""), ("1 + 1", ""))), "utf-8")
    assert run_script("--write", "--start-method", "fork", path).returncode == 0
    notebook = json.loads(path.read_text("utf-8"))
    assert ["".join(cell["source"]) for cell in notebook["cells"]] == [GOOD, "1 + 1"]
    assert [cell["execution_count"] for cell in notebook["cells"]] == [1, 2]
    assert run_script("--start-method", "fork", path).returncode == 0
