"""The curriculum (Label-PEnet 3.3): the trunk's tags, modules 1 to 4 in order, forward-backward.

A run's folder holds, after each stage, a checkpoint of the whole cascade (`module0.pt` the trunk,
`module1.pt` to `module4.pt`, `forward_backward.pt`), `targets<m>.parquet` (what module m found on
the training images: the next module's labels), `losses.csv`, and `state.pt`, from which a stage
that was stopped goes on, and `cascade.json`, what the run was started with. The same call on the
same folder goes on where it was.

Module 2 may learn from what it finds itself once module 1 has taught it (`own_labels_at`).

Module 4 is the same network as module 3 and starts as that did, not from what module 3 has
learned: going on with labels of its own, a network grows sure of its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console

from labelpenet.config import Config
from labelpenet.data import check_for_training
from labelpenet.data.proposals import ProposalStore
from labelpenet.models.cascade import MODULES, Cascade, load_checkpoint, save_checkpoint
from labelpenet.models.detection import Losses
from labelpenet.training.engine import Engine
from labelpenet.training.errors import refuse
from labelpenet.training.examples import Example
from labelpenet.training.fill import fit_fill
from labelpenet.training.forward_backward import PHASES, ForwardBackward
from labelpenet.training.labels import forget_parts, write_targets
from labelpenet.training.loop import STATE, Stage, Values, order, run_stage, stopped_within
from labelpenet.training.optimization import parameter_groups
from labelpenet.training.places import fit_places
from labelpenet.training.regions import fit_regions
from labelpenet.training.resume import (
    CASCADE_NOTE,
    difference,
    refuse_changed,
    same_run,
    settings_of,
)
from labelpenet.training.steps import classification_loss, detection_loss, own_labels_loss
from labelpenet.training.targets import TargetStore
from labelpenet.training.trunk import TrunkClassifier, fit_classifier, trunk_stage
from labelpenet.types import Dataset

FORWARD_BACKWARD = 5  # the stage after module 4


class Trainer:
    """One run of the curriculum.

    Args:
        config: All settings.
        dataset: Training images; only their tags are read.
        proposals: Their boxes of selective search.
        out: The run's folder.
        console: Where progress goes; None is silent.
        engine: Where it runs; None is one process on the CPU.

    Raises:
        TrainingError: Images that cannot be read, have no tags or no proposals (all listed).
        CheckpointError: A folder that was started with other settings, photos, tags, proposals or
            weights.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        proposals: ProposalStore,
        out: Path,
        console: Console | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.proposals = proposals
        self.out = out
        refuse(check_for_training(dataset, proposals))
        self.engine = Engine(config) if engine is None else engine
        self.console = console if self.engine.rank == 0 else None
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.cascade, self.done = self._resume()
        same_run(out / CASCADE_NOTE, config, dataset, self.engine, proposals)
        self.cascade.to(self.engine.device)

    @property
    def last(self) -> int:
        """The last stage that the settings ask for."""
        return FORWARD_BACKWARD if self.config.train.forward_backward_steps else 4

    def run(self, until: int = FORWARD_BACKWARD) -> Cascade:
        """Trains the stages up to `until` that are not done yet, and returns the cascade."""
        for number in range(self.done + 1, min(until, self.last) + 1):
            if self._taught(number) and not self.targets(number - 1).exists():
                self._write_targets(number - 1)
            if number == 0:
                self._train_trunk()
            else:
                self._train_modules(number)
            self.engine.share(self.cascade)
            if self.engine.rank == 0:
                save_checkpoint(self.checkpoint(number), self.cascade, min(number, 4))
                (self.out / STATE).unlink(missing_ok=True)
                for labels in (number - 1, number):
                    forget_parts(self.targets(labels))
            self.engine.wait()
            self.done = number
        return self.cascade.eval()

    def checkpoint(self, number: int) -> Path:
        """File of the cascade after stage `number`."""
        name = "forward_backward" if number == FORWARD_BACKWARD else f"module{number}"
        return self.out / f"{name}.pt"

    def targets(self, number: int) -> Path:
        """File of what module `number` found on the training images."""
        return self.out / f"targets{number}.parquet"

    def _taught(self, number: int) -> int:
        """How many steps a stage takes on what the module before it found."""
        if not 1 < number <= 4:
            return 0
        steps = self.config.train.steps[number - 1]
        return round(steps * self.config.train.own_labels_at) if number == 2 else steps

    def _resume(self) -> tuple[Cascade, int]:
        for number in (FORWARD_BACKWARD, 4, 3, 2, 1, 0):
            path = self.checkpoint(number)
            if not path.exists():
                continue
            cascade, _ = load_checkpoint(path)
            changed = difference(settings_of(cascade.config), settings_of(self.config))
            if cascade.classes != self.dataset.classes:
                changed.append("other classes")
            refuse_changed(path, changed)
            if self.console is not None:
                self.console.print(f"going on behind {path}", markup=False)
            return cascade, number
        cascade = Cascade(self.config, self.dataset.classes)
        taught = self.config.train.trunk_steps or self.config.train.place_images
        return cascade, -1 if taught else 0

    def _run(self, stage: Stage) -> None:
        records = self.dataset.records
        run_stage(stage, self.config, self.engine, records, self.out, self.console)

    def _train_trunk(self) -> None:
        classifier = TrunkClassifier(self.cascade).to(self.engine.device)
        if self.config.model.weights is not None and not stopped_within(self.out, 0):
            with self.engine.autocast():
                fit_classifier(classifier, self.dataset.records, self.config, self.console)
        if self.config.train.trunk_steps:
            self._run(trunk_stage(self.cascade, classifier))
        classifier.share(self.cascade)
        if self.config.train.place_images:
            with self.engine.autocast():
                fit_places(self.cascade, self.dataset.records, self.console)

    def _train_modules(self, number: int) -> None:
        """The stage of one of the modules, or of all, with what is fitted before and behind it."""
        train, given = self.config.train, (self.dataset.records, self.proposals, self.console)
        if number == 1 and train.region_images and not stopped_within(self.out, 1):
            with self.engine.autocast():
                fit_regions(self.cascade, *given)
        self._run(self._stage(number))
        if number >= 3 and train.fill_images:
            fit_fill(self.cascade, (3, 4) if number == FORWARD_BACKWARD else (number,), *given)

    def _stage(self, number: int) -> Stage:
        train = self.config.train
        self.cascade.requires_grad_(True)
        # Where the whole-image classifier sees its classes depends on each of these layers; it was
        # fitted to them as they are.
        if train.place_images:
            own = self.cascade.classification
            for layer in (self.cascade.backbone, own.stage5, own.fc.fc6, own.tags, own.places):
                layer.requires_grad_(False)
        if number == FORWARD_BACKWARD:
            return Stage(
                number,
                "forward-backward",
                self.cascade,
                parameter_groups(self.cascade, train, train.forward_backward_rate),
                PHASES * train.forward_backward_steps,
                train.batch,
                ForwardBackward(self.cascade, self.proposals),
                repeats=PHASES,
                decay_at=1.0,  # the paper's rate is constant
            )
        self.cascade.backbone.requires_grad_(False)
        module = self.cascade.module(number)
        return Stage(
            number,
            f"module {number}: {MODULES[number - 1]}",
            module,
            parameter_groups(module, train, train.rate),
            train.steps[number - 1],
            train.batch,
            self._losses(number),
        )

    def _losses(self, number: int) -> Callable[[int, Sequence[Example]], tuple[Losses, Values]]:
        """What one of the modules learns from in each step."""
        given, taught = (self.cascade, self.proposals), self._taught(number)
        losses = [classification_loss(*given)] if number == 1 else []
        if taught:
            targets = TargetStore.open(self.targets(number - 1))
            losses.append(detection_loss(self.cascade, number, targets, self.proposals))
        if number == 2 and taught < self.config.train.steps[1]:
            losses.append(own_labels_loss(*given))
        return lambda step, examples: (losses[0 if step < taught else -1](examples), {})

    def _write_targets(self, number: int) -> None:
        """Runs module `number`, tags known, over the images that the next one will train on.

        Those are all of them, unless the next module takes fewer of them by these labels.
        """
        count = self._taught(number + 1) * self.config.train.batch
        write_targets(
            self.targets(number),
            self.cascade,
            number,
            order(self.config, self.dataset.records, number + 1).first(count),
            self.proposals,
            self.engine,
            self.console,
        )
