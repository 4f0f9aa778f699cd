"""The losses of modules 1 to 4 on a batch, by labels of others or, module 2, by its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor
from labelpenet.models.boxes import Frame
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import HeadOutput, multi_label_loss, tag_loss
from labelpenet.models.detection import DetectionModule, Losses, Targets, mean_losses
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import box_iou
from labelpenet.sample import Sample
from labelpenet.training.examples import Example, as_targets
from labelpenet.training.targets import TargetStore, keep_for_training
from labelpenet.types import Instances
from labelpenet.views import View

BatchLoss = Callable[[Sequence[Example]], Losses]


def frozen_trunk(cascade: Cascade, examples: Sequence[Example]) -> list[Tensor]:
    """Trunk features of each image, without gradient."""
    with torch.no_grad():
        return [cascade.trunk(example.image) for example in examples]


def draw_proposals(example: Example, proposals: ProposalStore, cascade: Cascade) -> Tensor:
    """Some of the image's proposals [R, 4], drawn at random, in the example's frame."""
    config = cascade.config.proposals
    boxes = torch.from_numpy(proposals[example.record.name][: config.limit])
    chosen = torch.randperm(len(boxes), generator=example.generator)[: config.train_limit]
    return example.boxes(boxes[chosen]).to(example.image.device)


def classification_loss(cascade: Cascade, proposals: ProposalStore) -> BatchLoss:
    """Module 1's loss (eq. 2), the trunk frozen."""

    def loss(examples: Sequence[Example]) -> Losses:
        boxes = [draw_proposals(example, proposals, cascade) for example in examples]
        trunks = frozen_trunk(cascade, examples)
        outputs = cascade.classification(trunks, boxes)
        return multi_label_losses(cascade, outputs, trunks, examples)

    return loss


def multi_label_losses(
    cascade: Cascade,
    outputs: Sequence[HeadOutput],
    trunks: Sequence[Tensor],
    examples: Sequence[Example],
) -> Losses:
    """Module 1's losses on the tags: eq. 2, and the whole-image classifier's if it is wanted."""
    weight = cascade.config.train.tag_loss
    losses = []
    for trunk, output, example in zip(trunks, outputs, examples, strict=True):
        tags = example.record.labels
        own = {"multi_label": multi_label_loss(output, tags)}
        if weight and cascade.classification.tags.weight.requires_grad:
            module = cascade.classification
            said = module.tag_logits(module.stage5(trunk)).mean((1, 2))
            own["tags"] = weight * tag_loss(said, tags)
        losses.append(own)
    return mean_losses(losses)


def detection_loss(
    cascade: Cascade, number: int, targets: TargetStore, proposals: ProposalStore
) -> BatchLoss:
    """The loss of module 2, 3 or 4 on what the module before it found, the trunk frozen."""
    weighted = cascade.config.train.instance_weights

    def loss(examples: Sequence[Example]) -> Losses:
        goals = [e.targets(targets[e.record.name], weighted) for e in examples]
        boxes = [draw_proposals(example, proposals, cascade) for example in examples]
        trunks = frozen_trunk(cascade, examples)
        return labelled_loss(cascade, number, trunks, goals, examples, boxes)

    return loss


def own_labels_loss(cascade: Cascade, proposals: ProposalStore) -> BatchLoss:
    """The loss of module 2 on what it finds itself as it is, tags known, the trunk frozen."""
    score, weighted = cascade.config.detection.label_score, cascade.config.train.instance_weights
    predictor = Predictor(cascade, score, teaching=True)

    def loss(examples: Sequence[Example]) -> Losses:
        boxes = [draw_proposals(example, proposals, cascade) for example in examples]
        trunks = frozen_trunk(cascade, examples)
        cascade.detection.eval()
        found = [
            own_labels(predictor, example, trunk, box)
            for example, trunk, box in zip(examples, trunks, boxes, strict=True)
        ]
        cascade.detection.train()
        goals = [as_targets(own, weighted) for own in found]
        return labelled_loss(cascade, 2, trunks, goals, examples, boxes)

    return loss


@contextmanager
def asking() -> Iterator[None]:
    """A network's answers without gradient, in the middle of a step that needs some.

    torch (2.4 to 2.10 at least) would hand the 16-bit copies of weights that autocast makes here,
    which know of no gradient, to the losses that follow: those layers would not learn.
    """
    try:
        with torch.no_grad():
            yield
    finally:
        torch.clear_autocast_cache()


def own_labels(predictor: Predictor, example: Example, trunk: Tensor, boxes: Tensor) -> Instances:
    """What module 2 finds among some boxes [R, 4] of an example, its tags known; no masks."""
    score = predictor.config.detection.label_score
    with asking():
        sample = as_sample(predictor, example, trunk, boxes)
        found = predictor.detect.found(sample, predictor.cascade.detection, score)
    instances = Instances(found.boxes.cpu(), found.labels.cpu(), found.scores.cpu())
    return keep_for_training(instances, score, example.record.labels)


def as_sample(predictor: Predictor, example: Example, trunk: Tensor, boxes: Tensor) -> Sample:
    """An example, its tags known, as a predictor's modules get it.

    Args:
        predictor: Of the cascade.
        example: The image.
        trunk: Its trunk features [1, C, h, w].
        boxes: [R, 4] to look at, in the example's frame.
    """
    views = [View(trunk.detach(), Frame(example.size))]
    return predictor.sample(example.pixels, boxes.cpu().numpy(), example.record.labels, views)


def labelled_loss(
    cascade: Cascade,
    number: int,
    trunks: Sequence[Tensor],
    goals: Sequence[Targets],
    examples: Sequence[Example],
    boxes: Sequence[Tensor],
) -> Losses:
    """The loss of module 2, 3 or 4 on labels and drawn proposals of each image."""
    module = cascade.module(number)
    assert isinstance(module, DetectionModule | SegmentationModule)
    goals = [goal.to(example.image.device) for goal, example in zip(goals, examples, strict=True)]
    sizes = [example.size for example in examples]
    generators = [example.generator for example in examples]
    searched = [own[: cascade.config.detection.search_boxes] for own in boxes]
    return module.loss(trunks, goals, sizes, generators, searched)


def single_label_loss(output: HeadOutput, boxes: Tensor, found: Targets, iou: float) -> Tensor:
    """Single-label classification of module 1's proposals (Label-PEnet 3.3, backward phase).

    A proposal that overlaps a detection of module 2 by more than `iou` takes its class, any other
    is background, whose score x^c is zero by definition: module 1 knows no background.

    Args:
        output: Of R proposals.
        boxes: [R, 4].
        found: What module 2 detected.
        iou: The overlap above which a proposal is the object's (beta, 0.5 in the paper).

    Returns:
        The mean of objects' and background's cross-entropies, which would otherwise be swamped.
    """
    logits = torch.cat((output.logits, output.logits.new_zeros(len(boxes), 1)), 1)
    labels = torch.full((len(boxes),), logits.shape[1] - 1, device=logits.device)
    if len(found.boxes):
        best = box_iou(boxes, found.boxes).max(1)
        labels = torch.where(best.values > iou, found.labels[best.indices], labels)
    loss = F.cross_entropy(logits, labels, reduction="none")
    background = labels == logits.shape[1] - 1
    parts = [loss[own].mean() for own in (background, ~background) if bool(own.any())]
    return torch.stack(parts).mean() if parts else logits.sum() * 0.0
