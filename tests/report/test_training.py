"""The page of a training: geometry by hand, what is in a log, and what must not be."""

import csv
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.page_parser import EVIL, Page

from labelpenet.report.chart import HEIGHT, POINTS, WIDTH, line_chart, short
from labelpenet.report.training import read_losses, write_training_page
from labelpenet.training.log import COLUMNS


def log(folder, rows, columns=COLUMNS):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "losses.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder


def rows(stage=1, names=("multi_label", "rate", "gradient"), steps=(20, 40)):
    return [
        [stage, step, name, 1.5 / (i + 1), 0.5 * step]
        for step in steps
        for i, name in enumerate(names)
    ]


def points(line):
    return [tuple(map(float, p.split())) for p in line.path.removeprefix("M").split("L")]


def test_linear_axis():
    """From 0 to 10 over 100 steps: corners of the plot are where they belong."""
    chart = line_chart("a", {"up": [(0, 0.0), (50, 5.0), (100, 10.0)]})
    assert [t.text for t in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [t.text for t in chart.y_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert not chart.log
    (line,) = chart.lines
    left, bottom = chart.x_ticks[0].at, chart.y_ticks[0].at
    right, top = chart.x_ticks[-1].at, chart.y_ticks[-1].at
    assert 0 < left < right < WIDTH
    assert 0 < top < bottom < HEIGHT
    middle = ((left + right) / 2, (top + bottom) / 2)
    for found, wanted in zip(points(line), ((left, bottom), middle, (right, top)), strict=True):
        assert found == pytest.approx(wanted, abs=0.06)
    assert line.last == 10


@given(st.lists(st.floats(), min_size=1, max_size=4))
def test_any_value_is_drawn_or_left_out(values):
    chart = line_chart("a", {"x": list(enumerate(values, 1))})
    drawn = [point for line in chart.lines for point in points(line)]
    assert all(np.isfinite(drawn).flatten())
    assert chart.left_out == sum(not abs(value) <= 1e30 for value in values)
    for tick in chart.y_ticks:
        assert np.isfinite(tick.at)


def test_log_axis():
    """Equal ratios are equal distances; a factor of 30 is the limit."""
    chart = line_chart("a", {"down": [(1, 1.0), (2, 0.1), (3, 0.01)]})
    assert chart.log
    assert [t.text for t in chart.y_ticks] == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    ys = [y for _, y in points(chart.lines[0])]
    assert np.diff(ys) == pytest.approx([ys[1] - ys[0]] * 2, abs=0.11)
    assert not line_chart("a", {"x": [(1, 1.0), (2, 0.034)]}).log
    assert line_chart("a", {"x": [(1, 1.0), (2, 0.033)]}).log
    assert not line_chart("a", {"x": [(1, 1.0), (2, 0.001), (3, 0.0)]}).log
    assert not line_chart("a", {"x": [(1, 1.0), (2, 0.001)]}, may_log=False).log
    wide = line_chart("a", {"x": [(1, 1e-12), (2, 1e12)]})
    assert 3 <= len(wide.y_ticks) <= 9


@pytest.mark.parametrize(
    "values",
    [[0.0], [3.0], [-1.0, -2.0], [1e-30, 2e-30], [1e300, 1e-300], [5.0, 5.0], [1e9, -1e9], [7e-5]],
)
def test_any_values_stay_in_the_plot(values):
    chart = line_chart("a", {"x": list(enumerate(values, 1))})
    ticks = [t.at for t in chart.y_ticks]
    assert ticks == sorted(ticks, reverse=True)
    for _, y in points(chart.lines[0]):
        assert ticks[-1] - 0.1 <= y <= ticks[0] + 0.1
    assert 2 <= len(ticks) <= 9


def test_values_that_are_no_numbers():
    nan, inf = float("nan"), float("inf")
    chart = line_chart("a", {"x": [(1, 1.0), (2, nan), (3, 2.0)], "gone": [(1, inf), (2, -inf)]})
    assert chart.left_out == 3
    assert [line.name for line in chart.lines] == ["x"]
    assert len(points(chart.lines[0])) == 2
    nothing = line_chart("a", {"x": [(1, nan)]})
    assert nothing.lines == ()
    assert nothing.left_out == 1


def test_long_lines_are_thinned_by_means():
    many = [(step, float(step % 2)) for step in range(10 * POINTS)]
    chart = line_chart("a", {"x": many})
    assert len(points(chart.lines[0])) == POINTS
    ys = {y for _, y in points(chart.lines[0])}
    assert len(ys) == 1  # the means of zeros and ones
    assert chart.lines[0].last == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1 + 0.2, "0.3"), (1000, "1k"), (-2500, "-2.5k"), (3e-5, "3e-5"), (2e6, "2M")],
)
def test_short(value, text):
    assert short(value) == text


def test_page(tmp_path):
    names = [
        "forward_1_multi_label",
        "backward_3_rpn_box",
        "backward_3_mask",
        "agreement_3",
        "rate",
    ]
    both = rows(5, names)
    run = log(tmp_path / "my run", rows(0, ["tags"]) + rows() + both)
    assert write_training_page(run) == run / "training.html"
    page = Page((run / "training.html").read_text("utf-8"))
    text = [t.strip() for t in page.texts]
    for title in ("Trunk", "Module 1: classification", "Forward-backward", "my run"):
        assert title in text
    titles = [a["aria-label"] for a in page.all("svg") if "aria-label" in a]
    assert titles == [
        f"{title} over steps"
        for title in (
            "Losses", "Losses", "Learning rate", "Gradient norm before clipping",
            "Forward, module 1", "Backward, module 3",
            "Agreement of backward with forward labels", "Learning rate",
        )
    ]  # fmt: skip
    assert "rpn box" in text
    assert "40 steps, 20 s" in text


def test_one_file_without_scripts(tmp_path):
    page = write_training_page(log(tmp_path, rows())).read_text()
    assert not re.search(r"https?:|@import|url\(|<script|src=", page)


def test_names_stay_text(tmp_path):
    plain = Page(write_training_page(log(tmp_path / "a", rows(names=("x",)))).read_text())
    path = write_training_page(log(tmp_path / "b", rows(names=(EVIL,))))
    evil = Page(path.read_text())
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) for _, a in evil.tags] == [set(a) for _, a in plain.tags]
    assert sum(EVIL in text for text in evil.texts) == 2


def test_nothing_logged_yet(tmp_path):
    page = write_training_page(log(tmp_path, [])).read_text()
    assert "Nothing was logged yet" in page


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["1", "x", "loss", "1", "1"], r"losses.csv:4: expected stage, step, name"),
        (["1", "20", "loss"], r"losses.csv:4: expected stage"),
        (["1", "20", "loss", "one", "1"], r"losses.csv:4: expected stage"),
    ],
)
def test_a_line_that_is_no_row(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_losses(log(tmp_path, [*rows(names=("x",)), row]) / "losses.csv")


def test_a_line_under_way_is_left_out(tmp_path):
    path = log(tmp_path, rows(names=("x",))) / "losses.csv"
    whole = read_losses(path)
    with path.open("a") as file:
        file.write("1,40,lo")
    assert read_losses(path) == whole


def test_another_file(tmp_path):
    with pytest.raises(ValueError, match="no such file: expected the folder of a training"):
        write_training_page(tmp_path)
    with pytest.raises(ValueError, match="expected the columns stage, step, name, value, seconds"):
        write_training_page(log(tmp_path, [], ("module", "step", "loss", "value", "seconds")))
    (tmp_path / "losses.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        write_training_page(tmp_path)
