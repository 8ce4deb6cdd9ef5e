"""What the user passed to a pool, checked and made plain, before anything starts."""

from __future__ import annotations

import math
import operator
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import isfunction
from typing import Any, Callable, Optional, TypeVar

from mtasklite._cpus import available_cpus
from mtasklite._frames import level_of_user
from mtasklite._output import Output
from mtasklite.constants import ArgumentPassing, ExceptionBehaviour
from mtasklite.delayed_init import is_decorated_class
from mtasklite.errors import brief

DEFAULT_PREFILL_RATIO = 2
LONGEST_SECONDS = 1e6
CLUSTERS = ("ray", "dask")
BACKENDS = ("processes", "threads", *CLUSTERS)
MOST_JOBS = 1 << 16
PREFIXED = "prefixed"
START_METHODS = ("fork", "spawn", "forkserver")

E = TypeVar("E", bound=Enum)


class Default(str):
    """A default string that can be told from the same string passed by the user."""


@dataclass(frozen=True)
class Settings:
    """A pool's arguments, checked.

    Attributes:
        workers: One for each slot.
        argument_type: How an item becomes arguments.
        behaviour: What becomes of exceptions.
        is_bounded: Whether the input is read only a little ahead.
        window: Items that may be read and not handed out; ``None``: by time.
        is_unordered: Results as they finish.
        task_timeout: Seconds one item may run.
        join_timeout: Seconds that closing waits for running items.
        retries: How often a failed item is tried again.
        max_tasks: Items after which a worker is replaced.
        start_method: How processes start.
        backend: ``'inline'``, ``'threads'``, ``'processes'``, or the name of a cluster's engine.
        output: Shows what workers print; ``None``: that goes where it goes.
        adapter: The cluster's engine, if there is one.
    """

    workers: tuple[Any, ...]
    argument_type: ArgumentPassing
    behaviour: ExceptionBehaviour
    is_bounded: bool
    window: Optional[int]
    is_unordered: bool
    task_timeout: Optional[float]
    join_timeout: Optional[float]
    retries: int
    max_tasks: Optional[int]
    start_method: Optional[str]
    backend: str
    output: Optional[Output]
    adapter: Any = None


def check_workers(
    worker_or_worker_arr: Any, n_jobs: Any, capacity: Callable[[], int] = available_cpus
) -> tuple[Any, ...]:
    """Return one worker for each slot.

    Args:
        worker_or_worker_arr: One, or a list of them.
        n_jobs: Their number.
        capacity: Says how many there are to be if nobody else does.
    """
    if not isinstance(worker_or_worker_arr, (list, tuple)):
        _check_worker("worker_or_worker_arr", worker_or_worker_arr)
        return (worker_or_worker_arr,) * _number_of_jobs(n_jobs, capacity)
    workers = tuple(worker_or_worker_arr)
    if not workers:
        raise ValueError("`worker_or_worker_arr` must have at least one worker but got an empty list")
    for index, worker in enumerate(workers):
        _check_worker(f"worker_or_worker_arr[{index}]", worker)
    if n_jobs is not None and check_integer("n_jobs", n_jobs) != len(workers):
        raise ValueError(
            f"`n_jobs` must equal the number of workers in the list, {len(workers)}, or be left out,"
            f" but got: {n_jobs!r}"
        )
    return workers


def _check_worker(name: str, worker: Any) -> None:
    if is_decorated_class(worker):
        raise TypeError(
            f"`{name}` must be a worker but got the decorated class {worker.__name__} itself:"
            f" call it, {worker.__name__}(...), with the arguments that its constructor takes"
        )
    if not callable(worker):
        raise TypeError(
            f"`{name}` must be a callable, an object made by a `delayed_init` class, or a list of these,"
            f" but got: {worker!r}"
        )
    if isinstance(worker, type) and any(isfunction(vars(base).get("__call__")) for base in worker.__mro__):
        warnings.warn(
            f"`{name}` is the class {worker.__name__} itself, so each item makes a new object, {worker.__name__}(item);"
            f" if each worker should make one object and call that, decorate the class with `delayed_init`"
            f" and pass {worker.__name__}(...)",
            stacklevel=level_of_user(),
        )


def check_order(input_iterable: Any, worker_or_worker_arr: Any) -> None:
    """Raise if the two look as if they were swapped."""
    is_worker = callable(worker_or_worker_arr)
    if isinstance(worker_or_worker_arr, (list, tuple)):
        is_worker = all(map(callable, worker_or_worker_arr))
    if callable(input_iterable) and not _is_iterable(input_iterable) and not is_worker:
        raise TypeError(
            "`input_iterable` comes first and `worker_or_worker_arr` second, but they look swapped:"
            f" got {brief(input_iterable)} as the input,"
            f" and {brief(worker_or_worker_arr)} as the worker"
        )


def _number_of_jobs(n_jobs: Any, capacity: Callable[[], int]) -> int:
    if n_jobs is None:
        return capacity()
    count = check_integer("n_jobs", n_jobs)
    if count < 0:
        return max(1, capacity() + 1 + count)
    if count > MOST_JOBS:
        raise ValueError(f"`n_jobs` must be at most {MOST_JOBS}, or None for one worker a CPU, but got: {n_jobs!r}")
    return max(1, count)


def check_behaviour(behavior: Any, behaviour: Any) -> ExceptionBehaviour:
    """Return the one of the two spellings that was given."""
    if behaviour is None:
        return check_choice("exception_behavior", behavior, ExceptionBehaviour)
    if not isinstance(behavior, Default):
        raise TypeError("`exception_behavior` and `exception_behaviour` are the same argument: give only one of them")
    return check_choice("exception_behaviour", behaviour, ExceptionBehaviour)


def check_argument_type(value: Any) -> ArgumentPassing:
    """Return how an item becomes arguments, with one name for what has two."""
    passing = check_choice("argument_type", value, ArgumentPassing)
    return ArgumentPassing.AS_SINGLE_ARG if passing is ArgumentPassing.DIRECT else passing


def check_window(chunk_size: Any, chunk_prefill_ratio: Any) -> Optional[int]:
    """Return how many items may be read and not handed out, or ``None`` if the pool is to choose."""
    ratio = DEFAULT_PREFILL_RATIO if chunk_prefill_ratio is None else chunk_prefill_ratio
    ratio = check_number("chunk_prefill_ratio", ratio, must_be_positive=True)
    if chunk_size is None:
        return None
    size = min(check_integer("chunk_size", chunk_size, least=1), sys.maxsize)
    return max(1, int(min(size * ratio, sys.maxsize)))


def check_backend(backend: Any, use_threads: bool, start_method: Any) -> str:
    """Return the name of the backend."""
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"`backend` must be one of {_listed(BACKENDS)} or None but got: {backend!r}")
    if use_threads and backend not in (None, "threads"):
        raise ValueError(f"`use_threads=True` means `backend='threads'` but `backend` is: {backend!r}")
    chosen = "threads" if use_threads else backend or "processes"
    if start_method is not None:
        _check_start_method(start_method, chosen)
    return str(chosen)


def check_resources(resources: Any, backend: Any, worker_or_worker_arr: Any) -> tuple[Mapping[str, float], ...]:
    """Return what workers need: one for all, or one for each in their list."""
    if resources is None:
        return ({},)
    if backend not in CLUSTERS:
        raise ValueError(
            f"`resources` is for the backends {_listed(CLUSTERS)}, and `backend` is {backend!r}, but got: {resources!r}"
        )
    if not isinstance(resources, (list, tuple)):
        return (_check_needs("resources", resources),)
    n_workers = len(worker_or_worker_arr) if isinstance(worker_or_worker_arr, (list, tuple)) else None
    if len(resources) != n_workers:
        rule = "one for all" if n_workers is None else f"one for all, or a list of {n_workers}, one for each worker"
        raise ValueError(f"`resources` must be {rule}, but got a list of {len(resources)}: {resources!r}")
    return tuple(_check_needs(f"resources[{index}]", needs) for index, needs in enumerate(resources))


def _check_needs(name: str, needs: Any) -> Mapping[str, float]:
    if not isinstance(needs, Mapping) or not all(isinstance(key, str) for key in needs):
        raise TypeError(f"`{name}` must be a dict of names and amounts, or a list of these, but got: {needs!r}")
    return {key: check_number(f"{name}[{key!r}]", amount, must_be_positive=False) for key, amount in needs.items()}


def _check_start_method(start_method: Any, backend: str) -> None:
    if start_method not in START_METHODS:
        raise ValueError(f"`start_method` must be one of {_listed(START_METHODS)} or None but got: {start_method!r}")
    if backend != "processes":
        where = "threads were" if backend == "threads" else f"`backend={backend!r}` was"
        raise ValueError(f"`start_method` is for processes, and {where} asked for, but got: {start_method!r}")
    import multiprocess

    available = multiprocess.get_all_start_methods()
    if start_method not in available:
        raise ValueError(
            f"`start_method` must be one of {_listed(available)} on this platform but got: {start_method!r}"
        )


def check_choice(name: str, value: Any, choices: type[E]) -> E:
    """Return the member of an enumeration that a value is, or is the string of."""
    try:
        return choices(value)
    except ValueError:
        listed = _listed(str(choice.value) for choice in choices)
        raise ValueError(f"`{name}` must be one of {listed} but got: {value!r}") from None


def check_integer(name: str, value: Any, least: Optional[int] = None) -> int:
    """Return an integer of any kind as an int."""
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer but got: {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer but got: {value!r}")
    if least is not None and integer < least:
        raise ValueError(f"`{name}` must be at least {least} but got: {value!r}")
    return integer


def check_number(name: str, value: Any, must_be_positive: bool) -> float:
    """Return a finite number of any kind."""
    rule = "a positive number" if must_be_positive else "a number of at least 0"
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"`{name}` must be {rule} but got one that is too large") from None
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be {rule} but got: {value!r}") from None
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"`{name}` must be {rule} but got: {value!r}")
    if not math.isfinite(number) or number < 0 or (must_be_positive and number == 0):
        raise ValueError(f"`{name}` must be {rule} but got: {value!r}")
    return number


def check_seconds(name: str, value: Any, must_be_positive: bool) -> Optional[float]:
    """Return a time limit, or ``None`` for one that is no limit in practice; the system's waits take no longer."""
    seconds = None if value is None else check_number(name, value, must_be_positive)
    return None if seconds is None or seconds > LONGEST_SECONDS else seconds


def check_flag(name: str, value: Any) -> bool:
    """Return a bool, or what equals one."""
    try:
        if value in (True, False):
            return bool(value)
    except ValueError:  # an array compares element by element
        pass
    raise TypeError(f"`{name}` must be True or False but got: {value!r}")


def check_forward(value: Any) -> Optional[Output]:
    """Return what shows the workers' output, or ``None`` if that is not to be forwarded."""
    if isinstance(value, str) and value == PREFIXED:
        return Output(is_prefixed=True)
    try:
        if value in (None, True, False):
            return Output(is_prefixed=False) if value else None
    except ValueError:  # an array compares element by element
        pass
    raise (ValueError if isinstance(value, str) else TypeError)(
        f"`forward_output` must be True, False, {PREFIXED!r} or None but got: {value!r}"
    )


def check_iterable(name: str, value: Any) -> None:
    """Raise if a value cannot be iterated over; no iteration begins."""
    if not _is_iterable(value):
        raise TypeError(f"`{name}` must be iterable but got: {value!r}")


def _is_iterable(value: Any) -> bool:
    return hasattr(type(value), "__iter__") or hasattr(type(value), "__getitem__")


def _listed(choices: Iterable[str]) -> str:
    return ", ".join(repr(choice) for choice in choices)
