"""Teaching a trunk that has no ImageNet weights: tags from the whole image, before any module."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.models.cascade import Cascade
from labelpenet.progress import track
from labelpenet.training.examples import Example, endless, load_example
from labelpenet.training.losses_csv import LossLog
from labelpenet.training.optimization import Stepper
from labelpenet.types import Dataset, ImageRecord

# Sharpness of the pooling: 0 would be the mean, infinity the maximum.
_SHARPNESS = 4.0


class TrunkClassifier(nn.Module):
    """Trunk, stage 5 and a 1 x 1 classifier, pooled by log-mean-exp.

    The mean would drown an object that fills a few cells, the maximum teach one cell alone
    (Pinheiro and Collobert, 2015).

    Args:
        cascade: Whose trunk and stage 5 of module 1 are trained.
    """

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self.cascade = cascade
        self.trunk = cascade.backbone.trunk
        self.stage5 = cascade.classification.stage5
        self.cells = nn.Conv2d(cascade.backbone.stage5_channels, len(cascade.classes), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] of one size -> logits [N, C]."""
        cells = self.cells(self.stage5(self.cascade.trunk(images))).flatten(2).float()
        pooled = torch.logsumexp(_SHARPNESS * cells, 2) - math.log(cells.shape[2])
        return pooled / _SHARPNESS


def train_trunk(
    cascade: Cascade, dataset: Dataset, log: LossLog, console: Console | None = None
) -> None:
    """Trains trunk and stage 5 on the tags, and gives that stage 5 to every module.

    Args:
        cascade: Changed in place.
        dataset: Its tags are read.
        log: Takes the losses.
        console: Where progress goes; None is silent.
    """
    config: Config = cascade.config
    steps = config.train.trunk_steps
    generator = torch.Generator().manual_seed(config.seed)
    classifier = TrunkClassifier(cascade)
    trained = nn.ModuleDict(
        {"trunk": classifier.trunk, "stage5": classifier.stage5, "cells": classifier.cells}
    )
    stepper = Stepper(trained, config.train, steps)
    records = endless(dataset, generator)
    trained.train()
    for step in track(range(steps), "trunk", steps, console):
        batch = []
        for _ in range(config.train.trunk_batch):
            record = next(records)
            batch.append((record, load_example(record, config, generator)))
        loss = _loss(classifier, batch)
        loss.backward()
        stepper.step()
        log.add({"tags": float(loss.detach())})
        log.write(step + 1, last=step + 1 == steps)
    trained.eval()
    learned = classifier.stage5.state_dict()
    for module in (cascade.detection, cascade.refinement, cascade.segmentation):
        module.stage5.load_state_dict(learned)


def _loss(classifier: TrunkClassifier, batch: list[tuple[ImageRecord, Example]]) -> Tensor:
    """Mean binary cross-entropy; images of one size go through the trunk together."""
    by_size: dict[tuple[int, int], list[tuple[ImageRecord, Example]]] = defaultdict(list)
    for record, example in batch:
        by_size[example.size].append((record, example))
    total = torch.zeros(())
    for group in by_size.values():
        logits = classifier(torch.stack([example.image for _, example in group]))
        truth = torch.zeros_like(logits)
        for row, (record, _) in enumerate(group):
            truth[row, list(record.labels)] = 1
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1).sum()
        total = total + loss / len(batch)
    return total
