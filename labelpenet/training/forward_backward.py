"""Forward-backward learning with curriculum (Label-PEnet 3.3, fig. 1).

Every iteration takes two steps on one batch, all layers learning, the trunk too. Forward, the
modules 1 to 4 learn, each from what the one before it finds in these images; module 2 from what it
finds itself, where it has begun to (`train.own_labels_at`). Backward, module 4 labels for module 3,
3 for 2, and the detections of 2 label the proposals of 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor
from labelpenet.models.cascade import Cascade
from labelpenet.models.detection import Losses, Targets
from labelpenet.ops import box_iou
from labelpenet.training.examples import Example, as_targets
from labelpenet.training.loop import Values
from labelpenet.training.steps import (
    as_sample,
    asking,
    draw_proposals,
    labelled_loss,
    multi_label_losses,
    single_label_loss,
)
from labelpenet.training.targets import keep_for_training
from labelpenet.types import Instances

PHASES = 2


class ForwardBackward:
    """The losses of both phases.

    Args:
        cascade: Pre-trained.
        proposals: Of the training images.
    """

    def __init__(self, cascade: Cascade, proposals: ProposalStore) -> None:
        self.cascade = cascade
        self.proposals = proposals
        self.config = cascade.config
        self._forward_labels: dict[tuple[str, int], Instances] = {}

    def __call__(self, step: int, examples: Sequence[Example]) -> tuple[Losses, Values]:
        """Forward in even steps, backward in odd ones."""
        trunks = [self.cascade.trunk(example.image) for example in examples]
        boxes = [draw_proposals(example, self.proposals, self.cascade) for example in examples]
        if step % PHASES == 0:
            return self._forward(trunks, boxes, examples), {}
        return self._backward(trunks, boxes, examples)

    def _forward(
        self, trunks: Sequence[Tensor], boxes: Sequence[Tensor], examples: Sequence[Example]
    ) -> Losses:
        outputs = self.cascade.classification(trunks, boxes)
        own = multi_label_losses(self.cascade, outputs, trunks, examples)
        losses = {f"forward_1_{name}": value for name, value in own.items()}
        self._forward_labels.clear()
        teachers = (2 if self.config.train.own_labels_at < 1 else 1, 2, 3)
        found = {one: self._labels(one, trunks, examples) for one in sorted(set(teachers))}
        for number, teacher in zip((2, 3, 4), teachers, strict=True):
            for example, instances in zip(examples, found[teacher], strict=True):
                self._forward_labels[example.record.name, number] = instances
            losses |= self._learn(number, found[teacher], trunks, examples, boxes, "forward")
        return losses

    def _backward(
        self, trunks: Sequence[Tensor], boxes: Sequence[Tensor], examples: Sequence[Example]
    ) -> tuple[Losses, Values]:
        losses: Losses = {}
        values: Values = {}
        found = self._labels(4, trunks, examples)
        for number in (3, 2):
            losses |= self._learn(number, found, trunks, examples, boxes, "backward")
            values[f"agreement_{number}"] = self._agreement(number, found, examples)
            found = self._labels(number, trunks, examples)
        outputs = self.cascade.classification(trunks, boxes)
        overlap = self.config.train.backward_iou
        single = [
            single_label_loss(output, box, self._goal(instances).to(box.device), overlap)
            for output, box, instances in zip(outputs, boxes, found, strict=True)
        ]
        own = multi_label_losses(self.cascade, outputs, trunks, examples)
        own["single_label"] = torch.stack(single).mean()
        return losses | {f"backward_1_{name}": value for name, value in own.items()}, values

    def _learn(
        self,
        number: int,
        found: Sequence[Instances],
        trunks: Sequence[Tensor],
        examples: Sequence[Example],
        boxes: Sequence[Tensor],
        phase: str,
    ) -> Losses:
        goals = [self._goal(instances) for instances in found]
        losses = labelled_loss(self.cascade, number, trunks, goals, examples, boxes)
        return {f"{phase}_{number}_{name}": value for name, value in losses.items()}

    def _goal(self, found: Instances) -> Targets:
        return as_targets(found, self.config.train.instance_weights)

    def _labels(
        self, number: int, trunks: Sequence[Tensor], examples: Sequence[Example]
    ) -> list[Instances]:
        """What module `number` finds in each example, in its frame, the tags known."""
        found = []
        with evaluating(self.cascade) as predictor:
            for trunk, example in zip(trunks, examples, strict=True):
                boxes = example.boxes(
                    torch.from_numpy(
                        self.proposals[example.record.name][: self.config.proposals.train_limit]
                    )
                )
                answer = predictor.answer(as_sample(predictor, example, trunk, boxes), number)
                score = self.config.detection.label_score
                found.append(keep_for_training(answer.instances, score, example.record.labels))
        return found

    def _agreement(
        self, number: int, found: Sequence[Instances], examples: Sequence[Example]
    ) -> tuple[float, int]:
        """How well the labels of this phase for module `number` cover those of the forward one.

        The sum of the best IoUs, among labels of the same class, of the forward labels, and how
        many those are.
        """
        total, count = 0.0, 0
        for instances, example in zip(found, examples, strict=True):
            before = self._forward_labels.get((example.record.name, number))
            if before is None or len(before) == 0:
                continue
            iou = box_iou(before.boxes, instances.boxes)
            iou = iou * (before.labels[:, None] == instances.labels)
            total += float(iou.amax(1).sum()) if len(instances) else 0.0
            count += len(before)
        return total, count


@contextmanager
def evaluating(cascade: Cascade) -> Iterator[Predictor]:
    """A predictor on the cascade as it is now; training mode comes back afterwards."""
    try:
        with asking():
            yield Predictor(cascade, cascade.config.detection.label_score, teaching=True)
    finally:
        cascade.train()
