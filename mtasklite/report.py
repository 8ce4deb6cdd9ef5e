"""What a pool has done and where its time went, as plain data that prints, shows and plots itself; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Optional

NAME_WIDTH = 24


@dataclass(frozen=True)
class Timeline:
    """What a worker's time went into, in steps of equal length: seconds in each step.

    The first step begins when the pool first started workers.

    Attributes:
        step_seconds: Length of a step.
        constructing: See `WorkerReport`.
        working: See `WorkerReport`.
        waiting_for_input: See `WorkerReport`; here without what `nothing_left` has.
        nothing_left: While others did the last items.
        waiting_to_hand_out: See `WorkerReport`.
        died_at: Seconds from the first step to each death, at most the latest 256.
    """

    step_seconds: float
    constructing: Sequence[float] = ()
    working: Sequence[float] = ()
    waiting_for_input: Sequence[float] = ()
    nothing_left: Sequence[float] = ()
    waiting_to_hand_out: Sequence[float] = ()
    died_at: Sequence[float] = ()


@dataclass(frozen=True)
class WorkerReport:
    """What the workers in one slot have done; when one dies, the next in its place counts on.

    Attributes:
        index: The slot.
        name: Name of the worker's function or class.
        items: Items that got their outcome, value or exception, from it.
        errors: Those of them whose outcome is an exception.
        retries: Attempts that failed and were made again; these are not among the items.
        restarts: Workers that were started in the place of one that was gone.
        deaths: Workers that died, or were killed for being late.
        seconds_constructing: From the start of a process or thread until its worker object was made.
        seconds_working: Calling the worker with items.
        seconds_waiting_for_input: Ready, and without an item, because there was none to give to it.
        seconds_nothing_left: That part of `seconds_waiting_for_input` in which the input had ended, and others did the
            last items.
        seconds_waiting_to_hand_out: Ready, and without an item, because earlier results were not handed out yet.
        seconds_absent: Without a worker.
        bytes_in: Pickled size of the items sent to it; 0 where nothing is pickled.
        bytes_out: Pickled size of the results it sent.
        peak_memory: Bytes of memory that it has had at most; ``None`` where that is not known, and for threads,
            whose memory is that of the whole program.
        timeline: When it did what.
    """

    index: int
    name: str
    items: int = 0
    errors: int = 0
    retries: int = 0
    restarts: int = 0
    deaths: int = 0
    seconds_constructing: float = 0.0
    seconds_working: float = 0.0
    seconds_waiting_for_input: float = 0.0
    seconds_nothing_left: float = 0.0
    seconds_waiting_to_hand_out: float = 0.0
    seconds_absent: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    peak_memory: Optional[int] = None
    timeline: Timeline = field(default=Timeline(1.0), repr=False, compare=False)


SUMMED = ("items", "errors", "retries", "restarts", "deaths", "bytes_in", "bytes_out")
SECONDS = ("constructing", "working", "waiting_for_input", "nothing_left", "waiting_to_hand_out")


@dataclass(frozen=True, repr=False)
class Report:
    """What a pool has done until now; it does not change any more. ``print`` shows it as a table.

    Attributes:
        workers: One for each slot.
        seconds_elapsed: While there were workers, without the pauses.
        seconds_paused: While there were workers but no iteration was under way.
        efficiency: Seconds working, divided by the number of workers times `seconds_elapsed`; from 0 to 1.
        bottleneck: What held it back most, in a word: ``'input'``, ``'consumer'``, ``'window'``, ``'end'``,
            ``'constructing'``, ``'deaths'``, ``'handover'``, ``'absent'``; ``'nothing'``.
        summary: The same in a sentence.
    """

    workers: tuple[WorkerReport, ...]
    seconds_elapsed: float
    seconds_paused: float
    efficiency: float
    bottleneck: str
    summary: str

    def total(self, name: str) -> Any:
        """Return the sum of an attribute over the workers, such as ``'items'`` or ``'seconds_working'``."""
        return sum(getattr(worker, name) for worker in self.workers)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain dicts, lists and numbers, which go into JSON as they are; without the timelines."""
        return {
            "seconds_elapsed": self.seconds_elapsed,
            "seconds_paused": self.seconds_paused,
            "efficiency": self.efficiency,
            "bottleneck": self.bottleneck,
            "summary": self.summary,
            **{name: self.total(name) for name in SUMMED},
            "workers": [
                {name: value for name, value in vars(worker).items() if name != "timeline"} for worker in self.workers
            ],
        }

    def plot(self, ax: Any = None) -> Any:
        """Draw each worker's lane over time: constructing, working, waiting for input, waiting to hand out, died.

        Args:
            ax: The matplotlib axes to draw on; ``None``: those of a new figure.

        Returns:
            The axes; the figure is their `figure`.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from mtasklite._plot import draw_lanes

        return draw_lanes(self, ax)

    def __repr__(self) -> str:
        return "\n".join([self._headline(), self.summary, "", *_table(self._rows())])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        lines = [
            f"<p><b>{escape(self._headline())}</b><br>{escape(self.summary)}</p>",
            "<table>",
            "<thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead>",
            "<tbody>",
            *("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows),
            "</tbody>",
            "</table>",
        ]
        return "\n".join(lines)

    def _headline(self) -> str:
        n_workers = len(self.workers)
        return (
            f"{n_workers} worker{'s' if n_workers > 1 else ''}, {seconds_text(self.seconds_elapsed)},"
            f" efficiency {percent(self.efficiency)}"
        )

    def _rows(self) -> list[list[str]]:
        """Return the table: its head, a row for each worker, and one for all where there are several."""
        columns = ["items", "errors", "restarts"]
        columns += ["retries"] if self.total("retries") else []
        head = ["worker", *columns, "being made", "working", "waiting for input", "of that at the end", "to hand out"]
        has_bytes = self.total("bytes_in") or self.total("bytes_out")
        peaks = [worker.peak_memory for worker in self.workers if worker.peak_memory]
        head += ["bytes in", "bytes out"] if has_bytes else []
        head += ["peak memory"] if peaks else []
        rows = [head]
        for worker in [*self.workers, *([self] if len(self.workers) > 1 else [])]:
            is_one = isinstance(worker, WorkerReport)
            get = (lambda name, worker=worker: getattr(worker, name)) if is_one else self.total
            row = [f"{worker.index} {_shortened(worker.name)}" if isinstance(worker, WorkerReport) else "all"]
            row += [str(get(name)) for name in columns]
            row += [seconds_text(get(f"seconds_{name}")) for name in SECONDS]
            row += [bytes_text(get("bytes_in")), bytes_text(get("bytes_out"))] if has_bytes else []
            peak = worker.peak_memory if isinstance(worker, WorkerReport) else max(peaks, default=None)
            row += [bytes_text(peak) if peak else "?"] if peaks else []
            rows.append(row)
        return rows


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{share:.0%}".replace("%", " %")


def seconds_text(seconds: float) -> str:
    """Return seconds as text of three digits or more."""
    digits = 0 if seconds >= 100 else 1 if seconds >= 10 else 2
    return f"{seconds:.{digits}f} s"


def bytes_text(n_bytes: int) -> str:
    """Return a number of bytes as text of about three digits."""
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{n_bytes} B" if unit == "B" else f"{size:.{0 if size >= 99.95 else 1}f} {unit}"


def _shortened(name: str) -> str:
    name = "".join(char if char.isprintable() else "?" for char in name)
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _table(rows: list[list[str]]) -> list[str]:
    """Return the lines of a table: first column to the left, numbers to the right, and the head in two lines."""
    parts = [_TWO_LINES.get(cell, ("", cell)) for cell in rows[0]]
    rows = [[above for above, _ in parts], [below for _, below in parts], *rows[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(parts))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells))
    lines.insert(2, "-" * len(lines[0]))
    return lines


_TWO_LINES = {
    "restarts": ("re-", "starts"),
    "being made": ("being", "made"),
    "waiting for input": ("waiting", "for input"),
    "of that at the end": ("of that", "at end"),
    "to hand out": ("to hand", "out"),
    "bytes in": ("bytes", "in"),
    "bytes out": ("bytes", "out"),
    "peak memory": ("peak", "memory"),
}
