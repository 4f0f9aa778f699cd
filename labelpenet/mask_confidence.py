"""Where in the image the mask part of a module sees each of its detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labelpenet.calibration import owners, soft_iou
from labelpenet.models.boxes import Frame
from labelpenet.models.detection import Detections
from labelpenet.models.ranking import sure_enough
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.ops import accumulate_boxes, project_attention

# Masks of a detection's best members are summed; more of them change nothing but the time.
_MEMBERS = 8


def mask_confidence(
    module: SegmentationModule,
    features: Sequence[Tensor],
    frames: Sequence[Frame],
    found: Detections,
    size: tuple[int, int],
) -> Tensor:
    """The score-weighted mean of the masks that each detection suppressed.

    Args:
        module: 3 or 4 of a cascade.
        features: Of its mask part, of each view of the image; what is said of a mask is the mean
            over them.
        frames: Of each view.
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
    for own, frame in zip(features, frames, strict=True):
        logits = module.mask_logits(own, frame.boxes(rois), found.entry_labels[entries])
        masks = torch.sigmoid(logits)
        said.append(masks.flip(2) if frame.flipped else masks)
    scores = found.entry_scores[entries]
    total = torch.zeros(len(members), device=device).index_add(0, owner, scores)
    share = scores / total.clamp(min=torch.finfo(total.dtype).tiny)[owner]  # none, if all are zero
    weighted = torch.stack(said).mean(0) * share[:, None, None]
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


def lowered_by_masks(
    found: Detections, confidence: Tensor, usual_fill: Tensor, power: float
) -> Tensor:
    """The score of each detection [D], lowered by what its mask says against it.

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
    """
    if power == 0 or len(found.boxes) == 0:
        return found.scores
    share = (fill(confidence, found.boxes) / usual_fill[found.labels]).clamp(max=1)
    return found.scores * share**power


def ranked_by_masks(
    found: Detections,
    masks: Callable[[Detections], Tensor],
    usual_fill: Tensor,
    power: float,
    least: float,
    tags: Sequence[int],
) -> tuple[Detections, Tensor]:
    """Detections that are sure enough by their masks too, best first again.

    As masks raise no score, few are asked for: those of detections that are sure enough without,
    and of the rest those that may yet turn out to be the best of a tag.

    Args:
        found: D detections.
        masks: Gives the masks [d, H, W] in [0, 1] of some of them.
        usual_fill: As in `lowered_by_masks`.
        power: As there.
        least: Detections whose lowered score is below it are left out, but for the best of a tag.
        tags: Classes that are known to be there.

    Returns:
        The detections and, in their order, the masks.
    """
    asked = sure_enough(found.scores, found.labels, least, tags)
    rows = asked.nonzero().flatten()
    confidence = masks(found.at(rows))
    scores = lowered_by_masks(found.at(rows), confidence, usual_fill, power)
    best = scores.new_zeros(len(usual_fill)).scatter_reduce(0, found.labels[rows], scores, "amax")
    more = (~asked & (found.scores > best[found.labels])).nonzero().flatten()
    if len(more):
        others = masks(found.at(more))
        lowered = lowered_by_masks(found.at(more), others, usual_fill, power)
        rows, place = torch.cat((rows, more)).sort()
        confidence = torch.cat((confidence, others))[place]
        scores = torch.cat((scores, lowered))[place]
    scores, order = scores.sort(descending=True, stable=True)
    ranked, confidence = found.at(rows[order])._replace(scores=scores), confidence[order]
    sure = sure_enough(scores, ranked.labels, least, tags).nonzero().flatten()
    return ranked.at(sure), confidence[sure]
