"""The package's rooms: imports run down one list, heavy packages are imported late, files are short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import mtasklite

PACKAGE = Path(mtasklite.__file__).parent

LEVELS = [
    {"version", "constants", "errors", "_plot", "_plain"},
    {"delayed_init", "utils", "report", "_cpus", "_frames", "_interrupts"},
    {"_calls", "_hints", "_postfix"},
    {"_messages", "_batching", "_window", "_outlet", "_lines"},
    {"_stdio"},
    {"_output"},
    {"_ledger"},
    {"_slots", "_faults", "_rules"},
    {"_deadlines"},
    {"_roster", "_queue"},
    {"_engine"},
    {"_byvalue", "_rebuild", "_dill", "_wire"},
    {"_status"},
    {"_inbox"},
    {"_worker"},
    {"_backends", "_backends.*"},
    {"_arguments"},
    {"_crew", "_reader"},
    {"_driver", "_insight", "_making"},
    {"pool"},
    {"pqdm"},
    {"processes", "threads", "ray", "dask"},
    {"__init__"},
]
"""From the ground up: a module imports only from levels below its own, or, in the rooms of several files, from it."""

ROOMS_OF_SEVERAL_FILES = ({"_byvalue", "_rebuild", "_dill", "_wire"}, {"_backends", "_backends.*"})

PURE = (
    "_engine",
    "_deadlines",
    "_roster",
    "_queue",
    "_rules",
    "_faults",
    "_slots",
    "_window",
    "_outlet",
    "_batching",
    "_messages",
    "_ledger",
)
IMPURE_IMPORTS = {"multiprocess", "multiprocessing", "threading", "time", "os", "tqdm", "signal", "socket", "dill"}

MAX_LINES = 500


class Import(NamedTuple):
    """One imported module, where it is imported, and whether only when a function is called."""

    importer: str
    imported: str
    line: int
    is_in_function: bool

    @property
    def top(self) -> str:
        return self.imported.partition(".")[0]


def _name(path: Path) -> str:
    """Return a file's module without the package's name: ``pool``, ``_backends.threads``, ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "tests" not in path.relative_to(PACKAGE).parts}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}


def _imports_of(importer: str) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, is_in_function: bool) -> None:
        for name in _imported_by(importer, node):
            found.append(Import(importer, name, node.lineno, is_in_function))
        inner = is_in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(TREES[importer], False)
    return found


def _imported_by(importer: str, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = ["mtasklite", *importer.split(".")[:-1]]
        base = ".".join(filter(None, [*parents[: len(parents) - node.level + 1], base]))
    # What is imported from a package may be a module of it.
    return [full if _is_module(full := f"{base}.{alias.name}") else base for alias in node.names]


def _is_module(full: str) -> bool:
    return full.startswith("mtasklite.") and full[len("mtasklite.") :] in FILES


def _own(imported: str) -> str:
    return imported[len("mtasklite.") :] or "__init__"


def _level(name: str) -> int:
    pattern = "_backends.*" if name.startswith("_backends.") else name
    return next((level for level, names in enumerate(LEVELS) if pattern in names), -1)


IMPORTS = [found for name in FILES for found in _imports_of(name)]
OWN_IMPORTS = [found for found in IMPORTS if found.top == "mtasklite"]


def test_reader_of_imports_sees_them():
    """The tests below read real imports: at the top, in functions, of modules and of names."""
    seen = {(found.importer, found.imported, found.is_in_function) for found in IMPORTS}
    assert {
        ("pool", "mtasklite._arguments", False),
        ("_making", "mtasklite._backends.threads", True),
        ("_engine", "mtasklite._messages", False),
        ("_backends.processes", "multiprocess", False),
    } <= seen


@pytest.mark.parametrize("name", FILES)
def test_module_has_its_level(name):
    """Every module stands somewhere in the list."""
    assert _level(name) >= 0


@pytest.mark.parametrize("found", OWN_IMPORTS, ids=lambda found: f"{found.importer}:{found.line}")
def test_import_runs_down_the_list(found):
    """A module imports only what stands below it, or beside it in a room of several files."""
    importer, imported = _level(found.importer), _level(_own(found.imported))
    assert imported < importer or (importer == imported and LEVELS[importer] in ROOMS_OF_SEVERAL_FILES)


@pytest.mark.parametrize("name", PURE)
def test_pure_module_touches_no_process_thread_or_clock(name):
    """What decides knows nothing of what does."""
    assert not {found.top for found in _imports_of(name)} & IMPURE_IMPORTS


def test_multiprocess_is_imported_by_the_process_backend_only():
    """Besides it and what it starts with, only a function of the argument checks asks which start methods there are."""
    found = {(found.importer, found.is_in_function) for found in IMPORTS if found.top == "multiprocess"}
    assert found == {("_backends.processes", False), ("_backends._starting", True), ("_arguments", True)}


def test_tqdm_is_imported_by_pqdm_only():
    """A pool without a bar needs no tqdm."""
    assert {found.importer for found in IMPORTS if found.top == "tqdm"} == {"pqdm"}


def test_dill_is_imported_when_something_travels_by_value():
    """dill, which takes long to import, is met at the top of one module only, which is imported in functions only."""
    at_top = {found.importer for found in IMPORTS if found.top == "dill" and not found.is_in_function}
    importers = {found.is_in_function for found in IMPORTS if found.imported == "mtasklite._dill"}
    assert (at_top, importers) == ({"_dill"}, {True})


def test_backend_is_imported_when_it_is_asked_for():
    """`_making.py` imports the backends in functions only; at its top stand the protocols alone."""
    backends = [found for found in OWN_IMPORTS if found.imported.startswith("mtasklite._backends.")]
    outside = [found for found in backends if not found.importer.startswith("_backends.")]
    at_top = {found.imported for found in outside if not found.is_in_function}
    in_functions = {(found.importer, found.imported) for found in outside if found.is_in_function}
    assert at_top == {"mtasklite._backends.base", "mtasklite._backends._adapter"}
    names = ("inline", "threads", "processes", "_cluster")
    assert in_functions == {("_making", f"mtasklite._backends.{name}") for name in names}


def test_engine_of_a_cluster_is_imported_by_its_own_module_only():
    """Nobody needs Ray or Dask who does not ask for it: what imports it is imported by the engine's name."""
    importers = {found.importer for found in IMPORTS if found.top in ("ray", "dask", "distributed")}
    dask, ray = (
        {"_backends.dask", "_backends._dask_client", "_backends._dask_local"},
        {"_backends.ray", "_backends._ray_start"},
    )
    assert importers <= dask | ray
    assert not [found for found in OWN_IMPORTS if _own(found.imported) in ("_backends.ray", "_backends.dask")]


@pytest.mark.parametrize("heavy", ["tqdm", "numpy", "multiprocess", "multiprocessing", "dill"])
def test_import_of_the_package_is_light(heavy):
    """`import mtasklite` imports none of the heavy packages."""
    code = f"import sys, mtasklite; print({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@pytest.mark.parametrize("name", FILES)
def test_module_checks_nothing_with_assert(name):
    """`python -O` leaves no check out."""
    lines = [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]
    assert lines == []


@pytest.mark.parametrize("name", FILES)
def test_module_is_short(name):
    """A file that has grown over 500 lines has more than one responsibility."""
    assert len(FILES[name].read_text("utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", FILES)
def test_module_says_what_it_is_for(name):
    """Each module opens with a docstring."""
    assert ast.get_docstring(TREES[name])
