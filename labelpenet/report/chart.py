"""Line charts as inline SVG: the geometry here, the drawing in `chart.html.j2`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 420.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 18.0, 10.0, 28.0  # half of the last mark lies to the right
POINTS = 300
"""At most so many points of a line are drawn; neighbours are averaged."""

_SPAN = 30.0  # a larger ratio of largest to smallest value is drawn on a logarithmic axis
_MOST = 1e30  # powers of ten and their marks stay far from what a float holds
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line: its name, SVG paths' data, and last value."""

    name: str
    path: str
    last: float


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in the units of the SVG, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Everything that the template draws.

    Attributes:
        title: What is shown.
        lines: In the order of the legend.
        x_ticks: Left to right.
        y_ticks: Bottom to top.
        log: Whether the vertical axis is logarithmic.
        left_out: Values that are no finite numbers, or beyond 1e30 like those of a training that
            went astray.
    """

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    log: bool
    left_out: int


def line_chart(
    title: str,
    series: Mapping[str, Points],
    *,
    bounds: tuple[float, float] | None = None,
    may_log: bool = True,
) -> Chart:
    """A chart of some lines.

    Args:
        title: What is shown.
        series: (x, y) points by name, x rising.
        bounds: Of the vertical axis; None fits it to the values.
        may_log: Whether it may be logarithmic, which it is where values are above zero and span
            more than a factor of 30.

    Example:
        >>> chart = line_chart("losses", {"box": [(20, 1.0), (40, 0.5)]})
        >>> [tick.text for tick in chart.y_ticks], chart.lines[0].last
        (['0', '0.2', '0.4', '0.6', '0.8', '1'], 0.5)
    """
    finite = {
        k: [(x, y if abs(y) >= 1 / _MOST else 0.0) for x, y in points if abs(y) <= _MOST]
        for k, points in series.items()
    }
    left_out = sum(len(points) - len(finite[k]) for k, points in series.items())
    drawn = {k: _thinned(points) for k, points in finite.items()}
    ys = [y for points in drawn.values() for _, y in points]
    xs = [x for points in series.values() for x, _ in points]
    log = may_log and bool(ys) and min(ys) > 0 and max(ys) / min(ys) > _SPAN
    x_marks = _steps(0.0, max(xs, default=1.0))
    if log:
        y_marks = _decades(min(ys), max(ys))
    else:
        y_marks = _steps(*(bounds or (min(0.0, *ys, 0.0), max(ys, default=1.0))))
    low, high = (math.log10(y_marks[i]) if log else y_marks[i] for i in (0, -1))

    def place_x(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / (max(xs, default=1.0) or 1.0)

    def place_y(y: float) -> float:
        share = ((math.log10(y) if log else y) - low) / ((high - low) or 1.0)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    lines = [
        Line(name, _path([(place_x(x), place_y(y)) for x, y in drawn[name]]), points[-1][1])
        for name, points in finite.items()
        if points
    ]
    right = WIDTH - RIGHT + 0.5
    return Chart(
        title,
        tuple(lines),
        tuple(Tick(place_x(x), short(x)) for x in x_marks if place_x(x) <= right),
        tuple(Tick(place_y(y), short(y)) for y in y_marks),
        log,
        left_out,
    )


def short(value: float) -> str:
    """A number for an axis: `20k`, `0.5`, `1e-4`.

    Example:
        >>> [short(x) for x in (20_000, 1_500_000, 0.25, 1e-4, 0)]
        ['20k', '1.5M', '0.25', '1e-4', '0']
    """
    size = abs(value)
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.6g}{letter}"
    if 0 < size < 1e-3:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


def _steps(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose low to high, about five of them."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten that enclose low to high; with 2 and 5 between where they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    marks = [m * 10.0**e for e in range(first, last) for m in factors] + [10.0**last]
    start = max(i for i, mark in enumerate(marks) if mark <= low * (1 + 1e-9))
    end = min(i for i, mark in enumerate(marks) if mark >= high * (1 - 1e-9))
    stride = -(-(end + 1 - start) // 7) if len(factors) == 1 else 1
    kept = marks[start : end + 1]
    return kept[::stride] + ([] if (len(kept) - 1) % stride == 0 else kept[-1:])


def _thinned(points: Points) -> Points:
    """At most POINTS points, each the mean of some neighbours."""
    if len(points) <= POINTS:
        return points
    edges = [i * len(points) // POINTS for i in range(POINTS + 1)]
    return [
        (sum(x for x, _ in points[a:b]) / (b - a), sum(y for _, y in points[a:b]) / (b - a))
        for a, b in pairwise(edges)
    ]


def _path(points: Points) -> str:
    """SVG path data; a single point becomes a short dash that can be seen."""
    if len(points) == 1:
        ((x, y),) = points
        points = [(x - 3, y), (x, y)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
