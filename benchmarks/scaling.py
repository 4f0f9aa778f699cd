"""How time and memory grow: every op over its sizes and over threads, ours and the peer's.

    python -m benchmarks.scaling [OP ...] [--seconds S] [--quick]

Each sweep is geometric. Prints time, peak memory and the fitted exponent (time ~ size^exponent),
writes benchmarks/results/scaling.json and draws docs/figures/scaling.svg (matplotlib).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from . import (
    bench_attention,
    bench_dense_crf,
    bench_excitation,
    bench_nms,
    bench_roi_pool,
    bench_selective_search,
    machine,
    report,
)
from .cases import Absent, Case, Wrong
from .command import set_threads
from .harness import Measurement, run_column
from .tables import digits

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "scaling.svg"
COLUMNS = ("ours CPU", "peer", "ours CUDA", "peer CUDA")
THREADS = "threads"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One op over one size.

    Attributes:
        op: Its name.
        axis: What grows, such as "boxes".
        values: How far.
        case: The case of a value.
    """

    op: str
    axis: str
    values: tuple[int, ...]
    case: Callable[[int], Case]


def _side(area: int) -> tuple[int, int]:
    """Height and width of a 3 : 4 picture of `area` pixels."""
    height = round((area * 3 / 4) ** 0.5)
    return height, round(area / height)


def sweeps() -> list[Sweep]:
    """Those of the sizes: proposals R, pixels H x W, maps K, labels L."""
    proposals = (100, 200, 400, 800, 1_600)
    areas = (12_000, 24_000, 48_000, 96_000, 192_000)
    few = (1, 2, 4, 8, 16)
    attention, crf, search = bench_attention.project, bench_dense_crf.case, bench_selective_search
    return [
        Sweep("roi_pool", "boxes", proposals, bench_roi_pool.forward),
        Sweep("roi_pool_backward", "boxes", proposals, bench_roi_pool.backward),
        Sweep("nms", "boxes", (750, 1_500, 3_000, 6_000, 12_000), bench_nms.plain),
        Sweep("excitation_maps", "proposals", proposals, bench_excitation.case),
        Sweep("project_attention", "proposals", proposals, attention),
        Sweep(
            "project_attention",
            "pixels",
            (30_000, 60_000, 120_000, 240_000, 480_000),
            lambda n: attention(1_600, size=_side(n)),
        ),
        Sweep("project_attention", "maps", few, lambda n: attention(1_600, num_maps=n)),
        Sweep("dense_crf", "pixels", areas, lambda n: crf(1, 2, *_side(n))),
        Sweep("dense_crf", "maps", few, lambda n: crf(n, 2)),
        Sweep("dense_crf", "labels", (2, 4, 8, 16, 32), lambda n: crf(1, n)),
        Sweep("selective_search", "pixels", areas, lambda n: search.case("fast", *_side(n))),
    ]


def thread_sweeps(known: Sequence[Sweep], most: int) -> list[Sweep]:
    """Each op at the third point of its first sweep, on 1, 2, 4, ... and `most` threads."""
    counts = tuple(sorted({*(2**i for i in range(most.bit_length())), most} - {0}))
    first: dict[str, Sweep] = {}
    for sweep in known:
        first.setdefault(sweep.op, sweep)
    return [
        Sweep(op, THREADS, counts, lambda _, s=sweep: s.case(s.values[len(s.values) // 2]))
        for op, sweep in first.items()
    ]


def measure(sweep: Sweep, seconds: float) -> dict[str, Any]:
    """Time and peak memory of every point, by column, each result checked first.

    A column that is absent or wrong at a point has None there, and says why in "notes".
    """
    usual = torch.get_num_threads()
    columns: dict[str, dict[str, list[float | None]]] = {}
    notes: dict[str, str] = {}
    try:
        for value in sweep.values:
            if sweep.axis == THREADS:
                set_threads(value)
            case = sweep.case(value)
            for column in COLUMNS:
                outcome = _outcome(case, column, seconds)
                found = columns.setdefault(column, {"median_ms": [], "peak_bytes": []})
                if isinstance(outcome, Measurement):
                    found["median_ms"].append(1e3 * outcome.median)
                    found["peak_bytes"].append(outcome.peak)
                else:
                    found["median_ms"].append(None)
                    found["peak_bytes"].append(None)
                    notes[f"{column} at {value}"] = outcome.reason
    finally:
        set_threads(usual)
    measured = {c: f for c, f in columns.items() if any(t is not None for t in f["median_ms"])}
    return {
        "op": sweep.op,
        "axis": sweep.axis,
        "values": list(sweep.values),
        "peer": sweep.case(sweep.values[0]).beside or None,
        "columns": {
            c: {**f, "exponent": exponent(sweep.values, f["median_ms"])}
            for c, f in measured.items()
        },
        "notes": notes,
    }


def exponent(values: Sequence[float], times: Sequence[float | None]) -> float | None:
    """b of the least-squares fit time = a * value^b; None for fewer than two points."""
    points = [(x, t) for x, t in zip(values, times, strict=True) if t]
    if len({x for x, _ in points}) < 2:
        return None
    x, y = np.log(np.array(points, np.float64)).T
    return float(np.polyfit(x, y, 1)[0])


def lines(found: dict[str, Any]) -> list[str]:
    """A sweep as text: a line per column with time and memory at each point."""
    shown = [f"{found['op']} over {found['axis']}"]
    for column, numbers in found["columns"].items():
        power = numbers["exponent"]
        title = f"{column} ({found['peer']})" if column.startswith("peer") else column
        points = [
            f"{value:,}: {digits(time)} ms"
            + ("" if peak is None else f", {digits(peak / 2**20)} MiB")
            for value, time, peak in zip(
                found["values"], numbers["median_ms"], numbers["peak_bytes"], strict=True
            )
            if time is not None
        ]
        fitted = "" if power is None else f", exponent {power:.2f}"
        shown.append(f"  {title}{fitted}: {'; '.join(points)}")
    return shown


def plot(run: dict[str, Any], path: Path) -> None:
    """Small multiples, both axes logarithmic; the exponents are in the legends."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels, across = run["sweeps"], 4
    down = -(-len(panels) // across)
    # text stays text and ids stay the same: a small file that changes with its figures alone
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "labelpenet", "font.size": 8}):
        figure = Figure(figsize=(3 * across, 2.5 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False).flat
        for found, axes in zip(panels, grid, strict=False):  # takes no axes too many
            for column, numbers in found["columns"].items():
                name = column.replace("peer", found["peer"] or "peer")
                power = numbers["exponent"]
                label = name if power is None else f"{name}: {power:.2f}"
                times = [np.nan if t is None else t for t in numbers["median_ms"]]
                color = f"C{COLUMNS.index(column)}"  # the same in every panel
                axes.loglog(
                    found["values"], times, color=color, marker="o", markersize=3, label=label
                )
            axes.set_title(found["op"])
            axes.set_xlabel(found["axis"])
            axes.set_ylabel("ms")
            axes.set_xticks(found["values"], [f"{v:,}" for v in found["values"]], rotation=30)
            axes.minorticks_off()
            low, high = np.log10(axes.get_ylim())
            axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))  # whole decades have labels
            if found["columns"]:
                axes.legend(frameon=False)
        for axes in list(grid):
            axes.remove()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _outcome(case: Case, column: str, seconds: float) -> Measurement | Absent:
    try:
        return run_column(case, column, seconds=seconds)
    except AssertionError as error:
        return Wrong(str(error))


def main(arguments: list[str] | None = None) -> int:
    """Runs the sweeps; 1 where a result was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("op", nargs="*", help="all by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each point")
    parser.add_argument("--quick", action="store_true", help="the first two points of each sweep")
    parser.add_argument("--threads", type=int, help="most threads")
    parser.add_argument("--json", type=Path, default=report.RESULTS / "scaling.json")
    parser.add_argument("--figure", type=Path, default=FIGURE, help=".svg or .png")
    options = parser.parse_args(arguments)
    set_threads(options.threads)
    every = sweeps()
    known = {sweep.op for sweep in every}
    if unknown := set(options.op) - known:
        names = ", ".join(sorted(known))
        parser.error(f"no op named {', '.join(sorted(unknown))}; there are {names}")
    every = [sweep for sweep in every if not options.op or sweep.op in options.op]
    if options.quick:
        every = [dataclasses.replace(sweep, values=sweep.values[:2]) for sweep in every]
    every += thread_sweeps(every, torch.get_num_threads())
    console, found = Console(soft_wrap=True, highlight=False), []
    for sweep in every:
        found.append(measure(sweep, options.seconds))
        console.print("\n".join(lines(found[-1])), markup=False)
    run = {"machine": machine.describe(), "sweeps": found}
    console.print(f"written to {report.save(run, options.json)}", markup=False)
    plot(run, options.figure)
    console.print(f"drawn into {options.figure}", markup=False)
    return int(any("differs from" in note for one in found for note in one["notes"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
