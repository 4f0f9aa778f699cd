"""What module 1 believes in before calibration: one object per class (Label-PEnet 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.calibration import Candidate, Proposals, heat_maps, soft_iou
from labelpenet.class_maps import ClassMaps
from labelpenet.config import CalibrationConfig, GroupScore
from labelpenet.models.classification import HeadOutput, combined_scores
from labelpenet.ops import PositiveWeights, RegionMasks, box_iou
from labelpenet.quality import score_margin


def tagged_proposals(
    output: HeadOutput, boxes: Tensor, classes: list[int], weights: PositiveWeights
) -> Proposals:
    """Each proposal under its most likely class, among those that the image has.

    Args:
        output: What module 1 says of R proposals.
        boxes: [R, 4] in the image's frame.
        classes: That the image has.
        weights: Of module 1's head.
    """
    softmax = torch.softmax(output.logits, 1)
    chosen = torch.tensor(classes, device=boxes.device)
    own = chosen[softmax[:, chosen].argmax(1)]
    rows = torch.arange(len(own), device=boxes.device)
    for label in classes:  # a class that is there has one proposal at least
        count = torch.zeros(softmax.shape[1], dtype=torch.int64, device=boxes.device)
        spare = count.index_add(0, own, torch.ones_like(own))[own] > 1
        score = output.logits[:, label].masked_fill(~spare, -torch.inf)
        wanted = (own != label).all() & spare.any()  # stays on the device
        own = torch.where(wanted & (rows == score.argmax()), label, own)
    return Proposals(
        boxes=boxes,
        classes=own,
        start=softmax[rows, own],
        heat=softmax[rows, own] * torch.softmax(output.second, 0)[rows, own],
        rows=rows if output.rows is None else output.rows,
        activations=output.activations,
        weights=weights,
    )


def tagged_candidates(
    output: HeadOutput,
    head: Proposals,
    classes: list[int],
    size: tuple[int, int],
    config: CalibrationConfig,
    maps: ClassMaps | None = None,
    regions: tuple[Tensor, RegionMasks] | None = None,
) -> list[Candidate]:
    """One object per class: its top proposal, and what that suppresses.

    Under the rules that read class maps the object's box is the one that fits the map best, of any
    proposal or region, and its group the proposals of the class around it.

    A device is waited for twice, for the sizes of all classes and for those of all groups.

    Args:
        output: What module 1 says of R proposals.
        head: The same proposals under their classes.
        classes: That the image has; one that no proposal stands under gives no object.
        size: (height, width) of the image.
        config: How proposals are ranked and grouped.
        maps: Where the whole-image classifier sees each class, if the rules ask for it.
        regions: Of the image, their boxes [S, 4] and masks, if the rules ask for them.
    """
    everyone = _where([head.classes == label for label in classes])
    present = [i for i, members in enumerate(everyone) if len(members)]
    boxes, tops, near = [], [], []
    for i in present:
        label, members = classes[i], everyone[i]
        if config.score in (GroupScore.CLASS_MAP, GroupScore.REGION):
            assert maps is not None
            box = _mapped_box(maps, label, head.boxes, regions, config)
            overlap = box_iou(box[None], head.boxes[members])[0]
            top = members[overlap.argmax()]
        else:
            top = members[_rank(output, head, label, members, size, config).argmax()]
            box = head.boxes[top]
            overlap = box_iou(box[None], head.boxes[members])[0]
        boxes.append(box)
        tops.append(top)
        near.append((overlap > config.nms_threshold) | (members == top))
    if not present:
        return []
    groups, best = _where(near), torch.stack(tops)
    labels = [classes[i] for i in present]
    said = torch.softmax(output.logits[best], 1)
    margin = score_margin(said, torch.tensor(labels, device=best.device))
    scores = torch.stack((head.start[best], margin), 1).tolist()
    return [
        Candidate(
            label,
            score,
            box,
            everyone[i][group],
            everyone[i],
            margin,
            None if maps is None else maps.at_full_size(label),
        )
        for i, label, (score, margin), box, group in zip(
            present, labels, scores, boxes, groups, strict=True
        )
    ]


def _rank(
    output: HeadOutput,
    head: Proposals,
    label: int,
    members: Tensor,
    size: tuple[int, int],
    config: CalibrationConfig,
) -> Tensor:
    """How the proposals of a class are ranked where no class map is read."""
    if config.score is GroupScore.HEAT_MAP:
        return soft_iou(heat_maps(head, [members], size, config)[0], head.boxes[members])
    if config.score is GroupScore.CLASS:
        return output.logits[members, label]
    return combined_scores(output)[members, label]


def _mapped_box(
    maps: ClassMaps,
    label: int,
    boxes: Tensor,
    regions: tuple[Tensor, RegionMasks] | None,
    config: CalibrationConfig,
) -> Tensor:
    """The box [4] that fits a class map best, alone or together with the region that it bounds."""
    if config.score is GroupScore.REGION and regions is not None and len(regions[0]):
        boxes, masks = regions
        fit = maps.fit_regions(label, masks, config.class_gamma)
        return boxes[(fit * maps.fit(label, boxes, config.class_gamma)).argmax()]
    return boxes[maps.fit(label, boxes, config.class_gamma).argmax()]


def _where(masks: list[Tensor]) -> list[Tensor]:
    """The indices where each mask [N_i] is true; a device is waited for once, for all of them."""
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    orders = (torch.sort(mask.byte(), descending=True, stable=True).indices for mask in masks)
    return [order[:count] for order, count in zip(orders, counts, strict=True)]
