"""The one training loop: every stage of the curriculum is a sequence of steps through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.models.checkpoint import CheckpointError, write_tensors
from labelpenet.models.detection import Losses
from labelpenet.models.weights import why
from labelpenet.progress import track
from labelpenet.training.engine import Engine
from labelpenet.training.errors import TrainingError
from labelpenet.training.examples import Example, Order, generator_for, load_example, seed_for
from labelpenet.training.log import TrainingLog
from labelpenet.training.optimization import Groups, Stepper
from labelpenet.types import ImageRecord

Values = dict[str, tuple[float, int]]  # the sum of a figure for the log, and of how many
_HOPELESS = 50  # steps in a row without a finite gradient
STATE = "state.pt"  # in the run's folder: what a stage that was stopped goes on from


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Attributes:
        number: 0 trunk, 1 to 4 modules, 5 forward-backward.
        title: For the progress line.
        module: What is in training mode, and what a checkpoint within the stage holds.
        groups: Its parameters, with their rates.
        steps: Optimiser steps.
        batch: Images per step.
        losses: The losses of a share of a batch in a step, and other values for the log.
        load: Reads an image.
        repeats: Steps that each batch is used for.
        decay_at: Share of the steps after which the rate drops; None is the settings'.
    """

    number: int
    title: str
    module: nn.Module
    groups: Groups
    steps: int
    batch: int
    losses: Callable[[int, Sequence[Example]], tuple[Losses, Values]]
    load: Callable[[ImageRecord, Config, torch.Generator], Example] = load_example
    repeats: int = 1
    decay_at: float | None = None


def order(config: Config, records: Sequence[ImageRecord], stage: int) -> Order:
    """When which image comes in a stage.

    Modules 2 to 4 go on in one order, each where the one before it stopped: what a module says of
    images that it has not learned from is not what it was told of them.
    """
    steps = config.train.steps
    if not 2 <= stage <= len(steps):
        return Order(records, (config.seed, stage))
    return Order(records, (config.seed, 2), config.train.batch * sum(steps[1 : stage - 1]))


def run_stage(
    stage: Stage,
    config: Config,
    engine: Engine,
    records: Sequence[ImageRecord],
    out: Path,
    console: Console | None,
) -> None:
    """Takes the steps of a stage, from where `out` says that it was stopped.

    Every `checkpoint_every` steps what is needed to go on is written to `out`/state.pt.

    Raises:
        TrainingError: Step after step without a finite gradient.
    """
    stepper = Stepper(stage.groups, config.train, stage.steps, engine, decay_at=stage.decay_at)
    state = out / STATE
    first = _load(state, stage, stepper)
    engine.share(stage.module)
    batches = _Batches(stage, config, engine, records)
    chief = engine.rank == 0
    events = out / "tensorboard" if config.train.tensorboard else None
    log = TrainingLog(out / "losses.csv", stage.number, first, events) if chief else None
    stage.module.train()
    shown = console if chief else None
    lost, in_a_row = 0, 0
    for step in track(range(first, stage.steps), stage.title, stage.steps, shown, done=first):
        examples = [example.to(engine.device) for example in batches(step)]
        # dropout draws from torch's own generator
        torch.manual_seed(seed_for(config.seed, stage.number, step, stage.batch + engine.rank))
        with engine.autocast():
            losses, values = stage.losses(step, examples)
        torch.stack(list(losses.values())).sum().backward()
        rate, norm = stepper.rate, stepper.step()
        in_a_row = 0 if math.isfinite(norm) else in_a_row + 1
        lost += in_a_row > 0
        means = _means(losses, engine) | _told(values, engine)
        if log is not None:
            log.add(means | {"rate": rate, "gradient": norm})
        done = step + 1
        pause = done == stage.steps or done % (stage.repeats * config.train.checkpoint_every) == 0
        if log is not None:
            log.write(done, due=pause)
        if in_a_row == min(_HOPELESS, stage.steps):
            raise TrainingError(
                f"{stage.title}: {in_a_row} steps in a row without a finite gradient, the last was "
                f"step {done}; expected a lower train.rate, or another --weights"
            )
        if pause and chief and done < stage.steps:
            _save(state, stage, stepper, done)
    if lost and shown is not None:
        shown.print(
            f"[yellow]{stage.title}: {lost} of {stage.steps - first} steps changed nothing, as "
            "their gradient was not finite"
        )
    stage.module.eval()


class _Batches:
    """This process's share of each step's batch; the next one is read while this one is in use."""

    def __init__(
        self, stage: Stage, config: Config, engine: Engine, records: Sequence[ImageRecord]
    ) -> None:
        self._stage = stage
        self._config = config
        self._slots = engine.slots(stage.batch)
        self._order = order(config, records, stage.number)
        self._reader = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[list[Example]]] | None = None

    def __call__(self, step: int) -> list[Example]:
        """Steps are asked for in turn, from any one on."""
        known = self._next is not None and self._next[0] == step
        future = self._next[1] if known and self._next else self._submit(step)
        examples = future.result()
        if step + 1 < self._stage.steps:
            self._next = (step + 1, self._submit(step + 1))
        else:
            self._reader.shutdown()
        return examples

    def _submit(self, step: int) -> Future[list[Example]]:
        return self._reader.submit(self._read, step // self._stage.repeats)

    def _read(self, batch: int) -> list[Example]:
        stage, seed = self._stage, self._config.seed
        return [
            stage.load(
                self._order[batch * stage.batch + slot],
                self._config,
                generator_for(seed, stage.number, batch, slot),
            )
            for slot in self._slots
        ]


def stopped_within(out: Path, stage: int) -> bool:
    """Whether a run was stopped within this stage, behind a checkpoint of it."""
    state = out / STATE
    if not state.exists():
        return False
    with _readable(state):
        content = torch.load(state, map_location="cpu", weights_only=True, mmap=True)
        return bool(content["stage"] == stage)


def _means(losses: Losses, engine: Engine) -> dict[str, float]:
    """The losses over all processes, as numbers."""
    stacked: Tensor = engine.mean(torch.stack([value.detach() for value in losses.values()]))
    return dict(zip(losses, stacked.tolist(), strict=True))


def _told(values: Values, engine: Engine) -> dict[str, float]:
    """The figures over all processes; one that none of them could tell is left out."""
    if not values:
        return {}
    sums = engine.mean(
        torch.tensor(list(values.values()), dtype=torch.float64, device=engine.device)
    )
    return {
        n: total / count for n, (total, count) in zip(values, sums.tolist(), strict=True) if count
    }


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file does to its reader into one error that names it."""
    try:
        yield
    except Exception as error:  # zip, pickle, keys and shapes
        raise CheckpointError(
            f"{path}: damaged ({why(error)}); delete it to begin its stage anew"
        ) from None


def _save(path: Path, stage: Stage, stepper: Stepper, step: int) -> None:
    content = {
        "stage": stage.number,
        "step": step,
        "weights": stage.module.state_dict(),
        "stepper": stepper.state(),
    }
    write_tensors(path, content)


def _load(path: Path, stage: Stage, stepper: Stepper) -> int:
    """Puts weights and optimiser where they were; the step to go on from, 0 for none."""
    if not path.exists():
        return 0
    with _readable(path):
        # Copied to the device from here; Adam's counts of steps belong on the CPU.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["stage"] != stage.number:
            return 0
        stage.module.load_state_dict(content["weights"])
        stepper.load_state(content["stepper"])
        return int(content["step"])
