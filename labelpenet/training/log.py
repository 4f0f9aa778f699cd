"""The course of a training, as a CSV that any tool plots and, where asked for, for TensorBoard."""

from __future__ import annotations

import csv
import io
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from labelpenet.files import atomic_write, writing

EVERY = 20  # steps a row stands for
COLUMNS = ("stage", "step", "name", "value", "seconds")


class TrainingLog:
    """Appends the means of every few steps of one stage.

    Columns of the CSV: stage (0 trunk, 1 to 4 modules, 5 forward-backward), step, name (a loss,
    the learning rate, ...), value, seconds since the stage's start.

    Args:
        path: The file; made with its header where it is missing.
        stage: What is trained.
        first: Step that the stage starts or goes on from; rows of later ones are dropped.
        tensorboard: Folder for TensorBoard's events; None writes none.
    """

    def __init__(
        self, path: Path, stage: int, first: int = 0, tensorboard: Path | None = None
    ) -> None:
        self._path = path
        self._stage = stage
        self._before = _cut(path, stage, first)
        self._began = time.monotonic()
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._events = None if tensorboard is None else event_writer()(str(tensorboard))

    def add(self, values: dict[str, float]) -> None:
        """Takes the values of one step."""
        for name, value in values.items():
            self._sums[name] += value
            self._counts[name] += 1

    def write(self, step: int, *, due: bool = False) -> None:
        """After a step: writes a row per value, every EVERY steps or when it is `due`."""
        if not self._sums or (step % EVERY and not due):
            return
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        new = not self._path.exists()
        seconds = f"{self._before + time.monotonic() - self._began:.1f}"
        with writing(self._path), self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            for name, value in means.items():
                writer.writerow([self._stage, step, name, f"{value:.6g}", seconds])
        if self._events is not None:
            for name, value in means.items():
                self._events.add_scalar(f"stage{self._stage}/{name}", value, step)
            self._events.flush()
        self._sums.clear()
        self._counts.clear()


def _cut(path: Path, stage: int, first: int) -> float:
    """Drops the stage's rows behind step `first`; returns the seconds that it had taken by then.

    Rows that a full disk or a power cut has torn go, too: a log is no reason to lose a training.
    """
    if not path.exists():
        return 0.0
    text = path.read_bytes().decode("utf-8", "replace")
    lines = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(io.StringIO(lines, newline="")))
    kept = [r for r in rows if _is_whole(r)]
    kept = [r for r in kept if int(r["stage"]) != stage or int(r["step"]) <= first]
    if len(kept) < len(rows) or len(lines) < len(text) or not rows:
        with atomic_write(path) as out:
            writer = csv.DictWriter(out, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
    own = [float(r["seconds"]) for r in kept if int(r["stage"]) == stage]
    return max(own, default=0.0)


def _is_whole(row: dict[str | None, Any]) -> bool:
    try:
        int(row["stage"]), int(row["step"]), float(row["value"]), float(row["seconds"])
    except (KeyError, TypeError, ValueError):
        return False
    return None not in row  # more cells than columns


def event_writer() -> Any:
    """TensorBoard's SummaryWriter.

    Raises:
        ValueError: It is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "train.tensorboard: needs the extra: pip install 'labelpenet[tensorboard]'"
        ) from None
    return SummaryWriter
