"""The views of an image that the trunk sees: its scales, and their mirror images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelpenet.config import Config
from labelpenet.data.transforms import flip_image, resize_image
from labelpenet.models.boxes import Frame


class View(NamedTuple):
    """Trunk features [1, C, h, w] of an image at one scale, and where they lie in it."""

    trunk: Tensor
    frame: Frame


def autocast(config: Config, device: torch.device) -> AbstractContextManager[object]:
    """bf16 in the matrix products where the settings ask for it."""
    if config.train.precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def resized(
    image: np.ndarray, scales: Sequence[int], config: Config, device: torch.device
) -> list[tuple[Tensor, Frame]]:
    """The image [3, h, w] at each scale, and mirrored where that is asked for.

    A device gets bytes and resizes.

    Args:
        image: [H, W, 3] uint8.
        scales: Shorter sides in pixels; none is the image's own.
        config: `test_longest` caps the longer side, `test_flip` asks for the mirror images.
        device: Where the views are wanted.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)
    every = []
    for shorter in scales or (min(tensor.shape[-2:]),):
        smaller, scale = resize_image(tensor, shorter, config.test_longest)
        for flipped in (False, True) if config.test_flip else (False,):
            seen = flip_image(smaller) if flipped else smaller
            frame = Frame((int(seen.shape[-2]), int(seen.shape[-1])), scale, flipped)
            every.append((seen, frame))
    return every


def see(
    trunk: Callable[[Tensor], Tensor],
    images: Sequence[np.ndarray],
    config: Config,
    device: torch.device,
) -> list[list[View]]:
    """The views of each image at the test scales; those of one size go through the trunk together.

    The features of an image do not depend on what else is in the batch but for rounding.
    """
    every = [resized(image, config.test_scales, config, device) for image in images]
    alike: dict[torch.Size, list[tuple[int, int]]] = {}
    for i, views in enumerate(every):
        for k, (seen, _) in enumerate(views):
            alike.setdefault(seen.shape, []).append((i, k))
    features: dict[tuple[int, int], Tensor] = {}
    for places in alike.values():
        found = trunk(torch.stack([every[i][k][0] for i, k in places]))
        features |= zip(places, found.split(1), strict=True)
    return [
        [View(features[i, k], frame) for k, (_, frame) in enumerate(views)]
        for i, views in enumerate(every)
    ]
