"""A run as a markdown table and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from benchmarks.harness import COLUMNS, Absent, Measurement, Outcome, Peer, Row, Wrong

RESULTS = Path(__file__).parent / "results"
DASH = "–"
Ceilings = Mapping[str, Mapping[str, float]]


def of_ceiling(measurement: Measurement, flop_dtype: str, ceilings: Mapping[str, float]) -> float:
    """The share of what the machine can do: of copying or of multiplying, whichever is more."""
    memory = measurement.bytes_moved / measurement.best / ceilings["copy"]
    return max(memory, measurement.flops / measurement.best / ceilings[flop_dtype])


def publish(rows: Sequence[Row], folder: Path = RESULTS) -> tuple[str, Path]:
    """Measures the machine's ceilings, writes the JSON: the markdown table and the file."""
    description = machine.describe()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    ceilings = {device: machine.ceilings(device) for device in devices}
    path = write(content(rows, description, ceilings), folder)
    return markdown(rows, description, ceilings), path


def markdown(rows: Sequence[Row], description: Mapping[str, Any], ceilings: Ceilings) -> str:
    """Times in ms (fastest run), then how our kernels stand, per device that was measured."""
    columns = [
        c for c in COLUMNS if "CUDA" not in c or any(_measured(row, c) is not None for row in rows)
    ]
    devices = [d for d in ("CPU", "CUDA") if f"ours {d}" in columns]
    header = ["op", *columns]
    for device in devices:
        header += [f"{device}: x reference", "x peer", "of ceiling", "peak MiB"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for row in rows:
        cells = [str(row.case), *(_milliseconds(row, c) for c in columns)]
        for device in devices:
            cells += _standing(row, device, ceilings)
        lines.append(cells)
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = [f"- {row.case}: {c}: {o.reason}" for row in rows for c, o in _absent(row, columns)]
    return "\n\n".join([table, _about(description, ceilings), "\n".join(notes)]).rstrip() + "\n"


def content(
    rows: Sequence[Row], description: Mapping[str, Any], ceilings: Ceilings
) -> dict[str, Any]:
    """The same with every number, for JSON."""
    return {
        "machine": dict(description),
        "ceilings": {device: dict(values) for device, values in ceilings.items()},
        "cases": [
            {
                "op": row.case.op,
                "case": row.case.name,
                "peer": row.case.peer.name if isinstance(row.case.peer, Peer) else None,
                "columns": {c: _numbers(row, c, o, ceilings) for c, o in row.outcomes.items()},
            }
            for row in rows
        ],
    }


def write(run: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Writes the JSON of a run; date, commit and processor are in its name."""
    about = run["machine"]
    chip = re.sub(r"[^a-z0-9]+", "-", str(about.get("gpu", about["cpu"])).lower()).strip("-")
    stamp = re.sub(r"[^0-9T]", "", about["date"].partition("+")[0])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stamp}-{about['commit'][:7]}-{chip}.json"
    path.write_text(json.dumps(run, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _measured(row: Row, column: str) -> Measurement | None:
    outcome = row.outcomes.get(column)
    return outcome if isinstance(outcome, Measurement) else None


def _absent(row: Row, columns: Sequence[str]) -> list[tuple[str, Absent]]:
    return [(c, o) for c in columns if isinstance(o := row.outcomes.get(c), Absent)]


def _milliseconds(row: Row, column: str) -> str:
    found = _measured(row, column)
    if found is None:
        return "wrong" if isinstance(row.outcomes.get(column), Wrong) else DASH
    peer = row.case.peer
    suffix = f" ({peer.name})" if column == "peer" and isinstance(peer, Peer) else ""
    return f"{_digits(1e3 * found.best)}{suffix}"


def _standing(row: Row, device: str, ceilings: Ceilings) -> list[str]:
    """Our kernel on a device: times faster than the reference and the peer, ceiling, memory."""
    ours = _measured(row, f"ours {device}")
    if ours is None:
        return [DASH] * 4
    peer = "peer" if device == "CPU" else "peer CUDA"
    cells = [
        DASH if other is None else _digits(other.best / ours.best)
        for other in (_measured(row, "reference"), _measured(row, peer))
    ]
    share = of_ceiling(ours, row.case.flop_dtype, ceilings[device.lower()])
    cells.append(f"{100 * share:.0f} %" if ours.bytes_moved or ours.flops else DASH)
    cells.append(DASH if ours.peak is None else _digits(ours.peak / 2**20))
    return cells


def _about(about: Mapping[str, Any], ceilings: Ceilings) -> str:
    parts = [
        f"{about['cpu']} ({about['isa']}), {about['cores']} cores, {about['threads']}"
        f" threads, torch {about['torch']}, commit {about['commit'][:7]}, {about['date']}."
    ]
    if "gpu" in about:
        parts.append(f"GPU: {about['gpu']}.")
    for device, values in ceilings.items():
        parts.append(
            f"Ceilings, {device}: copy {values['copy'] / 1e9:.1f} GB/s, matrix product"
            f" {values['float32'] / 1e9:,.0f} GFLOP/s float32,"
            f" {values['bfloat16'] / 1e9:,.0f} bfloat16."
        )
    return " ".join(parts)


def _numbers(row: Row, column: str, outcome: Outcome, ceilings: Ceilings) -> dict[str, Any]:
    if isinstance(outcome, Absent):
        return {"absent": outcome.reason}
    device = "cuda" if column.endswith("CUDA") else "cpu"
    bounded = outcome.bytes_moved or outcome.flops
    share = of_ceiling(outcome, row.case.flop_dtype, ceilings[device]) if bounded else None
    return {
        "best_ms": 1e3 * outcome.best,
        "median_ms": 1e3 * outcome.median,
        "runs": outcome.runs,
        "gb_per_s": outcome.bytes_moved / outcome.best / 1e9,
        "gflop_per_s": outcome.flops / outcome.best / 1e9,
        "of_ceiling": share,
        "peak_bytes": outcome.peak,
    }


def _digits(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
