"""Count what is in a tree of Python source, on all CPUs: by default in the standard library itself.

Each worker is an object that is made where it works. It reads and parses one file at a time and sends home a
small summary; the parent adds the summaries up and prints one table.

    python examples/stdlib_census.py
    python examples/stdlib_census.py --path ~/src --unordered
    python examples/stdlib_census.py --n-jobs 2 --check
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Optional, Union

from mtasklite import delayed_init
from mtasklite.processes import pqdm as process_pqdm
from mtasklite.threads import pqdm as thread_pqdm

NUM_LONGEST = 10
NOT_THE_STANDARD_LIBRARY = {"site-packages", "dist-packages"}

# What reading and parsing can raise where the file itself is at fault. MemoryError is the parser's word for
# source that nests too deep for it, though memory is not short.
FILE_ERRORS = (OSError, SyntaxError, ValueError, RecursionError, MemoryError)

Definition = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef]


# What a worker sends home


@dataclass(frozen=True)
class Function:
    """One function: where it is, and how many lines it has from its ``def`` to its end."""

    name: str
    file: str
    first_line: int
    num_lines: int


@dataclass(frozen=True)
class FileSummary:
    """What was counted in one file; ``error`` says why it does not parse, if it does not."""

    file: str
    num_lines: int = 0
    num_functions: int = 0
    num_classes: int = 0
    longest: tuple[Function, ...] = ()
    error: Optional[str] = None


# The work on one file


@delayed_init
class FileParser:
    """A worker: summarizes one file a call.

    Args:
        root: The tree that the files are in.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        # Old code has string escapes that the parser warns of, with either class, depending on its version.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)

    def __call__(self, file: str) -> FileSummary:
        """Summarize a file, given by its path from the root."""
        source = b""
        try:
            source = Path(self.root, file).read_bytes()
            tree = ast.parse(source)
        except FILE_ERRORS as error:
            return FileSummary(file, num_lines=count_lines(source), error=describe(error))
        return summarize(file, source, tree)


def summarize(file: str, source: bytes, tree: ast.Module) -> FileSummary:
    """Count what is in a file that parses."""
    num_classes = 0
    functions = []
    for name, node in find_definitions(tree):
        if isinstance(node, ast.ClassDef):
            num_classes += 1
        else:
            functions.append(Function(name, file, node.lineno, count_node_lines(node)))
    return FileSummary(
        file=file,
        num_lines=count_lines(source),
        num_functions=len(functions),
        num_classes=num_classes,
        longest=select_longest(functions),
    )


def find_definitions(tree: ast.Module) -> Iterator[tuple[str, Definition]]:
    """Yield each function and class, nested ones too, with its qualified name."""
    # A list of pending nodes instead of recursion: long expressions nest deeper than Python's stack.
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        scope, node = pending.pop()
        for child in ast.iter_child_nodes(node):
            name = scope
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                name = f"{scope}.{child.name}" if scope else child.name
                yield name, child
            pending.append((name, child))


def select_longest(functions: Sequence[Function]) -> tuple[Function, ...]:
    """Return the longest functions, longest first; the order among equals is by place, so never by chance."""
    ranked = sorted(functions, key=lambda function: (-function.num_lines, function.file, function.first_line))
    return tuple(ranked[:NUM_LONGEST])


def count_lines(source: bytes) -> int:
    """Count lines, whatever ends them; a last line need not be ended."""
    return len(source.splitlines())


def count_node_lines(node: Definition) -> int:
    """Count the lines of a definition, without its decorators."""
    last_line = node.end_lineno if node.end_lineno is not None else node.lineno
    return last_line - node.lineno + 1


def describe(error: BaseException) -> str:
    """Say in one line why a file does not parse."""
    text = str(error)
    if isinstance(error, SyntaxError):
        text = f"{error.msg} (line {error.lineno})" if error.lineno else error.msg
    elif isinstance(error, OSError):
        text = error.strerror or text
    # Some messages quote the source, line breaks and all.
    text = " ".join(text.split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# The work on all files


@dataclass(frozen=True)
class Census:
    """The summaries of all files, in the order of their names, and what it took to get them."""

    summaries: list[FileSummary]
    seconds: float
    workers: str


def find_files(root: Path, skipped_folders: set[str]) -> list[str]:
    """Return the paths, from the root, of all Python files in a tree, sorted."""
    files = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in skipped_folders]
        paths = [os.path.join(folder, name) for name in names if name.endswith(".py")]
        files += [os.path.relpath(path, root) for path in paths if os.path.isfile(path)]
    return sorted(files)


def take_census(root: Path, files: list[str], n_jobs: Optional[int], threads: bool, unordered: bool) -> Census:
    """Summarize all files in a pool of workers; the time includes the pool's start and end."""
    pqdm = thread_pqdm if threads else process_pqdm
    start = time.perf_counter()
    with pqdm(
        files,
        FileParser(str(root)),
        n_jobs,
        exception_behaviour="immediate",
        is_unordered=unordered,
        desc="parse",
        unit="file",
    ) as results:
        num_workers = results.pool_obj.parent_obj.num_workers
        summaries = list(results)
    seconds = time.perf_counter() - start
    if unordered:
        summaries.sort(key=lambda summary: summary.file)
    workers = f"{num_workers} {'thread' if threads else 'process'} worker{'' if num_workers == 1 else 's'}"
    return Census(summaries, seconds, workers)


def take_census_serially(root: Path, files: list[str]) -> Census:
    """Summarize all files in a plain loop, without a pool."""
    start = time.perf_counter()
    summarize_file = FileParser(str(root))
    summaries = [summarize_file(file) for file in files]
    return Census(summaries, time.perf_counter() - start, "plain loop")


# What is printed


def print_table(root: Path, census: Census) -> None:
    """Print the totals, the longest functions and the files that do not parse."""
    summaries = census.summaries
    print(f"Python files in {root}\n")
    print_total("files", len(summaries))
    print_total("lines", sum(summary.num_lines for summary in summaries))
    print_total("functions", sum(summary.num_functions for summary in summaries))
    print_total("classes", sum(summary.num_classes for summary in summaries))
    print_longest(select_longest([function for summary in summaries for function in summary.longest]))
    print_unparsed([summary for summary in summaries if summary.error is not None])
    rate = len(summaries) / census.seconds
    print(f"\n{census.workers}: {census.seconds:.2f} s, {rate:,.0f} files a second")


def print_total(what: str, number: int) -> None:
    """Print one line of the totals."""
    print(f"{what:<10}{number:>12,}")


def print_longest(functions: Sequence[Function]) -> None:
    """Print the longest functions with their places."""
    print(f"\nThe {NUM_LONGEST} longest functions")
    width = max((len(function.name) for function in functions), default=0)
    for function in functions:
        place = f"{function.file}:{function.first_line}"
        print(f"{function.num_lines:>8,} lines  {function.name:<{width}}  {place}")


def print_unparsed(summaries: Sequence[FileSummary]) -> None:
    """Print the files that do not parse, with the reason for each."""
    print(f"\nFiles that do not parse: {len(summaries)}")
    width = max((len(summary.file) for summary in summaries), default=0)
    for summary in summaries:
        print(f"  {summary.file:<{width}}  {summary.error}")


def print_check(census: Census, serial: Census) -> bool:
    """Print how a census compares with the serial one, and return whether they found the same."""
    speed_up = serial.seconds / census.seconds
    print(f"{serial.workers}: {serial.seconds:.2f} s; speed-up {speed_up:.2f}x")
    if census.summaries == serial.summaries:
        print("check passed: both found the same")
        return True
    print(f"check failed: {describe_difference(census.summaries, serial.summaries)}", file=sys.stderr)
    return False


def describe_difference(summaries: list[FileSummary], expected: list[FileSummary]) -> str:
    """Say in one line where two different lists of summaries part."""
    if len(summaries) != len(expected):
        return f"{len(summaries):,} summaries came back for {len(expected):,} files"
    files = [right.file for found, right in zip(summaries, expected) if found != right]
    return f"{len(files):,} of {len(expected):,} summaries differ, first that of {files[0]}"


# The command


class OneLineParser(argparse.ArgumentParser):
    """A parser of arguments that reports a bad one in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def make_parser() -> OneLineParser:
    """Return the parser of this command's arguments."""
    parser = OneLineParser(
        description="Count what is in a tree of Python source, by default in Python's standard library."
    )
    parser.add_argument(
        "--n-jobs",
        type=integer,
        metavar="N",
        help="number of workers; -1: all CPUs, -2: all but one (default: the CPUs that this process may use)",
    )
    parser.add_argument("--threads", action="store_true", help="use threads instead of processes")
    parser.add_argument("--unordered", action="store_true", help="take results as they finish")
    parser.add_argument("--limit", type=positive_integer, metavar="N", help="stop after the first N files")
    parser.add_argument("--path", type=Path, help="the tree to count (default: Python's standard library)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="do it again in a plain loop, print both times, and exit with 1 if the two differ",
    )
    return parser


def integer(text: str) -> int:
    """Convert an argument to an integer."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer but got: {text!r}") from None


def positive_integer(text: str) -> int:
    """Convert an argument to an integer that is at least 1."""
    number = integer(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 but got: {text!r}")
    return number


def choose_files(parser: OneLineParser, path: Optional[Path]) -> tuple[Path, list[str]]:
    """Return the tree to count and its files; end the command with one line if there is nothing to count."""
    if path is None:
        root, skipped_folders = Path(sysconfig.get_paths()["stdlib"]), NOT_THE_STANDARD_LIBRARY
    else:
        root, skipped_folders = path, set()
    if not root.exists():
        parser.error(f"there is no such path: {root}")
    if not root.is_dir():
        parser.error(f"this path is not a folder: {root}")
    files = find_files(root, skipped_folders)
    if not files:
        parser.error(f"there is no .py file in: {root}")
    return root, files


def run(argv: Optional[Sequence[str]]) -> int:
    """Take the census that the arguments ask for, and return the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    root, files = choose_files(parser, args.path)
    files = files[: args.limit]
    census = take_census(root, files, args.n_jobs, args.threads, args.unordered)
    print_table(root, census)
    if not args.check:
        return 0
    return 0 if print_check(census, take_census_serially(root, files)) else 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; a Ctrl-C ends it with one line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return run(argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
