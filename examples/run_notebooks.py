"""Run the notebooks in real Jupyter kernels, and compare what comes with the outputs that they are kept with.

python examples/run_notebooks.py
python examples/run_notebooks.py --start-method spawn examples/pqdm_example.ipynb
python examples/run_notebooks.py --write

Needs ``pip install ".[notebooks]"``. The start method is set in a cell that is put before the first one for the run and
is not kept, so the notebooks themselves are free of it. Bars are not compared, nor are the cells with the tag
``varies``, whose outputs are timings or depend on the machine.

Bars run as widgets, and are kept as text: a saved widget is drawn as disconnected where a notebook is trusted, and not
at all where it is not.
"""

from __future__ import annotations

import argparse
import copy
import html
import multiprocessing
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from mtasklite import Pool

HERE = Path(__file__).resolve().parent
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_STATES = "application/vnd.jupyter.widget-state+json"
VARIES = "varies"
BAR = "bar"
CELL_LIMIT_SECONDS = 120
BAR_WIDTH = 20
FIGURE_SPACE = "\N{FIGURE SPACE}"
"""What tqdm writes for a blank, in a widget."""

BEFORE = "import multiprocess\n\nmultiprocess.set_start_method({method!r})"
AFTER = "assert multiprocess.get_start_method() == {method!r}\nassert multiprocess.active_children() == []"

OF_A_MACHINE = re.compile(r"/(?:home|root|Users|tmp|usr|var|opt)/\S*|ipykernel_\d+|\b0x[0-9a-f]{6,}|[A-Z]:\\\S+")
"""What outputs must not have: paths and addresses, which are others on each machine."""


class NotebookError(Exception):
    """A notebook failed, or gave something else than it is kept with."""


# Running


def run(notebook: Any, method: str, folder: Path) -> Any:
    """Return a copy of a notebook with the outputs of a run from top to bottom.

    Args:
        notebook: As nbformat reads it.
        method: The start method of the worker processes.
        folder: The working directory of the kernel.

    Raises:
        NotebookError: A cell raised, or wrote to stderr.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    done = copy.deepcopy(notebook)
    done.metadata.pop("widgets", None)
    done.cells.insert(0, nbformat.v4.new_code_cell(BEFORE.format(method=method)))
    done.cells.append(nbformat.v4.new_code_cell(AFTER.format(method=method)))
    client = NotebookClient(
        done,
        timeout=CELL_LIMIT_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"a cell failed:\n{error}") from None
    done.cells = done.cells[1:-1]
    _clean(done)
    return done


def _clean(notebook: Any) -> None:
    """Count the cells from 1, make text of the bars, and raise for what is on stderr."""
    states = notebook.metadata.pop("widgets", {}).get(WIDGET_STATES, {}).get("state", {})
    notebook.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell["execution_count"] = number
        for output in cell["outputs"]:
            if output["output_type"] == "stream" and output["name"] == "stderr":
                raise NotebookError(f"cell {number} wrote to stderr:\n{output['text']}")
            if output["output_type"] == "execute_result":
                output["execution_count"] = number
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/plain": bar_text(states, output["data"][WIDGET]["model_id"])}
                output["metadata"] = {BAR: True}


def bar_text(states: dict[str, Any], model_id: str) -> str:
    """Return a bar as it ended, from the states of the widgets; what a kernel sends as text is how it began."""
    children = [reference.removeprefix("IPY_MODEL_") for reference in states[model_id]["state"]["children"]]
    left, bar, right = (states[child]["state"] for child in children)
    drawn = ""
    if "/?" not in right["value"]:  # its length is known
        filled = round(bar["value"] / bar["max"] * BAR_WIDTH)
        drawn = f"|{'█' * filled}{' ' * (BAR_WIDTH - filled)}|"
    text = html.unescape(left["value"]).rstrip() + drawn + html.unescape(right["value"])
    return text.strip().replace(FIGURE_SPACE, " ")


# Comparing


def code_cells(notebook: Any) -> list[Any]:
    """Return the cells with code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text_of(text: Any) -> str:
    """Return a text, which in a notebook's file is a list of its lines."""
    return text if isinstance(text, str) else "".join(text)


def shown(cell: Any) -> str:
    """Return what a cell shows, without its bars."""
    texts = []
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            texts.append(text_of(output["text"]))
        elif not is_bar(output):
            texts.append(text_of(output.get("data", {}).get("text/plain", output.get("ename", ""))) + "\n")
    return "".join(texts)


def is_bar(output: Any) -> bool:
    """Return whether an output is a bar that was made text."""
    return BAR in output.get("metadata", {})


def n_bars(cell: Any) -> int:
    """Return how many bars a cell shows."""
    return sum(map(is_bar, cell["outputs"]))


def differences(kept: Any, done: Any) -> Iterator[str]:
    """Yield what a run showed otherwise than the notebook is kept with."""
    for number, (before, after) in enumerate(zip(code_cells(kept), code_cells(done)), start=1):
        if n_bars(before) != n_bars(after):
            yield f"cell {number} shows {n_bars(after)} bars and is kept with {n_bars(before)}"
        if VARIES not in before["metadata"].get("tags", []) and shown(before) != shown(after):
            yield f"cell {number} shows\n{shown(after)}and is kept with\n{shown(before)}"


def traces_of_a_machine(notebook: Any) -> Iterator[str]:
    """Yield the paths and addresses in a notebook's outputs."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for found in OF_A_MACHINE.findall(shown(cell)):
            yield f"cell {number} shows what is only on this machine: {found}"


# The command


def parse_arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Return what was asked for on the command line."""
    methods = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]
    parser = argparse.ArgumentParser(description="Run the notebooks, and compare their outputs with those kept.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="files (default: all beside this script)")
    parser.add_argument("--start-method", choices=methods, help="how workers start (default: one after the other)")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at a time (default: 2)")
    parser.add_argument("--write", action="store_true", help="keep the new outputs instead of comparing them")
    args = parser.parse_args(argv)
    args.notebooks = args.notebooks or sorted(HERE.glob("*.ipynb"))
    args.methods = [args.start_method] if args.start_method else methods[:1] if args.write else methods
    return args


def run_one(path: Path, method: str, is_writing: bool) -> tuple[list[str], float]:
    """Run one notebook, and return what is wrong, and how many seconds it took."""
    import nbformat

    start = time.perf_counter()
    kept = nbformat.read(path, as_version=4)
    try:
        done = run(kept, method, path.parent)
    except NotebookError as error:
        return [str(error)], time.perf_counter() - start
    wrong = list(traces_of_a_machine(done))
    if not is_writing:
        wrong += differences(kept, done)
    elif not wrong:
        nbformat.write(done, path)
    return wrong, time.perf_counter() - start


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the notebooks that were asked for; return the number of runs that went wrong."""
    args = parse_arguments(argv)
    n_failed = 0
    runs = [(path, method, args.write) for path in args.notebooks for method in args.methods]
    with Pool(run_one, args.jobs, argument_type="args", chunk_size=1) as pool:
        for (path, method, _), (wrong, seconds) in zip(runs, pool(runs)):
            n_failed += bool(wrong)
            verdict = "FAILED" if wrong else "written" if args.write else "as kept"
            print(f"{path.name} ({method}): {verdict}, {seconds:.1f} s", flush=True)
            for text in wrong:
                print(text, flush=True)
    return n_failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
