"""What pools make of faults: the same twenty on each contender, each in a process of its own with a time limit.

    pip install . -r benchmarks/requirements.txt
    python benchmarks/faults.py
    python benchmarks/faults.py --only ctrl-c --only stuck-c --contender mtasklite --verbose
    python benchmarks/faults.py --update docs/guarantees.md

A fault is stood ("pass") if every other item's value comes out right, the item that was struck has an error that says
what happened, and no process is left afterwards. Else the table says in a few words what went wrong. POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import psutil
from contenders import CONTENDERS, Contender
from fault_cases import FAULTS, Fault, interrupt_all

SECONDS_TO_SETTLE = 0.5  # between the moment when a blow is asked for and the blow
SECONDS_TO_GO = 5  # for processes that outlive the trial's own
SECONDS_TO_END = 10  # for a trial's process after Ctrl-C
BEST_FIRST = ["pass", "wrong", "hangs"]
MARK = "FAULTS_MARK"  # environment variable by which all processes of a trial are known
START, END = "<!-- faults -->", "<!-- /faults -->"


@dataclass(frozen=True)
class Verdict:
    """What became of a fault.

    Attributes:
        kind: "pass", "wrong", "hangs", "-" (no such feature) or "not installed".
        words: What went wrong.
        way: The way of the contender that this is about, if it is not the contender's first.
    """

    kind: str
    words: str = ""
    way: str = ""

    def __str__(self) -> str:
        text = self.words if self.kind == "wrong" else " ".join(filter(None, [self.kind, self.words]))
        return f"{text} (`{self.way}`)" if self.way else text


@dataclass
class Trial:
    """One fault on one way of one contender, from the start of its process to the end of all that it started."""

    fault: Fault
    contender: Contender
    way: str
    folder: Path
    limit: float
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self) -> Verdict:
        """Run it, and leave no process."""
        command = [sys.executable, str(Path(__file__).with_name("fault_trial.py"))]
        environment = {**os.environ, "FAULTS_FOLDER": str(self.folder), MARK: self.mark}
        with open(self.folder / "output", "wb") as output:
            process = subprocess.Popen(
                [*command, self.fault.name, self.contender.name, self.way],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if not self._wait(process):
                return Verdict("hangs", "at exit" if self._find("verdict") else "")
            return self._judge(process)
        finally:
            process.kill()
            process.wait()
            kill_marked(self.mark)

    def _wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the end of the process, and give the blow when it is asked for; False if there is no end."""
        blow = self.fault.blow
        deadline = time.monotonic() + self.limit
        while process.poll() is None:
            if blow and self._find("asked"):
                time.sleep(SECONDS_TO_SETTLE)
                with contextlib.suppress(ProcessLookupError):
                    blow(int(self._find("asked")), process.pid)
                if blow is interrupt_all:
                    deadline = time.monotonic() + SECONDS_TO_END
                blow = None
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _judge(self, process: subprocess.Popen[bytes]) -> Verdict:
        """Judge what the process said and what it left."""
        said = self._find("verdict")
        words = [said or ""]
        if self.fault.check and (said is None or process.returncode != 0):
            words.append(f"ends with exit code {process.returncode}")
        elif self.fault.blow and not said and not self._find("asked"):
            words.append("ends before the blow")
        if self.fault.blow is interrupt_all:
            n_tracebacks = count_tracebacks(self.output)
            words.append(f"{n_tracebacks} tracebacks" if n_tracebacks > 1 else "")
        n_left = count_left(self.mark)
        words.append(f"{n_left} processes left" if n_left else "")
        text = ", ".join(filter(None, words))
        return Verdict("wrong", text) if text else Verdict("pass")

    def _find(self, name: str) -> Optional[str]:
        """Return the text of a file in the folder; None if there is none."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return None

    @property
    def output(self) -> str:
        """What the processes printed."""
        return (self.folder / "output").read_text(errors="replace")


def find_marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have the mark in their environment, which they have from the trial's process."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


def kill_marked(mark: str) -> None:
    """Kill all processes that have the mark, and wait for their end."""
    while left := find_marked(mark):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def count_left(mark: str) -> int:
    """Count the processes that are left when they have had time to go."""
    deadline = time.monotonic() + SECONDS_TO_GO
    while (n_left := len(find_marked(mark))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return n_left


def count_tracebacks(output: str) -> int:
    """Count the tracebacks, those of a chain as one."""
    n_links = output.count("another exception occurred:") + output.count("direct cause of the following exception:")
    return output.count("Traceback (most recent call last)") - n_links


def try_contender(fault: Fault, contender: Contender, limit: float, is_verbose: bool) -> Verdict:
    """Try the contender's ways until one stands the fault; else return the best, the earlier if they are alike."""
    if contender.version is None:
        return Verdict("not installed")
    if fault.timeout_seconds is not None and not contender.has_task_timeout:
        return Verdict("-")
    verdicts = []
    for way in contender.ways:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(fault, contender, way, Path(folder), limit)
            start = time.monotonic()
            verdict = trial.run()
            print(f"{fault.name:20} {contender.name:20} {way:12} {time.monotonic() - start:5.1f} s  {verdict}")
            if is_verbose:
                print(trial.output)
        verdicts.append(Verdict(verdict.kind, verdict.words, way if verdicts else ""))
        if verdict.kind == "pass":
            break
    return min(verdicts, key=lambda verdict: BEST_FIRST.index(verdict.kind))


Table = dict[str, dict[str, Verdict]]  # by fault, then by contender


def to_rows(table: Table, contenders: list[Contender]) -> list[list[str]]:
    """Return the cells of the table, with a head and a row of sums."""
    rows = [["", *(contender.name for contender in contenders)]]
    for name, verdicts in table.items():
        rows.append([FAULTS[name].title, *(str(verdicts[contender.name]) for contender in contenders)])
    sums = []
    for contender in contenders:
        kinds = [verdicts[contender.name].kind for verdicts in table.values()]
        n_tried = sum(kind in BEST_FIRST for kind in kinds)
        sums.append(f"{kinds.count('pass')} of {n_tried}" if n_tried else "-")
    return [*rows, ["Passed", *sums]]


def to_text(rows: list[list[str]]) -> str:
    """Return the table for a terminal."""
    widths = [36, *[22] * (len(rows[0]) - 1)]
    lines = []
    for cells in rows:
        wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths)]
        for parts in itertools.zip_longest(*wrapped, fillvalue=""):
            lines.append("  ".join(f"{part:{width}}" for part, width in zip(parts, widths)).rstrip())
        lines.append("")
    return "\n".join(lines)


def to_markdown(rows: list[list[str]], contenders: list[Contender]) -> str:
    """Return the table as Markdown, with what it was made with."""
    head, *body = rows
    lines = [f"| {' | '.join(cells)} |" for cells in body]
    text = "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])
    return f"{text}\n\n{textwrap.fill(describe_setting(contenders), 118, break_on_hyphens=False)}\n"


def describe_setting(contenders: list[Contender]) -> str:
    """Return the ways, the versions, and the kind of machine."""
    ways = [f"{contender.name} `{next(iter(contender.ways))}`" for contender in contenders]
    versions = [f"{contender.name} {contender.version}" for contender in contenders if contender.version]
    versions.append(f"Python {platform.python_version()}")
    return (
        f"Used: {', '.join(ways)}; another way of the same library is named in its cell where it did better. "
        f'"-": has no such feature. Versions: {", ".join(versions)}; {platform.system()}, {os.cpu_count()} cores.'
    )


def split_at_markers(path: Path) -> tuple[str, str]:
    """Return what stands before and after the place of the table in a file; end with a word if there is no place."""
    before, start, rest = path.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        sys.exit(f"{path} must have the markers {START} and {END}, in this order")
    return before + start, end + after


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What pools make of faults.")
    parser.add_argument("--only", action="append", choices=list(FAULTS), metavar="FAULT", help="may be repeated")
    parser.add_argument(
        "--contender", action="append", choices=list(CONTENDERS), metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--limit", type=float, default=20, metavar="SECONDS", help="of a trial (default: %(default)s)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to this file")
    parser.add_argument("--update", type=Path, metavar="FILE", help=f"write it between {START} and {END} in this file")
    parser.add_argument("--verbose", action="store_true", help="show what the trials print")
    parser.add_argument("--list", action="store_true", help="list the faults, and run nothing")
    return parser.parse_args()


def main() -> int:
    """Run the trials, print the table, and write it where it is wanted."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that an unfinished trial is cleared away
    args = parse_arguments()
    if args.list:
        print("\n".join(f"{fault.name:20} {fault.title}" for fault in FAULTS.values()))
        return 0
    if args.update:
        split_at_markers(args.update)  # before the long run
    contenders = [CONTENDERS[name] for name in args.contender or CONTENDERS]
    table = {
        name: {c.name: try_contender(FAULTS[name], c, args.limit, args.verbose) for c in contenders}
        for name in args.only or FAULTS
    }
    rows = to_rows(table, contenders)
    print(f"\n{to_text(rows)}\n{describe_setting(contenders)}")
    markdown = to_markdown(rows, contenders)
    if args.markdown:
        args.markdown.write_text(markdown)
    if args.update:
        before, after = split_at_markers(args.update)
        args.update.write_text(f"{before}\n\n{markdown}\n{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
