"""The suite as one function, behind `labelpenet bench` and `python -m benchmarks`."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from . import gate, report, scenes, tables
from .cases import Case
from .harness import run

TOLERANCE = 0.25


def cases() -> list[Case]:
    """Those of all bench_*.py files."""
    found: list[Case] = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("bench_"):
            found += importlib.import_module(f".{module.name}", __package__).CASES
    return found


def bench(
    ops: Sequence[str] = (),
    *,
    seconds: float = 1.0,
    json: Path | None = None,
    folder: Path | None = None,
    against: Path | None = None,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    photo: Path | None = None,
) -> int:
    """Checks and times, prints the table, writes what was asked for.

    Args:
        ops: Their names; all by default.
        seconds: Time for each column of a case.
        json: File to write.
        folder: Folder to write a file into whose name has date, commit and processor.
        against: A stored run, whose ratios are not to fall.
        tolerance: The share of a stored ratio that may be lost.
        threads: CPU threads; torch's by default. OpenCV gets the same.
        photo: An image for the cases that work on one, in place of the made-up scene.

    Returns:
        1 where a result was wrong or a ratio fell, otherwise 0.

    Raises:
        ValueError: No such op, or `against` is not a stored run.
        OSError: A file cannot be read.
    """
    known = cases()
    unknown = sorted(set(ops) - {case.op for case in known})
    if unknown:
        have = ", ".join(dict.fromkeys(case.op for case in known))
        raise ValueError(f"no op named {', '.join(unknown)}; there are {have}")
    if not seconds > 0:
        raise ValueError(f"seconds: expected a number above 0, got {seconds}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a share in [0, 1), got {tolerance}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: expected at least 1, got {threads}")
    stored = None if against is None else report.load(against)
    if photo is not None:
        photo.open("rb").close()  # a missing one is said before anything is timed
        os.environ[scenes.PHOTO] = str(photo)
    set_threads(threads)
    chosen = [case for case in known if not ops or case.op in ops]
    progress = Console(stderr=True)
    rows = []
    for i, case in enumerate(chosen, 1):
        with progress.status(f"{i} of {len(chosen)}: {case}"):
            rows += run([case], seconds=seconds)
    found = report.publish(rows)
    if photo is not None:
        found["machine"]["photo"] = photo.name
    console = Console(width=max(100, Console().width))  # narrower, names fall apart
    tables.show(found, console)
    if json is not None:
        console.print(f"written to {report.save(found, json)}", soft_wrap=True, markup=False)
    if folder is not None:
        console.print(
            f"written to {report.save_dated(found, folder)}", soft_wrap=True, markup=False
        )
    wrong = any(c.get("wrong") for case in found["cases"] for c in case["columns"].values())
    fell = stored is not None and not gate.passes(gate.show(stored, found, tolerance, console))
    return int(wrong or fell)


def set_threads(threads: int | None) -> None:
    """The same number for torch, our kernels, which follow it, and OpenCV."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(torch.get_num_threads())
