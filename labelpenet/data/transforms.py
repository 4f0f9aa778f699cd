"""Photos made ready for a network, and boxes and masks that follow them.

Frames: a pixel (row, column) = (y, x) covers [x, x + 1) x [y, y + 1). Boxes are (x1, y1, x2, y2) in
these continuous coordinates, so resizing multiplies them and no half pixels are to be added.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from labelpenet.ops import _check

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]; what torchvision's ImageNet weights were trained with."""


def to_tensor(image: np.ndarray) -> Tensor:
    """A photo as `load_image` gives it, channels first.

    Args:
        image: [H, W, 3] uint8.

    Returns:
        [3, H, W] uint8, contiguous, a copy.

    Raises:
        ValueError: Another shape or dtype.

    Example:
        >>> to_tensor(np.zeros((2, 5, 3), np.uint8)).shape
        torch.Size([3, 2, 5])
    """
    shaped = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
    if not shaped or image.dtype != np.uint8:
        got = f"{list(image.shape)} {image.dtype}" if isinstance(image, np.ndarray) else type(image)
        raise ValueError(f"image: expected [H, W, 3] uint8, got {got}")
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def resized_shape(
    height: int, width: int, shorter: int, longest: int
) -> tuple[tuple[int, int], float]:
    """The size that brings the shorter side to `shorter`, unless the longer one passes `longest`.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        shorter: Wanted length of the shorter side.
        longest: Bound for the longer side; it wins.

    Returns:
        (height, width), each at least 1, and the scale that they are rounded from.

    Raises:
        ValueError: A length below 1.

    Source: Label-PEnet, section 4.2 (sides 480 to 1024, the longer one at most 1200).

    Example:
        >>> resized_shape(375, 500, 480, 1200)
        ((480, 640), 1.28)
        >>> resized_shape(1, 10_000, 480, 1200)
        ((1, 1200), 0.12)
    """
    lengths = {"height": height, "width": width, "shorter": shorter, "longest": longest}
    for name, length in lengths.items():
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise ValueError(f"{name}: expected a length of at least 1, got {length!r}")
    scale = min(shorter / min(height, width), longest / max(height, width))
    return (max(1, round(height * scale)), max(1, round(width * scale))), scale


def resize_image(image: Tensor, shorter: int, longest: int) -> tuple[Tensor, float]:
    """Resizes a photo, bilinear; with a low-pass filter when it shrinks.

    Args:
        image: [3, H, W] uint8, or float32 in any range, which stays.
        shorter: Wanted length of the shorter side, in pixels.
        longest: Bound for the longer side; it wins.

    Returns:
        The image, [3, h, w] float32 in the range of the input, and the scale to multiply boxes
        with. Sides are rounded to whole pixels, so at the far edge such a box may be half a pixel
        off; `clip` what must not leave the image.

    Raises:
        ValueError: Another shape, an empty image, or a length below 1.
        TypeError: Another dtype.

    Example:
        >>> image, scale = resize_image(torch.zeros(3, 100, 200), 50, 120)
        >>> image.shape, scale
        (torch.Size([3, 50, 100]), 0.5)
    """
    _check_image(image)
    _, height, width = image.shape
    size, scale = resized_shape(height, width, shorter, longest)
    resized = image.to(torch.float32)
    if size != (height, width):
        resized = F.interpolate(resized[None], size, mode="bilinear", antialias=scale < 1)[0]
    return resized, scale


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Boxes of the resized image, [N, 4]; divide by `scale` to go back.

    Example:
        >>> scale_boxes(torch.tensor([[0.0, 2.0, 4.0, 6.0]]), 0.5)
        tensor([[0., 1., 2., 3.]])
    """
    _check.tensor("boxes", boxes, ["N", 4])
    return boxes * scale


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes cut off at the edges of an image, [N, 4].

    Example:
        >>> clip_boxes(torch.tensor([[-1.0, 2.0, 40.0, 6.0]]), 5, 30)
        tensor([[ 0.,  2., 30.,  5.]])
    """
    _check.tensor("boxes", boxes, ["N", 4])
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), limit)


def flip_image(image: Tensor) -> Tensor:
    """An image or masks, [..., H, W], mirrored left to right; a copy.

    Example:
        >>> flip_image(torch.tensor([[1, 2, 3]]))
        tensor([[3, 2, 1]])
    """
    if not isinstance(image, Tensor) or image.dim() < 2:
        raise ValueError(f"image: expected [..., H, W], got {_check.describe(image)}")
    return image.flip(-1)


flip_masks = flip_image


def flip_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes of the mirrored image, [N, 4]: x1 and x2 become width - x2 and width - x1.

    Args:
        boxes: [N, 4].
        width: Of the image, in the boxes' pixels.

    Example:
        >>> flip_boxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 10)
        tensor([[ 8.,  1., 10.,  3.]])
    """
    _check.tensor("boxes", boxes, ["N", 4])
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def normalize(image: Tensor) -> Tensor:
    """A photo as networks with ImageNet weights take it.

    Args:
        image: [3, H, W] RGB in [0, 255], uint8 or float32.

    Returns:
        [3, H, W] float32: (image / 255 - mean) / std, per channel.

    Raises:
        ValueError: Another shape, or an empty image.
        TypeError: Another dtype.

    Example:
        >>> normalize(torch.full((3, 1, 1), 255, dtype=torch.uint8)).flatten()
        tensor([2.2489, 2.4286, 2.6400])
    """
    _check_image(image)
    mean, std = _statistics(image.device)
    return (image.to(torch.float32) / 255 - mean) / std


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """IMAGENET_MEAN and _STD, each [3, 1, 1]; kept, for a device waits where they are copied."""
    with torch.inference_mode(False):
        mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None]
        return mean, torch.tensor(IMAGENET_STD, device=device)[:, None, None]


def _check_image(image: Tensor) -> None:
    _check.tensor("image", image, [3, "H", "W"], (torch.uint8, torch.float32))
    if image.numel() == 0:
        raise ValueError(f"image: expected at least one pixel, got {_check.describe(image)}")
