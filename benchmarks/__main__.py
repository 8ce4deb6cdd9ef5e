"""Measures the speed of mtasklite beside others: ``python -m benchmarks``; see ``docs/performance.md``.

It needs what `requirements.txt` says, and makes an environment of its own for the published mtasklite. A contender that
is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import speed
from benchmarks.speed_page import plot, tables
from benchmarks.speed_rows import GROWTH, MEMORY, OURS, PEERS, ROWS, SERIES, Point

BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


NAMES = [*(row.name for row in ROWS), "growth", "memory", *(series.name for series in SERIES)]


def _number(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1 but got: {text}")
    return int(text)


def main() -> int:
    """Measure, print, and write the page if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The speed of mtasklite beside others.")
    parser.add_argument("--rounds", type=_number, default=5, help="runs of each contender in a row (default: 5)")
    parser.add_argument("--only", default="", help=f"measure what has this in its name: {'; '.join(NAMES)}")
    parser.add_argument("--no-series", action="store_true", help="leave out what the plots show")
    parser.add_argument("--results", type=Path, help="a file to keep what was measured in, and to begin from")
    parser.add_argument("--page", nargs="?", type=Path, const=PAGE, help="write the tables and plots into this page")
    args = parser.parse_args()
    if not any(args.only in name for name in NAMES):
        parser.error(f"nothing to be measured has {args.only!r} in its name; there are: {'; '.join(NAMES)}")
    results: dict[str, Any] = {"rows": {}, "series": {}}
    if args.results and args.results.exists():
        results = json.loads(args.results.read_text())
    results.update(machine=speed.machine(), rounds=args.rounds)
    missing = {contender for contender in (OURS, *PEERS) if not speed.is_installed(contender)}
    if OURS in missing:
        print("mtasklite is not installed: pip install .", file=sys.stderr)
        return 2
    if missing:
        listed = ", ".join(sorted(missing))
        print(f"left out, for it is not installed: {listed} (see benchmarks/requirements.txt)", file=sys.stderr)
    _measure(results, args, missing)
    text = tables(results, ROWS)
    print(text)
    if args.page:
        _write(args.page, text, results)
    return 0


def _measure(results: dict[str, Any], args: argparse.Namespace, missing: set[str]) -> None:
    def keep() -> None:
        if args.results:
            speed.save(results, args.results)

    for row in ROWS:
        if args.only in row.name:
            point = Point(0, row.work, row.n_items, row.size, row.n_workers)
            contenders = [one for one in row.contenders if one not in missing]
            print(f"measuring: {row.name}", file=sys.stderr)
            results["rows"][row.name] = speed.measure(contenders, point, args.rounds)
            keep()
    if args.only in "growth":
        found = [(point, speed.measure([OURS], point, args.rounds)[OURS]) for point in GROWTH]
        results["growth"] = [(point.n_items, one["seconds"]) for point, one in found]
    if args.only in "memory":
        found = [(point, speed.measure([OURS], point, 1)[OURS]) for point in MEMORY]
        results["memory"] = [(point.consumer, point.n_items, one["peak_bytes"]) for point, one in found]
    keep()
    for series in SERIES if not args.no_series else ():
        if args.only in series.name:
            contenders = [one for one in series.contenders if one not in missing]
            print(f"measuring: {series.title}", file=sys.stderr)
            results["series"][series.name] = [speed.measure(contenders, point, 1) for point in series.points]
            keep()


def _write(page: Path, text: str, results: dict[str, Any]) -> None:
    folder = page.parent / "performance"
    folder.mkdir(exist_ok=True)
    for series in SERIES:
        if series.name in results["series"]:
            plot(series, results["series"][series.name], folder / f"{series.name}.png")
    old = page.read_text("utf-8")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
