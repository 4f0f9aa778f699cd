"""Module 2, and the detection part of modules 3 and 4 (Label-PEnet eq. 3, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.config import DetectionConfig
from labelpenet.models.backbones import Grid
from labelpenet.models.boxes import ROI_STD, Frame, clip, decode, draw, encode, match
from labelpenet.models.classification import HeadOutput, run_head
from labelpenet.models.fc_head import FcHead
from labelpenet.models.ranking import (
    Prior,
    blended,
    contrasted,
    limited,
    presence,
    sure_enough,
    voted,
)
from labelpenet.models.rpn import Rpn
from labelpenet.ops import nms_groups

Losses = dict[str, Tensor]


class Targets(NamedTuple):
    """What one image's detection losses are computed against, in the resized image's frame."""

    boxes: Tensor  # [T, 4]
    labels: Tensor  # [T] int64
    weights: Tensor  # [T] W
    masks: Tensor | None = None  # [T, H, W] bool

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        masks = None if self.masks is None else self.masks.to(device)
        parts = (self.boxes.to(device), self.labels.to(device), self.weights.to(device))
        return Targets(*parts, masks)


class Samples(NamedTuple):
    """ROIs drawn for the head's losses, objects first."""

    boxes: Tensor  # [S, 4]
    labels: Tensor  # [S] int64, classes = background
    weights: Tensor  # [S]
    matched: Tensor  # [P] int64, the targets of the first P ROIs


class Detections(NamedTuple):
    """One image's detections, best first, and what each one suppressed.

    An entry is a ROI under a class that it scored well for.
    """

    boxes: Tensor  # [D, 4] in the image's frame, clipped to it
    labels: Tensor  # [D]
    scores: Tensor  # [D]
    members: list[Tensor]  # D index tensors of entries, best first, the detection's own included
    entry_rois: Tensor  # [E] int64, rows of `rois`
    entry_labels: Tensor  # [E]
    entry_scores: Tensor  # [E]
    rois: Tensor  # [R, 4] in the image's frame
    output: HeadOutput  # of the R ROIs in the first view
    presence: Tensor  # [C] how likely each class is in the image

    def at(self, rows: Tensor) -> Detections:
        """Those at some places [K], in that order."""
        return self._replace(
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            scores=self.scores[rows],
            members=[self.members[row] for row in rows.tolist()],
        )


class DetectionModule(nn.Module):
    """Faster R-CNN on features that it makes itself from the trunk's.

    Box offsets do not depend on the class: with pseudo labels of few objects, one regressor
    shared by all classes has enough examples.

    Args:
        stage: Trunk features -> this module's features.
        grid: Their frame.
        channels: Of them.
        fc: fc6 and fc7.
        classes: Number of classes C, without background.
        rpn_channels: Width of the RPN.
        config: Sampling, NMS, thresholds.
    """

    def __init__(
        self,
        stage: nn.Module,
        grid: Grid,
        channels: int,
        fc: FcHead,
        classes: int,
        rpn_channels: int,
        config: DetectionConfig,
    ) -> None:
        super().__init__()
        self.stage5 = stage
        self.grid = grid
        self.fc = fc
        self.classes = classes
        self.config = config
        self.rpn = Rpn(channels, grid, rpn_channels, config)
        width = fc.fc7.out_features
        self.fc8c = nn.Linear(width, classes + 1)
        self.fc8b = nn.Linear(width, 4)
        nn.init.normal_(self.fc8c.weight, std=0.01)
        nn.init.normal_(self.fc8b.weight, std=0.001)
        nn.init.zeros_(self.fc8c.bias)
        nn.init.zeros_(self.fc8b.bias)

    def head(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[HeadOutput]:
        """This module's features [1, C, h, w] and ROIs [R, 4] of each image -> predictions."""
        return run_head(self.fc, self.fc8c, self.fc8b, features, boxes, self.grid)

    def loss(
        self,
        trunks: Sequence[Tensor],
        targets: Sequence[Targets],
        sizes: Sequence[tuple[int, int]],
        generators: Sequence[torch.Generator],
        searched: Sequence[Tensor] | None = None,
    ) -> Losses:
        """Losses of RPN and head (eq. 3, 4), means over the images.

        Args:
            trunks: Trunk features [1, C, h, w] of each image.
            targets: Of each image.
            sizes: (height, width) of each image.
            generators: One for each image's sampling.
            searched: Boxes [S, 4] of each image to sample from beside the RPN's.
        """
        return self.loss_and_samples(trunks, targets, sizes, generators, searched)[0]

    def loss_and_samples(
        self,
        trunks: Sequence[Tensor],
        targets: Sequence[Targets],
        sizes: Sequence[tuple[int, int]],
        generators: Sequence[torch.Generator],
        searched: Sequence[Tensor] | None = None,
    ) -> tuple[Losses, list[Samples]]:
        """As loss, with the ROIs that were drawn: a mask part trains on the same ones."""
        features, samples, losses = [], [], []
        others = [trunk.new_zeros(0, 4) for trunk in trunks] if searched is None else searched
        images = zip(trunks, targets, sizes, generators, others, strict=True)
        for trunk, goal, size, generator, other in images:
            features.append(self.stage5(trunk))
            proposed = self.rpn(features[-1])
            losses.append(self.rpn.loss(proposed, goal.boxes, goal.weights, size, generator))
            rois = self.rpn.propose(proposed, size, self.config.train_boxes)
            samples.append(self.sample(torch.cat((rois, other)), goal, generator))
        outputs = self.head(features, [s.boxes for s in samples])
        for own, output, drawn, goal in zip(losses, outputs, samples, targets, strict=True):
            own |= self._head_losses(output, drawn, goal)
        return mean_losses(losses), samples

    def _head_losses(self, output: HeadOutput, samples: Samples, targets: Targets) -> Losses:
        """Class and box losses of one image's ROIs (eq. 4)."""
        count = max(len(samples.labels), 1)
        classes = F.cross_entropy(output.logits, samples.labels, reduction="none")
        positives = len(samples.matched)
        goal = encode(samples.boxes[:positives], targets.boxes[samples.matched], ROI_STD)
        boxes = F.smooth_l1_loss(output.second[:positives], goal, reduction="none").sum(1)
        return {
            "roi_class": (classes * samples.weights).sum() / count,
            "roi_box": (boxes * samples.weights[:positives]).sum() / count,
        }

    def sample(self, rois: Tensor, targets: Targets, generator: torch.Generator) -> Samples:
        """Draws ROIs around the targets; each has the weight W of the target it is nearest to.

        A background ROI that touches no target takes the mean W of the image: it is as sure as
        the image's labels are.
        """
        config = self.config
        rois = torch.cat((targets.boxes, rois))
        overlap, index = match(rois, targets.boxes)
        positive = overlap >= config.roi_positive_iou
        chosen = draw(positive, round(config.roi_batch * config.roi_positive), generator)
        background = draw(~positive, self._background_count(len(chosen)), generator)
        sampled = torch.cat((chosen, background))
        matched = index[chosen]
        labels = torch.full((len(sampled),), self.classes, device=rois.device)
        labels[: len(chosen)] = targets.labels[matched]
        weights = torch.ones(len(sampled), device=rois.device)
        if len(targets.boxes):
            near = targets.weights[index[sampled]]
            weights = torch.where(overlap[sampled] > 0, near, targets.weights.mean())
        return Samples(rois[sampled], labels, weights, matched)

    def _background_count(self, objects: int) -> int:
        """Background ROIs beside so many objects: the share of objects is kept.

        Filled up to the batch, they would outnumber the few ROIs that hit a pseudo label a
        hundred to one, and every score would end near zero.
        """
        config = self.config
        if objects == 0 or config.roi_positive == 0:
            return config.roi_batch - objects
        wanted = round(objects * (1 - config.roi_positive) / config.roi_positive)
        return min(wanted, config.roi_batch - objects)

    @torch.no_grad()
    def detect(
        self,
        features: Sequence[Tensor],
        frames: Sequence[Frame],
        tags: tuple[int, ...] | None = None,
        prior: Prior | None = None,
        searched: Tensor | None = None,
        least: float = 0.0,
    ) -> Detections:
        """Detections in one image, in its own frame.

        The first view proposes; what the head says of a ROI is the mean over the views.

        Args:
            features: Of stage5, [1, C, h, w] of each view of the image.
            frames: Of each view.
            tags: Only these classes may be found; None allows all. The best ROI of every tag is
                kept even below the score threshold: the tag says that it is there.
            prior: What is known of the image without this module.
            searched: Boxes [S, 4] of the image to look at beside the RPN's.
            least: Detections below it are left out, but for the best one of every tag.
        """
        config = self.config
        first = frames[0]
        own = features[0].new_zeros((0, 4), dtype=torch.float32)
        if config.test_boxes:
            own = self.rpn.propose(self.rpn(features[0]), first.size, config.test_boxes)
        if searched is not None:
            own = torch.cat((own, first.boxes(searched[: config.search_boxes])))
        rois = first.to_image(own)
        every = [own, *(frame.boxes(rois) for frame in frames[1:])]
        outputs = [self.head([f], [b])[0] for f, b in zip(features, every, strict=True)]
        probability = torch.stack([torch.softmax(o.logits, 1) for o in outputs]).mean(0)
        height, width = first.size
        boxes = clip(
            self._boxes(rois, every, outputs, frames), (height / first.scale, width / first.scale)
        )
        prior = Prior() if prior is None else prior
        fit = None if prior.fit is None else prior.fit(boxes)
        objects = 0.0 if tags is None else config.object_weight
        strength = blended(probability, fit, config.map_weight - objects, objects)
        score = contrasted(strength, config.contrast)
        present = presence(prior.presence, probability, config.head_presence)
        if tags is None:
            score = score * present**config.image_prior
        allowed = torch.zeros(self.classes, dtype=torch.bool, device=rois.device)
        allowed[list(range(self.classes) if tags is None else tags)] = True
        candidate = (score >= config.score_threshold) & allowed
        if tags is not None and len(rois):
            tagged = list(tags)
            candidate[score[:, tagged].argmax(0), tagged] = True
        roi, label = candidate.nonzero(as_tuple=True)
        scores = score[roi, label]
        keep, owner = nms_groups(boxes[roi], scores, label, config.nms_threshold)
        keep = limited(keep, label, tags or (), config.limit)
        keep = keep[sure_enough(scores[keep], label[keep], least, tags or ())]
        order = torch.argsort(scores, descending=True, stable=True)
        members = [order[owner[order] == k] for k in keep.tolist()]
        found = voted(boxes, strength, roi[keep], label[keep], config.vote_power)
        return Detections(
            found, label[keep], scores[keep], members, roi, label, scores, rois, outputs[0], present
        )

    def _boxes(
        self,
        rois: Tensor,
        every: Sequence[Tensor],
        outputs: Sequence[HeadOutput],
        frames: Sequence[Frame],
    ) -> Tensor:
        """The ROIs [R, 4] of the image as the regressor moves them, on average over the views."""
        if not self.config.regress:
            return rois
        moved = [
            frame.to_image(decode(box, output.second, ROI_STD))
            for frame, box, output in zip(frames, every, outputs, strict=True)
        ]
        return torch.stack(moved).mean(0)


def mean_losses(losses: Sequence[Losses]) -> Losses:
    """The images' losses, averaged by name."""
    return {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}
