"""What module 1 believes in before calibration: the objects of each class (Label-PEnet 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelpenet.calibration import Candidate, Proposals, heat_maps, soft_iou
from labelpenet.class_maps import ClassMaps
from labelpenet.config import CalibrationConfig, Config, GroupScore
from labelpenet.models.classification import HeadOutput, combined_scores
from labelpenet.models.ranking import contrasted, limited, voted
from labelpenet.ops import PositiveWeights, RegionMasks, box_iou, nms_groups
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


class Seen(NamedTuple):
    """What else is known of one image than what module 1 says of its proposals.

    Attributes:
        presence: How likely each of the asked classes is there, [K].
        maps: Where the whole-image classifier sees each class, if the rules ask for it.
        regions: Its regions, their boxes [S, 4] and masks, if the rules ask for them.
    """

    presence: Tensor
    maps: ClassMaps | None = None
    regions: tuple[Tensor, RegionMasks] | None = None


class _Object(NamedTuple):
    """One object of a class: its place among the classes, its box, its top proposal, its score."""

    place: int
    box: Tensor
    top: Tensor
    score: Tensor


def tagged_candidates(
    output: HeadOutput,
    head: Proposals,
    classes: list[int],
    size: tuple[int, int],
    config: Config,
    seen: Seen,
) -> list[Candidate]:
    """The objects of each class: a box, and the proposals of the class around it.

    One per class is its top proposal. Under the rules that read class maps objects are the boxes,
    of proposals or of regions, that fit the map best; there may be several.

    Args:
        output: What module 1 says of R proposals.
        head: The same proposals under their classes.
        classes: K classes that the image has; one that no proposal stands under gives no object.
        size: (height, width) of the image.
        config: How proposals are ranked and grouped.
        seen: Of the image.
    """
    everyone = _where([head.classes == label for label in classes])
    present = [k for k, members in enumerate(everyone) if len(members)]
    if not present:
        return []
    if config.calibration.score in (GroupScore.CLASS_MAP, GroupScore.REGION):
        objects = _mapped_objects(head, classes, everyone, present, config, seen)
    else:
        objects = []
        for k in present:
            members = everyone[k]
            rank = _rank(output, head, classes[k], members, size, config.calibration)
            top = members[rank.argmax()]
            score = head.start[top] * seen.presence[k]
            objects.append(_Object(k, head.boxes[top], top, score))
    near = []
    for found in objects:
        members = everyone[found.place]
        overlap = box_iou(found.box[None], head.boxes[members])[0]
        near.append((overlap > config.calibration.nms_threshold) | (members == found.top))
    groups, best = _where(near), torch.stack([found.top for found in objects])
    labels = [classes[found.place] for found in objects]
    said = torch.softmax(output.logits[best], 1)
    margin = score_margin(said, torch.tensor(labels, device=best.device))
    scores = torch.stack((torch.stack([found.score for found in objects]), margin), 1).tolist()
    return [
        Candidate(
            label,
            score,
            found.box,
            everyone[found.place][group],
            everyone[found.place],
            margin,
            None if seen.maps is None else seen.maps.at_full_size(label),
        )
        for label, (score, margin), found, group in zip(
            labels, scores, objects, groups, strict=True
        )
    ]


def _mapped_objects(
    head: Proposals,
    classes: list[int],
    everyone: list[Tensor],
    present: list[int],
    config: Config,
    seen: Seen,
) -> list[_Object]:
    """The boxes that fit the class maps best, after NMS, best first."""
    rules = config.detection
    asked = [classes[k] for k in present]
    boxes, strength = _mapped(head.boxes, asked, config.calibration, seen)
    scores = contrasted(strength, rules.contrast) * seen.presence[present]
    wanted = scores >= rules.score_threshold
    wanted[scores.argmax(0), torch.arange(len(asked), device=wanted.device)] = True
    row, place = wanted.nonzero(as_tuple=True)
    entry = scores[row, place]
    keep, _ = nms_groups(boxes[row], entry, place, config.calibration.nms_threshold)
    keep = limited(keep, place, range(len(asked)), rules.limit)
    drawn = voted(boxes, strength, row[keep], place[keep], rules.vote_power)
    count = [0] * len(asked)
    objects = []
    for k, box, score in zip(place[keep].tolist(), drawn, entry[keep], strict=True):
        count[k] += 1
        if count[k] <= config.calibration.objects:
            members = everyone[present[k]]
            top = members[box_iou(box[None], head.boxes[members])[0].argmax()]
            objects.append(_Object(present[k], box, top, score))
    return objects


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


def _mapped(
    proposals: Tensor, classes: list[int], config: CalibrationConfig, seen: Seen
) -> tuple[Tensor, Tensor]:
    """Boxes [R, 4], and how well each fits the classes' maps [R, K]; a region, its box as well."""
    maps, gamma = seen.maps, config.class_gamma
    assert maps is not None
    boxes, masks = proposals, None
    if config.score is GroupScore.REGION and seen.regions is not None and len(seen.regions[0]):
        boxes, masks = seen.regions
    fits = [maps.fit(label, boxes, gamma) for label in classes]
    if masks is not None:
        fits = [
            fit * maps.fit_regions(label, masks, gamma)
            for fit, label in zip(fits, classes, strict=True)
        ]
    return boxes, torch.stack(fits, 1)


def _where(masks: list[Tensor]) -> list[Tensor]:
    """The indices where each mask [N_i] is true; a device is waited for once, for all of them."""
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    orders = (torch.sort(mask.byte(), descending=True, stable=True).indices for mask in masks)
    return [order[:count] for order, count in zip(orders, counts, strict=True)]
