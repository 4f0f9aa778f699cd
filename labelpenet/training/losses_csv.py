"""The course of the losses, as a CSV that any tool plots."""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from pathlib import Path

from labelpenet.files import writing

_EVERY = 20  # steps a row stands for


class LossLog:
    """Appends the mean losses of every few steps of one module to a CSV.

    Columns: module (0 is the trunk), step, loss (its name), value, seconds since the start.

    Args:
        path: The file; made with its header where it is missing.
        module: What is trained.
    """

    def __init__(self, path: Path, module: int) -> None:
        self._path = path
        self._module = module
        self._began = time.monotonic()
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    def add(self, losses: dict[str, float]) -> None:
        """Takes the losses of one image or batch."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] += value

    def write(self, step: int, *, last: bool = False) -> None:
        """After a step: writes a row per loss where one is due."""
        if not self._count or (step % _EVERY and not last):
            return
        new = not self._path.exists()
        seconds = f"{time.monotonic() - self._began:.1f}"
        with writing(self._path), self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["module", "step", "loss", "value", "seconds"])
            for name, total in self._sums.items():
                value = f"{total / self._count:.6g}"
                writer.writerow([self._module, step, name, value, seconds])
        self._sums.clear()
        self._count = 0
