"""Attention drawn into boxes and object heat-maps, one box at a time, as they are defined."""

from __future__ import annotations

import torch
from torch import Tensor


def project_attention(
    maps: Tensor,
    boxes: Tensor,
    index: Tensor,
    num_maps: int,
    size: tuple[int, int],
    mode: str = "bilinear",
) -> Tensor:
    """Same arguments as `labelpenet.ops.project_attention`; [M, H, W] in the dtype of `maps`."""
    out = maps.new_zeros((num_maps, *size))
    for i in range(maps.shape[0]):
        rows, columns = _pixels(boxes[i], size)
        x1, y1, x2, y2 = (float(v) for v in boxes[i])
        across = _interpolation(columns, x1, x2, maps.shape[2]).to(maps.dtype)
        down = _interpolation(rows, y1, y2, maps.shape[1]).to(maps.dtype)
        drawn = down @ maps[i] @ across.T
        if mode == "mass" and drawn.sum() > 0:
            drawn = drawn * (maps[i].sum() / drawn.sum())
        out[index[i], rows[:, None], columns] += drawn
    return out


def accumulate_boxes(
    scores: Tensor, boxes: Tensor, index: Tensor, num_maps: int, size: tuple[int, int]
) -> Tensor:
    """Same arguments as `labelpenet.ops.accumulate_boxes`; [M, H, W] in the dtype of `scores`."""
    out = scores.new_zeros((num_maps, *size))
    for i in range(scores.shape[0]):
        rows, columns = _pixels(boxes[i], size)
        out[index[i], rows[:, None], columns] += scores[i]
    return out


def _pixels(box: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows and the columns of the image whose centres lie in the box."""
    x1, y1, x2, y2 = box.double()
    y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in size)
    return torch.nonzero((y >= y1) & (y < y2))[:, 0], torch.nonzero((x >= x1) & (x < x2))[:, 0]


def _interpolation(pixels: Tensor, low: float, high: float, cells: int) -> Tensor:
    """[pixels, cells] float64: the weight of every cell in every pixel, a hat around its centre."""
    u = (pixels.double() + 0.5 - low) / (high - low) * cells - 0.5
    hat: Tensor = 1 - (u.clamp(0, cells - 1)[:, None] - torch.arange(cells)).abs()
    return hat.clamp(min=0)
