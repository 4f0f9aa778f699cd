"""Training ICN: the classifier from tags, its pseudo labels, the cue-propagation network.

A run's folder holds `classifier.pt`, `lessons.parquet`, `icn.pt`, `losses.csv` and, while a stage
is under way, `state.pt`. The same call on the same folder goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.data import check_for_training, load_dataset
from labelpenet.files import locked
from labelpenet.icn.lessons import Teacher, drawn, load_at_network_size
from labelpenet.icn.model import CLASSIFIER, NETWORK, Icn, load_icn, save_icn
from labelpenet.icn.store import LessonStore
from labelpenet.models.detection import Losses
from labelpenet.report.training import LOSSES, write_training_page
from labelpenet.training.engine import Engine
from labelpenet.training.errors import refuse
from labelpenet.training.examples import Example
from labelpenet.training.loop import STATE, Stage, Values, run_stage, stopped_within
from labelpenet.training.optimization import Groups
from labelpenet.training.resume import (
    ICN_NOTE,
    difference,
    refuse_changed,
    refuse_random_trunk,
    same_run,
    settings_of,
)
from labelpenet.training.trunk import fit_classifier, load_crop
from labelpenet.types import Dataset

CLASSIFIER_STAGE, NETWORK_STAGE = 6, 7  # behind the cascade's, in the log


def train_icn(
    config: Config,
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    device: str = "cpu",
    console: Console | None = None,
) -> Path:
    """Reads a dataset and trains; goes on where a stopped run was.

    Args:
        config: All settings.
        source: As load_dataset takes it; its tags alone are read.
        out: The run's folder.
        split: Part of the dataset.
        device: Where it runs; see Engine.
        console: Where progress goes; None is silent.

    Returns:
        The last checkpoint.

    Raises:
        TrainingError: Images that cannot be used, all listed.
        CheckpointError: A folder that was started with other settings, photos, tags or weights.
        WeightsError: The weights file is missing, broken or of another network.
        OutputError: The folder cannot be made, or another process trains in it.
        ValueError: Neither weights nor steps of the classifier.
    """
    dataset = load_dataset(source, split=split)
    refuse(check_for_training(dataset))
    with locked(out):
        refuse_random_trunk(config, out, bool(config.icn.classifier_steps), "icn.classifier_steps")
        checkpoint = IcnTrainer(config, dataset, out, device, console).run()
        if (out / LOSSES).exists():
            write_training_page(out)
    return checkpoint


class IcnTrainer:
    """One run of both stages, in one process.

    Args:
        config: All settings.
        dataset: Training images with tags.
        out: The run's folder.
        device: Where it runs.
        console: Where progress goes; None is silent.

    Raises:
        CheckpointError: A folder that was started with other settings, photos, tags or weights.
        ValueError: More than one process.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        out: Path,
        device: str = "cpu",
        console: Console | None = None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.out = out
        self.console = console
        self.engine = Engine(config, device)
        if self.engine.processes > 1:
            raise ValueError("train --method icn: expected one process, got several")
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.icn, self.done = self._resume()
        same_run(out / ICN_NOTE, _comparable(config), dataset, self.engine)
        self.icn.to(self.engine.device)
        self.teacher = Teacher(self.icn, config, dataset)

    def run(self) -> Path:
        """Trains what is not trained yet; returns the checkpoint."""
        if self.done < CLASSIFIER:
            self._train_classifier()
        if self.done < NETWORK and self.config.icn.network_steps:
            if not self.lessons.exists():
                LessonStore.write(self.lessons, self.teacher.lessons(self.console))
            self._train_network()
        self.icn.eval()
        return self.checkpoint(self.done)

    def checkpoint(self, trained: int) -> Path:
        """File of the networks after a stage."""
        return self.out / ("classifier.pt" if trained == CLASSIFIER else "icn.pt")

    @property
    def lessons(self) -> Path:
        """File of the cues and their pseudo labels."""
        return self.out / "lessons.parquet"

    def _resume(self) -> tuple[Icn, int]:
        for trained in (NETWORK, CLASSIFIER):
            path = self.checkpoint(trained)
            if not path.exists():
                continue
            icn, _ = load_icn(path)
            ours, theirs = (settings_of(_comparable(c)) for c in (self.config, icn.config))
            changed = difference(theirs, ours)
            if icn.classes != self.dataset.classes:
                changed.append("other classes")
            refuse_changed(path, changed)
            return icn, trained
        return Icn(self.config, self.dataset.classes), 0

    def _finish(self, trained: int) -> None:
        save_icn(self.checkpoint(trained), self.icn, trained)
        (self.out / STATE).unlink(missing_ok=True)
        self.done = trained

    def _train_classifier(self) -> None:
        classifier, train = self.icn.classifier, self.config.train
        stopped = stopped_within(self.out, CLASSIFIER_STAGE)
        if self.config.model.weights is not None and not stopped:
            fit_classifier(classifier, self.dataset.records, self.config, self.console)
        if self.config.icn.classifier_steps:
            last = [p for n, p in classifier.named_parameters() if n.startswith("classifier.")]
            before = [
                p for n, p in classifier.named_parameters() if not n.startswith("classifier.")
            ]
            stage = Stage(
                CLASSIFIER_STAGE,
                "classifier",
                classifier,
                _groups({train.trunk_rate: before, train.rate: last}, train.weight_decay),
                self.config.icn.classifier_steps,
                train.trunk_batch,
                self._classifier_losses,
                load_crop,
                decay_at=0.5,  # the paper's 10 of 20 epochs
            )
            run_stage(stage, self.config, self.engine, self.dataset.records, self.out, self.console)
        self._finish(CLASSIFIER)

    def _classifier_losses(self, _: int, examples: Sequence[Example]) -> tuple[Losses, Values]:
        scores = self.icn.classifier(torch.stack([example.image for example in examples]))
        truth = torch.zeros_like(scores.tags)
        for row, example in zip(truth, examples, strict=True):
            row[list(example.record.labels)] = 1
        return {
            "tags": F.binary_cross_entropy_with_logits(scores.tags, truth),
            "peaks": F.binary_cross_entropy_with_logits(scores.peaks, truth),
        }, {}

    def _train_network(self) -> None:
        settings, network = self.config.icn, self.icn.network
        store = LessonStore(self.lessons)
        known = {record.name: record for record in self.teacher.records}
        records = [known[name] for name in store.names()]
        if not records:
            raise ValueError(f"{self.lessons}: expected a peak and its mask in at least one image")
        named = list(network.named_parameters())
        old = [p for n, p in named if n.startswith(("trunk.", "stage5.")) and not _is_first(n)]
        new = [p for n, p in named if not n.startswith(("trunk.", "stage5.")) or _is_first(n)]
        rates = {settings.network_rate: new}
        if settings.network_trunk_rate:
            rates.setdefault(settings.network_rate * settings.network_trunk_rate, []).extend(old)
        else:
            for parameter in old:
                parameter.requires_grad_(False)
        stage = Stage(
            NETWORK_STAGE,
            "cue propagation",
            network,
            _groups(rates, self.config.train.weight_decay),
            settings.network_steps,
            settings.network_batch,
            lambda _, examples: ({"mask": self._network_loss(store, examples)}, {}),
            load_at_network_size,
        )
        run_stage(stage, self.config, self.engine, records, self.out, self.console)
        self._finish(NETWORK)

    def _network_loss(self, store: LessonStore, examples: Sequence[Example]) -> Tensor:
        """Eq. 4: the mean cross-entropy of the pixels, one instance of each image.

        Images of several sizes are padded to the largest; what is padded has no loss.
        """
        lessons = [drawn(store, example) for example in examples]
        height = max(example.size[0] for example in examples)
        width = max(example.size[1] for example in examples)
        device = self.engine.device

        def stacked(maps: Sequence[Tensor], fill: float = 0.0) -> Tensor:
            room = [(0, width - m.shape[-1], 0, height - m.shape[-2]) for m in maps]
            padded = [F.pad(m.float(), r, value=fill) for m, r in zip(maps, room, strict=True)]
            return torch.stack(padded).to(device)

        logits = self.icn.network(
            stacked([example.image for example in examples], 128.0),
            stacked([cue for cue, _ in lessons]),
        )
        truth = stacked([mask for _, mask in lessons])
        inside = stacked([torch.ones(example.size) for example in examples])
        return (
            F.binary_cross_entropy_with_logits(logits, truth, inside, reduction="sum")
            / inside.sum()
        )


def _is_first(name: str) -> bool:
    """Whether a parameter is of the convolution that got a new input."""
    return name.startswith("trunk.0.")


def _groups(rates: dict[float, list[nn.Parameter]], decay: float) -> Groups:
    """Parameters by learning rate; biases without decay."""
    return [
        {"params": own, "lr": rate, "weight_decay": value}
        for rate, parameters in rates.items()
        for own, value in (
            ([p for p in parameters if p.dim() > 1], decay),
            ([p for p in parameters if p.dim() == 1], 0.0),
        )
        if own
    ]


def _comparable(config: Config) -> Config:
    """What a run depends on, which the settings of inference are not."""
    icn = dataclasses.replace(
        config.icn,
        steps=0,
        binary=True,
        threshold=0.5,
        class_threshold=0.5,
        attention_checkpoint=None,
    )
    return dataclasses.replace(config, icn=icn)
