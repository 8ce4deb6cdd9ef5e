"""What is measured: the rows of the table, each with what is wanted, and the series of the plots."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "mtasklite"
PUBLISHED = "mtasklite 0.3.5"
EXECUTOR_1000 = "executor, chunksize=1000"
POOL_1000 = "Pool.imap, chunksize=1000"
PEERS = ("mpire", "joblib", "executor", "Pool.imap")


@dataclass(frozen=True)
class Row:
    """One kind of work, and who is to do it.

    Attributes:
        name: What it is, in words.
        work: Its name in `speed_trial`.
        n_items: Number of items.
        size: Seconds or bytes of one item.
        n_workers: Number of workers.
        others: The other contenders.
        wanted: How many times as fast as another one mtasklite should be.
        wanted_rate: Items a second that it should reach; 0: none is wanted.
    """

    name: str
    work: str
    n_items: int
    others: tuple[str, ...]
    wanted: tuple[tuple[str, float], ...]
    size: float = 0
    n_workers: int = 2
    wanted_rate: float = 0

    @property
    def contenders(self) -> tuple[str, ...]:
        return (OURS, *self.others)


_ARRAY = 8 << 20
_ARRAY_WANTED = ((PUBLISHED, 4.0), *((peer, 1.4) for peer in PEERS))

ROWS = (
    Row(
        "50,000 no-op items",
        "noop",
        50_000,
        (PUBLISHED, "mpire", "joblib", EXECUTOR_1000, "serial"),
        ((PUBLISHED, 100.0), ("mpire", 10.0), ("joblib", 10.0), (EXECUTOR_1000, 1.0)),
    ),
    Row("1,000,000 no-op items", "noop", 1_000_000, (POOL_1000, "serial"), ((POOL_1000, 0.9),), wanted_rate=2_000_000),
    Row(
        "50,000 small dicts out",
        "dicts",
        50_000,
        (PUBLISHED, "mpire", EXECUTOR_1000),
        ((PUBLISHED, 20.0), ("mpire", 1.5), (EXECUTOR_1000, 1.0)),
    ),
    Row("3,000 tasks of 1 ms", "compute", 3_000, ("serial", PUBLISHED, *PEERS), (("serial", 2 * 0.96),), size=0.001),
    Row(
        "2,000 tasks of 0.5 ms, every 50th 20 ms",
        "skew",
        2_000,
        (PUBLISHED, "mpire", "executor", "serial"),
        ((PUBLISHED, 1.6), ("mpire", 1.15), ("executor", 1.15)),
    ),
    *(
        Row(
            f"Uneven work, {what}",
            work,
            n_items,
            ("mtasklite, threads", "executor", "executor, threads"),
            (("executor", 1 / 1.1), ("executor, threads", 1 / 1.1)),
            size=size,
            n_workers=n_workers,
        )
        for what, work, n_items, size, n_workers in (
            ("8 workers: 200 tasks, each 20th 1.5 s, the others 50 ms", "uneven-20", 200, 0, 8),
            ("8 workers: 200 tasks, each 25th 1.2 s, the others 30 ms", "uneven-25", 200, 0, 8),
            ("8 workers: 300 tasks of lognormal lengths, median 33 ms", "uneven-lognormal", 300, 0.033, 8),
            ("4 workers: the first task 2 s, 8,000 others 1 ms", "uneven-head", 8_001, 0, 4),
        )
    ),
    Row(
        "19,200 tasks of 10 ms sleep, 64 processes",
        "sleep",
        19_200,
        ("executor",),
        (("executor", 1.3),),
        size=0.010,
        n_workers=64,
        wanted_rate=0.88 * 6400,
    ),
    Row("200 arrays of 8 MB, in only", "arrays-in", 200, (PUBLISHED, *PEERS), _ARRAY_WANTED, size=_ARRAY),
    Row("200 arrays of 8 MB, out only", "arrays-out", 200, (PUBLISHED, *PEERS), _ARRAY_WANTED, size=_ARRAY),
    Row("200 arrays of 8 MB, both ways", "arrays-both", 200, (PUBLISHED, *PEERS), _ARRAY_WANTED, size=_ARRAY),
    Row("Four no-op items, pool included", "noop", 4, ("Pool.map", "executor"), (("Pool.map", 1 / 1.2),)),
)


@dataclass(frozen=True)
class Point:
    """One measurement of a series."""

    x: float
    work: str
    n_items: int
    size: float = 0
    n_workers: int = 2
    consumer: float = 0


@dataclass(frozen=True)
class Series:
    """What a plot shows.

    Attributes:
        name: Of the file.
        title: Of the plot.
        x_label, y_label: Of the axes.
        y: What is drawn: ``rate`` (items a second), ``bytes`` (bytes a second), ``seconds``, ``peak`` (MiB of the
            parent), or ``efficiency`` (share of what the workers could do).
        contenders: Who.
        points: Where.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    y: str
    contenders: tuple[str, ...]
    points: tuple[Point, ...]


def _n_tasks(seconds: float) -> int:
    return max(8, min(20_000, int(1.0 / seconds)))


SERIES = (
    Series(
        "task_length",
        "Throughput against the length of a task (two processes)",
        "seconds a task",
        "share of two CPUs",
        "efficiency",
        (OURS, *PEERS),
        tuple(
            Point(seconds, "compute", _n_tasks(seconds), seconds)
            for seconds in (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1, 1.0)
        ),
    ),
    Series(
        "payload",
        "Throughput against the size of a result (two processes)",
        "bytes a result",
        "bytes a second",
        "bytes",
        (OURS, *PEERS),
        tuple(
            Point(size, "bytes-out", max(12, min(20_000, (256 << 20) // size)), size)
            for size in (8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 64 << 20)
        ),
    ),
    Series(
        "number_of_items",
        "Time against the number of no-op items (two processes)",
        "items",
        "seconds",
        "seconds",
        (OURS, EXECUTOR_1000, POOL_1000),
        tuple(Point(n_items, "noop", n_items) for n_items in (10**3, 10**4, 10**5, 10**6, 10**7)),
    ),
    Series(
        "memory",
        "Peak memory of the parent against the number of items (generator)",
        "items",
        "MiB",
        "peak",
        (OURS, EXECUTOR_1000, POOL_1000),
        tuple(Point(n_items, "noop-generator", n_items) for n_items in (10**4, 10**5, 10**6, 3 * 10**6)),
    ),
    Series(
        "workers",
        "Efficiency against the number of workers (tasks of 10 ms sleep)",
        "workers",
        "share of the ideal",
        "efficiency",
        (OURS, "mtasklite, threads", "executor"),
        tuple(Point(n, "sleep", 100 * n, 0.010, n) for n in (1, 2, 4, 8, 16, 32, 64)),
    ),
)

GROWTH = tuple(Point(n_items, "noop", n_items) for n_items in (10**5, 10**6, 10**7))
MEMORY = tuple(
    Point(n_items, "noop-generator", n_items, consumer=consumer)
    for consumer in (0.0, 0.0005)
    for n_items in (10**5, 10**7)
)
MAX_GROWTH = 0.15
MAX_MORE_BYTES = 32 << 20
