"""What every module of a checkpoint finds on the same photos, kept for the next run."""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from rich.console import Console

from labelpenet.data import ProposalStore
from labelpenet.engines.local import end_with_parent
from labelpenet.evaluation import Evaluator
from labelpenet.files import atomic_write
from labelpenet.labeler import Labeler
from labelpenet.models.download import sha256

from .rows import ROWS, evaluate_cascade

# Of one checkpoint: what each module found, and its seconds an image.
Rows = list[tuple[Evaluator, float]]


@dataclass(frozen=True)
class Task:
    """The first modules of one checkpoint on all photos, tags not used."""

    checkpoint: Path
    proposals: Path | None
    source: Path
    split: str | None
    overrides: tuple[str, ...]
    quiet: bool
    device: str = "cpu"
    kept: Path | None = None
    modules: int = len(ROWS)

    def __call__(self) -> Rows:
        """Runs it, unless a run before kept the answer."""
        if self.kept is None:
            return self._run()
        asked = (
            sha256(self.checkpoint),
            self.proposals,
            self.source,
            self.split,
            self.overrides,
            self.device,
            self.modules,
        )
        path = self.kept / f"{self.checkpoint.parent.name}-{self.checkpoint.stem}.pickle"
        if path.exists():
            key, answer = pickle.loads(path.read_bytes())
            if key == asked:
                return cast(Rows, answer)
        answer = self._run()
        self.kept.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, binary=True) as file:
            pickle.dump((asked, answer), file)
        return answer

    def _run(self) -> Rows:
        """One thread where it is not alone."""
        if self.quiet:
            torch.set_num_threads(1)
        store = None if self.proposals is None else ProposalStore.open(self.proposals)
        labeler = Labeler(
            self.checkpoint,
            self.device,
            use_tags=False,
            proposals=store,
            overrides=self.overrides,
            min_score=0,
        )
        console = Console(stderr=True, quiet=self.quiet)
        return evaluate_cascade(labeler, self.source, console, self.split, self.modules)


def run_all(tasks: Sequence[Task], workers: int) -> list[Rows]:
    """Their answers, in order; each is told when it is there."""

    def told(answers: Iterable[Rows]) -> list[Rows]:
        found = []
        for task, answer in zip(tasks, answers, strict=True):
            print(f"{task.checkpoint}: done", file=sys.stderr, flush=True)
            found.append(answer)
        return found

    if workers == 1:
        return told(task() for task in tasks)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        return told(pool.map(Task.__call__, tasks))


def add_kept(parser: argparse.ArgumentParser) -> None:
    """The option of a tool whose tasks keep their answers."""
    parser.add_argument(
        "--kept",
        type=Path,
        help="folder for the answers of each checkpoint, from which a stopped run goes on\n"
        "(pickles: one of your own; empty it when code or data have changed)",
    )
