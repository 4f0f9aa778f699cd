"""Which of an image's boxes is an object: strengths become scores, kept boxes take a vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from labelpenet.ops import box_iou

_LEAST = 1e-6  # certainty cannot be weighed against an opinion
_VOTE_IOU = 0.5  # below it a box is about something else


class Prior(NamedTuple):
    """What the whole-image classifier knows before any box is looked at.

    Attributes:
        fit: Boxes [R, 4] of the image -> how well each fits each class's map, [R, C] in [0, 1].
        presence: How likely each class is in the image, [C].
    """

    fit: Callable[[Tensor], Tensor] | None = None
    presence: Tensor | None = None


def blended(
    probability: Tensor, fit: Tensor | None, map_weight: float, object_weight: float
) -> Tensor:
    """Strengths [R, C] of an image's boxes: a weighted geometric mean of what is known of them.

    Args:
        probability: [R, C + 1] of the head; the last column is background.
        fit: [R, C] how well each box fits each class's map, in [0, 1]; None counts for nothing.
        map_weight: Of the fit.
        object_weight: Of the probability of an object, whatever its class. What is left to 1 is
            the weight of the probability of the class.

    Example:
        >>> head, fit = torch.tensor([[0.2, 0.2, 0.6]]), torch.tensor([[0.9, 0.4]])
        >>> blended(head, fit, 0.5, 0.25)  # 0.9 ** 0.5 * 0.4 ** 0.25 * 0.2 ** 0.25
        tensor([[0.5045, 0.3364]])
    """
    known = [
        (probability[:, :-1], 1 - map_weight - object_weight),
        (1 - probability[:, -1:], object_weight),
    ]
    if fit is not None:
        known.append((fit, map_weight))
    strength = torch.ones_like(probability[:, :-1])
    for share, weight in known:
        if weight > 1e-9:  # what rounding leaves of 1 is no weight
            strength = strength * share.clamp(min=0) ** weight
    return strength


def presence(known: Tensor | None, probability: Tensor, share: float) -> Tensor:
    """How likely each class is in an image [C]: a weighted mean, in log odds, of two opinions.

    Args:
        known: What the whole-image classifier says, [C]; None where there is none.
        probability: Of the head for R boxes, [R, C + 1]; its surest box of a class speaks for it.
        share: Of the head in the mean.

    Example:
        >>> head = torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.1, 0.7]])
        >>> presence(torch.tensor([0.9, 0.1]), head, 0.5)
        tensor([0.7500, 0.1000])
    """
    if known is not None and (share == 0 or len(probability) == 0):
        return known
    said = probability[:, :-1]
    surest = said.amax(0) if len(said) else said.new_zeros(said.shape[1])
    if known is None:
        return surest
    odds = (1 - share) * _log_odds(known) + share * _log_odds(surest)
    return torch.sigmoid(odds)


def _log_odds(probability: Tensor) -> Tensor:
    return torch.logit(probability.float(), eps=_LEAST)


def contrasted(strength: Tensor, power: float) -> Tensor:
    """Strengths [R, C] of an image's boxes -> scores: each times its share of its class's best.

    How strong the best box of an image is says little of whether it is right; how far the others
    stay behind it does.

    Args:
        strength: At least 0.
        power: The share is raised to it; 0 leaves strengths as they are.

    Example:
        >>> contrasted(torch.tensor([[0.4], [0.2]]), 1.0)
        tensor([[0.4000],
                [0.1000]])
    """
    if power == 0 or len(strength) == 0:
        return strength
    best = strength.amax(0).clamp(min=torch.finfo(strength.dtype).tiny)
    return strength * (strength / best) ** power


def voted(boxes: Tensor, strength: Tensor, rows: Tensor, labels: Tensor, power: float) -> Tensor:
    """Each kept box as the mean of the boxes around it (Gidaris and Komodakis, 2015).

    A box's weight is its strength to a power; those below an IoU of 0.5 with the kept one have no
    vote.

    Args:
        boxes: [R, 4].
        strength: [R, C], at least 0.
        rows: [D] the kept boxes' places.
        labels: [D] the classes they were kept for.
        power: 0 leaves them as they are.

    Returns:
        [D, 4].

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 12], [50.0, 50, 60, 60]])
        >>> one, zero = torch.ones(3, 1), torch.zeros(1, dtype=torch.int64)
        >>> voted(boxes, one, zero, zero, 1.0)
        tensor([[ 0.,  0., 10., 11.]])
    """
    own = boxes[rows]
    if power == 0 or len(rows) == 0:
        return own
    said = strength[:, labels].T  # [D, R]
    near = box_iou(own, boxes) >= _VOTE_IOU
    # shares of the strongest voter's, so that no power of them overflows
    best = said.where(near, 0.0).amax(1, keepdim=True).clamp(min=torch.finfo(said.dtype).tiny)
    weight = ((said / best) ** power).where(near, 0.0)
    total = weight.sum(1, keepdim=True)
    return torch.where(total > 0, weight @ boxes / total.clamp(min=1e-12), own)


def limited(keep: Tensor, labels: Tensor, tags: Sequence[int], limit: int) -> Tensor:
    """The first `limit` of `keep` (best first); the best one of every tag counts before others.

    Args:
        keep: [K] places of entries.
        labels: [E] the entries' classes.
        tags: Classes that are known to be there.
        limit: How many are wanted.
    """
    chosen = _best_of(labels[keep], tags)
    others = (~chosen).nonzero().flatten()
    chosen[others[: max(limit - int(chosen.sum()), 0)]] = True
    return keep[chosen]


def sure_enough(scores: Tensor, labels: Tensor, least: float, tags: Sequence[int]) -> Tensor:
    """Which of some detections (best first) are kept [D]: at or above `least`, or a tag's best one.

    Args:
        scores: [D].
        labels: [D].
        least: The score.
        tags: Classes that are known to be there.
    """
    return (scores >= least) | _best_of(labels, tags)


def _best_of(labels: Tensor, tags: Sequence[int]) -> Tensor:
    """Which of some detections [D], best first, is the first of a tag."""
    best = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    for tag in tags:
        best[(labels == tag).nonzero().flatten()[:1]] = True
    return best
