"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil

import pytest

import mtasklite

NEEDS = {
    **{f"mtasklite._backends.{name}": "ray" for name in ("ray", "_ray_start")},
    **{
        f"mtasklite._backends.{name}": "distributed"
        for name in ("dask", "_dask_actor", "_dask_client", "_dask_ending", "_dask_local", "_dask_places")
    },
}
"""What must be installed for a module to be imported."""

MODULES = ["mtasklite"] + [
    info.name
    for info in pkgutil.walk_packages(mtasklite.__path__, "mtasklite.")
    if not info.name.startswith("mtasklite.tests")
    and (info.name not in NEEDS or importlib.util.find_spec(NEEDS[info.name]) is not None)
]


def test_all_rooms_are_searched():
    """The search reaches the package's modules, those of its sub-package too."""
    assert {"mtasklite.pool", "mtasklite._engine", "mtasklite._backends.processes"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_give_what_they_show(name):
    """Each example in a docstring has the output that stands below it."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    """The public names that a reader looks up first have examples, so that the test above means something."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples}
    assert {"mtasklite.pool.Pool", "mtasklite.delayed_init.delayed_init", "mtasklite.utils.divide_kwargs"} <= found
