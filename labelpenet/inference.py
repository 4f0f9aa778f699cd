"""What each module of a cascade finds in one image: used to label, and to teach the next module."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from labelpenet.calibration import (
    Calibrated,
    Candidate,
    Proposals,
    calibrate,
    heat_maps,
    refine_masks,
    scale_to_one,
    soft_iou,
)
from labelpenet.config import Config, GroupScore
from labelpenet.data.transforms import resize_image
from labelpenet.models.backbones import FcHead
from labelpenet.models.boxes import clip
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import (
    HeadOutput,
    combined_scores,
    image_log_probabilities,
)
from labelpenet.models.detection import DetectionModule, Detections
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import PositiveWeights, box_iou, positive_weights, project_attention
from labelpenet.quality import peak_support, score_margin
from labelpenet.types import Instances, Labelling, Quality

# Masks of a detection's best members are summed; more of them change nothing but the time.
_MASK_MEMBERS = 8


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """bf16 in the matrix products where the settings ask for it."""
    if config.train.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


class Predictor:
    """Runs the modules of one cascade on images.

    Args:
        cascade: Trained up to the modules that will be asked for; put into evaluation mode.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade.eval()
        self.config = cascade.config
        self.device = next(cascade.parameters()).device
        self._weights: dict[int, PositiveWeights] = {}

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
            proposals: [R, 4] boxes of selective search; read by module 1 alone.
            module: Which module answers.
            tags: The classes that are there; None where that is unknown.
        """
        self.cascade.module(module)  # refuses a number that is no module
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        shorter = self.config.test_shorter or min(tensor.shape[-2:])
        tensor, scale = resize_image(tensor, shorter, self.config.test_longest)
        tensor = tensor.to(self.device)
        with autocast(self.config, self.device):
            trunk = self.cascade.trunk(tensor)
            size = (int(tensor.shape[-2]), int(tensor.shape[-1]))
            return self.on_trunk(trunk, image, size, scale, proposals, module, tags)

    @torch.no_grad()
    def on_trunk(
        self,
        trunk: Tensor,
        image: np.ndarray,
        size: tuple[int, int],
        scale: float,
        proposals: np.ndarray,
        module: int,
        tags: tuple[int, ...] | None,
    ) -> Labelling:
        """As a call, where the trunk's features are there already.

        Args:
            trunk: [1, C, h, w] of the resized image.
            image: [H, W, 3] uint8; the frame of the proposals and of the answer.
            size: (height, width) of the resized image.
            scale: Of it against `image`.
            proposals: [R, 4]; read by module 1 alone.
            module: Which module answers.
            tags: The classes that are there; None where that is unknown.
        """
        if module == 1:
            return self._classify(trunk, image, proposals, scale, tags)
        if module == 2:
            return self._detect(trunk, image, size, scale, tags)
        return self._segment(trunk, image, size, scale, module, tags)

    @torch.no_grad()
    def image_scores(self, image: np.ndarray, proposals: np.ndarray) -> Tensor:
        """p^ [C] of eq. 1: how likely each class is in the image."""
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        shorter = self.config.test_shorter or min(tensor.shape[-2:])
        tensor, scale = resize_image(tensor, shorter, self.config.test_longest)
        with autocast(self.config, self.device):
            output = self._classification_head(
                self.cascade.trunk(tensor.to(self.device)), proposals, scale
            )
        return image_log_probabilities(output).exp()

    def _classification_head(
        self, trunk: Tensor, proposals: np.ndarray, scale: float
    ) -> HeadOutput:
        boxes = torch.from_numpy(proposals[: self.config.proposals.limit]).to(self.device)
        outputs: list[HeadOutput] = self.cascade.classification([trunk], [boxes * scale])
        return outputs[0]

    def _classify(
        self,
        trunk: Tensor,
        image: np.ndarray,
        proposals: np.ndarray,
        scale: float,
        tags: tuple[int, ...] | None,
    ) -> Labelling:
        size = (image.shape[0], image.shape[1])
        if len(proposals) == 0:
            return Labelling(Instances.empty(*size), 1)
        output = self._classification_head(trunk, proposals, scale)
        probability = image_log_probabilities(output).exp()
        if tags is None:
            found = probability >= self.config.detection.score_threshold
            classes = found.nonzero().flatten().tolist()
        else:
            classes = list(tags)
        if not classes:
            return Labelling(Instances.empty(*size), 1)
        head = self._classification_proposals(output, proposals, classes)
        candidates = self._classification_candidates(output, head, classes, size)
        result = calibrate(image, head, candidates, self.config.calibration)
        scores = torch.tensor([c.score for c in candidates])
        labels = torch.tensor([c.label for c in candidates], dtype=torch.int64)
        if tags is None:  # the tag itself is a guess then
            scores = scores * probability.cpu()[labels]
        boxes, masks = result.boxes.cpu(), result.masks.cpu()
        instances = Instances(boxes, labels, scores, masks, result.quality)
        order = scores.argsort(descending=True)
        return Labelling(instances.select(order), 1, pictures(result))

    def _classification_proposals(
        self, output: HeadOutput, proposals: np.ndarray, classes: list[int]
    ) -> Proposals:
        """Each proposal under its most likely class, among those that the image has."""
        softmax = torch.softmax(output.logits, 1)
        chosen = torch.tensor(classes, device=self.device)
        own = chosen[softmax[:, chosen].argmax(1)]
        for label in classes:
            if not bool((own == label).any()):  # a class that is there has one proposal at least
                spare = torch.bincount(own, minlength=softmax.shape[1])[own] > 1
                if bool(spare.any()):
                    score = output.logits[:, label].masked_fill(~spare, -torch.inf)
                    own[score.argmax()] = label
        rows = torch.arange(len(own), device=self.device)
        module = self.cascade.classification
        return Proposals(
            boxes=torch.from_numpy(proposals[: len(own)]).to(self.device),
            classes=own,
            start=softmax[rows, own],
            heat=softmax[rows, own] * torch.softmax(output.second, 0)[rows, own],
            rows=rows if output.rows is None else output.rows,
            activations=output.activations,
            weights=self._positive(1, module.fc, module.fc8c),
        )

    def _classification_candidates(
        self, output: HeadOutput, head: Proposals, classes: list[int], size: tuple[int, int]
    ) -> list[Candidate]:
        """One object per class: its top proposal, and what that suppresses."""
        config = self.config.calibration
        candidates = []
        for label in classes:
            members = (head.classes == label).nonzero().flatten()
            if len(members) == 0:  # fewer proposals than classes
                continue
            if config.score is GroupScore.HEAT_MAP:
                heat = heat_maps(head, [members], size, config)[0]
                rank = soft_iou(heat, head.boxes[members])
            elif config.score is GroupScore.CLASS:
                rank = output.logits[members, label]
            else:
                rank = combined_scores(output)[members, label]
            top = members[rank.argmax()]
            overlap = box_iou(head.boxes[top][None], head.boxes[members])[0]
            group = members[(overlap > config.nms_threshold) | (members == top)]
            score = float(head.start[top])
            softmax = torch.softmax(output.logits[top], 0)
            margin = float(score_margin(softmax[None], torch.tensor([label], device=top.device)))
            candidates.append(Candidate(label, score, head.boxes[top], group, members, margin))
        return candidates

    def _detect(
        self,
        trunk: Tensor,
        image: np.ndarray,
        size: tuple[int, int],
        scale: float,
        tags: tuple[int, ...] | None,
    ) -> Labelling:
        module = self.cascade.detection
        found = module.detect(module.stage5(trunk), size, tags)
        head = Proposals(
            boxes=(found.rois / scale)[found.entry_rois],
            classes=found.entry_labels,
            start=found.entry_scores,
            heat=found.entry_scores,
            rows=found.entry_rois,
            activations=found.output.activations,
            weights=self._positive(2, module.fc, module.fc8c),
        )
        boxes = _to_image(found.boxes, image, scale)
        candidates = [
            Candidate(int(label), float(score), box, members, members, float(margin))
            for label, score, box, members, margin in zip(
                found.labels, found.scores, boxes, found.members, margins(found), strict=True
            )
        ]
        result = calibrate(image, head, candidates, self.config.calibration)
        instances = Instances(
            boxes.cpu().float(), found.labels.cpu(), found.scores.cpu(), result.masks.cpu()
        )
        instances = dataclasses.replace(instances, quality=result.quality)
        return Labelling(self._distinct(instances), 2, pictures(result))

    def _segment(
        self,
        trunk: Tensor,
        image: np.ndarray,
        size: tuple[int, int],
        scale: float,
        number: int,
        tags: tuple[int, ...] | None,
    ) -> Labelling:
        module = self.cascade.module(number)
        assert isinstance(module, SegmentationModule)
        part: DetectionModule = module.detection
        found = part.detect(part.stage5(trunk), size, tags)
        # Scaled as calibration's maps are: a mask part that is still unsure says 0.4 at most, and
        # its best pixels are the object's all the same.
        confidence = scale_to_one(self._mask_confidence(module, trunk, found, image, scale))
        masks, change = refine_masks(
            image,
            confidence,
            self.config.detection.mask_threshold,
            self.config.calibration.crf,
        )
        instances = Instances(
            _to_image(found.boxes, image, scale).cpu().float(),
            found.labels.cpu(),
            found.scores.cpu(),
            masks.cpu(),
        )
        maps = {}
        if len(found.boxes):
            maps["mask confidence"] = confidence.max(0).values.cpu()
            maps["CRF mask"] = masks.any(0).float().cpu()
        quality = Quality.of(
            len(instances),
            peak_support=peak_support(confidence, masks),
            crf_change=change,
            score_margin=margins(found),
        )
        instances = dataclasses.replace(instances, quality=quality)
        return Labelling(self._distinct(instances), number, maps)

    def _distinct(self, instances: Instances) -> Instances:
        """Greedy NMS on masks, per class; instances come best first."""
        assert instances.masks is not None
        flat = instances.masks.flatten(1).float()
        area = flat.sum(1)
        shared = flat @ flat.T
        iou = shared / (area[:, None] + area - shared).clamp(min=1)
        keep: list[int] = []
        for i in range(len(instances)):
            same = [k for k in keep if instances.labels[k] == instances.labels[i]]
            if all(float(iou[i, k]) <= self.config.detection.mask_nms for k in same):
                keep.append(i)
        return instances.select(keep)

    def _mask_confidence(
        self,
        module: SegmentationModule,
        trunk: Tensor,
        found: Detections,
        image: np.ndarray,
        scale: float,
    ) -> Tensor:
        """[D, H, W] in [0, 1]: the score-weighted mean of the masks each detection suppressed."""
        size = (image.shape[0], image.shape[1])
        members = [m[:_MASK_MEMBERS] for m in found.members]
        if not members:
            return torch.zeros((0, *size), device=self.device)
        entries = torch.cat(members)
        owner = torch.repeat_interleave(
            torch.arange(len(members), device=self.device),
            torch.tensor([len(m) for m in members], device=self.device),
        )
        rois = found.rois[found.entry_rois[entries]]
        logits = module.mask_logits(module.mask_features(trunk), rois, found.entry_labels[entries])
        scores = found.entry_scores[entries]
        total = torch.zeros(len(members), device=self.device).index_add(0, owner, scores)
        weighted = torch.sigmoid(logits) * (scores / total[owner])[:, None, None]
        return project_attention(
            weighted.contiguous(), rois / scale, owner, len(members), size
        ).clamp(0, 1)

    def _positive(self, number: int, fc: FcHead, classifier: torch.nn.Linear) -> PositiveWeights:
        """W+ of a module's fc6, fc7 and classifier, made once, in the precision of its products."""
        if number not in self._weights:
            low = self.config.train.precision == "bf16"
            dtype = torch.bfloat16 if low else torch.float32
            weights = [x.weight.detach().to(dtype) for x in (fc.fc6, fc.fc7, classifier)]
            self._weights[number] = positive_weights(weights)
        return self._weights[number]


def _to_image(boxes: Tensor, image: np.ndarray, scale: float) -> Tensor:
    """Boxes of the resized image in the file's; its sides were rounded, so the edge cuts again."""
    return clip(boxes / scale, (image.shape[0], image.shape[1]))


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
