"""Proposal calibration (Label-PEnet 3.2, fig. 2): proposals of a class -> a mask, a box, a weight.

Frames: `image` and every box are in the original image's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labelpenet.config import BoxRule, CalibrationConfig, Combine, Config
from labelpenet.masks import refine_masks, tight_boxes
from labelpenet.ops import (
    PositiveWeights,
    accumulate_boxes,
    excitation_maps,
    positive_weights,
    project_attention,
)
from labelpenet.quality import peak_support
from labelpenet.types import Quality

# Products of up to 8 rows (5 on some CPUs), and the last rows of an odd number, were seen to round
# unlike others: rows are filled up to a multiple of this.
_ROWS = 16
_ONE = 1 << 30  # of a map in [0, 1] in fixed point


@dataclass(frozen=True)
class Candidate:
    """An object that a module believes in, before calibration.

    Attributes:
        label: Its class.
        score: Its weight W, in [0, 1].
        box: [4] its own box (the top proposal, or a regressed one).
        members: Indices of the entries in its group: what it suppressed, and itself.
        heat: Indices of the entries that make its object heat-map.
        margin: Its score margin (see `labelpenet.quality`).
        class_map: [H, W] of its class in [0, 1]; read where the rules ask for it.
    """

    label: int
    score: float
    box: Tensor
    members: Tensor
    heat: Tensor
    margin: float = float("nan")
    class_map: Tensor | None = None


@dataclass(frozen=True)
class Proposals:
    """What a head said of R proposals, as E entries: a proposal under a class.

    Attributes:
        boxes: [E, 4].
        classes: [E] int64, c_i.
        start: [E] probability of c_i, the start signal of Excitation BP.
        heat: [E] >= 0, what each adds to its class's object heat-map.
        rows: [E] int64, the entry's proposal: its row of the activations.
        activations: The head's: [R, C, 7, 7], [R, D], [R, D]; float32, or what autocast made.
        weights: Of fc6, fc7 and the classifier, for Excitation BP.
    """

    boxes: Tensor
    classes: Tensor
    start: Tensor
    heat: Tensor
    rows: Tensor
    activations: Sequence[Tensor]
    weights: PositiveWeights


@dataclass(frozen=True)
class Calibrated:
    """K calibrated objects and the pictures of the way there.

    Attributes:
        masks: [K, H, W] bool.
        boxes: [K, 4].
        attention: [K, H, W] instance attention maps, scaled to [0, 1].
        heat_map: [K, H, W] object heat-maps, scaled to [0, 1].
        confidence: [K, H, W] what the CRF saw.
        quality: How far each object may be trusted.
    """

    masks: Tensor
    boxes: Tensor
    attention: Tensor
    heat_map: Tensor
    confidence: Tensor
    quality: Quality


def head_weights(layers: Sequence[nn.Linear], config: Config) -> PositiveWeights:
    """W+ of a head's fc6, fc7 and classifier, in the precision that its products are made in."""
    dtype = torch.bfloat16 if config.train.precision == "bf16" else torch.float32
    return positive_weights([layer.weight.detach().to(dtype) for layer in layers])


@torch.no_grad()
def calibrate(
    image: np.ndarray,
    proposals: Proposals,
    candidates: Sequence[Candidate],
    config: CalibrationConfig,
    attention: Tensor | None = None,
) -> Calibrated:
    """Attention and heat-map of each candidate, combined, then dense CRF -> masks and boxes.

    Only proposals that some group holds are propagated back: no other can change the result.

    Args:
        image: [H, W, 3] uint8.
        proposals: What the head said.
        candidates: K objects.
        config: The rules.
        attention: [K, H, W] >= 0 in place of Excitation BP's.
    """
    size = (image.shape[0], image.shape[1])
    if attention is None:
        attention = _attention(proposals, candidates, size, config)
    attention = scale_to_one(attention)
    heat_map = heat_maps(proposals, [c.heat for c in candidates], size, config)
    if config.combine in (Combine.BOX, Combine.CLASS_MAP):
        confidence = _filled([c.box for c in candidates], size)
        if config.combine is Combine.CLASS_MAP:
            for one, candidate in zip(confidence, candidates, strict=True):
                if candidate.class_map is not None:
                    one *= candidate.class_map.sqrt()
            confidence = scale_to_one(confidence) ** config.gamma
    else:
        confidence = scale_to_one(combine(attention, heat_map, config.combine)) ** config.gamma
    masks, change = refine_masks(image, confidence, config.threshold, config.crf)
    quality = Quality.of(
        len(candidates),
        peak_support=peak_support(attention, masks),
        crf_change=change,
        score_margin=torch.tensor([c.margin for c in candidates]),
    )
    boxes = torch.stack([c.box for c in candidates]) if candidates else torch.zeros((0, 4))
    if config.box is BoxRule.MASK:
        boxes = tight_boxes(masks, boxes)
    elif config.box is BoxRule.PROPOSAL:
        boxes = best_boxes(confidence, proposals, candidates)
    return Calibrated(masks, boxes, attention, heat_map, confidence, quality)


def _attention(
    proposals: Proposals,
    candidates: Sequence[Candidate],
    size: tuple[int, int],
    config: CalibrationConfig,
) -> Tensor:
    """Instance attention maps [K, H, W]: the groups' proposal maps, each laid into its box."""
    members = [c.members for c in candidates]
    if not members:
        return torch.zeros((0, *size))
    member, owner = torch.cat(members), owners(members)
    used, place = member, torch.arange(len(member), device=member.device)
    if len(members) > 1:  # they may share some; how many holds up a device
        used, place = torch.unique(member, return_inverse=True)
    maps = proposal_maps(proposals, used)[place]
    boxes = proposals.boxes[member]
    return project_attention(maps, boxes, owner, len(members), size, mode=config.projection)


def proposal_maps(proposals: Proposals, entries: Tensor) -> Tensor:
    """Proposal attention maps [E, 7, 7] of some entries, by their indices [E].

    In the precision of the weights. Which other entries are asked for changes no bit of a map: not
    promised by torch's matrix products, but tested for layers of whole tens of units on CPUs.
    """
    padding = -len(entries) % _ROWS
    padded = torch.cat((entries, entries[:1].expand(padding)))
    rows = proposals.rows[padded]
    maps = excitation_maps(
        [a[rows].to(proposals.weights.classifier.dtype) for a in proposals.activations],
        proposals.weights,
        proposals.classes[padded],
        proposals.start[padded],
    )
    return maps[: len(entries)]


def owners(groups: Sequence[Tensor]) -> Tensor:
    """The group of each element of `torch.cat(groups)`; waits for no device."""
    return torch.cat([torch.full_like(group, k) for k, group in enumerate(groups)])


def heat_maps(
    proposals: Proposals,
    groups: Sequence[Tensor],
    size: tuple[int, int],
    config: CalibrationConfig,
) -> Tensor:
    """Object heat-maps [K, H, W] in [0, 1]: each group's scores, summed over its boxes."""
    if not groups:
        return torch.zeros((0, *size))
    index, owner = torch.cat(list(groups)), owners(groups)
    boxes = proposals.boxes[index]
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1)
    scores = proposals.heat[index] / area**config.heat_area_power
    return scale_to_one(accumulate_boxes(scores, boxes, owner, len(groups), size))


def _filled(boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Boxes [K][4] as maps [K, H, W] of ones inside, zeros outside."""
    maps = torch.zeros((len(boxes), *size))
    for one, box in zip(maps, boxes, strict=True):
        x1, y1, x2, y2 = box.round().long().tolist()
        one[max(y1, 0) : max(y2, y1 + 1), max(x1, 0) : max(x2, x1 + 1)] = 1
    return maps if not boxes else maps.to(boxes[0].device)


def combine(attention: Tensor, heat_map: Tensor, rule: Combine) -> Tensor:
    """One confidence map [K, H, W] from two, both in [0, 1]."""
    if rule is Combine.ATTENTION:
        return attention
    if rule is Combine.HEAT_MAP:
        return heat_map
    product = attention * heat_map
    return product.sqrt() if rule is Combine.GEOMETRIC else product


def scale_to_one(maps: Tensor) -> Tensor:
    """Maps [K, H, W] >= 0, each divided by its largest value; an all-zero map stays."""
    if len(maps) == 0:
        return maps
    top = maps.flatten(1).max(1).values[:, None, None]
    return torch.where(top > 0, maps / top, 0.0).clamp_(0, 1)


def best_boxes(confidence: Tensor, proposals: Proposals, candidates: Sequence[Candidate]) -> Tensor:
    """For each confidence map the box, among its group's, of the highest soft IoU with it."""
    if not candidates:
        return torch.zeros((0, 4))
    boxes = []
    for soft, candidate in zip(confidence, candidates, strict=True):
        choice = proposals.boxes[candidate.heat]
        boxes.append(choice[soft_iou(soft, choice).argmax()])
    return torch.stack(boxes)


def soft_iou(soft: Tensor, boxes: Tensor) -> Tensor:
    """IoU [R] between a map [H, W] in [0, 1] and boxes [R, 4], each box a map of ones."""
    height, width = soft.shape
    # fixed point: a device's running sum of floats is not the same in every run
    table = torch.zeros((height + 1, width + 1), dtype=torch.int64, device=soft.device)
    table[1:, 1:] = (soft.double() * _ONE).round().long().cumsum(0).cumsum(1)
    x1, y1, x2, y2 = boxes.round().long().unbind(1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    inside = table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]
    either = (x2 - x1) * (y2 - y1) * _ONE + table[-1, -1] - inside
    return (inside.double() / either.clamp(min=1).double()).float()


def pictures(result: Calibrated) -> dict[str, Tensor]:
    """The maps of a calibration as one picture each: the largest value over the objects."""
    if len(result.masks) == 0:
        return {}
    return {
        "attention": result.attention.max(0).values.cpu(),
        "heat-map": result.heat_map.max(0).values.cpu(),
        "CRF mask": result.masks.any(0).float().cpu(),
    }
