"""`pqdm`: a pool with a progress bar around it, called as the package of that name is."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Generic, Literal, Optional, Protocol, TypeVar, Union, cast, overload
from weakref import ref

import tqdm.auto

from mtasklite._arguments import Default, check_choice, check_flag, check_order
from mtasklite._hints import unknown_argument
from mtasklite._interrupts import Interruptible
from mtasklite._postfix import Postfix
from mtasklite.constants import ArgumentPassing, ExceptionBehaviour
from mtasklite.pool import Pool, ResultIterator, Workers
from mtasklite.report import Report
from mtasklite.utils import divide_kwargs, is_closed, is_sized_iterator

R = TypeVar("R")


class _Missing:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return "..."


_MISSING: Any = _Missing()

_CLASSES_THAT_NAME_ALL = {"tqdm.std", "tqdm.asyncio", "tqdm.auto", "tqdm.notebook", "tqdm.utils"}
"""Modules of bars that take no argument but those in their signatures."""


class ProgressIterator(Generic[R]):
    """Results with a progress bar: an iterator and a context manager.

    The bar appears when the workers are up, for tqdm then starts a thread of its own.

    Attributes:
        pool_obj: The pool's iterator; the pool is its `parent_obj`.
    """

    def __init__(self, pool_obj: ResultIterator[R], tqdm_class: Any, tqdm_kwargs: dict[str, Any]) -> None:
        self.pool_obj = pool_obj
        self._bar = _Bar(pool_obj, tqdm_class, tqdm_kwargs)
        self._results: Optional[Generator[R, None, None]] = None

    @property
    def tqdm_obj(self) -> Any:
        """The progress bar; made when first asked for, at the latest with the first result."""
        return self._bar.tqdm_obj

    def __len__(self) -> int:
        return len(self.pool_obj)

    def __iter__(self) -> Iterator[R]:
        return self._begin()

    def __next__(self) -> R:
        __tracebackhide__ = True
        return next(self._begin())

    def _begin(self) -> Generator[R, None, None]:
        if self._results is None or not is_closed(self._results):
            self.pool_obj.check_open()
        if self._results is None:
            self._results = _iterate(self._bar)
            self._bar.belong_to(self._results)
        return self._results

    def collect(self) -> list[R]:
        """Return all results as a list."""
        __tracebackhide__ = True
        return _collect(self._bar)

    def __repr__(self) -> str:
        return f"<pqdm: {self.pool_obj!r}>"

    def report(self) -> Report:
        """Return what the workers have done until now, as `Pool.report` does."""
        return self.pool_obj.parent_obj.report()

    def close(self) -> None:
        """Stop; running items are let finish, as `join_timeout` says."""
        if self._results is not None:
            self._results.close()  # ends tqdm's loop, which counts in strides and tells the bar the rest only then
        self._bar.close()

    def __enter__(self) -> ProgressIterator[R]:
        self.pool_obj.__enter__()
        return self

    def __exit__(
        self,
        exc_type: Optional[type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            self.pool_obj.__exit__(exc_type, exc_value, traceback)
        finally:
            self.close()


class _Bar(Interruptible, Generic[R]):
    """A progress bar that is made late, and what it goes over.

    Nothing here refers back to the iterator that the user holds, nor the bar's input to the bar: a loop that is left
    with ``break`` must drop the last reference to all of it, for workers and bar to end there and then.
    """

    def __init__(self, pool_obj: ResultIterator[R], tqdm_class: Any, tqdm_kwargs: dict[str, Any]) -> None:
        self.pool_obj = pool_obj
        self._make = partial(tqdm_class, **tqdm_kwargs)
        self.postfix = Postfix(pool_obj.parent_obj.num_workers, tqdm_kwargs.get("postfix"))
        self._tqdm_obj: Any = None

    @property
    def tqdm_obj(self) -> Any:
        if self._tqdm_obj is None:
            postfix = self.postfix
            self._tqdm_obj = self._make(_tell_of_errors(self.pool_obj, postfix))
            postfix.bar = ref(self._tqdm_obj)
            self.pool_obj.on_start = postfix.on_start
            self.pool_obj.on_waiting = postfix.on_waiting
            if self.pool_obj.parent_obj._output is not None:
                self.pool_obj.parent_obj._output.stay_above(self._tqdm_obj)
        return self._tqdm_obj

    def close(self) -> None:
        self.pool_obj.close()
        if self._tqdm_obj is not None:
            self._tqdm_obj.close()


def _iterate(bar: _Bar[R]) -> Generator[R, None, None]:
    __tracebackhide__ = True
    try:
        bar.pool_obj.start()
        yield from bar.tqdm_obj
    finally:
        with bar.interrupted_later():
            bar.close()


def _collect(bar: _Bar[R]) -> list[R]:
    """Return all results at once, while the bar counts what is finished, in whatever order that comes."""
    __tracebackhide__ = True
    pool_obj = bar.pool_obj
    try:
        pool_obj.start()
        tqdm_obj = bar.tqdm_obj
        if not hasattr(tqdm_obj, "update"):  # a class that is no more than an iterator
            return list(tqdm_obj)
        n_shown, errors_shown = 0, 0

        def show(n_finished: int) -> None:
            nonlocal n_shown, errors_shown
            if pool_obj.n_errors != errors_shown:
                errors_shown = pool_obj.n_errors
                bar.postfix.show(errors=errors_shown)
            tqdm_obj.update(n_finished - n_shown)
            n_shown = n_finished

        pool_obj.on_waiting, pool_obj.on_finished = None, show
        results = list(pool_obj)
        bar.postfix.on_start(pool_obj.parent_obj.num_workers)  # it may have ended before all were up
        return results
    finally:
        with bar.interrupted_later():
            bar.close()


def _tell_of_errors(pool_obj: ResultIterator[R], postfix: Postfix) -> Iterator[R]:
    """Yield the results, and show on the bar how many of the items have failed."""
    __tracebackhide__ = True
    shown = 0
    for value in pool_obj:
        if pool_obj.n_errors != shown:
            shown = pool_obj.n_errors
            postfix.show(errors=shown)
        if postfix.is_waiting:
            postfix.on_waiting(0)
        yield value
    postfix.on_start(pool_obj.parent_obj.num_workers)  # it may have ended before all were up


class Pqdm(Protocol):
    """What a type checker knows of `pqdm`: by the names that it has here, or by those of the package pqdm."""

    @overload
    def __call__(
        self,
        input_iterable: Iterable[Any],
        worker_or_worker_arr: Workers[R],
        n_jobs: Optional[int] = ...,
        argument_type: Union[ArgumentPassing, str, None] = ...,
        bounded: bool = ...,
        exception_behaviour: Union[ExceptionBehaviour, str] = ...,
        use_threads: bool = ...,
        tqdm_class: Any = ...,
        *,
        lazy: Literal[False],
        **kwargs: Any,
    ) -> list[R]: ...

    @overload
    def __call__(
        self,
        input_iterable: Iterable[Any],
        worker_or_worker_arr: Workers[R],
        n_jobs: Optional[int] = ...,
        argument_type: Union[ArgumentPassing, str, None] = ...,
        bounded: bool = ...,
        exception_behaviour: Union[ExceptionBehaviour, str] = ...,
        use_threads: bool = ...,
        tqdm_class: Any = ...,
        *,
        lazy: Literal[True] = ...,
        **kwargs: Any,
    ) -> ProgressIterator[R]: ...

    @overload
    def __call__(
        self, *, array: Iterable[Any], function: Workers[R], lazy: Literal[False], **kwargs: Any
    ) -> list[R]: ...

    @overload
    def __call__(
        self, *, array: Iterable[Any], function: Workers[R], lazy: Literal[True] = ..., **kwargs: Any
    ) -> ProgressIterator[R]: ...


def make_pqdm(use_threads: bool, backend: Optional[str] = None) -> Pqdm:
    """Return the function `pqdm`, with workers in threads, in processes, or where the backend has them."""
    use_threads_by_default = use_threads
    door = backend or ("threads" if use_threads else "processes")

    def pqdm(
        input_iterable: Iterable[Any] = _MISSING,
        worker_or_worker_arr: Workers[R] = _MISSING,
        n_jobs: Optional[int] = None,
        argument_type: Union[ArgumentPassing, str, None] = "single_arg",
        bounded: bool = True,
        exception_behaviour: Union[ExceptionBehaviour, str] = Default("ignore"),  # noqa: B008
        use_threads: bool = use_threads_by_default,
        tqdm_class: Any = tqdm.auto.tqdm,
        *,
        lazy: bool = True,
        **kwargs: Any,
    ) -> Union[ProgressIterator[R], list[R]]:
        """Map workers over an iterable with a progress bar.

        Args:
            input_iterable: The input; pqdm's name `array` is accepted too.
            worker_or_worker_arr: As in `Pool`; pqdm's name `function` is accepted too.
            n_jobs: As in `Pool`.
            argument_type: As in `Pool`; ``None`` is pqdm's word for ``'single_arg'``.
            bounded: As in `Pool`.
            exception_behaviour: As in `Pool`; also accepted as `exception_behavior`.
            use_threads: As in `Pool`.
            tqdm_class: The class of the bar.
            lazy: False: do all the work at once and return a list.
            **kwargs: Any other argument of `Pool`, or else of `tqdm_class`, such as ``desc`` or ``total``.

        Returns:
            An iterator and context manager with the attributes `tqdm_obj`, the bar, and `pool_obj`, the pool's
            iterator; with ``lazy=False`` a list of the results.

        Raises:
            TypeError: An argument has the wrong type, or an unknown name.
            ValueError: An argument has a value that is not allowed.
        """
        input_iterable = _either("input_iterable", input_iterable, "array", kwargs)
        worker_or_worker_arr = _either("worker_or_worker_arr", worker_or_worker_arr, "function", kwargs)
        check_order(input_iterable, worker_or_worker_arr)
        pool_kwargs, tqdm_kwargs = divide_kwargs(kwargs, Pool)
        check_choice("exception_behaviour", exception_behaviour, ExceptionBehaviour)
        if "exception_behavior" not in pool_kwargs or not isinstance(exception_behaviour, Default):
            pool_kwargs["exception_behaviour"] = exception_behaviour
        if pool_kwargs.get("backend") is None and backend is not None:
            pool_kwargs["backend"] = backend  # with `use_threads=True`, which contradicts it, that is an error
        if pool_kwargs.get("forward_output") is None:
            pool_kwargs["forward_output"] = True
        pool = Pool(
            worker_or_worker_arr,
            n_jobs,
            "single_arg" if argument_type is None else argument_type,
            bounded=bounded,
            use_threads=use_threads,
            **pool_kwargs,
        )
        is_lazy = check_flag("lazy", lazy)
        _check_names(tqdm_class, tqdm_kwargs)
        if pool._output is not None:
            pool._output.has_own_redirection = _is_rich(tqdm_class)
        tqdm_kwargs.setdefault("total", _length_of(input_iterable))
        results = pool(input_iterable)
        progress = ProgressIterator(results, tqdm_class, tqdm_kwargs)
        return progress if is_lazy else progress.collect()

    # Help, the reference and pickle find it where it is imported from.
    pqdm.__module__ = f"mtasklite.{door}"
    pqdm.__qualname__ = "pqdm"
    return cast("Pqdm", pqdm)


def _length_of(iterable: Any) -> Optional[int]:
    """Return how many items it says it has, if it does."""
    if is_sized_iterator(iterable):
        return len(iterable)
    hint = operator.length_hint(iterable, -1)
    return hint if hint >= 0 else None


def _either(name: str, value: Any, other_name: str, kwargs: dict[str, Any]) -> Any:
    """Return an argument that has two names, and take the second one out of the keyword arguments."""
    if other_name in kwargs:
        if value is not _MISSING:
            raise TypeError(f"`{name}` and `{other_name}` are the same argument: give only one of them")
        return kwargs.pop(other_name)
    if value is _MISSING:
        raise TypeError(f"`{name}` is missing")
    return value


def _is_rich(tqdm_class: Any) -> bool:
    """Whether a bar keeps itself below what is written to `sys.stdout`, and would be disturbed by help."""
    return any(cls.__module__ == "tqdm.rich" for cls in getattr(tqdm_class, "__mro__", ()))


def _check_names(tqdm_class: Any, kwargs: dict[str, Any]) -> None:
    """Raise if no one knows an argument; a class that is not tqdm's own checks for itself, when it is made."""
    if not callable(tqdm_class):
        raise TypeError(f"`tqdm_class` must be a class like tqdm but got: {tqdm_class!r}")
    ancestry = inspect.getmro(tqdm_class)[:-1] if isinstance(tqdm_class, type) else ()
    if {cls.__module__ for cls in ancestry} - _CLASSES_THAT_NAME_ALL:
        return
    constructors = [getattr(cls, "__init__") for cls in ancestry]  # noqa: B009 - mypy distrusts the plain form
    known = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    unknown = sorted(set(kwargs) - known)
    if unknown and ancestry:
        owners = f"`pqdm`, of `Pool` or of `{tqdm_class.__name__.replace('_asyncio', '')}`"
        raise unknown_argument(unknown[0], owners, [*inspect.signature(Pool).parameters, *known, "lazy"])


class _Module(ModuleType):
    """This module, which people take for the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "`mtasklite.pqdm` is a module: write `from mtasklite.processes import pqdm`,"
            " or `from mtasklite.threads import pqdm`"
        )


sys.modules[__name__].__class__ = _Module
