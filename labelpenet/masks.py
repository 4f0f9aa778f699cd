"""From confidence maps to masks, and from masks to boxes."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from labelpenet.config import CrfConfig
from labelpenet.ops import BilateralKernel, GaussianKernel, dense_crf
from labelpenet.quality import paired_iou

_CRUMB = 0.1  # a piece of a mask below this share of its largest one is dropped


def refine_masks(
    image: np.ndarray, confidence: Tensor, threshold: float, config: CrfConfig
) -> tuple[Tensor, Tensor]:
    """Confidence maps [K, H, W] in [0, 1] -> masks [K, H, W] bool by a two-label dense CRF.

    The probability of object is 0 at confidence 0, one half at `threshold` and 1 at confidence 1,
    linear between, then drawn into [1 - config.confidence, config.confidence]. K maps share the
    image's lattice. Where the CRF wipes an object out, the thresholded map stands in. Then gaps are
    closed, if the settings say so (see `tidied`).

    Returns:
        The masks, and how much of each the CRF left as it was: IoU [K] of the thresholded map and
        the CRF's mask, 0 for a wiped out one, NaN without a CRF or an object.
    """
    if len(confidence) == 0:
        return torch.zeros(confidence.shape, dtype=torch.bool), torch.zeros(0)
    raw = confidence >= threshold
    if config.iterations == 0:
        return tidied(raw, config.close), torch.full((len(raw),), torch.nan)
    refined = dense_crf(
        torch.from_numpy(np.ascontiguousarray(image)).to(confidence.device),
        _unary(confidence, threshold, config.confidence),
        iterations=config.iterations,
        gaussian=GaussianKernel(config.gaussian_sxy, config.gaussian_compat),
        bilateral=BilateralKernel(
            config.bilateral_sxy, config.bilateral_srgb, config.bilateral_compat
        ),
    )
    masks = refined[:, 1] > refined[:, 0]
    change = paired_iou(raw, masks)
    masks = torch.where(masks.flatten(1).any(1)[:, None, None], masks, raw)
    return tidied(masks, config.close), change


def _unary(confidence: Tensor, threshold: float, sure: float) -> Tensor:
    """Energies [K, 2, H, W] of background and object, see refine_masks.

    In place where it can be: twenty maps of a photo of 12 megapixels are a gigabyte.
    """
    low = (0.5 * confidence).div_(threshold)
    high = (confidence - threshold).mul_(0.5).div_(1 - threshold).add_(0.5)
    torch.where(confidence < threshold, low, high, out=low)
    del high
    probability = low.mul_(2 * sure - 1).add_(1 - sure).float()
    both = torch.stack((1 - probability, probability), 1)
    return both.clamp_min_(1e-5).log_().neg_()


def tidied(masks: Tensor, reach: int) -> Tensor:
    """Masks [K, H, W] bool without the gaps and crumbs that a CRF leaves where colours vary.

    Gaps are closed (dilation, then erosion, by a square), holes are filled, and pieces below a
    tenth of the largest are dropped. Found on the host: masks on a device are waited for, once.

    Args:
        masks: [K, H, W] bool.
        reach: The square's, in pixels to each side; 0 leaves the masks as they are.

    Example:
        >>> ring = torch.ones(1, 5, 5, dtype=torch.bool)
        >>> ring[0, 1:4, 2] = False
        >>> bool(tidied(ring, 1).all())
        True
    """
    if reach == 0 or len(masks) == 0:
        return masks
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    tidy = []
    for mask in masks.cpu().numpy().astype(np.uint8):
        # OpenCV takes what is beyond the edge for part of the mask when it erodes
        closed = cv2.morphologyEx(np.pad(mask, reach), cv2.MORPH_CLOSE, square)
        closed = closed[reach:-reach, reach:-reach]
        _, parts, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
        areas = stats[1:, cv2.CC_STAT_AREA]
        large = np.concatenate(([False], areas >= _CRUMB * areas.max(initial=0)))
        outside = np.pad(~large[parts], 1, constant_values=True).astype(np.uint8)
        _, around = cv2.connectedComponents(outside, connectivity=4)
        tidy.append(around[1:-1, 1:-1] != around[0, 0])
    return torch.from_numpy(np.stack(tidy)).to(masks.device)


def tight_boxes(masks: Tensor, fallback: Tensor) -> Tensor:
    """Boxes [K, 4] around the largest connected part of each mask; `fallback` for an empty one.

    Speckles far from the object would blow the box up; they stay in the mask. The parts are found
    on the host: masks on a device are waited for, once.
    """
    boxes = fallback.float().cpu().clone()
    for k, mask in enumerate(masks.cpu().numpy().astype(np.uint8)):
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if count > 1:
            part = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            x, y, width, height = (int(v) for v in stats[part, :4])
            boxes[k] = boxes.new_tensor((x, y, x + width, y + height))
    return boxes.to(fallback.device)
