"""Worker objects that are made where they work: a shell remembers the arguments, each worker builds from it."""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, cast

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

R = TypeVar("R")

_MARK = "_mtasklite_delayed_init"


class ShellObject(Generic[R]):
    """Remembers a class and the arguments for it; the instance is made later, by each worker for itself.

    Calling the shell makes an instance here, once, and calls that.

    Args:
        cls: The class (or any callable that returns the worker object).
        *args: Positional arguments for it.
        **kwargs: Keyword arguments for it.

    Attributes:
        cls: The class.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    def __init__(self, cls: Callable[..., Callable[..., R]], *args: Any, **kwargs: Any) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = kwargs
        self._instance: Any = None
        self._lock = threading.RLock()

    def make_instance(self) -> Callable[..., R]:
        """Make a new instance; whatever the constructor raises comes through."""
        return self.cls(*self.args, **self.kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        with self._lock:
            if self._instance is None:
                self._instance = self.make_instance()
        result: R = self._instance(*args, **kwargs)
        return result

    def __getstate__(self) -> dict[str, Any]:
        # The instance made here stays here: it may hold what cannot travel.
        return {name: value for name, value in self.__dict__.items() if name not in ("_instance", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _instance=None, _lock=threading.RLock())

    def __repr__(self) -> str:
        name = getattr(self.cls, "__qualname__", repr(self.cls))
        return f"<delayed_init shell of {_call_text(name, self.args, self.kwargs)}>"


def delayed_init(cls: Callable[P, Callable[..., R]]) -> Callable[P, ShellObject[R]]:
    """Make a class's instances be built inside each worker, before the worker's first item.

    Calling the decorated class returns a `ShellObject`, which is what a pool takes as a worker. If the instance
    is a context manager, the worker enters it before the first item and exits it after the last.

    Args:
        cls: A class whose instances can be called with one item.

    Raises:
        TypeError: What is decorated is not a class, or its instances cannot be called.

    Example:
        >>> @delayed_init
        ... class AddTo:
        ...     def __init__(self, base):
        ...         self.base = base
        ...     def __call__(self, item):
        ...         return self.base + item
        >>> AddTo(40)(2)
        42
    """
    if not isinstance(cls, type):
        raise TypeError(f"`delayed_init` must decorate a class but got: {cls!r}")
    if not any("__call__" in vars(base) for base in cls.__mro__):
        raise TypeError(f"`delayed_init` needs a class with a `__call__(self, item)` method but got: {cls!r}")

    @functools.wraps(cls, updated=())
    def make_shell(*args: Any, **kwargs: Any) -> ShellObject[Any]:
        _check_arguments(cls, args, kwargs)
        return ShellObject(cls, *args, **kwargs)

    setattr(make_shell, _MARK, True)
    setattr(make_shell, "__mro_entries__", functools.partial(_refuse_subclass, cls))  # noqa: B010
    return cast("Callable[P, ShellObject[R]]", make_shell)


def _refuse_subclass(cls: type, bases: tuple[Any, ...]) -> tuple[Any, ...]:
    raise TypeError(
        f"`{cls.__name__}` is decorated with `delayed_init`, and no class any more, so it cannot be subclassed:"
        f" decorate the last class only, or derive from the plain one, `{cls.__name__}.__wrapped__`"
    )


def _check_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise now, at the user's line, what the constructor would raise in each worker for arguments that do not fit."""
    try:
        signature = inspect.signature(cls, follow_wrapped=False)  # a decorator may pass more than it takes
    except Exception:  # written in C, and says nothing of its arguments; or they cannot be looked at
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        call = _call_text(cls.__name__, args, kwargs)
        raise TypeError(f"`{call}` does not fit `{cls.__name__}{signature}`: {error}") from None


def _call_text(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    arguments = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{name}({', '.join(arguments)})"


def is_decorated_class(worker: object) -> bool:
    """Return whether this is a decorated class itself, which has not been called to give a shell."""
    return getattr(worker, _MARK, False) is True
