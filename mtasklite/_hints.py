"""What to write instead, for names that other packages have."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Iterable
from typing import Any, Callable, TypeVar, cast

F = TypeVar("F", bound=Callable[..., None])

ARGUMENTS = {
    "n_jobs": ("processes", "max_workers", "n_workers", "nworkers", "num_workers", "num_procs", "nprocs"),
    "chunk_size": ("chunksize", "batch_size"),
    "task_timeout": ("timeout",),
    "max_tasks_per_child": ("maxtasksperchild", "worker_lifespan"),
    "start_method": ("context", "mp_context"),
    "is_unordered": ("ordered", "unordered"),
}
"""Arguments, and what they are called elsewhere."""

INSTEAD_OF_ARGUMENTS = {
    **dict.fromkeys(
        ("initializer", "initargs", "worker_init", "use_worker_state"),
        "a class decorated with `delayed_init` makes in each worker what it needs",
    ),
    "num_cpus": "`n_jobs` is the number of workers; what each needs of Ray is `resources={'num_cpus': ...}`",
    "num_gpus": "what each worker needs of Ray is in `resources`, as {'num_gpus': 1}",
}

INSTEAD_OF_METHODS = {
    **dict.fromkeys(("map", "imap", "amap", "uimap", "lazy_map"), "call the pool with the iterable: `pool(items)`"),
    "imap_unordered": "`Pool(worker, is_unordered=True)`, called with the iterable: `pool(items)`",
    **dict.fromkeys(
        ("starmap", "starmap_async", "istarmap"),
        "`Pool(worker, argument_type='args')`, called with the iterable: `pool(items)`",
    ),
    **dict.fromkeys(
        ("apply", "apply_async", "submit", "map_async", "schedule"),
        "`pool(items)` gives an iterator, which works ahead of you as far as it may",
    ),
    **dict.fromkeys(
        ("close", "join", "terminate", "shutdown", "stop", "stop_and_join"),
        "`with Pool(...) as pool:` ends the workers with its block; an iterator has a `close()` of its own",
    ),
}


def unknown_argument(name: str, owner: str, known: Iterable[str]) -> TypeError:
    """Return the error for an argument that nobody knows, with what may have been meant."""
    text = f"`{name}` is no argument of {owner}"
    if name in INSTEAD_OF_ARGUMENTS:
        return TypeError(f"{text}: {INSTEAD_OF_ARGUMENTS[name]}")
    meant = [ours for ours, others in ARGUMENTS.items() if name in others]
    meant += difflib.get_close_matches(name, list(known), 1)
    return TypeError(f"{text}: did you mean `{meant[0]}`?" if meant else text)


def unknown_attribute(name: str, owner: str) -> AttributeError:
    """Return the error for an attribute that is not there, with what to write where it is a method elsewhere."""
    text = f"{owner!r} object has no attribute {name!r}"
    return AttributeError(f"{text}: {INSTEAD_OF_METHODS[name]}" if name in INSTEAD_OF_METHODS else text)


def with_hints(init: F) -> F:
    """Make a constructor say what may have been meant by an argument that it does not have."""
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def hinting(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                raise unknown_argument(name, f"`{type(self).__name__}`", known)
        init(self, *args, **kwargs)

    return cast("F", hinting)
