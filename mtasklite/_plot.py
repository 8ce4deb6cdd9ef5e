"""Draws a report's lanes with matplotlib, which is imported when that is asked for."""

from __future__ import annotations

from typing import Any

COLORS = {
    "constructing": "#8172b3",
    "working": "#55a868",
    "waiting_for_input": "#f2c14e",
    "nothing_left": "#fbe9b7",
    "waiting_to_hand_out": "#4c72b0",
}
DIED: dict[str, Any] = {"marker": "X", "color": "black", "markersize": 10, "markeredgecolor": "white"}
LANE_HEIGHT = 0.8
INCHES_PER_LANE = 0.4

MAX_NAMES = 40
"""With more lanes than this, not each has its name written beside it."""


def draw_lanes(report: Any, ax: Any) -> Any:
    """Draw each worker's lane over time, and return the axes.

    Args:
        report: The report.
        ax: The axes, or ``None``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError('`report.plot()` needs matplotlib: pip install "mtasklite[plot]"') from error
    n_lanes = len(report.workers)
    if ax is None:
        height = 1.6 + INCHES_PER_LANE * min(max(n_lanes, 2), 2 * MAX_NAMES)
        _, ax = matplotlib.pyplot.subplots(figsize=(9, height), layout="constrained")
    end = _end_of(report)
    for row, worker in enumerate(report.workers):
        _draw_lane(ax, row, worker.timeline, end)
    every = 1 + (n_lanes - 1) // MAX_NAMES
    names = [_name_of(worker) for worker in report.workers[::every]]
    ax.set_yticks(range(0, n_lanes, every), names, fontfamily="monospace")
    ax.set_ylim(n_lanes - 0.4, -0.6)  # the first on top
    ax.set_xlim(0, end if end > 0 else 1)
    ax.set_xlabel("seconds")
    ax.set_title(report.summary.replace("$", r"\$"), fontsize="medium", loc="left", wrap=True)
    _add_legend(ax)
    return ax


def _end_of(report: Any) -> float:
    """Return when all of it ends."""
    lasted = report.seconds_elapsed + report.seconds_paused
    begins = [worker.timeline.step_seconds * (len(worker.timeline.working) - 1) for worker in report.workers]
    return float(max([lasted, *begins]))  # a pool that was started anew lasted less long than it lived


def _name_of(worker: Any) -> str:
    """Return a lane's name; a dollar sign would begin a formula."""
    return f"{worker.index} {worker.name[:24]}".replace("$", r"\$")


def _draw_lane(ax: Any, row: int, timeline: Any, end: float) -> None:
    n_steps, step = len(timeline.working), timeline.step_seconds
    edges = [number * step for number in range(n_steps + 1)]
    if n_steps:
        edges[-1] = max(min(edges[-1], end), edges[-2] + step / 100)  # the last step may not be over
    lengths = [after - before for before, after in zip(edges, edges[1:])]
    floor = [row + LANE_HEIGHT / 2] * n_steps
    for name, color in COLORS.items():
        shares = [min(1.0, part / length) for part, length in zip(getattr(timeline, name), lengths)]
        top = [below - LANE_HEIGHT * share for below, share in zip(floor, shares)]
        if any(shares):
            ax.stairs(top, edges, baseline=floor, fill=True, color=color, linewidth=0, gid=f"lane-{row}-{name}")
            floor = top
    if timeline.died_at:
        ax.plot(timeline.died_at, [row] * len(timeline.died_at), linestyle="", gid=f"lane-{row}-died", **DIED)


def _add_legend(ax: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=color, label=name.replace("_", " ")) for name, color in COLORS.items()]
    handles.append(Line2D([], [], linestyle="", label="died", **DIED))
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=5,  # times the height of its letters: below the labels of the axis
        ncol=len(handles),
        frameon=False,
        fontsize="small",
    )
