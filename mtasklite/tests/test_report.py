"""The report as data: the table in a terminal, the HTML in a notebook, the dict for programs, and the plot."""

from __future__ import annotations

import json
import sys
import warnings
from html.parser import HTMLParser

import pytest

from mtasklite.report import Report, Timeline, WorkerReport, bytes_text, percent, seconds_text

TWO_STEPS = Timeline(
    step_seconds=1.0,
    constructing=[0.5, 0.0],
    working=[0.5, 0.25],
    waiting_for_input=[0.0, 0.25],
    nothing_left=[0.0, 0.25],
    waiting_to_hand_out=[0.0, 0.25],
    died_at=[1.5],
)


def make_worker(index=0, name="tokenize", **values):
    """Build the report of one worker."""
    return WorkerReport(index, name, timeline=TWO_STEPS, **values)


def make_report(*workers, summary="workers waited for input 62 % of the time: the input is the bottleneck"):
    """Build the report of these workers."""
    return Report(workers or (make_worker(),), 2.0, 0.0, 0.375, "input", summary)


FULL = make_report(
    make_worker(0, items=1234, errors=17, restarts=3, seconds_working=61.3, bytes_in=5_300_000, peak_memory=71_000_000),
    make_worker(1, items=4321, seconds_working=7.25, bytes_out=1_024, peak_memory=99_000_000),
)


def columns_of(report):
    """Return the printed table without its head, its columns one space apart."""
    lines = str(report).splitlines()
    start = next(number for number, line in enumerate(lines) if set(line) == {"-"})
    return [" ".join(line.split()) for line in lines[start + 1 :]]


class _Cells(HTMLParser):
    """Collects the text of table cells, and the names of all tags."""

    def __init__(self):
        super().__init__()
        self.rows, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if data.strip() and self.rows:
            self.rows[-1].append(data)


def parsed(report):
    """Return what a browser would see of a report."""
    cells = _Cells()
    cells.feed(report._repr_html_())
    return cells


def test_print_shows_the_summary_and_the_efficiency():
    """The first two lines say what it comes to."""
    first, second = str(FULL).splitlines()[:2]
    assert first == "2 workers, 2.00 s, efficiency 38 %"
    assert second == FULL.summary


def test_table_has_a_row_for_each_worker_and_one_for_all():
    """Counts, seconds, bytes and memory stand in it; the last row has the sums, and of the memory the largest."""
    assert columns_of(FULL) == [
        "0 tokenize 1234 17 3 0.00 s 61.3 s 0.00 s 0.00 s 0.00 s 5.3 MB 0 B 71.0 MB",
        "1 tokenize 4321 0 0 0.00 s 7.25 s 0.00 s 0.00 s 0.00 s 0 B 1.0 kB 99.0 MB",
        "all 5555 17 3 0.00 s 68.5 s 0.00 s 0.00 s 0.00 s 5.3 MB 1.0 kB 99.0 MB",
    ]


def test_table_leaves_out_what_does_not_apply():
    """Where nothing is pickled and memory is shared there are no such columns, and one worker needs no sum."""
    (row,) = columns_of(make_report(make_worker(items=3)))
    assert row == "0 tokenize 3 0 0 0.00 s 0.00 s 0.00 s 0.00 s 0.00 s"


def test_table_shows_retries_where_there_were_any():
    """Attempts that were made again have a column then."""
    text = str(make_report(make_worker(items=3, retries=41)))
    assert "retries" in text
    assert columns_of(make_report(make_worker(items=3, retries=41)))[0].split()[5] == "41"


def test_lines_of_the_table_are_as_long_as_its_head():
    """The columns stand below each other, also where a name is long or large numbers occur."""
    report = make_report(make_worker(0, "x" * 200, items=10**9), make_worker(1, "short"))
    lines = str(report).splitlines()[3:]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) < 110


def test_name_that_would_break_the_table_does_not():
    """A line break in a name, or what steers a terminal, is shown as a question mark."""
    assert "0 a?b?[31m " in str(make_report(make_worker(name="a\nb\x1b[31m")))


def test_interactive_python_shows_the_table():
    """What a prompt shows is what print shows."""
    assert repr(FULL) == str(FULL)


def test_html_has_the_cells_of_the_table():
    """A notebook shows the same numbers."""
    rows = parsed(FULL).rows
    assert rows[0][:3] == ["worker", "items", "errors"]
    assert rows[1][:4] == ["0 tokenize", "1234", "17", "3"]
    assert rows[3][:2] == ["all", "5555"]
    assert FULL.summary in FULL._repr_html_()


def test_html_escapes_what_is_the_user_s():
    """A worker's name cannot bring in a tag."""
    seen = parsed(make_report(make_worker(name="<script>&"), summary="<b>&"))
    assert "script" not in seen.tags
    assert seen.rows[1][0] == "0 <script>&"


def test_dict_is_json():
    """Programs get plain types: what JSON makes of it is the same."""
    found = FULL.to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["items"], found["efficiency"], found["bottleneck"]) == (5555, 0.375, "input")
    assert [worker["peak_memory"] for worker in found["workers"]] == [71_000_000, 99_000_000]
    assert found["workers"][0]["seconds_working"] == 61.3


def test_dict_can_be_changed_without_changing_the_report():
    """It is a copy."""
    FULL.to_dict()["workers"][0]["items"] = 0
    assert FULL.workers[0].items == 1234


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.00 s"), (9.876, "9.88 s"), (61.32, "61.3 s"), (1234.5, "1234 s")])
def test_seconds_are_written_with_the_digits_that_matter(seconds, text):
    """Short times in hundredths, long ones in whole seconds."""
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (5_300_000, "5.3 MB"), (10**13, "10.0 TB")]
)
def test_bytes_are_written_with_a_unit(n_bytes, text):
    """A number that fits the eye."""
    assert bytes_text(n_bytes) == text


def test_share_is_written_in_percent():
    """As in the sentence."""
    assert percent(0.6213) == "62 %"


# ---- the plot


@pytest.fixture(scope="module")
def drawing():
    """The drawing library, with nothing to show on; it has opened its fonts, which it keeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an older one warns of what its own requirements have become
        matplotlib = pytest.importorskip("matplotlib")
        matplotlib.use("Agg")
        import matplotlib.pyplot

        FULL.plot().figure.canvas.draw()
    return matplotlib.pyplot


@pytest.fixture
def pyplot(drawing):
    """The same, without the figures of other tests."""
    drawing.close("all")
    yield drawing
    drawing.close("all")


def test_plot_draws_a_lane_for_each_worker(pyplot):
    """The axes that come back have one name for each worker, and each state of each lane is drawn."""
    ax = FULL.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0 tokenize", "1 tokenize"]
    drawn = {artist.get_gid() for artist in ax.get_children() if artist.get_gid()}
    states = ["constructing", "working", "waiting_for_input", "nothing_left", "waiting_to_hand_out", "died"]
    assert drawn == {f"lane-{row}-{state}" for row in (0, 1) for state in states}
    assert FULL.summary in ax.get_title(loc="left")
    ax.figure.canvas.draw()


def test_plot_draws_on_the_axes_that_it_is_given(pyplot):
    """Then it makes no figure of its own, and returns those."""
    _, ax = pyplot.subplots()
    assert FULL.plot(ax=ax) is ax
    assert len(pyplot.get_fignums()) == 1


def test_lane_is_as_high_as_the_time_that_was_spent(pyplot):
    """What is stacked in a step is the share of the step that it took: here four quarters of the second one."""
    ax = make_report(make_worker()).plot()
    heights = {}
    for artist in ax.get_children():
        if str(artist.get_gid()).startswith("lane-0") and hasattr(artist, "get_data"):
            data = artist.get_data()
            if hasattr(data, "values"):
                heights[artist.get_gid()] = list(data.baseline - data.values)
    assert heights["lane-0-working"] == pytest.approx([0.4, 0.2])
    assert heights["lane-0-waiting_for_input"] == pytest.approx([0.0, 0.2])
    assert heights["lane-0-nothing_left"] == pytest.approx([0.0, 0.2])
    assert heights["lane-0-waiting_to_hand_out"] == pytest.approx([0.0, 0.2])


def test_plot_of_a_name_with_dollar_signs_is_no_formula(pyplot):
    """A name is drawn as it stands."""
    ax = make_report(make_worker(name="$\\frac$"), summary="$x_$").plot()
    ax.figure.canvas.draw()
    assert ax.get_yticklabels()[0].get_text() == "0 \\$\\frac\\$"


def test_plot_before_anything_was_done_is_empty(pyplot):
    """A pool that has not begun has lanes, with nothing in them."""
    ax = Report((WorkerReport(0, "f"), WorkerReport(1, "f")), 0.0, 0.0, 0.0, "nothing", "nothing").plot()
    ax.figure.canvas.draw()
    assert len(ax.get_yticklabels()) == 2


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "mtasklite\[plot\]"'):
        FULL.plot()
