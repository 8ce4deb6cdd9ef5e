"""Writes what was measured: the tables as Markdown, the plots as PNG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed_rows import MAX_GROWTH, MAX_MORE_BYTES, OURS, SERIES, Point, Row, Series

MEBI = 1 << 20


def verdicts(row: Row, measured: dict[str, dict[str, float]]) -> Iterable[tuple[str, bool]]:
    """Yield what was wanted of a row, in words, and whether it was reached."""
    ours = measured[OURS]["seconds"]
    for other, factor in row.wanted:
        if other in measured:
            ratio = measured[other]["seconds"] / ours
            yield f"{ratio:.2f} times {other} (wanted {factor:.2f})", ratio >= factor
    if row.wanted_rate:
        rate = row.n_items / ours
        yield f"{rate:,.0f} items/s (wanted {row.wanted_rate:,.0f})", rate >= row.wanted_rate


def table_of(row: Row, measured: dict[str, dict[str, float]]) -> str:
    """Return the table of one row."""
    lines = [f"### {row.name}", "", "| | seconds | range | items/s | mtasklite is |", "|---|---|---|---|---|"]
    ours = measured[OURS]["seconds"]
    for contender, found in measured.items():
        seconds = found["seconds"]
        ratio = "" if contender == OURS else f"{seconds / ours:.2f} times as fast"
        name = f"**{contender}**" if contender == OURS else contender
        lines.append(f"| {name} | {seconds:.4g} | {found['spread']:.2g} | {row.n_items / seconds:,.0f} | {ratio} |")
    lines.append("")
    for text, is_reached in verdicts(row, measured):
        lines.append(f"- {'reached' if is_reached else '**missed**'}: {text}")
    return "\n".join(lines) + "\n"


def growth_table(found: list[tuple[int, float]]) -> str:
    """Return the table of time against the number of items."""
    lines = ["### Growth", "", "| items | seconds | ns an item |", "|---|---|---|"]
    lines += [f"| {n_items:,} | {seconds:.4g} | {1e9 * seconds / n_items:.0f} |" for n_items, seconds in found]
    each = [seconds / n_items for n_items, seconds in found]
    growth = max(each) / each[0] - 1
    verdict = "reached" if growth <= MAX_GROWTH else "**missed**"
    lines += [
        "",
        f"- {verdict}: {100 * growth:+.0f} % an item at most over the first (wanted {100 * MAX_GROWTH:.0f} %)",
    ]
    return "\n".join(lines) + "\n"


def memory_table(found: list[tuple[float, int, float]]) -> str:
    """Return the table of peak memory against the number of items."""
    lines = ["### Memory", "", "| consumer | items | peak of the parent, MiB |", "|---|---|---|"]
    verdict = []
    for consumer in sorted({consumer for consumer, _, _ in found}):
        name = "slow" if consumer else "fast"
        peaks = [(n_items, peak) for one, n_items, peak in found if one == consumer]
        lines += [f"| {name} | {n_items:,} | {peak / MEBI:.0f} |" for n_items, peak in peaks]
        more = peaks[-1][1] - peaks[0][1]
        word = "reached" if more <= MAX_MORE_BYTES else "**missed**"
        verdict.append(f"- {word}: {more / MEBI:+.0f} MiB with a {name} consumer (wanted {MAX_MORE_BYTES / MEBI:.0f})")
    return "\n".join([*lines, "", *verdict]) + "\n"


def y_of(series: Series, point: Point, found: dict[str, float]) -> float:
    """Return what a plot shows of one measurement."""
    seconds = found["seconds"]
    if series.y == "seconds":
        return seconds
    if series.y == "peak":
        return found["peak_bytes"] / MEBI
    if series.y == "bytes":
        return point.n_items * point.size / seconds
    return point.n_items * point.size / point.n_workers / seconds


def plot(series: Series, measured: list[dict[str, dict[str, float]]], path: Path) -> None:
    """Draw one series.

    Args:
        series: What to draw.
        measured: For each point by contender what was measured.
        path: The PNG file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=120)
    for contender in series.contenders:
        drawn = [(p.x, y_of(series, p, m[contender])) for p, m in zip(series.points, measured) if contender in m]
        if drawn:
            width = 2.5 if contender == OURS else 1.2
            axes.plot(*zip(*drawn), marker="o", markersize=4, linewidth=width, label=contender)
    axes.set_xscale("log")
    if series.y in ("bytes", "seconds"):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=series.title, xlabel=series.x_label, ylabel=series.y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def tables(results: dict[str, Any], rows: Iterable[Row]) -> str:
    """Return all that the page has of the measurements."""
    parts = [f"Measured on {results['machine']}; median of {results['rounds']} rounds.\n"]
    parts += [table_of(row, results["rows"][row.name]) for row in rows if row.name in results["rows"]]
    if results.get("growth"):
        parts.append(growth_table([tuple(one) for one in results["growth"]]))
    if results.get("memory"):
        parts.append(memory_table([tuple(one) for one in results["memory"]]))
    drawn = [series for series in SERIES if series.name in results.get("series", {})]
    parts += [f"![{series.title}](performance/{series.name}.png)\n" for series in drawn]
    return "\n".join(parts)
