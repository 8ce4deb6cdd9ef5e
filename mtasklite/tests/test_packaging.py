"""The distribution: version, requirements, public names, and the test command."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests import run_all_unittests

CHECKOUT = Path(mtasklite.__file__).parents[1]

READ_SETUP = """
import json, runpy, sys, types
passed = {}
fake = types.ModuleType("setuptools")
fake.setup = passed.update
fake.find_packages = lambda *args, **kwargs: []
sys.modules["setuptools"] = fake
sys.modules["mtasklite"] = None  # an import of the package fails
runpy.run_path("setup.py")
print(json.dumps(passed))
"""

READ_DESCRIPTION = READ_SETUP.replace("json.dumps(passed)", 'passed["long_description"]')


@pytest.fixture(scope="module")
def metadata():
    """Name, version, requirements and extras: from the checkout's setup.py, or else as they are installed."""
    if (CHECKOUT / "setup.py").is_file():
        done = subprocess.run([sys.executable, "-c", READ_SETUP], capture_output=True, text=True, cwd=CHECKOUT)
        assert done.returncode == 0, done.stderr
        passed = json.loads(done.stdout)
        return {
            "name": passed["name"],
            "version": passed["version"],
            "python": passed["python_requires"],
            "requirements": passed["install_requires"],
            "extras": set(passed["extras_require"]),
        }
    installed = importlib.metadata.metadata("mtasklite")
    return {
        "name": installed["Name"],
        "version": installed["Version"],
        "python": installed["Requires-Python"],
        "requirements": [line for line in installed.get_all("Requires-Dist") if "extra ==" not in line],
        "extras": set(installed.get_all("Provides-Extra")),
    }


def test_distribution_has_the_name_of_the_package(metadata):
    """What is installed is called as what is imported."""
    assert metadata["name"] == "mtasklite"


def test_version_is_written_once(metadata):
    """The distribution's version is `__version__`, and is found without importing the package."""
    assert metadata["version"] == mtasklite.__version__


def test_version_is_one_that_pip_understands():
    """The version has the form that packaging tools sort by."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev|\.post)\d+)?", mtasklite.__version__)


def test_requirements_are_two(metadata):
    """At run time the package needs tqdm and multiprocess, and nothing else."""
    names = sorted(re.split(r"[^\w-]", requirement)[0] for requirement in metadata["requirements"])
    assert names == ["multiprocess", "tqdm"]


def test_extras_are_those_that_the_documentation_names(metadata):
    """Everything further is an extra."""
    assert {"plot", "test", "dev", "docs"} <= metadata["extras"]


def test_python_is_3_9_or_later(metadata):
    """The floor is that of multiprocess."""
    assert metadata["python"] == ">=3.9"


def test_package_is_marked_as_typed():
    """Type checkers read the package's annotations."""
    assert (Path(mtasklite.__file__).parent / "py.typed").is_file()


if (CHECKOUT / "setup.py").is_file():

    def test_description_has_no_link_to_a_file():
        """The package index shows the README without the files beside it: what is linked there is an address."""
        done = subprocess.run([sys.executable, "-c", READ_DESCRIPTION], capture_output=True, text=True, cwd=CHECKOUT)
        assert done.returncode == 0, done.stderr
        links = re.findall(r"\]\(([^)]*)\)", done.stdout)
        assert links
        assert [link for link in links if not link.startswith("https://")] == []
        assert "Guarantees (`docs/guarantees.md`)" in done.stdout

    def test_sdist_takes_along_what_setup_reads():
        """A source distribution has requirements.txt, without which it could not be built."""
        manifest = CHECKOUT / "MANIFEST.in"
        assert manifest.is_file()
        assert re.search(r"^include .*\brequirements\.txt\b", manifest.read_text("utf-8"), re.M)

    def test_sdist_builds_the_version_of_the_package():
        """The line that setup.py looks for stands in version.py once."""
        text = (CHECKOUT / "mtasklite" / "version.py").read_text("utf-8")
        assert text.count("__version__ = ") == 1


# ---- public names

EVERYDAY = ["Pool", "delayed_init", "is_exception", "ExceptionBehaviour", "ArgumentPassing", "__version__"]

PATHS = [
    ("mtasklite.pool", "Pool"),
    ("mtasklite.delayed_init", "delayed_init"),
    ("mtasklite.constants", "ArgumentPassing"),
    ("mtasklite.constants", "ExceptionBehaviour"),
    ("mtasklite.utils", "is_exception"),
    ("mtasklite.version", "__version__"),
]

ELSEWHERE = [
    ("mtasklite.delayed_init", "ShellObject"),
    ("mtasklite.utils", "is_sized_iterator"),
    ("mtasklite.utils", "current_function_name"),
    ("mtasklite.utils", "divide_kwargs"),
    ("mtasklite.processes", "pqdm"),
    ("mtasklite.threads", "pqdm"),
]


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_name_is_at_top_level(name):
    """`from mtasklite import ...` gives it, and a star import does too."""
    assert hasattr(mtasklite, name)
    assert name in mtasklite.__all__


@pytest.mark.parametrize(("module", "name"), PATHS)
def test_name_is_the_same_at_the_longer_path(module, name):
    """The path that people import it from gives the same object."""
    assert getattr(importlib.import_module(module), name) is getattr(mtasklite, name)


@pytest.mark.parametrize(("module", "name"), ELSEWHERE)
def test_name_is_at_its_path(module, name):
    """It can be imported from where the documentation says, and called."""
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("name", mtasklite.__all__)
def test_every_exported_name_exists(name):
    """`__all__` names nothing that is not there."""
    assert hasattr(mtasklite, name)


@pytest.mark.parametrize(("module", "use_threads"), [("mtasklite.processes", False), ("mtasklite.threads", True)])
def test_pqdm_uses_what_its_module_says(module, use_threads):
    """The two modules' functions differ in the default of `use_threads`."""
    pqdm = importlib.import_module(module).pqdm
    assert inspect.signature(pqdm).parameters["use_threads"].default is use_threads


@pytest.mark.parametrize("module", ["mtasklite.processes", "mtasklite.threads"])
def test_pqdm_is_known_by_the_name_that_it_is_imported_by(module):
    """Help, the reference and pickle find the function at the path that people import it from."""
    pqdm = importlib.import_module(module).pqdm
    assert pickle.loads(pickle.dumps(pqdm)) is pqdm
    assert (pqdm.__module__, pqdm.__qualname__) == (module, "pqdm")


def test_pqdm_takes_its_arguments_in_pqdm_s_order():
    """What is passed by position means the same as in the package that it stands in for."""
    from mtasklite.processes import pqdm

    assert list(inspect.signature(pqdm).parameters)[:8] == [
        "input_iterable",
        "worker_or_worker_arr",
        "n_jobs",
        "argument_type",
        "bounded",
        "exception_behaviour",
        "use_threads",
        "tqdm_class",
    ]


# ---- the test command


@pytest.mark.parametrize("n_elem", ["0", "-3"])
def test_test_command_refuses_an_empty_matrix(n_elem, capsys):
    """With no item nothing would be tested: that is an error, not a success."""
    with pytest.raises(SystemExit) as raised:
        run_all_unittests.main([f"--n_elem={n_elem}"])
    assert raised.value.code == 2
    assert f"`--n_elem` must be at least 1 but got: {n_elem}" in capsys.readouterr().err


@pytest.mark.parametrize("missing", run_all_unittests.NEEDED)
def test_test_command_says_what_is_missing(missing):
    """Without what the tests need there is one line, which says how to get it, and exit code 2."""
    code = f"""if True:
        import runpy, sys
        sys.modules[{missing!r}] = None
        sys.argv = ["run_all_unittests", "--n_elem", "10"]
        runpy.run_module("mtasklite.tests.run_all_unittests", run_name="__main__")
    """
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert missing in line
    assert "mtasklite[test]" in line


@pytest.fixture
def pytest_calls(monkeypatch):
    """What the test command passes to pytest, which does not run: arguments, and the size of the matrix."""
    calls = []

    def main(arguments):
        calls.append((arguments, os.environ[run_all_unittests.N_ELEM_VARIABLE]))
        return 1

    monkeypatch.setenv(run_all_unittests.N_ELEM_VARIABLE, "of the test")
    monkeypatch.setattr(pytest, "main", main)
    return calls


def test_test_command_exits_as_pytest_does(pytest_calls):
    """A failure is a non-zero exit code."""
    assert run_all_unittests.main([]) == 1


@pytest.mark.parametrize(("arguments", "n_elem"), [([], "10"), (["--n_elem", "25"], "25")])
def test_test_command_passes_the_size_on(pytest_calls, arguments, n_elem):
    """The tests learn of `--n_elem`; it is 10 if left out."""
    run_all_unittests.main(arguments)
    assert pytest_calls[0][1] == n_elem


def test_test_command_runs_all_tests_with_their_settings(pytest_calls):
    """pytest gets the folder of the tests and its settings, and whatever else was written."""
    run_all_unittests.main(["--jobs", "0", "-k", "smoke"])
    folder = Path(run_all_unittests.__file__).parent
    settings = ["-c", str(folder / "pytest.ini")]
    without_clusters = [str(folder), "--ignore", str(folder / "clusters")]
    assert pytest_calls[0][0] == [*settings, *without_clusters, "-n", "0", "-k", "smoke"]


def test_test_command_says_that_clusters_were_left_out(pytest_calls, capsys):
    """Whoever runs the tests learns which were not run, and how to run them."""
    run_all_unittests.main([])
    assert "--backend ray" in capsys.readouterr().out


def test_test_command_runs_the_contract_on_a_cluster(pytest_calls, monkeypatch):
    """With `--backend` the contract and the engine's own tests are run, and learn of it."""
    monkeypatch.setenv(run_all_unittests.BACKEND_VARIABLE, "of the test")
    run_all_unittests.main(["--backend", "ray", "--jobs", "8"])
    folder = Path(run_all_unittests.__file__).parent
    own = sorted(map(str, (folder / "clusters").glob("test_ray*.py")))
    assert own
    anywhere = [str(folder / "test_contract.py"), str(folder / "test_what_arrives.py")]
    assert pytest_calls[0][0][2:] == [*anywhere, *own, "-n", "2"]
    assert os.environ[run_all_unittests.BACKEND_VARIABLE] == "ray"
