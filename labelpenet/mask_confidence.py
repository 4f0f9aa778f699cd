"""Where in the image the mask part of a module sees each of its detections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labelpenet.calibration import owners, soft_iou
from labelpenet.models.detection import Detections
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import project_attention
from labelpenet.views import View

# Masks of a detection's best members are summed; more of them change nothing but the time.
_MEMBERS = 8
# How well masks of likely detections fill their boxes: the median soft IoU on training photos.
USUAL_FILL = 0.6


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


def ranked_by_masks(
    found: Detections, confidence: Tensor, power: float
) -> tuple[Detections, Tensor]:
    """Detections, best first again after each score was multiplied by what its mask says of it.

    A box whose mask fills it is likelier right than one whose mask leaves half of it empty or goes
    on outside, which the score of the box does not know (Huang et al., Mask scoring R-CNN, 2019,
    learn this; without true masks, box and mask can only be asked how well they agree).

    Args:
        found: D detections.
        confidence: Their masks [D, H, W] in [0, 1], in the frame of the boxes.
        power: Scores are multiplied by (soft IoU / 0.6) to this power, and are 1 at most; 0 leaves
            all as it is.

    Returns:
        The detections and, in their order, the masks.
    """
    if power == 0 or len(found.boxes) == 0:
        return found, confidence
    fill = torch.cat(
        [soft_iou(one, box[None]) for one, box in zip(confidence, found.boxes, strict=True)]
    )
    scores = (found.scores * (fill / USUAL_FILL) ** power).clamp(max=1)
    order = torch.argsort(scores, descending=True, stable=True)
    return found._replace(scores=scores).at(order), confidence[order]
