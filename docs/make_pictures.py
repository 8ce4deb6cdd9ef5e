"""Makes the pictures and the table of `report.md`: ``python docs/make_pictures.py``; needs the extra ``[plot]``.

A pool of three workers over an input that is slow for a while, a task that kills its worker, and a long item at the
end, so that each state of a lane is to be seen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Union

import matplotlib

from mtasklite import Pool, delayed_init

PICTURES = Path(__file__).parent / "pictures"
FATAL = "fatal"
Item = Union[float, str]


@delayed_init
class Tokenizer:
    """Takes a quarter of a second to be made, and as long as an item says to work on it."""

    def __init__(self) -> None:
        time.sleep(0.25)

    def __call__(self, item: Item) -> Item:
        if item == FATAL:
            time.sleep(0.2)
            os._exit(3)
        time.sleep(float(item))
        return item


def read() -> Iterator[Item]:
    """Yield how long the items take: quickly, then slowly, then a fatal one, then quickly again, and a long one."""
    yield from [0.03] * 60
    for _ in range(12):
        time.sleep(0.1)
        yield 0.05
    yield FATAL
    yield from [0.03] * 120
    yield 1.0


def main() -> None:
    """Make them."""
    matplotlib.use("Agg")
    pool = Pool(Tokenizer(), n_jobs=3, exception_behavior="ignore")
    for number, _ in enumerate(pool(read())):
        if number == 100:
            time.sleep(0.6)  # the consumer has something else to do
    report = pool.report()
    print(report)
    PICTURES.mkdir(exist_ok=True)
    report.plot().figure.savefig(PICTURES / "report.png", dpi=110)


if __name__ == "__main__":
    main()
