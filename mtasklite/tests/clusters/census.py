"""The census of the examples in small, for clusters: counts what is in the files of the standard library."""

from __future__ import annotations

import ast
import sysconfig
from pathlib import Path
from typing import Any

from mtasklite import delayed_init

ROOT = Path(sysconfig.get_paths()["stdlib"])


def find_files(most: int) -> list[str]:
    """Return the names of some modules of the standard library."""
    return sorted(path.name for path in ROOT.glob("*.py"))[:most]


@delayed_init
class Parser:
    """Reads and parses one file after another, and says on which node.

    Args:
        root: The folder that the files are in.
        node_of_this: Tells which node this is.
    """

    def __init__(self, root: str, node_of_this: Any) -> None:
        self._root = Path(root)
        self._node = node_of_this()

    def __call__(self, name: str) -> tuple[str, int, int, str]:
        tree = ast.parse((self._root / name).read_bytes())
        counts = [sum(isinstance(node, kind) for node in ast.walk(tree)) for kind in (ast.FunctionDef, ast.ClassDef)]
        return (name, *counts, self._node)
