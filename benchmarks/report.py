"""A run as JSON: everything that was measured, from which every table is rendered."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from . import machine
from .cases import Absent
from .harness import Measurement, Outcome, Row

RESULTS = Path(__file__).parent / "results"
Ceilings = Mapping[str, Mapping[str, float]]


def of_ceiling(measurement: Measurement, flop_dtype: str, ceilings: Mapping[str, float]) -> float:
    """The share of what the machine can do: of copying or of multiplying, whichever is more."""
    memory = measurement.bytes_moved / measurement.median / ceilings["copy"]
    return max(memory, measurement.flops / measurement.median / ceilings[flop_dtype])


def publish(rows: Sequence[Row]) -> dict[str, Any]:
    """Describes the machine, measures its ceilings, and puts everything together."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    ceilings = {device: machine.ceilings(device) for device in devices}
    return content(rows, machine.describe(), ceilings)


def content(
    rows: Sequence[Row], description: Mapping[str, Any], ceilings: Ceilings
) -> dict[str, Any]:
    """The run as its JSON has it."""
    return {
        "machine": dict(description),
        "ceilings": {device: dict(values) for device, values in ceilings.items()},
        "cases": [
            {
                "op": row.case.op,
                "case": row.case.name,
                "peer": row.case.beside or None,
                "columns": {c: _numbers(row, c, o, ceilings) for c, o in row.outcomes.items()},
            }
            for row in rows
        ],
    }


def save(run: Mapping[str, Any], path: Path) -> Path:
    """Writes the JSON of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def save_dated(run: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """The same into a file whose name has date, commit and processor."""
    about = run["machine"]
    chip = re.sub(r"[^a-z0-9]+", "-", str(about.get("gpu", about["cpu"])).lower()).strip("-")
    stamp = re.sub(r"[^0-9T]", "", about["date"].partition("+")[0])
    return save(run, folder / f"{stamp}-{about['commit'][:7]}-{chip}.json")


def load(path: Path) -> dict[str, Any]:
    """A stored run.

    Raises:
        ValueError: The file is not one.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if not all(key in run for key in ("machine", "ceilings", "cases")):
            raise ValueError("no machine, ceilings and cases in it")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not the JSON of a benchmark run ({error})") from error
    return dict(run)


def _numbers(row: Row, column: str, outcome: Outcome, ceilings: Ceilings) -> dict[str, Any]:
    if isinstance(outcome, Absent):
        return {"absent": outcome.reason, "wrong": outcome.wrong}
    device = "cuda" if column.endswith("CUDA") else "cpu"
    bounded = outcome.bytes_moved or outcome.flops
    share = of_ceiling(outcome, row.case.flop_dtype, ceilings[device]) if bounded else None
    return {
        "best_ms": 1e3 * outcome.best,
        "median_ms": 1e3 * outcome.median,
        "runs": outcome.runs,
        "gb_per_s": outcome.bytes_moved / outcome.median / 1e9,
        "gflop_per_s": outcome.flops / outcome.median / 1e9,
        "of_ceiling": share,
        "peak_bytes": outcome.peak,
        "dense_bytes": outcome.dense or None,
    }
