"""Random inputs of the sizes that a photo gives, the same at every run."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PHOTO = "LABELPENET_BENCH_PHOTO"  # the environment variable that names a photo of the user's


def boxes(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """[count, 4] float32 around few centres, as proposals are, at least 20 pixels wide and high.

    Of 1,600 on 600 x 800, NMS at 0.3 with random scores keeps 421; of the 878 to 1,499 that
    selective search proposes for four VOC photos it keeps 94 to 156.
    """
    random = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float32)
    centres = torch.rand(12, 2, generator=random) * size
    chosen = torch.randint(12, (count,), generator=random)
    middle = centres[chosen] + 0.1 * size * torch.randn(count, 2, generator=random)
    side = 20 + (0.6 * size - 20) * torch.rand(count, 2, generator=random) ** 2
    low = torch.minimum((middle - side / 2).clamp(min=0), size - 20)
    high = torch.minimum(low + side, size)
    return torch.cat([low, high], dim=1)


def scores(count: int, seed: int = 1) -> Tensor:
    """[count] float32 in (0, 1), all different: ties are no part of a benchmark."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return (order + 1).float() / (count + 1)


def labels(count: int, classes: int, seed: int = 2) -> Tensor:
    """[count] int64 in [0, classes)."""
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def photo(height: int, width: int, seed: int = 3) -> Tensor:
    """[height, width, 3] uint8: smooth blobs with edges and some noise, or the photo of `PHOTO`."""
    chosen = os.environ.get(PHOTO)
    if chosen:
        image = Image.open(chosen).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(image))
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=random)
    fine = torch.rand(1, 3, height // 8, width // 8, generator=random)
    resize = torch.nn.functional.interpolate
    blobs = 0.7 * resize(coarse, (height, width)) + 0.2 * resize(
        fine, (height, width), mode="bilinear"
    )
    blobs = blobs + 0.05 * torch.rand(1, 3, height, width, generator=random)
    return (255 * blobs[0].permute(1, 2, 0)).clamp(0, 255).to(torch.uint8).contiguous()
