"""What modules 2 to 4 find in an image: detections with calibrated masks, or masks of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from labelpenet.calibration import (
    Candidate,
    Proposals,
    calibrate,
    head_weights,
    pictures,
    scale_to_one,
)
from labelpenet.config import Config
from labelpenet.icn.attention import Attend
from labelpenet.mask_confidence import mask_confidence, ranked_by_masks, with_box
from labelpenet.mask_nms import mask_nms
from labelpenet.masks import refine_masks
from labelpenet.models.boxes import clip
from labelpenet.models.cascade import Cascade
from labelpenet.models.detection import DetectionModule, Detections
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import PositiveWeights
from labelpenet.quality import peak_support, score_margin
from labelpenet.sample import Sample
from labelpenet.types import Instances, Labelling, Quality
from labelpenet.whole_image import WholeImage


class Detect:
    """Modules 2 to 4 of a cascade, asked about images.

    Args:
        cascade: Trained up to the modules that will be asked.
        whole: Its whole-image classifier.
        attend: Attention in place of Excitation Backprop's; None is that.
        least: Objects of a lower score are left out, but for the best one of every tag.
        config: The cascade's, or what it is for teaching.
    """

    def __init__(
        self,
        cascade: Cascade,
        whole: WholeImage,
        attend: Attend | None,
        least: float,
        config: Config,
    ) -> None:
        self.config = config
        self.cascade = cascade
        self._whole = whole
        self._attend = attend
        self._least = least

    def __call__(self, sample: Sample, number: int) -> Labelling:
        """The objects that one of the modules finds in an image."""
        module = self.cascade.module(number)
        if isinstance(module, SegmentationModule):
            return self._segmented(sample, module, number)
        return self._calibrated(sample)

    def found(self, sample: Sample, module: DetectionModule, least: float = 0.0) -> Detections:
        """What module 2, or the detection part of 3 or 4, detects; masks are not asked.

        Args:
            sample: The image.
            module: Of the cascade.
            least: Detections of a lower score are left out, but for the best one of every tag.
        """
        features = [module.stage5(view.trunk) for view in sample.views]
        frames = [view.frame for view in sample.views]
        searched = torch.from_numpy(sample.proposals).to(features[0].device)
        prior = self._whole.prior(sample.maps, sample.tags)
        return module.detect(features, frames, sample.tags, prior, searched, least)

    def masked(
        self, sample: Sample, module: SegmentationModule
    ) -> tuple[Detections, Callable[[Detections], Tensor]]:
        """What module 3 or 4 detects, and what gives the masks [D, H, W] in [0, 1] of some of it.

        Each is scaled as calibration's maps are: a mask part that is still unsure says 0.4 at most,
        and its best pixels are the object's all the same.

        Args:
            sample: The image.
            module: 3 or 4 of the cascade.
        """
        # the best one of a tag is told by the masks: it may score low here
        found = self.found(sample, module.detection, self._least if sample.tags is None else 0.0)
        seen = sample.views if len(found.boxes) else ()  # nothing found, no mask will be asked for
        features = [module.mask_features(view.trunk) for view in seen]
        frames = [view.frame for view in seen]

        def masks(some: Detections) -> Tensor:
            return scale_to_one(mask_confidence(module, features, frames, some, sample.size))

        return found, masks

    def _calibrated(self, sample: Sample) -> Labelling:
        """Module 2, whose masks are made as module 1's are."""
        module, maps = self.cascade.detection, sample.maps
        found = self.found(sample, module, self._least)
        head = Proposals(
            boxes=found.rois[found.entry_rois],
            classes=found.entry_labels,
            start=found.entry_scores,
            heat=found.entry_scores,
            rows=found.entry_rois,
            activations=found.output.activations,
            weights=self._weights,
        )
        boxes = clip(found.boxes, sample.size)
        candidates = [
            Candidate(
                int(label),
                float(score),
                box,
                members,
                members,
                float(margin),
                None if maps is None else maps.at_full_size(int(label)),
            )
            for label, score, box, members, margin in zip(
                found.labels, found.scores, boxes, found.members, margins(found), strict=True
            )
        ]
        attention = None if self._attend is None else self._attend(sample.image, candidates)
        result = calibrate(sample.image, head, candidates, self.config.calibration, attention)
        instances = _instances(found, sample, result.masks, result.quality)
        return Labelling(self._distinct(instances), 2, pictures(result), _presence(found, sample))

    def _segmented(self, sample: Sample, module: SegmentationModule, number: int) -> Labelling:
        """Modules 3 and 4, which have a mask part."""
        rules = self.config.detection
        found, masks_of = self.masked(sample, module)
        found, confidence = ranked_by_masks(
            found, masks_of, module.usual_fill, rules.mask_power, self._least, sample.tags or ()
        )
        seen = with_box(confidence, found.boxes, rules.box_share)
        crf = self.config.calibration.crf
        masks, change = refine_masks(sample.image, seen, rules.mask_threshold, crf)
        quality = Quality.of(
            len(masks),
            peak_support=peak_support(confidence, masks),
            crf_change=change,
            score_margin=margins(found),
        )
        pictured = {}
        if len(masks):
            pictured["mask confidence"] = confidence.max(0).values.cpu()
            pictured["CRF mask"] = masks.any(0).float().cpu()
        instances = _instances(found, sample, masks, quality)
        return Labelling(self._distinct(instances), number, pictured, _presence(found, sample))

    @cached_property
    def _weights(self) -> PositiveWeights:
        """Of module 2's fc6, fc7 and classifier, for Excitation Backprop."""
        module = self.cascade.detection
        return head_weights((module.fc.fc6, module.fc.fc7, module.fc8c), self.config)

    def _distinct(self, instances: Instances) -> Instances:
        return instances.select(mask_nms(instances, self.config.detection.mask_nms))


def _instances(found: Detections, sample: Sample, masks: Tensor, quality: Quality) -> Instances:
    # cut at the image's edge: the sides of a resized image were rounded
    boxes = clip(found.boxes, sample.size).cpu().float()
    instances = Instances(boxes, found.labels.cpu(), found.scores.cpu(), masks.cpu())
    return dataclasses.replace(instances, quality=quality)


def _presence(found: Detections, sample: Sample) -> Tensor | None:
    return found.presence.cpu() if sample.tags is None else None


def margins(found: Detections) -> Tensor:
    """Score margins [D] of detections, each at its own ROI, background among the others."""
    if not found.members:
        return torch.zeros(0)
    own = torch.stack([found.entry_rois[members[0]] for members in found.members])
    return score_margin(torch.softmax(found.output.logits[own], 1), found.labels)
