"""What module 1 finds in an image: classes of its proposals, grouped and calibrated to masks."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from labelpenet.calibration import Candidate, calibrate, head_weights, pictures
from labelpenet.candidates import Seen, tagged_candidates, tagged_proposals
from labelpenet.config import GroupScore
from labelpenet.icn.attention import Attend
from labelpenet.mask_nms import mask_nms
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import HeadOutput, image_log_probabilities
from labelpenet.models.ranking import sure_enough
from labelpenet.ops import PositiveWeights, RegionMasks, selective_search_regions
from labelpenet.sample import Sample
from labelpenet.types import Instances, Labelling


class Classify:
    """Module 1 of a cascade, asked about images.

    Args:
        cascade: Trained up to module 1 at least.
        attend: Attention in place of Excitation Backprop's; None is that.
        least: Objects of a lower score are left out, but for the best one of every tag.
    """

    def __init__(self, cascade: Cascade, attend: Attend | None, least: float) -> None:
        self.config = cascade.config
        self.module = cascade.classification
        self._attend = attend
        self._least = least

    def __call__(self, sample: Sample) -> Labelling:
        """The objects of an image."""
        output, boxes = self._head(sample)
        if sample.tags is None:
            present = self._presence(sample, output)
            likely = present >= self.config.detection.score_threshold
            classes = likely.nonzero().flatten().tolist()
            told = present.cpu()
        else:
            present = output.logits.new_ones(output.logits.shape[1])
            classes = list(sample.tags)
            told = None
        if not classes or len(boxes) == 0:
            return Labelling(Instances.empty(*sample.size), 1, presence=told)
        head = tagged_proposals(output, boxes, classes, self.weights)
        seen = Seen(present[classes], sample.maps, self._regions(sample))
        candidates = self._sure(
            tagged_candidates(output, head, classes, sample.size, self.config, seen), sample.tags
        )
        attention = None if self._attend is None else self._attend(sample.image, candidates)
        result = calibrate(sample.image, head, candidates, self.config.calibration, attention)
        instances = Instances(
            result.boxes.cpu(),
            torch.tensor([c.label for c in candidates], dtype=torch.int64),
            torch.tensor([c.score for c in candidates]),
            result.masks.cpu(),
            result.quality,
        )
        distinct = mask_nms(instances, self.config.detection.mask_nms)
        return Labelling(instances.select(distinct), 1, pictures(result), told)

    @cached_property
    def weights(self) -> PositiveWeights:
        """Of fc6, fc7 and the classifier, for Excitation Backprop."""
        fc = self.module.fc
        return head_weights((fc.fc6, fc.fc7, self.module.fc8c), self.config)

    def _presence(self, sample: Sample, output: HeadOutput) -> Tensor:
        """How likely each class is in the image [C]: what the class maps say, else p^ of eq. 1."""
        if sample.maps is not None:
            return sample.maps.probability
        return image_log_probabilities(output).exp()

    def _head(self, sample: Sample) -> tuple[HeadOutput, Tensor]:
        """What the head says of the proposals, on average, and their boxes.

        The activations are the first view's.
        """
        views = sample.views
        limited = sample.proposals[: self.config.proposals.limit]
        boxes = torch.from_numpy(limited).to(views[0].trunk.device)
        outputs: list[HeadOutput] = [
            self.module([view.trunk], [view.frame.boxes(boxes)])[0] for view in views
        ]
        logits = torch.stack([output.logits for output in outputs]).mean(0)
        second = torch.stack([output.second for output in outputs]).mean(0)
        return outputs[0]._replace(logits=logits, second=second), boxes

    def _sure(self, candidates: list[Candidate], tags: tuple[int, ...] | None) -> list[Candidate]:
        """Those at or above the least score, and the best one of every tag; best first."""
        ordered = sorted(candidates, key=lambda one: -one.score)
        scores = torch.tensor([one.score for one in ordered])
        labels = torch.tensor([one.label for one in ordered], dtype=torch.int64)
        keep = sure_enough(scores, labels, self._least, tags or ())
        return [one for one, wanted in zip(ordered, keep.tolist(), strict=True) if wanted]

    def _regions(self, sample: Sample) -> tuple[Tensor, RegionMasks] | None:
        """The image's regions, boxes and masks; None where no rule asks for them."""
        if self.config.calibration.score is not GroupScore.REGION:
            return None
        settings, device = self.config.proposals, sample.views[0].trunk.device
        boxes, regions = selective_search_regions(
            sample.image, settings.preset, settings.min_side, self.config.seed
        )
        return boxes.to(device), regions.to(device)
