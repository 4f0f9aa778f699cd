"""Where in the image the mask part of a module sees each of its detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labelpenet.calibration import owners, soft_iou
from labelpenet.models.detection import Detections
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import accumulate_boxes, project_attention
from labelpenet.views import View

# Masks of a detection's best members are summed; more of them change nothing but the time.
_MEMBERS = 8


def mask_confidence(
    module: SegmentationModule,
    views: Sequence[View],
    found: Detections,
    size: tuple[int, int],
) -> Tensor:
    """The score-weighted mean of the masks that each detection suppressed.

    Args:
        module: 3 or 4 of a cascade.
        views: Of the image; what is said of a mask is the mean over them.
        found: D detections of the module's detection part.
        size: (height, width) of the image.

    Returns:
        [D, H, W] in [0, 1].
    """
    members = [m[:_MEMBERS] for m in found.members]
    device = found.entry_scores.device
    if not members:
        return torch.zeros((0, *size), device=device)
    entries, owner = torch.cat(members), owners(members)
    rois = found.rois[found.entry_rois[entries]]
    said = []
    for view in views:
        features = module.mask_features(view.trunk)
        boxes = view.frame.boxes(rois)
        logits = module.mask_logits(features, boxes, found.entry_labels[entries])
        masks = torch.sigmoid(logits)
        said.append(masks.flip(2) if view.frame.flipped else masks)
    scores = found.entry_scores[entries]
    total = torch.zeros(len(members), device=device).index_add(0, owner, scores)
    weighted = torch.stack(said).mean(0) * (scores / total[owner])[:, None, None]
    return project_attention(weighted.contiguous(), rois, owner, len(members), size).clamp(0, 1)


def fill(confidence: Tensor, boxes: Tensor) -> Tensor:
    """How well each mask fills its own box: their soft IoU [D].

    Args:
        confidence: [D, H, W] in [0, 1].
        boxes: [D, 4], in the frame of the masks.

    Example:
        >>> fill(torch.ones(1, 4, 4), torch.tensor([[0.0, 0.0, 2.0, 4.0]])).tolist()
        [0.5]
    """
    if len(boxes) == 0:
        return torch.zeros(0, device=boxes.device)
    return torch.cat([soft_iou(m, box[None]) for m, box in zip(confidence, boxes, strict=True)])


def with_box(confidence: Tensor, boxes: Tensor, share: float) -> Tensor:
    """Maps [D, H, W] to one share the objects' boxes, ones inside, to the rest the confidence.

    Args:
        confidence: [D, H, W] in [0, 1].
        boxes: [D, 4], in the frame of the maps.
        share: In [0, 1]; 0 leaves the maps as they are.

    Example:
        >>> with_box(torch.full((1, 1, 3), 0.4), torch.tensor([[0.0, 0.0, 2.0, 1.0]]), 0.5)
        tensor([[[0.7000, 0.7000, 0.2000]]])
    """
    if share == 0 or len(boxes) == 0:
        return confidence
    own = torch.arange(len(boxes), device=boxes.device)
    size = (confidence.shape[1], confidence.shape[2])
    inside = accumulate_boxes(
        torch.ones(len(boxes), device=boxes.device), boxes.float(), own, len(boxes), size
    )
    return confidence.lerp(inside.to(confidence.dtype), share)


def ranked_by_masks(
    found: Detections, confidence: Tensor, usual_fill: Tensor, power: float
) -> tuple[Detections, Tensor]:
    """Detections, best first again after each score was lowered by what its mask says against it.

    A box whose mask fills it is likelier right than one whose mask leaves half of it empty or goes
    on outside, which the score of the box does not know (Huang et al., Mask scoring R-CNN, 2019,
    learn this; without true masks, box and mask can only be asked how well they agree). A bird
    leaves more of its box empty than a bottle, hence less than usual for its class. More than usual
    says nothing for a box: a person's mask on a bus fills its box better than any person's.

    Args:
        found: D detections.
        confidence: Their masks [D, H, W] in [0, 1], in the frame of the boxes.
        usual_fill: [C], above 0.
        power: Scores are multiplied by fill / usual fill, 1 at most, to this power; 0 leaves all
            as it is.

    Returns:
        The detections and, in their order, the masks.
    """
    if power == 0 or len(found.boxes) == 0:
        return found, confidence
    share = (fill(confidence, found.boxes) / usual_fill[found.labels]).clamp(max=1)
    scores = found.scores * share**power
    order = torch.argsort(scores, descending=True, stable=True)
    return found._replace(scores=scores).at(order), confidence[order]
