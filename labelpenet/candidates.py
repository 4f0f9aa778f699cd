"""What module 1 believes in before calibration: one object per class (Label-PEnet 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.calibration import Candidate, Proposals, heat_maps, soft_iou
from labelpenet.class_maps import ClassMaps
from labelpenet.config import CalibrationConfig, GroupScore
from labelpenet.models.classification import HeadOutput, combined_scores
from labelpenet.ops import PositiveWeights, box_iou
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
) -> list[Candidate]:
    """One object per class: its top proposal, and what that suppresses.

    A device is waited for twice, for the sizes of all classes and for those of all groups.

    Args:
        output: What module 1 says of R proposals.
        head: The same proposals under their classes.
        classes: That the image has; one that no proposal stands under gives no object.
        size: (height, width) of the image.
        config: How proposals are ranked and grouped.
        maps: Where the whole-image classifier sees each class, if the rules ask for it.
    """
    everyone = _where([head.classes == label for label in classes])
    present = [i for i, members in enumerate(everyone) if len(members)]
    tops, near = [], []
    for i in present:
        label, members = classes[i], everyone[i]
        if config.score is GroupScore.HEAT_MAP:
            heat = heat_maps(head, [members], size, config)[0]
            rank = soft_iou(heat, head.boxes[members])
        elif config.score is GroupScore.CLASS_MAP:
            assert maps is not None
            rank = maps.fit(label, head.boxes[members], config.class_gamma)
        elif config.score is GroupScore.CLASS:
            rank = output.logits[members, label]
        else:
            rank = combined_scores(output)[members, label]
        top = members[rank.argmax()]
        overlap = box_iou(head.boxes[top][None], head.boxes[members])[0]
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
            head.boxes[top],
            everyone[i][group],
            everyone[i],
            margin,
            None if maps is None else maps.at_full_size(label),
        )
        for i, label, (score, margin), top, group in zip(
            present, labels, scores, tops, groups, strict=True
        )
    ]


def _where(masks: list[Tensor]) -> list[Tensor]:
    """The indices where each mask [N_i] is true; a device is waited for once, for all of them."""
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    orders = (torch.sort(mask.byte(), descending=True, stable=True).indices for mask in masks)
    return [order[:count] for order, count in zip(orders, counts, strict=True)]
