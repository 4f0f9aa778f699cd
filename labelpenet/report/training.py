"""The course of a training as one static page, from the `losses.csv` of a run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from labelpenet.files import atomic_write
from labelpenet.models.cascade import MODULES
from labelpenet.report import chart
from labelpenet.report.chart import Chart, line_chart
from labelpenet.training.log import COLUMNS

LOSSES = "losses.csv"
PAGE = "training.html"

_PHASE = re.compile(r"(forward|backward)_(\d)_(.+)")
_AGREEMENT = re.compile(r"agreement_(\d)")
Series = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class StagePlots:
    """One stage of the curriculum as the page shows it."""

    title: str
    steps: int
    seconds: float
    charts: tuple[Chart, ...]


def write_training_page(run: Path) -> Path:
    """Draws losses, learning rates, gradients and label agreement of each stage of a run.

    Args:
        run: Folder of a training; its losses.csv is read.

    Returns:
        The page, training.html in that folder: one file without scripts or links.

    Raises:
        ValueError: There is no losses.csv, or it is not one of a training.
        OutputError: The page cannot be written.
    """
    stages = [plots(number, *read) for number, read in sorted(read_losses(run / LOSSES).items())]
    html = _template().render(
        name=run.resolve().name,
        stages=stages,
        width=chart.WIDTH,
        height=chart.HEIGHT,
        left=chart.LEFT,
        right=chart.WIDTH - chart.RIGHT,
        bottom=chart.HEIGHT - chart.BOTTOM,
    )
    path = run / PAGE
    with atomic_write(path, binary=True) as file:
        file.write(html.encode("utf-8", "replace"))
    return path


def read_losses(path: Path) -> dict[int, tuple[Series, float]]:
    """(values by name as (step, value), seconds) of each stage.

    Raises:
        ValueError: No such file, or not one of a training; the line is named.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        whole = text[: text.rfind("\n") + 1]  # a last line without end was torn, or is under way
        rows = list(csv.reader(io.StringIO(whole, newline="")))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file: expected the folder of a training") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as CSV: {error}") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    stages: dict[int, tuple[Series, float]] = {}
    for line, row in enumerate(rows[1:], 2):
        stage, step, name, value, seconds = _parse(f"{path}:{line}", row)
        series, longest = stages.get(stage, ({}, 0.0))
        series.setdefault(name, []).append((step, value))
        stages[stage] = series, max(longest, seconds)
    return stages


def _parse(where: str, row: Sequence[str]) -> tuple[int, int, str, float, float]:
    try:
        stage, step, name, value, seconds = row
        return int(stage), int(step), name, float(value), float(seconds)
    except ValueError:
        raise ValueError(f"{where}: expected {', '.join(COLUMNS)}, got {row}") from None


def plots(number: int, series: Series, seconds: float) -> StagePlots:
    """The charts of one stage: losses first, in forward-backward by phase and module."""
    groups: dict[str, Series] = {}
    for name, points in series.items():
        title, own = _place(name)
        groups.setdefault(title, {})[own] = points
    # forward before backward, as they come
    order = sorted(groups, key=lambda t: (_LAST.get(t, 0), t.startswith("Backward"), t))
    charts = [
        line_chart(
            title,
            groups[title],
            bounds=(0.0, 1.0) if title == _AGREED else None,
            may_log=title not in (_AGREED, _RATE),
        )
        for title in order
    ]
    steps = max(int(step) for points in series.values() for step, _ in points)
    return StagePlots(stage_title(number), steps, seconds, tuple(charts))


def stage_title(number: int) -> str:
    """A stage in words.

    Example:
        >>> stage_title(0), stage_title(2), stage_title(5)
        ('Trunk', 'Module 2: detection', 'Forward-backward')
    """
    if 1 <= number <= len(MODULES):
        return f"Module {number}: {MODULES[number - 1]}"
    others = {0: "Trunk", 5: "Forward-backward", 6: "ICN: classifier", 7: "ICN: cue propagation"}
    return others.get(number, f"Stage {number}")


def duration(seconds: float) -> str:
    """A time in two units.

    Example:
        >>> duration(42), duration(600), duration(7260)
        ('42 s', '10 min 0 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_AGREED = "Agreement of backward with forward labels"
_RATE = "Learning rate"
_GRADIENT = "Gradient norm before clipping"
_LAST = {_AGREED: 1, _RATE: 2, _GRADIENT: 3}


def _place(name: str) -> tuple[str, str]:
    """The chart that a value of the log belongs to, and its name there."""
    if match := _PHASE.fullmatch(name):
        return f"{match[1].capitalize()}, module {match[2]}", _words(match[3])
    if match := _AGREEMENT.fullmatch(name):
        return _AGREED, f"module {match[1]}"
    return {"rate": (_RATE, "rate"), "gradient": (_GRADIENT, "gradient")}.get(
        name, ("Losses", _words(name))
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "short": chart.short, "total": _total}
    source = files("labelpenet.report").joinpath("training.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _total(stages: Sequence[StagePlots]) -> float:
    return sum(stage.seconds for stage in stages)
