"""Work for the tests of the engines: a module of its own, so that workers can import it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Squares:
    """Squares of the tasks; a note in `folder` for every start and every task."""

    folder: Path
    dies_at: int = -1
    deaths: int = 1
    fails_at: int = -1

    def start(self) -> Callable[[int], int]:
        (self.folder / f"start-{os.getpid()}").touch()
        return self.do

    def do(self, task: int) -> int:
        if task == self.fails_at:
            raise LookupError(f"task {task}")
        times = len(list(self.folder.glob(f"death-{task}-*")))
        if task == self.dies_at and times < self.deaths:
            (self.folder / f"death-{task}-{times}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task * task
