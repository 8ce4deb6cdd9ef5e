"""Try out the pool: square numbers with any mix of its options, watch the results come, and check them.

python examples/mtasklite_pool_demo.py
python examples/mtasklite_pool_demo.py --n_jobs 3 --add_sleep_time 0.1 --is_unordered
python examples/mtasklite_pool_demo.py --n_elem 40 --chunk_size 4 --chunk_prefill_ratio 2
python examples/mtasklite_pool_demo.py --fire_exception_proc_id 1 --exception_behavior deferred
python examples/mtasklite_pool_demo.py --add_sleep_time 0.3 --task_timeout 1
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NoReturn, Optional

from mtasklite import ArgumentPassing, ExceptionBehaviour, Pool, delayed_init, is_exception

DEFAULT_PREFILL_RATIO = 2


class DemoError(Exception):
    """What the worker that ``--fire_exception_proc_id`` names raises at each of its items."""


@dataclass(frozen=True)
class Square:
    """One result: a number, its square and who made it."""

    number: int
    square: int
    made_by: str


# The workers


def square(number: int, worker_id: int, is_failing: bool, sleep_seconds: float) -> Square:
    """Square a number; a function without state, so all that it knows is in its arguments."""
    time.sleep(sleep_seconds)
    if is_failing:
        raise DemoError(f"worker {worker_id} was told to fail, here at number {number}")
    return Square(number, number * number, f"worker {worker_id}")


@delayed_init
class SquareWorker:
    """A worker with state: it knows its id and counts its items.

    Args:
        worker_id: Its place in the list of workers.
        is_failing: Whether it raises at each item instead of answering.
        sleep_seconds: How long it sleeps over each item.
    """

    def __init__(self, worker_id: int, is_failing: bool, sleep_seconds: float) -> None:
        self.worker_id = worker_id
        self.is_failing = is_failing
        self.sleep_seconds = sleep_seconds
        self.num_items = 0

    def __call__(self, number: int) -> Square:
        """Square a number."""
        self.num_items += 1
        result = square(number, self.worker_id, self.is_failing, self.sleep_seconds)
        return Square(number, result.square, f"{result.made_by}, its item {self.num_items}")


def make_workers(args: argparse.Namespace) -> list[Callable[..., Any]]:
    """Return a worker for each job, in the form that the arguments ask for."""
    workers: list[Callable[..., Any]] = []
    for worker_id in range(args.n_jobs):
        settings = {
            "worker_id": worker_id,
            "is_failing": worker_id == args.fire_exception_proc_id,
            "sleep_seconds": args.add_sleep_time * (worker_id + 1),
        }
        if args.use_stateless_function_worker:
            workers.append(functools.partial(square, **settings))
        else:
            workers.append(SquareWorker(**settings))
    return workers


# The input


class Numbers:
    """The input: the numbers from 0 up, and a watch on how far the pool reads ahead of its consumer.

    Args:
        n_elem: How many there are.
        passing: How a worker gets its number, which decides the form of each item.
    """

    def __init__(self, n_elem: int, passing: ArgumentPassing) -> None:
        self.n_elem = n_elem
        self.passing = passing
        self.num_ahead = 0
        self.most_ahead = 0

    def __len__(self) -> int:
        return self.n_elem

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.n_elem):
            self.num_ahead += 1
            self.most_ahead = max(self.most_ahead, self.num_ahead)
            yield self.make_item(number)

    def make_item(self, number: int) -> Any:
        """Return a number as an item that becomes the arguments of one call."""
        if self.passing == ArgumentPassing.AS_ARGS:
            return (number,)
        if self.passing == ArgumentPassing.AS_KWARGS:
            return {"number": number}
        return number

    def note_handed_out(self) -> None:
        """Note that the consumer got one outcome."""
        self.num_ahead -= 1


# The run


@dataclass
class Tally:
    """What came out of the pool, in the order in which it came."""

    squares: list[Square] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    raised: Optional[Exception] = None


def make_pool(args: argparse.Namespace) -> Pool[Any]:
    """Return the pool that the arguments describe; none of its workers has started."""
    return Pool(
        make_workers(args),
        args.n_jobs,
        argument_type=args.iterable_arg_passing,
        exception_behavior=args.exception_behavior,
        bounded=not args.is_unbounded,
        chunk_size=args.chunk_size,
        chunk_prefill_ratio=args.chunk_prefill_ratio,
        is_unordered=args.is_unordered,
        use_threads=args.use_threads,
        task_timeout=args.task_timeout,
    )


def collect(outcomes: Iterable[Any], numbers: Numbers) -> Tally:
    """Take and print the outcomes as they come, until they end or an exception ends them."""
    tally = Tally()
    start = time.perf_counter()
    try:
        for outcome in outcomes:
            numbers.note_handed_out()
            print(f"{time.perf_counter() - start:8.2f} s  {describe(outcome)}", flush=True)
            if is_exception(outcome):
                tally.errors.append(outcome)
            else:
                tally.squares.append(outcome)
    except Exception as error:
        print(f"{time.perf_counter() - start:8.2f} s  raised {describe(error)}", flush=True)
        tally.raised = error
    return tally


def describe(outcome: Any) -> str:
    """Say in one line what an outcome is."""
    if is_exception(outcome):
        return f"{type(outcome).__name__}: {outcome}"
    return f"{outcome.number} * {outcome.number} = {outcome.square}  ({outcome.made_by})"


def run(args: argparse.Namespace, pool: Pool[Any]) -> bool:
    """Send the numbers through the pool, print what happens, and return whether all is as it should be."""
    print_settings(args)
    numbers = Numbers(args.n_elem, args.iterable_arg_passing)
    with pool:
        outcomes = pool(iter(numbers) if args.use_unsized_iterable else numbers)
        print(f"length of the results: {describe_length(outcomes)}\n")
        tally = collect(outcomes, numbers)
    print_summary(tally, numbers)
    return print_checks(make_checks(args, tally, numbers))


# What is printed at the start and at the end


def print_settings(args: argparse.Namespace) -> None:
    """Print each option with its value."""
    for name, value in vars(args).items():
        print(f"{name:<30} {'default' if value is None else value}")
    print()


def describe_length(outcomes: Any) -> str:
    """Say how many results there will be, if that is known."""
    try:
        return str(len(outcomes))
    except TypeError:
        return "not known"


def print_summary(tally: Tally, numbers: Numbers) -> None:
    """Print how many results and exceptions came, and how far the pool read ahead."""
    kinds = Counter(type(error).__name__ for error in tally.errors)
    print(f"\nresults: {len(tally.squares)}")
    print(f"exceptions handed out: {len(tally.errors)}{format_counts(kinds)}")
    print(f"exception raised: {'none' if tally.raised is None else type(tally.raised).__name__}")
    print(f"items read and not yet handed out: {numbers.most_ahead} at most")


def format_counts(counts: Counter[str]) -> str:
    """Return counts as a bracket to add to a line; nothing if there are none."""
    return f" ({', '.join(f'{name} {count}' for name, count in counts.items())})" if counts else ""


def make_checks(args: argparse.Namespace, tally: Tally, numbers: Numbers) -> dict[str, bool]:
    """Return what must be true of this run, each claim with whether it is."""
    answered = [result.number for result in tally.squares]
    missing = set(range(args.n_elem)) - set(answered)
    total = sum(result.square for result in tally.squares)
    expected_total = sum(n * n for n in range(args.n_elem)) - sum(n * n for n in missing)
    is_failure_asked_for = args.fire_exception_proc_id is not None or args.task_timeout is not None
    is_free_of_failures = not tally.errors and tally.raised is None
    checks = {
        f"the sum of the squares is {expected_total:,}": total == expected_total,
        "no exception came that was not asked for": is_failure_asked_for or is_free_of_failures,
    }
    if tally.raised is None or args.exception_behavior != ExceptionBehaviour.IMMEDIATE:
        checks["each number gave one outcome"] = len(tally.errors) == len(missing)
    if args.exception_behavior == ExceptionBehaviour.DEFERRED:
        raised = [] if tally.raised is None else tally.raised.args
        checks["all exceptions were raised together at the end"] = len(raised) == len(tally.errors)
    if not args.is_unordered:
        checks["the results came in the order of the input"] = answered == sorted(answered)
    if args.chunk_size is not None and not args.is_unbounded:
        window = int(args.chunk_size * (args.chunk_prefill_ratio or DEFAULT_PREFILL_RATIO))
        checks[f"at most {window} items were read ahead"] = numbers.most_ahead <= window
    return checks


def print_checks(checks: dict[str, bool]) -> bool:
    """Print each claim with a verdict, and return whether all of them hold."""
    for claim, is_true in checks.items():
        print(f"{'yes' if is_true else 'NO':>3}: {claim}")
    print("the numbers are right" if all(checks.values()) else "the numbers are WRONG")
    return all(checks.values())


# The command


class OneLineParser(argparse.ArgumentParser):
    """A parser of arguments that reports a bad one in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def make_parser() -> OneLineParser:
    """Return the parser of this command's arguments."""
    parser = OneLineParser(
        description="Square numbers in a pool with any mix of options, and check what comes back. "
        "Exits with 0 if the numbers are right, else with 1."
    )
    add_input_options(parser)
    add_pool_options(parser)
    add_worker_options(parser)
    return parser


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the pool gets to do."""
    group = parser.add_argument_group("input")
    group.add_argument(
        "--n_elem",
        type=int,
        default=16,
        metavar="N",
        help="how many numbers to square (default: %(default)s)",
    )
    group.add_argument(
        "--use_unsized_iterable",
        action="store_true",
        help="give the pool a generator, whose length it cannot know, instead of a sized input",
    )
    group.add_argument(
        "--iterable_arg_passing",
        choices=["single_arg", "args", "kwargs"],
        default="single_arg",
        help="how a number reaches its worker: worker(item), worker(*item) or worker(**item) (default: %(default)s)",
    )


def add_pool_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the pool has itself."""
    group = parser.add_argument_group("pool")
    group.add_argument(
        "--n_jobs",
        type=int,
        default=4,
        metavar="N",
        help="how many workers (default: %(default)s; 1 needs no process)",
    )
    group.add_argument("--use_threads", action="store_true", help="use threads instead of processes")
    group.add_argument("--is_unordered", action="store_true", help="take results as they finish, not in input order")
    group.add_argument("--is_unbounded", action="store_true", help="read the whole input at once")
    group.add_argument(
        "--chunk_size",
        type=int,
        metavar="N",
        help="read at most chunk_size * chunk_prefill_ratio items ahead of what was handed out "
        "(default: the pool chooses)",
    )
    group.add_argument(
        "--chunk_prefill_ratio",
        type=int,
        metavar="N",
        help=f"see --chunk_size (default: {DEFAULT_PREFILL_RATIO})",
    )
    group.add_argument(
        "--task_timeout",
        type=float,
        metavar="S",
        help="seconds that one item may take; past it, its outcome is an exception and the worker is "
        "replaced (default: no limit)",
    )
    group.add_argument(
        "--exception_behavior",
        choices=["immediate", "ignore", "deferred"],
        default="ignore",
        help="what becomes of an exception: it is raised as it comes (immediate), handed out in its "
        "item's place (ignore), or handed out and raised again at the end with all the others (deferred; "
        "default: %(default)s)",
    )


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what the workers are like."""
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--use_stateless_function_worker",
        action="store_true",
        help="use plain functions as workers instead of objects that count their items",
    )
    group.add_argument(
        "--add_sleep_time",
        type=float,
        nargs="?",
        default=0.0,
        const=0.1,
        metavar="S",
        help="sleep over each item: worker 0 for S seconds, worker 1 for twice as long, and so on "
        "(default: no sleep; the option without a number: %(const)s)",
    )
    group.add_argument(
        "--fire_exception_proc_id",
        type=int,
        metavar="ID",
        help="the worker, from 0 up, that raises at each of its items",
    )


def check_arguments(parser: OneLineParser, args: argparse.Namespace) -> None:
    """End the command with one line if an argument that is not the pool's has a bad value."""
    if args.n_elem < 0:
        parser.error(f"--n_elem must be at least 0 but got: {args.n_elem}")
    if args.n_jobs < 1:
        parser.error(f"--n_jobs must be at least 1 but got: {args.n_jobs}")
    if args.add_sleep_time < 0:
        parser.error(f"--add_sleep_time must be at least 0 but got: {args.add_sleep_time}")
    worker_id = args.fire_exception_proc_id
    if worker_id is not None and not 0 <= worker_id < args.n_jobs:
        parser.error(f"--fire_exception_proc_id must be from 0 to {args.n_jobs - 1} but got: {worker_id}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the demo and return the exit status; a Ctrl-C ends it with one line."""
    parser = make_parser()
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    try:
        pool = make_pool(args)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    try:
        return 0 if run(args, pool) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
