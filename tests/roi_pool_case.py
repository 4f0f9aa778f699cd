"""What the tests of ROI pooling pool."""

from __future__ import annotations

import torch
from torch import Tensor


def case(
    n: int = 2, c: int = 19, h: int = 11, w: int = 23, rois: int = 12, seed: int = 0
) -> tuple[Tensor, Tensor, float]:
    """Features, boxes that also leave the image on every side, and a scale of 1/8."""
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(n, c, h, w, generator=g)
    size = torch.tensor([8.0 * w, 8.0 * h])
    a, b = (torch.rand(2, rois, 2, generator=g) * 1.4 - 0.2) * size
    index = torch.randint(0, n, (rois, 1), generator=g)
    return features, torch.cat((index, torch.minimum(a, b), torch.maximum(a, b)), 1), 1 / 8
