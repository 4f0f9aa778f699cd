"""Proposal matching (ICN, eq. 5) on dense masks, term by term."""

from __future__ import annotations

import torch
from torch import Tensor


def region_sums(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Sums [M, R] of maps [M, H, W] over masks [R, H, W] bool, and the masks' areas [R]."""
    inside = masks.flatten(1).to(maps.dtype)
    return maps.flatten(1) @ inside.T, masks.flatten(1).sum(1)


def contour(maps: Tensor) -> Tensor:
    """E(V): what the smallest value of a pixel's 3 x 3 neighbours in the image lacks to its own."""
    count, height, width = maps.shape
    out = torch.zeros_like(maps)
    for m in range(count):
        for y in range(height):
            for x in range(width):
                around = maps[m, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                out[m, y, x] = maps[m, y, x] - around.min()
    return out


def matching_scores(
    maps: Tensor,
    masks: Tensor,
    alpha: float = 0.95,
    beta: float = 0.1,
    gamma: float = -0.8,
    *,
    rebalance: bool = True,
    shares: bool = False,
) -> Tensor:
    """`labelpenet.ops.matching_scores` on dense masks [R, H, W]; [M, R]."""
    scores = maps.new_zeros(len(maps), len(masks))
    edges = contour(maps)
    for m, (seen, edge) in enumerate(zip(maps, edges, strict=True)):
        for r, mask in enumerate(masks):
            area = int(mask.sum())
            if area == 0:
                scores[m, r] = -torch.inf
                continue
            inside = (seen * mask).sum()
            outline = (edge * mask).sum()
            background = ((1 - seen) * mask).sum()
            if shares:
                outline = outline / edge.sum() if edge.sum() > 0 else outline
                background = background / area
            if rebalance:
                inside = inside / area
            elif shares:
                inside = inside / seen.sum() if seen.sum() > 0 else inside
            scores[m, r] = alpha * inside + beta * outline + gamma * background
    return scores
