"""From an image to the cues of its instances, and from a cue to the segment that fits it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labelpenet.config import Config, MatchingConfig
from labelpenet.data.transforms import resize_image, to_tensor
from labelpenet.icn.classifier import PeakClassifier
from labelpenet.icn.network import scaled, upsampled
from labelpenet.ops import RegionMasks, matching_scores, region_sums, selective_search_regions

_MOST_TRIED = 200  # segments looked at for a union: enough to pass by all parts of one


@dataclass(frozen=True)
class Cues:
    """The peaks of one image.

    Attributes:
        maps: [P, h, w] peak response maps in [0, 1] at the classifier's size of the image.
        labels: [P] int64.
        shares: [P] each peak's response as a share of its class's strongest.
        probabilities: [P] of the class in the image.
    """

    maps: Tensor
    labels: Tensor
    shares: Tensor
    probabilities: Tensor


@torch.no_grad()
def find_cues(
    classifier: PeakClassifier, image: np.ndarray, config: Config, tags: tuple[int, ...] | None
) -> Cues:
    """Peaks of an image's classes and their response maps (eq. 1, 2).

    Args:
        classifier: In evaluation mode.
        image: [H, W, 3] uint8.
        config: All settings.
        tags: The classes that are there; None has the classifier tell.
    """
    device = classifier.classifier.weight.device
    shorter = config.icn.classifier_size
    seen, _ = resize_image(to_tensor(image).to(device), shorter, 3 * shorter)
    responses = classifier.trace(seen)
    probability = responses.maps.mean((1, 2)).sigmoid()
    if tags is None:
        found = probability >= config.icn.class_threshold
        classes = found.nonzero().flatten().tolist() or [int(probability.argmax())]
    else:
        classes = list(tags)
    peaks, shares = classifier.list_peaks(responses.maps, classes)
    maps = smoothed(responses.of(peaks), config.icn.peaks.smooth)
    maps = maps[:, : seen.shape[1], : seen.shape[2]]
    return Cues(
        scaled(maps) ** config.icn.peaks.gamma, peaks[:, 0], shares, probability[peaks[:, 0]]
    )


def propose_segments(image: np.ndarray, config: Config) -> tuple[Tensor, RegionMasks]:
    """Boxes [R, 4] and segments of an image: regions of selective search."""
    boxes, regions = selective_search_regions(
        np.ascontiguousarray(image),
        preset=config.proposals.preset,
        min_side=config.proposals.min_side,
        seed=config.seed,
    )
    limit = min(config.proposals.limit, len(regions))
    offsets = regions.offsets[: limit + 1]
    return boxes[:limit], RegionMasks(regions.counts[: int(offsets[-1])], offsets, regions.size)


def match(maps: Tensor, regions: RegionMasks, config: MatchingConfig) -> Tensor:
    """Scores [P, R] of segments for maps [P, h, w] in [0, 1], of any size: eq. 5 or soft IoU."""
    at_image = at_size(maps, regions.size).cpu()
    if config.score == "overlap":
        return overlaps(at_image, regions)
    return matching_scores(
        at_image,
        regions,
        config.alpha,
        config.beta,
        config.gamma,
        rebalance=config.rebalance,
        shares=config.shares,
    )


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps [P, H, W] under a Gaussian of deviation `sigma` in pixels; nothing lies outside them.

    Example:
        >>> smoothed(torch.tensor([[[0.0, 1.0, 0.0]]]), 0.5)
        tensor([[[0.0837, 0.6187, 0.0837]]])
    """
    if sigma == 0 or len(maps) == 0:
        return maps
    reach = math.ceil(3 * sigma)
    weights = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    weights = torch.exp(-weights.square() / (2 * sigma**2))
    weights = weights / weights.sum()
    rows = F.conv2d(maps[:, None], weights[None, None, :, None], padding=(reach, 0))
    return F.conv2d(rows, weights[None, None, None, :], padding=(0, reach))[:, 0]


def at_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps [P, h, w] at another size, [P, H, W]."""
    if len(maps) == 0:
        return maps.new_zeros(0, *size)
    like = maps.new_empty(0, 1, *size)
    return upsampled(maps[:, None], like)[:, 0].clamp(0, 1)


def overlaps(maps: Tensor, regions: RegionMasks) -> Tensor:
    """Soft IoU [P, R] of maps [P, H, W] in [0, 1] and segments."""
    inside, areas = region_sums(maps, regions)
    either = maps.sum((1, 2))[:, None] + areas - inside
    return inside / either.clamp(min=1)


def union_of_best(scores: Tensor, regions: RegionMasks, count: int) -> Tensor:
    """The pseudo label: the union of the best segments, those inside a taken one passed by (3.2).

    Args:
        scores: [R] matching scores.
        regions: R segments.
        count: k, how many make the union.

    Returns:
        [H, W] bool; empty where there is no segment.
    """
    height, width = regions.size
    union = torch.zeros(height, width, dtype=torch.bool)
    taken: list[Tensor] = []
    for index in scores.argsort(descending=True, stable=True)[:_MOST_TRIED].tolist():
        if len(taken) == count or scores[index] == -torch.inf:
            break
        mask = regions.mask(index)
        if not any(bool((mask <= other).all()) for other in taken):
            taken.append(mask)
            union |= mask
    return union
