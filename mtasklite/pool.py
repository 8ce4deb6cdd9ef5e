"""`Pool`: workers that map over one iterable after another; and the iterator over its results."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar, Union

from mtasklite import _arguments
from mtasklite._arguments import Default, Settings
from mtasklite._cpus import available_cpus
from mtasklite._crew import Crew
from mtasklite._driver import Iteration, report
from mtasklite._frames import level_of_user
from mtasklite._hints import unknown_attribute, with_hints
from mtasklite._insight import make_report
from mtasklite._making import make_adapter, make_backend
from mtasklite._output import Output
from mtasklite._rules import Rules
from mtasklite._window import MAX_WAITING_IN_THREADS, MAX_WAITING_ITEMS
from mtasklite.constants import ArgumentPassing, ExceptionBehaviour
from mtasklite.errors import PoolClosedError, brief
from mtasklite.report import Report
from mtasklite.utils import is_closed, is_sized_iterator

R = TypeVar("R")

Resources = Mapping[str, float]
Worker = Callable[..., R]
Workers = Union[Worker[R], Sequence[Worker[R]]]


class Pool(Generic[R]):
    """Maps workers over iterables, lazily, on processes, on threads, or in the calling thread.

    Calling the pool with an iterable returns an iterator over the results. Workers start when the pool's ``with``
    block is entered, and live until it is left; without a block they start at the first ``next()`` and end with the
    input, or when the iterator is closed or collected.

    Args:
        worker_or_worker_arr: One worker for all slots, or a list (or tuple) with one for each. A worker is any
            callable, or an object made by a `delayed_init` class.
        n_jobs: Number of workers. ``None``: one for each CPU that this process may use, or for each in the list.
            Negative: -1 is all CPUs, -2 all but one. 0 counts as 1. With 1 everything runs in the calling thread,
            unless `task_timeout` or `max_tasks_per_child` ask for a worker of its own.
        argument_type: ``'single_arg'`` (or ``'direct'``): ``worker(item)``; ``'args'``: ``worker(*item)``;
            ``'kwargs'``: ``worker(**item)``.
        exception_behavior: ``'immediate'``: the first exception that comes back is raised; ``'ignore'``: exceptions
            are handed out in their items' places; ``'deferred'``: so too, and all are raised together at the end.
            Also accepted as `exception_behaviour`.
        bounded: True: the input is read a little ahead of the consumer; False: all of it at once.
        chunk_size: With `chunk_prefill_ratio`: at most ``chunk_size * chunk_prefill_ratio`` items are read and not
            yet handed out. ``None``: what is read and not finished is about 20 ms of work for each worker, at least 2
            items each; and while you wait for a slow item, up to 64 MiB of results and 100,000 items (threads: 10,000)
            may wait behind it.
        chunk_prefill_ratio: See `chunk_size`; 2 if left out.
        is_unordered: Results as they finish; else in input order.
        use_threads: Threads instead of processes.
        task_timeout: Seconds that one item may run; then its outcome is a `TaskTimeoutError`, and its worker is
            killed and replaced (a thread is abandoned).
        join_timeout: Seconds that closing waits for running items before it terminates the workers; ``None``:
            until they are done.
        retries: How often an item that failed, for any reason, is tried again.
        max_tasks_per_child: Items after which a worker is replaced.
        start_method: ``'fork'``, ``'spawn'`` or ``'forkserver'``; ``None``: the default of ``multiprocess``.
        backend: ``'processes'`` or ``'threads'``; ``None``: as `use_threads` says. ``'ray'`` or ``'dask'``: workers
            are actors of the cluster that is in use, or else of one on this machine, which ends with the pool; `n_jobs`
            then goes by what the cluster has.
        resources: What each worker needs of the cluster, by name, such as ``{"num_cpus": 2, "num_gpus": 1}`` on Ray;
            one for all, or a list beside the list of workers.
        forward_output: True: whole lines that workers print, and what they log, reach `sys.stdout`, `sys.stderr` and
            the log handlers here; ``'prefixed'``: each line after its worker's index, ``[worker 3]``; False: they go
            where they go. ``None``: False, but through `pqdm` True: lines stand above the bar.
        exception_behaviour: The other spelling of `exception_behavior`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a value that is not allowed.

    Example:
        >>> with Pool(str.upper, n_jobs=2, use_threads=True) as pool:
        ...     list(pool(["a", "b"])), list(pool("cd"))
        (['A', 'B'], ['C', 'D'])
    """

    @with_hints
    def __init__(
        self,
        worker_or_worker_arr: Workers[R],
        n_jobs: Optional[int] = None,
        argument_type: Union[ArgumentPassing, str] = "single_arg",
        exception_behavior: Union[ExceptionBehaviour, str] = Default("immediate"),  # noqa: B008
        bounded: bool = True,
        chunk_size: Optional[int] = None,
        chunk_prefill_ratio: Optional[float] = None,
        is_unordered: bool = False,
        use_threads: bool = False,
        task_timeout: Optional[float] = None,
        join_timeout: Optional[float] = None,
        *,
        retries: int = 0,
        max_tasks_per_child: Optional[int] = None,
        start_method: Optional[str] = None,
        backend: Optional[str] = None,
        resources: Union[Resources, Sequence[Resources], None] = None,
        forward_output: Union[bool, str, None] = None,
        exception_behaviour: Union[ExceptionBehaviour, str, None] = None,
    ) -> None:
        max_tasks = None
        if max_tasks_per_child is not None:
            max_tasks = _arguments.check_integer("max_tasks_per_child", max_tasks_per_child, least=1)
        chosen = _arguments.check_backend(backend, _arguments.check_flag("use_threads", use_threads), start_method)
        needs = _arguments.check_resources(resources, backend, worker_or_worker_arr)
        checked: dict[str, Any] = {
            "argument_type": _arguments.check_argument_type(argument_type),
            "behaviour": _arguments.check_behaviour(exception_behavior, exception_behaviour),
            "is_bounded": _arguments.check_flag("bounded", bounded),
            "window": _arguments.check_window(chunk_size, chunk_prefill_ratio),
            "is_unordered": _arguments.check_flag("is_unordered", is_unordered),
            "task_timeout": _arguments.check_seconds("task_timeout", task_timeout, must_be_positive=True),
            "join_timeout": _arguments.check_seconds("join_timeout", join_timeout, must_be_positive=False),
            "retries": _arguments.check_integer("retries", retries, least=0),
            "output": _arguments.check_forward(forward_output),
        }
        # Last, for to ask a cluster how many workers it can have may start it.
        adapter = make_adapter(chosen, needs) if chosen in _arguments.CLUSTERS else None
        capacity = available_cpus if adapter is None else adapter.capacity
        workers = _arguments.check_workers(worker_or_worker_arr, n_jobs, capacity)
        needs_own_worker = task_timeout is not None or max_tasks is not None
        is_inline = len(workers) == 1 and not needs_own_worker and adapter is None
        self._settings = Settings(
            workers=workers,
            max_tasks=max_tasks,
            start_method=start_method,
            backend="inline" if is_inline else chosen,
            adapter=adapter,
            **checked,
        )
        self.num_workers: int = len(workers)
        self.exited = False
        self._is_entered = False
        self._is_closed = False
        self._crew = Crew(partial(make_backend, self._settings), len(workers), max_tasks)

    if not TYPE_CHECKING:  # there, a name that is missing is an error by itself

        def __getattr__(self, name):
            raise unknown_attribute(name, type(self).__name__)

    def __repr__(self) -> str:
        settings = self._settings
        workers = settings.workers[0] if len(set(map(id, settings.workers))) == 1 else list(settings.workers)
        return f"<Pool of {self.num_workers} on {settings.backend}: {brief(workers)}>"

    def __call__(self, input_iterable: Iterable[Any]) -> ResultIterator[R]:
        """Return an iterator over the results for this input; nothing is read yet.

        Raises:
            TypeError: The input is not iterable.
            PoolClosedError: The pool's ``with`` block was left.
            RuntimeError: Another iteration over this pool is under way.
        """
        _arguments.check_iterable("input_iterable", input_iterable)
        self._check_free()
        return ResultIterator(self, input_iterable)

    def __enter__(self) -> Pool[R]:
        self._check_open()
        self._crew.start()
        self._is_entered = True
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._is_closed = self.exited = True
        self._end(exc_type)

    def report(self) -> Report:
        """Return what the workers have done until now, and what held them back; any thread may ask, at any time.

        It covers the pool's whole life, all its iterations.
        """
        return make_report(self._crew, self._settings.workers, self._settings.is_unordered)

    def _end(self, exc_type: Optional[type[BaseException]]) -> None:
        """Let running items finish, unless what is raised is no mere error: a Ctrl-C is not to wait for them."""
        if exc_type is not None and not issubclass(exc_type, (Exception, GeneratorExit)):
            self._crew.terminate()
            return
        failures = self._crew.close(self._settings.join_timeout)
        if exc_type is None:
            report(failures, self._settings.behaviour)

    @property
    def _output(self) -> Optional[Output]:
        return self._settings.output

    def _check_open(self) -> None:
        if self._is_closed:
            raise PoolClosedError("this pool was closed when its `with` block was left: make a new one")

    def _check_free(self) -> None:
        self._check_open()
        self._crew.check_free()

    def _iterate(self, input_iterable: Iterable[Any], keeps_all: bool) -> Iteration:
        settings = self._settings
        most = MAX_WAITING_IN_THREADS if settings.backend in ("inline", "threads") else MAX_WAITING_ITEMS
        rules = Rules(
            is_unordered=settings.is_unordered,
            behaviour=settings.behaviour,
            window=settings.window,
            is_bounded=settings.is_bounded,
            max_waiting=None if keeps_all else most,
            retries=settings.retries,
            task_timeout=settings.task_timeout,
        )
        return Iteration(self._crew, rules, input_iterable, settings.join_timeout, leaves_crew=self._is_entered)


class ResultIterator(Generic[R]):
    """Iterates over the results of one input; also a context manager, which closes it.

    Attributes:
        parent_obj: The pool.
        on_start: Is told now and then how many workers are up, until all are; to be set before the first result.
        on_waiting: Is told now and then, while the consumer waits, how many results wait for an earlier one.
        on_finished: Is told how many items have their outcome, handed out or not. Whoever sets this keeps all results,
            so any number of them may wait for an earlier one.
    """

    def __init__(self, pool: Pool[R], input_iterable: Iterable[Any]) -> None:
        self.parent_obj = pool
        self.on_start: Optional[Callable[[int], None]] = None
        self.on_waiting: Optional[Callable[[int], None]] = None
        self.on_finished: Optional[Callable[[int], None]] = None
        self._input = input_iterable
        self._iteration: Optional[Iteration] = None
        self._results: Optional[Generator[R, None, None]] = None
        self._was_cut_short = False
        self._was_used = False

    def __del__(self) -> None:
        if not getattr(self, "_was_used", True) and not sys.is_finalizing():
            warn_of_unread()

    def __repr__(self) -> str:
        state = "at their end, or closed"
        if self._results is None:
            state = "nothing done yet: iterate over them, or make a list of them"
        elif not is_closed(self._results):
            state = "under way"
        return f"<lazy results of {self.parent_obj!r}: {state}>"

    @property
    def n_errors(self) -> int:
        """Items that have failed so far."""
        return self._iteration.n_errors if self._iteration is not None else 0

    def __len__(self) -> int:
        if not is_sized_iterator(self._input):
            raise TypeError(f"the number of results is not known, for the input has no length: {self._input!r}")
        return len(self._input)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[R]:
        # Not self: a loop over the generator makes no call of ours for each item.
        return self._begin()

    def __next__(self) -> R:
        __tracebackhide__ = True
        return next(self._begin())

    def report(self) -> Report:
        """Return what the pool's workers have done until now: see `Pool.report`."""
        return self.parent_obj.report()

    def check_open(self) -> None:
        """Raise if this was closed before its end, for then results are missing that nobody should take for none.

        Raises:
            PoolClosedError: It was.
        """
        if self._was_cut_short:
            raise PoolClosedError("this iterator was closed, or its `with` block left, before it was at its end")

    def _begin(self) -> Generator[R, None, None]:
        self._was_used = True
        self.check_open()
        if self._results is None:
            self.parent_obj._check_free()
            self._iteration = self.parent_obj._iterate(self._input, keeps_all=self.on_finished is not None)
            self._iteration.on_start = self.on_start
            self._iteration.on_waiting = self.on_waiting
            self._iteration.on_finished = self.on_finished
            self._results = self._iteration.results()
            self._iteration.belong_to(self._results)
        return self._results

    def start(self) -> None:
        """Start the workers, if they are not running; the first ``next()`` does so too."""
        self._was_used = True
        self.parent_obj._check_free()
        self.parent_obj._crew.start()

    def close(self) -> None:
        """Stop; running items are let finish, as `join_timeout` says."""
        self._was_used = True
        if self._results is None:
            self._was_cut_short = True
        elif not is_closed(self._results):
            self._was_cut_short = True
            self._results.close()

    def __enter__(self) -> ResultIterator[R]:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        pool = self.parent_obj
        if pool._is_entered:
            self.close()
            return
        pool.exited = True
        try:
            pool._end(exc_type)
        finally:
            self.close()


def warn_of_unread() -> None:
    """Warn that a lazy result was dropped before any of it was asked for."""
    warnings.warn(
        "results were dropped before any was asked for, so nothing was done: they are lazy; iterate over them, or take"
        " `list(...)` of them, or pass `lazy=False` to `pqdm`",
        ResourceWarning,
        stacklevel=level_of_user(),
    )
