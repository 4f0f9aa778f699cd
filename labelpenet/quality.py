"""Label quality without ground truth: what a label's own making tells about it.

The figures of `labelpenet.types.Quality`, each [K] for K objects of an image, NaN where unknown.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from labelpenet.types import Instances, Quality


def peak_support(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's mass that lies inside the mask; NaN for a map of zeros.

    Low where a mask left what the network looked at, or where it looked everywhere. Modules 1 and 2
    give their instance attention maps, modules 3 and 4, which have none, their mask confidence.

    Args:
        maps: [K, H, W] >= 0.
        masks: [K, H, W] bool.

    Example:
        >>> maps = torch.tensor([[[3.0, 1.0]], [[0.0, 0.0]]])
        >>> peak_support(maps, torch.tensor([[[True, False]], [[True, True]]])).tolist()
        [0.75, nan]
    """
    share = torch.empty(len(maps), device=maps.device)
    # one map at a time: in float64, all of them at full size would take most of a photo's memory.
    # Two rows: torch splits the sum of a single one among its threads, and that rounds otherwise
    both = torch.empty((2, maps[:1].numel()), dtype=torch.float64, device=maps.device)
    for k, (one, mask) in enumerate(zip(maps.detach(), masks, strict=True)):
        both[0] = one.flatten()
        torch.mul(both[0], mask.flatten(), out=both[1])
        whole, inside = both.sum(1)
        share[k] = inside / whole  # 0 / 0 is NaN
    return share


def paired_iou(masks: Tensor, others: Tensor) -> Tensor:
    """IoU of each of K masks [K, H, W] bool with its partner; NaN where both are empty.

    Example:
        >>> masks = torch.tensor([[[True, True, False]], [[False, False, False]]])
        >>> others = torch.tensor([[[False, True, False]], [[False, False, False]]])
        >>> paired_iou(masks, others).tolist()
        [0.5, nan]
    """
    shared = (masks & others).flatten(1).sum(1)
    union = (masks | others).flatten(1).sum(1)
    iou: Tensor = shared / union
    return iou


def score_margin(probability: Tensor, labels: Tensor) -> Tensor:
    """How far ahead of the best other class each label is, for the proposal that is the object.

    Modules 2 to 4 count background among the others; module 1 knows none. Without another class
    the margin is the probability itself.

    Args:
        probability: [K, C] of all classes, softmax scores of each object's best proposal.
        labels: [K] int64.

    Returns:
        [K] in [-1, 1].

    Example:
        >>> score_margin(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]), torch.tensor([0, 1]))
        tensor([ 0.2500, -0.2500])
    """
    own = labels[:, None]
    others = probability.scatter(1, own, 0.0).max(1).values
    margin: Tensor = probability.gather(1, own)[:, 0] - others
    return margin


def agreement(found: Instances, other: Instances) -> Tensor:
    """Each object's best mask IoU with what another module found of its class; 0 without any.

    Args:
        found: K objects with masks.
        other: Objects of the same image, with masks.

    Returns:
        [K] in [0, 1]; NaN for an empty mask, where the other one's are empty too.
    """
    assert found.masks is not None
    assert other.masks is not None
    best = torch.zeros(len(found))
    for k, label in enumerate(found.labels.tolist()):
        masks = other.masks[other.labels == label]
        if len(masks):
            iou = paired_iou(found.masks[k].expand_as(masks), masks)
            known = iou[~iou.isnan()]
            best[k] = known.max() if len(known) else torch.nan
    return best


def with_agreement(found: Instances, other: Instances) -> Instances:
    """The objects, with their agreement with another module's noted."""
    quality = found.quality or Quality.of(len(found))
    quality = dataclasses.replace(quality, agreement=agreement(found, other))
    return dataclasses.replace(found, quality=quality)
