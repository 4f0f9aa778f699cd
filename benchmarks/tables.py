"""A run's JSON as tables: how our kernels stand beside reference, peer and machine.

All times and ratios are of medians; the JSON has the fastest runs, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

DASH = "–"
DEVICES = ("CPU", "CUDA")
FIGURES = ("reference", "ours", "peer", "x reference", "x peer", "of ceiling", "peak MiB")
Run = Mapping[str, Any]
Case = Mapping[str, Any]


def peer_column(device: str) -> str:
    """The peer on the CPU, or the same on the device."""
    return "peer" if device == "CPU" else "peer CUDA"


def median(case: Case, column: str) -> float | None:
    """Milliseconds, where the column was measured."""
    found: float | None = case["columns"].get(column, {}).get("median_ms")
    return found


def ratio(case: Case, other: str, ours: str) -> float | None:
    """How many times faster `ours` is than `other`, where both were measured."""
    a, b = median(case, other), median(case, ours)
    return a / b if a is not None and b else None


def devices(run: Run) -> list[str]:
    """Those that anything of ours was asked to run on."""
    return [d for d in DEVICES if d == "CPU" or any(median(c, f"ours {d}") for c in run["cases"])]


def figures(case: Case, device: str) -> list[str]:
    """A row of `FIGURES`: three times in ms, then how our kernel stands."""
    ours, peer = f"ours {device}", peer_column(device)
    cells = [_time(case, column) for column in ("reference", ours, peer)]
    cells += [digits(ratio(case, other, ours)) for other in ("reference", peer)]
    numbers = case["columns"].get(ours, {})
    share = numbers.get("of_ceiling")
    cells.append(DASH if share is None else f"{100 * share:.0f} %")
    peak, dense = numbers.get("peak_bytes"), numbers.get("dense_bytes")
    memory = DASH if peak is None else digits(peak / 2**20)
    return [*cells, f"{memory} ({digits(dense / 2**20)})" if dense else memory]


def markdown(run: Run) -> str:
    """A table per device, the machine, and why a dash is a dash."""
    parts = []
    for device in devices(run):
        lines = [[f"{device}, ms", *FIGURES], ["---"] + ["---:"] * len(FIGURES)]
        for case in run["cases"]:
            cells = figures(case, device)
            if case["peer"] and cells[2] not in (DASH, "wrong"):
                cells[2] += f" ({case['peer']})"
            lines.append([f"{case['op']}, {case['case']}", *cells])
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    parts += [about(run), "\n".join(f"- {note}" for note in notes(run))]
    return "\n\n".join(parts).rstrip() + "\n"


def show(run: Run, console: Console) -> None:
    """The same for a terminal of 100 columns; a row per case under the name of its op."""
    for device in devices(run):
        table = Table(box=box.SIMPLE_HEAD, title=f"{device}, ms", title_justify="left")
        table.add_column("case (peer)", min_width=24)
        for heading in FIGURES:
            table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
        op = None
        for case in run["cases"]:
            if case["op"] != op:
                op = case["op"]
                table.add_row(f"[bold]{op}")
            peer = f" ({case['peer']})" if case["peer"] else ""
            table.add_row(f"  {case['case']}{peer}", *figures(case, device))
        console.print(table)
    console.print(about(run), highlight=False, markup=False)
    for note in notes(run):
        console.print(f"- {note}", highlight=False, markup=False)


def notes(run: Run) -> Iterator[str]:
    """Why a column was not measured; a machine without a GPU is no news."""
    shown = devices(run)
    absent: dict[tuple[str, str], list[str]] = {}
    for case in run["cases"]:
        for column, numbers in case["columns"].items():
            if "absent" in numbers and ("CUDA" not in column or "CUDA" in shown):
                same = absent.setdefault((column, numbers["absent"]), [])
                same.append(f"{case['op']}, {case['case']}")
    for (column, reason), cases in absent.items():
        where = "; ".join(cases) if len(cases) <= 2 else f"{len(cases)} cases"
        yield f"{where}: {column}: {reason}"


def about(run: Run) -> str:
    """The machine, the versions, and what the machine can do."""
    found = run["machine"]
    parts = [
        f"{found['cpu']} ({found['isa']}), {found['cores']} cores, {found['threads']} threads."
    ]
    if "gpu" in found:
        parts.append(f"GPU: {found['gpu']}.")
    versions = {"torch": found["torch"]} | found.get("versions", {})
    parts.append(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    if "photo" in found:
        parts.append(f"Photo: {found['photo']}.")
    parts.append(f"Commit {commit(run)}, {found['date']}.")
    for device, values in run["ceilings"].items():
        parts.append(
            f"Ceilings, {device}: copy {values['copy'] / 1e9:.1f} GB/s, matrix product"
            f" {values['float32'] / 1e9:,.0f} GFLOP/s float32,"
            f" {values['bfloat16'] / 1e9:,.0f} bfloat16."
        )
    parts.append("Times are medians.")
    if any(c.get("dense_bytes") for case in run["cases"] for c in case["columns"].values()):
        parts.append("Memory in brackets: what one float32 [R, H, W] tensor would take.")
    return " ".join(parts)


def commit(run: Run) -> str:
    """In short; files that were changed since are no secret."""
    full = run["machine"]["commit"]
    return f"{full[:7]}{'-dirty' if full.endswith('-dirty') else ''}"


def _time(case: Case, column: str) -> str:
    if case["columns"].get(column, {}).get("wrong"):
        return "wrong"
    return digits(median(case, column))


def digits(value: float | None) -> str:
    """Three digits, no exponent."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
