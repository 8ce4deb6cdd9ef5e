"""What a terminal and a notebook show: lines above one bar that is never torn."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mtasklite
from mtasklite.tests.programs import by_speed, script
from mtasklite.tests.workers import ALL, LIMIT_SECONDS

fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))

TASK = """
    import logging

    def work(item):
        print("line", item, end="")
        time.sleep(0.002)
        print(" ends here")
        print("error", item, file=sys.stderr)
        logging.getLogger("a.logger").warning("record %d", item)
        return item

    if __name__ == "__main__":
        logging.basicConfig(level=logging.INFO)
        N = 60
        list(pqdm(range(N), work, desc="bar", mininterval=0.01, ncols=60, **KWARGS))
        print("the end")
"""

EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook).execute()
nbformat.write(notebook, sys.argv[1])
"""

EXPECTED = sorted(
    line
    for item in range(60)
    for line in (f"line {item} ends here", f"error {item}", f"WARNING:a.logger:record {item}")
)

_PIECE = re.compile("\r|\n|\x1b\\[A|[^\r\n\x1b]+")


class Terminal:
    """Shows what is written to it as a terminal without end would."""

    def __init__(self):
        self.rows = [""]
        self._row = self._column = 0

    def feed(self, text):
        """Take in text; return what the rows were after each piece of it."""
        for piece in _PIECE.findall(text):
            if piece == "\r":
                self._column = 0
            elif piece == "\n":
                self._row += 1
                self._column = 0
                self.rows += [""] * (self._row + 1 - len(self.rows))
            elif piece.startswith("\x1b"):
                self._row = max(0, self._row - 1)
            else:
                row = self.rows[self._row].ljust(self._column)
                self.rows[self._row] = row[: self._column] + piece + row[self._column + len(piece) :]
                self._column += len(piece)

    @property
    def lines(self):
        return [row.rstrip() for row in self.rows if row.strip()]


def _run_in_terminal(path):
    """Run a script in a terminal; return all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    variables = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1]), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, path], stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    written = b""
    try:
        while select.select([ours], [], [], LIMIT_SECONDS)[0]:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that the other side has ended
                break
            if not chunk:
                break
            written += chunk
    finally:
        process.kill()
        assert process.wait() == 0, written
        os.close(ours)
    return written.decode()


@pytest.mark.parametrize("place", by_speed(ALL))
def test_terminal_shows_whole_lines_above_one_bar(place, tmp_path):
    """In the end there is each line once, in a row of its own, and the bar in one row, below all lines."""
    terminal = Terminal()
    terminal.feed(_run_in_terminal(script(tmp_path, TASK, KWARGS=ALL[place])))
    *lines, bar, end = terminal.lines
    assert sorted(lines) == EXPECTED
    assert re.match(r"bar: 100%\|.*\| 60/60 ", bar)
    assert end == "the end"


@pytest.mark.parametrize("place", by_speed(ALL))
def test_bar_stands_below_the_lines_at_all_times(place, tmp_path):
    """Whenever the cursor begins a new row, the row above is a whole line, and never has a part of the bar."""
    written = _run_in_terminal(script(tmp_path, TASK, KWARGS=ALL[place]))
    terminal = Terminal()
    rows = written.split("\n")
    for row in rows[:-3]:
        terminal.feed(row + "\n")
        assert terminal.rows[-2].rstrip() in EXPECTED


@pytest.mark.parametrize("place", by_speed(ALL))
def test_file_gets_whole_lines(place, tmp_path):
    """Where the output goes to a file, that has each line once, and no more of the bar than without prints."""
    path = script(tmp_path, TASK, KWARGS=ALL[place])
    variables = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    terminal = Terminal()
    terminal.feed(done.stdout.decode())
    assert sorted(terminal.lines[:-2]) == EXPECTED


def test_streams_in_files_of_their_own_stay_clean(tmp_path):
    """Where only the bar is on another stream, the output has nothing of it."""
    path = script(tmp_path, TASK, KWARGS=ALL["fork"])
    variables = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1])}
    done = subprocess.run([sys.executable, path], capture_output=True, env=variables, timeout=LIMIT_SECONDS, check=True)
    lines = done.stdout.decode().splitlines()
    assert sorted(lines) == sorted([*(f"line {item} ends here" for item in range(60)), "the end"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("place", list(ALL))
def test_notebook_shows_the_lines(place, tmp_path):
    """In a notebook the cell that iterates shows each line once."""
    pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    code = textwrap.dedent(TASK).replace("KWARGS", repr(ALL[place]))
    setup = "import os, sys, time\nfrom mtasklite.processes import pqdm"
    cells = [nbformat.v4.new_code_cell(setup), nbformat.v4.new_code_cell(code)]
    path = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    variables = {**os.environ, "PYTHONPATH": str(Path(mtasklite.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", EXECUTE, str(path)], env=variables, timeout=LIMIT_SECONDS, check=True)
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for output in notebook.cells[1].outputs if output.output_type == "stream"]
    out = "".join(output.text for output in outputs if output.name == "stdout").splitlines()
    terminal = Terminal()
    terminal.feed("".join(output.text for output in outputs if output.name == "stderr"))
    assert sorted(out) == sorted([*(f"line {item} ends here" for item in range(60)), "the end"])
    assert sorted(line for line in terminal.lines if not line.startswith("bar")) == sorted(
        line for line in EXPECTED if not line.startswith("line")
    )
