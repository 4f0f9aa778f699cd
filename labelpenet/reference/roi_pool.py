"""ROI max pooling, bin by bin from its definition."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _nearest(value: Tensor) -> int:
    """Round half away from zero; Python's round() goes half to even."""
    x = float(value)
    whole = math.trunc(x)
    return whole + int(math.copysign(1, x)) if abs(x - whole) >= 0.5 else whole


def _spans(low: Tensor, high: Tensor, scale: Tensor, bins: int, size: int) -> list[range]:
    """The cells of each bin along one axis, in the arithmetic of the dtype of `low`."""
    start, end = _nearest(low * scale), _nearest(high * scale)
    width = low.new_tensor(max(end - start + 1, 1)) / low.new_tensor(bins)
    spans = []
    for i in range(bins):
        begin = start + int(torch.floor(low.new_tensor(i) * width))
        stop = start + int(torch.ceil(low.new_tensor(i + 1) * width))
        spans.append(range(min(max(begin, 0), size), min(max(stop, 0), size)))
    return spans


def roi_pool(
    features: Tensor, boxes: Tensor, output_size: tuple[int, int], spatial_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Pools [N, C, H, W] under `boxes` [R, 5] to ([R, C, h, w], argmax [R, C, h, w] int64).

    Coordinates are computed in the dtype of `boxes`. Differentiable in `features` by torch itself.

    Source: R. Girshick, Fast R-CNN, ICCV 2015, section 2.1, and its Caffe layer.
    """
    height, width = features.shape[2:]
    scale = boxes.new_tensor(spatial_scale)
    lowest = torch.tensor(-torch.finfo(torch.float32).max, dtype=features.dtype)
    values, places = [], []
    for index, x1, y1, x2, y2 in boxes:
        for rows in _spans(y1, y2, scale, output_size[0], height):
            for columns in _spans(x1, x2, scale, output_size[1], width):
                if not rows or not columns:
                    values.append(features.new_zeros(features.shape[1]))
                    places.append(torch.full((features.shape[1],), -1))
                    continue
                cells = (torch.tensor(rows)[:, None] * width + torch.tensor(columns)).flatten()
                inside = features[int(index)].flatten(1)[:, cells]
                inside = torch.where(inside > lowest, inside, lowest)
                # the first of equal maxima, row by row
                first = (inside == inside.amax(1, keepdim=True)).int().argmax(1)
                best = inside.gather(1, first[:, None])[:, 0]
                values.append(best)
                places.append(torch.where(best > lowest, cells[first], -1))
    shape = (len(boxes), *output_size, features.shape[1])
    if not values:
        empty = features.new_zeros(shape).movedim(-1, 1)
        return empty, empty.long()
    return (
        torch.stack(values).reshape(shape).movedim(-1, 1),
        torch.stack(places).reshape(shape).movedim(-1, 1),
    )
