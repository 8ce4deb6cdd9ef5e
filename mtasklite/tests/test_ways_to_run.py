"""Programs that are run in all the ways there are: modules, archives, sessions, frozen, without streams or folder."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import zipapp
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests.programs import Program, by_speed, script
from mtasklite.tests.workers import LIMIT_SECONDS, PROCESSES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no sessions")

CODE = """
from mtasklite import Pool, delayed_init

class Thing:
    def __init__(self, value):
        self.value = value

@delayed_init
class Worker:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, thing):
        assert type(thing) is Thing
        return Thing(self.factor * thing.value)

def check():
    for worker in [Worker(3), lambda thing: Thing(3 * thing.value)]:
        results = list(Pool(worker, **KWARGS)([Thing(number) for number in range(20)]))
        assert all(type(result) is Thing for result in results)
        assert [result.value for result in results] == [3 * number for number in range(20)]
"""
FIND = f"import sys\nsys.path.insert(0, {str(Path(mtasklite.__file__).parents[1])!r})\n"
"""For where the interpreter takes no notice of PYTHONPATH."""

GUARDED = CODE + '\nif __name__ == "__main__":\n    check()\n    print("well")\n'
UNGUARDED = CODE + '\ncheck()\nprint("well")\n'


def check_well(folder, *args, **popen_kwargs):
    """Run a program to its end, and raise unless it says that all is well, and nothing else."""
    with Program(folder, *args, **popen_kwargs) as program:
        program.check_quiet()
        assert program.out == "well\n"


@pytest.fixture(params=by_speed(PROCESSES))
def method(request):
    """A start method."""
    return request.param


def code_for(method, code=GUARDED):
    return code.replace("KWARGS", repr(PROCESSES[method]))


# ---- where the code is


def test_module_of_a_package_may_use_pools(method, tmp_path):
    """A module run with `python -m package.module`, with relative imports, keeps its classes."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "beside.py").write_text("FACTOR = 3\n")
    code = code_for(method).replace("Worker(3)", "Worker(FACTOR)")
    (package / "module.py").write_text("from .beside import FACTOR\n" + code)
    check_well(tmp_path, "-m", "package.module", cwd=tmp_path)


def test_package_may_use_pools(method, tmp_path):
    """So does a package that is run by its `__main__.py`."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__main__.py").write_text(code_for(method))
    check_well(tmp_path, "-m", "package", cwd=tmp_path)


def test_archive_may_use_pools(method, tmp_path):
    """So does a zipapp."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text(code_for(method))
    zipapp.create_archive(source, tmp_path / "app.pyz")
    check_well(tmp_path, str(tmp_path / "app.pyz"))


def test_folder_may_use_pools(method, tmp_path):
    """So does a folder with a `__main__.py`."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text(code_for(method))
    check_well(tmp_path, str(source))


def test_script_without_suffix_may_use_pools(method, tmp_path):
    """So does a script whose name has no suffix, as an installed command has none."""
    (tmp_path / "command").write_text(code_for(method))
    check_well(tmp_path, str(tmp_path / "command"))


def test_script_of_a_relative_path_may_use_pools_elsewhere(method, tmp_path):
    """A script that was named by a relative path may change the folder before it uses a pool."""
    (tmp_path / "elsewhere").mkdir()
    code = code_for(method).replace("    check()\n", '    __import__("os").chdir("elsewhere")\n    check()\n')
    (tmp_path / "script.py").write_text(code)
    check_well(tmp_path, "script.py", cwd=tmp_path)


@pytest.mark.parametrize("how", ["with_name", "with_no_name"])
def test_code_that_is_executed_may_use_pools(method, how, tmp_path):
    """Code that `exec` runs in a module without a file, which may be no module that anybody could import."""
    name = "made_up" if how == "with_name" else "__main__"
    runner = f"""
    import types
    module = types.ModuleType({name!r})
    exec(CODE, vars(module))
    """
    (tmp_path / "runner.py").write_text(
        'if __name__ == "__main__":\n'
        + textwrap.indent(textwrap.dedent(runner).replace("CODE", repr(code_for(method, UNGUARDED))), "    ")
    )
    check_well(tmp_path, str(tmp_path / "runner.py"))


def as_typed(code):
    """Return code as it is typed in: with an empty line after each block, and none in it."""
    lines = []
    for line in filter(None, code.splitlines()):
        if lines and lines[-1].startswith(" ") and not line.startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("args", [["-q", "-i"], ["-c", "import code; code.interact()"]], ids=["python", "code"])
def test_session_may_use_pools(method, args, tmp_path):
    """Classes typed into an interactive session keep their identity."""
    (tmp_path / "typed").write_text(as_typed(code_for(method, UNGUARDED)))
    with open(tmp_path / "typed") as stdin, Program(tmp_path, *args, stdin=stdin) as program:
        assert program.end() == 0
        assert "well\n" in program.out
        assert "Error" not in program.err
        program.check_nothing_left()


def test_frozen_program_may_spawn(tmp_path):
    """A program that was made an executable of its own starts workers by starting itself."""
    program = code_for("spawn", CODE) + textwrap.dedent("""
        if __name__ == "__main__":
            multiprocess.spawn.freeze_support()
            check()
            print("well")
    """)
    executable = tmp_path / "executable"
    head = f"import sys\nsys.frozen = True\nsys.executable = {str(executable)!r}\nimport multiprocess.spawn\n"
    (tmp_path / "program.py").write_text(head + program)
    # What freezes programs sees to it that the tracker's command line is understood too.
    executable.write_text(f"""#!/bin/sh
case "$*" in
    *resource_tracker*) exec {sys.executable} "$@" ;;
    *) exec {sys.executable} {tmp_path / "program.py"} "$@" ;;
esac
""")
    executable.chmod(0o755)
    check_well(tmp_path, str(tmp_path / "program.py"))


# ---- without the guard


@pytest.mark.parametrize("method", by_speed(["spawn", "forkserver"]))
@pytest.mark.parametrize("call", ["list(Pool(len, 2, start_method=METHOD)(['a'] * 50))", "CALL_WITH"])
def test_script_without_the_guard_ends_with_a_clear_error(method, call, tmp_path):
    """A script that lacks `if __name__ == "__main__":` is told so, soon, and no crowd of processes comes of it."""
    call = call.replace("CALL_WITH", "with Pool(len, 2, start_method=METHOD) as pool: list(pool(['a'] * 50))")
    with Program(tmp_path, script(tmp_path, f"mark(os.getpid())\n{call}\n", METHOD=method)) as program:
        assert program.end() == 1
        assert "__main__" in program.err.splitlines()[-1]
        program.check_nothing_left()
    assert len([mark for mark in tmp_path.iterdir() if mark.name.isdigit()]) <= 4


# ---- how the interpreter is told to run


@pytest.mark.parametrize(
    "options",
    [["-O"], ["-OO"], ["-X", "dev"], ["-I"], ["-X", "utf8"], ["-u"], ["-B"]],
    ids=" ".join,
)
@pytest.mark.parametrize("method", by_speed(["fork", "spawn"]))
def test_interpreter_may_have_options(method, options, tmp_path):
    """Pools work under any options of the interpreter, and warn of nothing."""
    (tmp_path / "script.py").write_text(FIND + code_for(method))
    check_well(tmp_path, *options, str(tmp_path / "script.py"))


def test_fork_beside_a_thread_warns_of_nothing(tmp_path):
    """From 3.12 on a fork beside a thread is warned of; workers of a pool are no reason to."""
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    (tmp_path / "script.py").write_text(thread + code_for("fork"))
    check_well(tmp_path, str(tmp_path / "script.py"))


# ---- what is missing


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(method, closed, tmp_path):
    """A pool needs no stream: not even when its pipes get the numbers of those that are closed."""
    code = code_for(method).replace('print("well")', f"open({str(tmp_path / 'well')!r}, 'w').close()")
    (tmp_path / "script.py").write_text(code)
    command = f"exec {sys.executable} -W error {tmp_path / 'script.py'} {closed}"
    with Program(tmp_path, "-c", command, command=["sh"]) as program:
        program.check_quiet()
    assert (tmp_path / "well").exists()


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_streams_may_be_none(method, name, tmp_path):
    """A program without a console has `None` for its streams."""
    code = code_for(method).replace('print("well")', f"open({str(tmp_path / 'well')!r}, 'w').close()")
    (tmp_path / "script.py").write_text(f"import sys\nsys.{name} = None\n" + code)
    with Program(tmp_path, str(tmp_path / "script.py")) as program:
        program.check_quiet()
    assert (tmp_path / "well").exists()


def test_working_folder_may_be_gone(method, tmp_path):
    """A program whose folder was deleted can fork workers; where `multiprocess` asks for the folder, it says so."""
    (tmp_path / "gone").mkdir()
    code = code_for(method).replace("    check()\n", '    __import__("os").rmdir("../gone")\n    check()\n')
    (tmp_path / "script.py").write_text(code)
    with Program(tmp_path, str(tmp_path / "script.py"), cwd=tmp_path / "gone") as program:
        program.end()
        assert program.out == "well\n" or program.err.splitlines()[-1].startswith("FileNotFoundError")
        assert program.out == "well\n" or method != "fork"
        program.check_nothing_left()


def test_environment_may_be_empty(method, tmp_path):
    """A pool needs no variable of the environment."""
    (tmp_path / "script.py").write_text(FIND + code_for(method))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], env={}, capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "well\n", "")


@pytest.mark.parametrize(("chosen", "is_ours_added"), [(None, True), (["json"], False), ([], False)])
def test_server_that_forks_imports_what_workers_need_unless_told_otherwise(chosen, is_ours_added, tmp_path):
    """It saves each worker most of the time that it takes to start; what the user has chosen stands."""
    code = """
    if __name__ == "__main__":
        import multiprocess
        from multiprocess.forkserver import _forkserver
        if CHOSEN is not None:
            multiprocess.set_forkserver_preload(CHOSEN)
        with Pool(workers.square, 2, start_method="forkserver") as pool:
            assert list(pool(range(4))) == [0, 1, 4, 9]
        print(_forkserver._preload_modules)
    """
    with Program(tmp_path, script(tmp_path, code, CHOSEN=chosen)) as program:
        program.check_quiet()
        expected = ["__main__", "mtasklite._backends._process_worker"] if is_ours_added else chosen
        assert program.out.strip() == str(expected)
