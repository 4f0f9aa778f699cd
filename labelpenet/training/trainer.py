"""Cascaded pre-training (Label-PEnet 3.3): modules 1 to 4 in order, the trunk frozen.

A run's folder holds, after module m: `module<m>.pt` (the whole cascade), `targets<m>.parquet` (what
module m found on the training images: the next module's labels) and `losses.csv`. The same call
on the same folder goes on behind the last module that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from labelpenet.config import Config
from labelpenet.data import check_for_training
from labelpenet.data.images import load_image
from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor, autocast
from labelpenet.models.cascade import (
    MODULES,
    Cascade,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from labelpenet.progress import track
from labelpenet.training.examples import endless, load_example
from labelpenet.training.losses_csv import LossLog
from labelpenet.training.optimization import Stepper
from labelpenet.training.steps import ImageLoss, classification_loss, detection_loss
from labelpenet.training.targets import TargetStore
from labelpenet.training.trunk import train_trunk
from labelpenet.types import Dataset, ImageRecord, Instances


class TrainingError(ValueError):
    """Training that cannot start or go on; the message lists every reason."""


class Trainer:
    """Cascaded pre-training of one run.

    Args:
        config: All settings.
        dataset: Training images; only their tags are read.
        proposals: Their boxes of selective search.
        out: The run's folder.
        console: Where progress goes; None is silent.

    Raises:
        TrainingError: Images that cannot be read, have no tags or no proposals (all listed), or a
            folder whose checkpoints were made with other settings or classes.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        proposals: ProposalStore,
        out: Path,
        console: Console | None = None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.proposals = proposals
        self.out = out
        self.console = console
        refuse(check_for_training(dataset, proposals))
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.cascade, self.trained = self._resume()

    def run(self, until: int = 4) -> Cascade:
        """Trains the modules up to `until` that are not trained yet, and returns the cascade."""
        for parameter in self.cascade.backbone.parameters():
            parameter.requires_grad_(False)
        for number in range(self.trained + 1, until + 1):
            self._train_module(number)
            save_checkpoint(self.checkpoint(number), self.cascade, number)
            self.trained = number
            if number < 4:
                self._write_targets(number)
        return self.cascade.eval()

    def checkpoint(self, number: int) -> Path:
        """File of the cascade after module `number` (0: the trunk alone)."""
        return self.out / f"module{number}.pt"

    def targets(self, number: int) -> Path:
        """File of what module `number` found on the training images."""
        return self.out / f"targets{number}.parquet"

    def _resume(self) -> tuple[Cascade, int]:
        for number in (4, 3, 2, 1, 0):
            path = self.checkpoint(number)
            if not path.exists():
                continue
            cascade, trained = load_checkpoint(path)
            ours, theirs = self.config.to_dict(), cascade.config.to_dict()
            ours["model"]["weights"] = theirs["model"]["weights"] = None
            if ours != theirs or cascade.classes != self.dataset.classes:
                raise CheckpointError(
                    f"{path}: made with other settings or classes ({_difference(ours, theirs)}); "
                    "use another folder, or the same settings to go on"
                )
            self._say(f"going on behind module {trained} of {path}")
            return cascade, trained
        cascade = Cascade(self.config, self.dataset.classes)
        if self.config.train.trunk_steps:
            log = LossLog(self.out / "losses.csv", 0)
            train_trunk(cascade, self.dataset, log, self.console)
            save_checkpoint(self.checkpoint(0), cascade, 0)
        return cascade, 0

    def _train_module(self, number: int) -> None:
        module = self.cascade.module(number)
        if number == 1:
            loss = classification_loss(self.cascade, self.proposals)
        else:
            if not self.targets(number - 1).exists():
                self._write_targets(number - 1)
            targets = TargetStore.open(self.targets(number - 1))
            loss = detection_loss(self.cascade, number, targets)
        if number == 4:  # the same network, so it starts from what the module before it learned
            module.load_state_dict(self.cascade.refinement.state_dict())
        self._loop(module, number, self.config.train.steps[number - 1], loss)

    def _loop(self, module: nn.Module, number: int, steps: int, loss: ImageLoss) -> None:
        train = self.config.train
        generator = torch.Generator().manual_seed(self.config.seed * 10 + number)
        torch.manual_seed(self.config.seed * 10 + number)  # dropout
        records = self._order(number)
        stepper = Stepper(module, train, steps)
        module.train()
        title = f"module {number}: {MODULES[number - 1]}"
        log = LossLog(self.out / "losses.csv", number)
        device = next(module.parameters()).device
        for step in track(range(steps), title, steps, self.console):
            for _ in range(train.batch):
                record = next(records)
                example = load_example(record, self.config, generator)
                with autocast(self.config, device):
                    losses = loss(record, example, generator)
                total = torch.stack(list(losses.values())).sum()
                (total / train.batch).backward()
                log.add({name: float(value.detach()) for name, value in losses.items()})
            stepper.step()
            log.write(step + 1, last=step + 1 == steps)
        module.eval()

    def _order(self, number: int) -> Iterator[ImageRecord]:
        """The images that module `number` trains on, without end."""
        return endless(self.dataset, torch.Generator().manual_seed(self.config.seed * 10 + number))

    def _write_targets(self, number: int) -> None:
        """Runs module `number`, tags known, over the images that the next one will train on.

        Those are all of them, unless the next module's schedule is shorter than the dataset.
        """
        predictor = Predictor(self.cascade)
        count = min(self.config.train.steps[number] * self.config.train.batch, len(self.dataset))
        records = list(islice(self._order(number + 1), count))

        def found() -> Iterator[tuple[str, Instances, tuple[int, int]]]:
            title = f"labels of module {number}"
            for record in track(records, title, count, self.console):
                image = load_image(record.path)
                labelling = predictor(image, self.proposals[record.name], number, record.labels)
                kept = keep_for_training(
                    labelling.instances, self.config.detection.label_score, record.labels
                )
                yield record.name, kept, (image.shape[0], image.shape[1])

        TargetStore.write(self.targets(number), found())

    def _say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(text)


def refuse(problems: list[str]) -> None:
    """Raises TrainingError listing what stands in the way of a training, if anything does."""
    if problems:
        shown = "\n".join(f"  {p}" for p in problems[:50])
        more = f"\n  and {len(problems) - 50} more" if len(problems) > 50 else ""
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise TrainingError(f"training cannot start, {count}:\n{shown}{more}")


def keep_for_training(instances: Instances, score: float, tags: tuple[int, ...]) -> Instances:
    """The instances at or above `score`, and the best one of every tag, empty masks left out."""
    keep = instances.scores >= score
    for tag in tags:
        own = (instances.labels == tag).nonzero().flatten()
        if len(own):
            keep[own[instances.scores[own].argmax()]] = True
    if instances.masks is not None:
        keep &= instances.masks.flatten(1).any(1)
    side = (instances.boxes[:, 2:] - instances.boxes[:, :2]).amin(1)
    return instances.select(keep & (side >= 1))


def _difference(ours: dict[str, object], theirs: dict[str, object], prefix: str = "") -> str:
    parts = []
    for key, value in ours.items():
        other = theirs.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            text = _difference(value, other, f"{prefix}{key}.")
            parts += [text] if text else []
        elif value != other:
            parts.append(f"{prefix}{key}: {other!r} there, {value!r} here")
    return ", ".join(parts) or ("" if prefix else "other classes")
