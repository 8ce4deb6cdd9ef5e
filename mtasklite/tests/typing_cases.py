"""What type checkers must know of the library; checked by `mypy --strict` and pyright, never run."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from typing_extensions import assert_type

from mtasklite import Pool, delayed_init
from mtasklite.delayed_init import ShellObject
from mtasklite.pool import ResultIterator
from mtasklite.pqdm import ProgressIterator
from mtasklite.processes import pqdm
from mtasklite.threads import pqdm as threads_pqdm


def length(text: str) -> int:
    """A worker."""
    return len(text)


def power(base: float, exponent: int) -> float:
    """A worker of two arguments."""
    return base**exponent


class Plain:
    """A worker with state."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __call__(self, text: str) -> list[float]:
        """Return a vector."""
        return [0.0]


@delayed_init
class Embed(Plain):
    """The same, decorated."""


def cases(texts: list[str]) -> None:
    """Each kind of worker, each way to call."""
    assert_type(Pool(length, 2), Pool[int])
    assert_type(Pool(length, 2)(texts), ResultIterator[int])
    for number in Pool(length, 2)(texts):
        assert_type(number, int)
    assert_type(next(Pool(length)(texts)), int)
    assert_type(iter(Pool(length)(texts)), Iterator[int])
    with Pool(length, 2) as pool:
        assert_type(list(pool(texts)), list[int])
    with Pool(length, 2)(texts) as results:
        assert_type(results, ResultIterator[int])

    assert_type(list(Pool(functools.partial(power, exponent=2), 2)([1.0])), list[float])
    assert_type(list(Pool(lambda text: length(text), 2, use_threads=True)(texts)), list[int])

    assert_type(delayed_init(Plain)("cuda:0"), ShellObject[list[float]])
    assert_type(delayed_init(Plain)("cuda:0")("text"), list[float])
    assert_type(Embed("cuda:0")("text"), list[float])  # mypy takes this for the class itself, which comes to the same
    assert_type(Pool(Embed("cuda:0"), 2), Pool[list[float]])
    assert_type(Pool([Embed("cuda:0"), Embed("cuda:1")]), Pool[list[float]])
    assert_type(Pool((length, length)), Pool[int])
    shells = [Embed(device) for device in texts]
    assert_type(Pool(shells), Pool[list[float]])

    assert_type(pqdm(texts, length, 2), ProgressIterator[int])
    assert_type(pqdm(texts, length, 2, lazy=True), ProgressIterator[int])
    assert_type(pqdm(texts, length, 2, lazy=False), list[int])
    assert_type(pqdm(texts, [Embed("cuda:0")], desc="embedding"), ProgressIterator[list[float]])
    assert_type(threads_pqdm(array=texts, function=length, n_jobs=2), ProgressIterator[int])
    assert_type(threads_pqdm(array=texts, function=length, n_jobs=2, lazy=False), list[int])
    with pqdm(texts, length, n_jobs=2) as bar:
        for number in bar:
            assert_type(number, int)
        assert_type(bar.pool_obj, ResultIterator[int])
        assert_type(bar.pool_obj.parent_obj, Pool[int])


def mistakes(texts: list[str]) -> None:
    """What a checker must refuse; each of these has an error that is expected, and would be missed."""
    Embed()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Pool(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Pool(length, "many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Pool(length)(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pqdm(3, length)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
