"""What each module of a cascade finds in one image: used to label, and to teach the next module."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labelpenet.calibration import (
    Calibrated,
    Candidate,
    Proposals,
    calibrate,
    scale_to_one,
)
from labelpenet.candidates import Seen, tagged_candidates, tagged_proposals
from labelpenet.class_maps import ClassMaps
from labelpenet.config import GroupScore
from labelpenet.icn.attention import icn_attention
from labelpenet.mask_confidence import mask_confidence, ranked_by_masks
from labelpenet.mask_nms import mask_nms
from labelpenet.masks import refine_masks
from labelpenet.models.backbones import FcHead
from labelpenet.models.boxes import clip
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import HeadOutput, image_log_probabilities
from labelpenet.models.detection import DetectionModule, Detections
from labelpenet.models.ranking import sure_enough
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import (
    PositiveWeights,
    RegionMasks,
    positive_weights,
    selective_search_regions,
)
from labelpenet.quality import peak_support, score_margin
from labelpenet.types import Instances, Labelling, Quality
from labelpenet.views import View, autocast, see
from labelpenet.whole_image import WholeImage


class Predictor:
    """Runs the modules of one cascade on images.

    Args:
        cascade: Trained up to the modules that will be asked for; put into evaluation mode.
        least: Objects of a lower score are left out, but for the best one of every tag.
    """

    def __init__(self, cascade: Cascade, least: float = 0.0) -> None:
        self.least = least
        self.cascade = cascade.eval()
        self.config = cascade.config
        self.device = next(cascade.parameters()).device
        self._weights: dict[int, PositiveWeights] = {}
        self.whole = WholeImage(cascade)
        self._attend = icn_attention(self.config, cascade.classes, self.device)

    @torch.no_grad()
    def __call__(
        self,
        image: np.ndarray,
        proposals: np.ndarray,
        module: int,
        tags: tuple[int, ...] | None = None,
    ) -> Labelling:
        """The objects that `module` (1 to 4) finds.

        Args:
            image: [H, W, 3] uint8.
            proposals: [R, 4] boxes of selective search; modules 2 to 4 read them where the settings
                say so.
            module: Which module answers.
            tags: The classes that are there; None where that is unknown.
        """
        self.cascade.module(module)  # refuses a number that is no module
        with autocast(self.config, self.device):
            views = self.views([image])[0]
            maps = self.maps(views, image, tags)
            return self.answer(views, image, proposals, module, tags, maps)

    @torch.no_grad()
    def answer(
        self,
        views: Sequence[View],
        image: np.ndarray,
        proposals: np.ndarray,
        module: int,
        tags: tuple[int, ...] | None,
        maps: ClassMaps | None,
    ) -> Labelling:
        """As a call, where the trunk's features are there already: one pass for several modules.

        Args:
            views: Of the image, one or more.
            image: [H, W, 3] uint8; the frame of the proposals and of the answer.
            proposals: [R, 4].
            module: Which module answers.
            tags: The classes that are there; None where that is unknown.
            maps: Of the same views and tags.
        """
        if module == 1:
            return self._classify(views, image, proposals, tags, maps)
        if module == 2:
            return self._detect(views, image, proposals, tags, maps)
        return self._segment(views, image, proposals, module, tags, maps)

    @torch.no_grad()
    def image_scores(self, image: np.ndarray, proposals: np.ndarray) -> Tensor:
        """How likely each class is in the image [C]."""
        with autocast(self.config, self.device):
            views = self.views([image])[0]
            return self.presence(views, proposals, self.maps(views, image, None))

    @torch.no_grad()
    def presence(
        self, views: Sequence[View], proposals: np.ndarray, maps: ClassMaps | None
    ) -> Tensor:
        """As image_scores: what the class maps say; p^ of eq. 1 where there are none."""
        if maps is not None:
            return maps.probability
        boxes = torch.from_numpy(proposals[: self.config.proposals.limit]).to(self.device)
        return image_log_probabilities(self._classification_head(views, boxes)).exp()

    @torch.no_grad()
    def maps(
        self, views: Sequence[View], image: np.ndarray, tags: tuple[int, ...] | None
    ) -> ClassMaps | None:
        """Where the whole-image classifier sees each class; None where no rule asks for it."""
        return self.whole.maps(views, image, tags)

    def _found(
        self,
        module: DetectionModule,
        features: Sequence[Tensor],
        views: Sequence[View],
        maps: ClassMaps | None,
        proposals: np.ndarray,
        tags: tuple[int, ...] | None,
        least: float,
    ) -> Detections:
        frames = [view.frame for view in views]
        searched = torch.from_numpy(proposals).to(self.device)
        prior = self.whole.prior(maps, tags)
        return module.detect(features, frames, tags, prior, searched, least)

    @torch.no_grad()
    def views(self, images: Sequence[np.ndarray]) -> list[list[View]]:
        """The views of each image; those of one size go through the trunk together.

        The features of an image do not depend on what else is in the batch but for rounding.
        """
        with autocast(self.config, self.device):
            return see(self.cascade.trunk, images, self.config, self.device)

    def _classification_head(self, views: Sequence[View], boxes: Tensor) -> HeadOutput:
        """What module 1 says of the proposals, on average; the activations are the first view's."""
        outputs: list[HeadOutput] = [
            self.cascade.classification([view.trunk], [view.frame.boxes(boxes)])[0]
            for view in views
        ]
        logits = torch.stack([output.logits for output in outputs]).mean(0)
        second = torch.stack([output.second for output in outputs]).mean(0)
        return outputs[0]._replace(logits=logits, second=second)

    def _classify(
        self,
        views: Sequence[View],
        image: np.ndarray,
        proposals: np.ndarray,
        tags: tuple[int, ...] | None,
        maps: ClassMaps | None,
    ) -> Labelling:
        size = (image.shape[0], image.shape[1])
        if len(proposals) == 0:
            return Labelling(Instances.empty(*size), 1)
        boxes = torch.from_numpy(proposals[: self.config.proposals.limit]).to(self.device)
        output = self._classification_head(views, boxes)
        if tags is None:
            said = image_log_probabilities(output).exp() if maps is None else maps.probability
            found = said >= self.config.detection.score_threshold
            classes = found.nonzero().flatten().tolist()
            presence = said[classes]  # the tag itself is a guess
        else:
            classes = list(tags)
            presence = output.logits.new_ones(len(classes))
        if not classes:
            return Labelling(Instances.empty(*size), 1)
        module = self.cascade.classification
        weights = self._positive(1, module.fc, module.fc8c)
        head = tagged_proposals(output, boxes, classes, weights)
        seen = Seen(presence, maps, self._regions(image))
        candidates = self._sure(
            tagged_candidates(output, head, classes, size, self.config, seen), tags
        )
        attention = None if self._attend is None else self._attend(image, candidates)
        result = calibrate(image, head, candidates, self.config.calibration, attention)
        scores = torch.tensor([c.score for c in candidates])
        labels = torch.tensor([c.label for c in candidates], dtype=torch.int64)
        boxes, masks = result.boxes.cpu(), result.masks.cpu()
        instances = Instances(boxes, labels, scores, masks, result.quality)
        return Labelling(self._distinct(instances), 1, pictures(result))

    def _sure(self, candidates: list[Candidate], tags: tuple[int, ...] | None) -> list[Candidate]:
        """Those at or above the least score, and the best one of every tag; best first."""
        ordered = sorted(candidates, key=lambda one: -one.score)
        scores = torch.tensor([one.score for one in ordered])
        labels = torch.tensor([one.label for one in ordered], dtype=torch.int64)
        keep = sure_enough(scores, labels, self.least, tags or ())
        return [one for one, wanted in zip(ordered, keep.tolist(), strict=True) if wanted]

    def _regions(self, image: np.ndarray) -> tuple[Tensor, RegionMasks] | None:
        """The image's regions, boxes and masks; None where no rule asks for them."""
        if self.config.calibration.score is not GroupScore.REGION:
            return None
        settings = self.config.proposals
        boxes, regions = selective_search_regions(
            image, settings.preset, settings.min_side, self.config.seed
        )
        return boxes.to(self.device), regions.to(self.device)

    def _detect(
        self,
        views: Sequence[View],
        image: np.ndarray,
        proposals: np.ndarray,
        tags: tuple[int, ...] | None,
        maps: ClassMaps | None,
    ) -> Labelling:
        module = self.cascade.detection
        features = [module.stage5(view.trunk) for view in views]
        found = self._found(module, features, views, maps, proposals, tags, self.least)
        head = Proposals(
            boxes=found.rois[found.entry_rois],
            classes=found.entry_labels,
            start=found.entry_scores,
            heat=found.entry_scores,
            rows=found.entry_rois,
            activations=found.output.activations,
            weights=self._positive(2, module.fc, module.fc8c),
        )
        boxes = _inside(found.boxes, image)
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
        attention = None if self._attend is None else self._attend(image, candidates)
        result = calibrate(image, head, candidates, self.config.calibration, attention)
        instances = Instances(
            boxes.cpu().float(), found.labels.cpu(), found.scores.cpu(), result.masks.cpu()
        )
        instances = dataclasses.replace(instances, quality=result.quality)
        return Labelling(self._distinct(instances), 2, pictures(result))

    def _segment(
        self,
        views: Sequence[View],
        image: np.ndarray,
        proposals: np.ndarray,
        number: int,
        tags: tuple[int, ...] | None,
        maps: ClassMaps | None,
    ) -> Labelling:
        module = self.cascade.module(number)
        assert isinstance(module, SegmentationModule)
        part: DetectionModule = module.detection
        features = [part.stage5(view.trunk) for view in views]
        rules = self.config.detection
        # a mask can raise a score above the least one
        least = 0.0 if rules.mask_power else self.least
        found = self._found(part, features, views, maps, proposals, tags, least)
        # Scaled as calibration's maps are: a mask part that is still unsure says 0.4 at most, and
        # its best pixels are the object's all the same.
        confidence = scale_to_one(
            mask_confidence(module, views, found, (image.shape[0], image.shape[1]))
        )
        found, confidence = ranked_by_masks(found, confidence, rules.mask_power)
        sure = sure_enough(found.scores, found.labels, self.least, tags or ()).nonzero().flatten()
        found, confidence = found.at(sure), confidence[sure]
        masks, change = refine_masks(
            image, confidence, rules.mask_threshold, self.config.calibration.crf
        )
        instances = Instances(
            _inside(found.boxes, image).cpu().float(),
            found.labels.cpu(),
            found.scores.cpu(),
            masks.cpu(),
        )
        pictured = {}
        if len(found.boxes):
            pictured["mask confidence"] = confidence.max(0).values.cpu()
            pictured["CRF mask"] = masks.any(0).float().cpu()
        quality = Quality.of(
            len(instances),
            peak_support=peak_support(confidence, masks),
            crf_change=change,
            score_margin=margins(found),
        )
        instances = dataclasses.replace(instances, quality=quality)
        return Labelling(self._distinct(instances), number, pictured)

    def _distinct(self, instances: Instances) -> Instances:
        """Those whose masks are their own."""
        return instances.select(mask_nms(instances, self.config.detection.mask_nms))

    def _positive(self, number: int, fc: FcHead, classifier: torch.nn.Linear) -> PositiveWeights:
        """W+ of a module's fc6, fc7 and classifier, made once, in the precision of its products."""
        if number not in self._weights:
            low = self.config.train.precision == "bf16"
            dtype = torch.bfloat16 if low else torch.float32
            weights = [x.weight.detach().to(dtype) for x in (fc.fc6, fc.fc7, classifier)]
            self._weights[number] = positive_weights(weights)
        return self._weights[number]


def _inside(boxes: Tensor, image: np.ndarray) -> Tensor:
    """Boxes cut at the image's edge: the sides of a resized one were rounded."""
    return clip(boxes, (image.shape[0], image.shape[1]))


def margins(found: Detections) -> Tensor:
    """Score margins [D] of detections, each at its own ROI, background among the others."""
    if not found.members:
        return torch.zeros(0)
    own = torch.stack([found.entry_rois[members[0]] for members in found.members])
    return score_margin(torch.softmax(found.output.logits[own], 1), found.labels)


def pictures(result: Calibrated) -> dict[str, Tensor]:
    """The maps of a calibration as one picture each: the largest value over the objects."""
    if len(result.masks) == 0:
        return {}
    return {
        "attention": result.attention.max(0).values.cpu(),
        "heat-map": result.heat_map.max(0).values.cpu(),
        "CRF mask": result.masks.any(0).float().cpu(),
    }
