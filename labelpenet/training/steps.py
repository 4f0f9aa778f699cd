"""The losses of one image, module by module."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from labelpenet.config import Config
from labelpenet.data.proposals import ProposalStore
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import multi_label_loss
from labelpenet.models.detection import DetectionModule
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.training.examples import Example
from labelpenet.training.targets import TargetStore
from labelpenet.types import ImageRecord

Losses = dict[str, Tensor]
ImageLoss = Callable[[ImageRecord, Example, torch.Generator], Losses]


def classification_loss(cascade: Cascade, proposals: ProposalStore) -> ImageLoss:
    """Module 1's loss (eq. 2) on proposals drawn from the image's."""
    config: Config = cascade.config

    def loss(record: ImageRecord, example: Example, generator: torch.Generator) -> Losses:
        boxes = torch.from_numpy(proposals[record.name][: config.proposals.limit])
        chosen = torch.randperm(len(boxes), generator=generator)[: config.proposals.train_limit]
        boxes = example.boxes(boxes[chosen])
        with torch.no_grad():
            trunk = cascade.trunk(example.image)
        output = cascade.classification(trunk, boxes)
        return {"multi_label": multi_label_loss(output, record.labels)}

    return loss


def detection_loss(cascade: Cascade, number: int, targets: TargetStore) -> ImageLoss:
    """The loss of module 2, 3 or 4 on what the module before it found."""
    module = cascade.module(number)
    assert isinstance(module, DetectionModule | SegmentationModule)
    weighted = cascade.config.train.instance_weights

    def loss(record: ImageRecord, example: Example, generator: torch.Generator) -> Losses:
        goal = example.targets(targets[record.name], weighted)
        with torch.no_grad():
            trunk = cascade.trunk(example.image)
        return module.loss(trunk, goal, example.size, generator)

    return loss
