"""Box coding and matching of Faster R-CNN (Ren et al., 2015), and sampling with a generator."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from labelpenet.ops import box_iou

# Variances of the ROI head's targets, Faster R-CNN's usual normalisation.
ROI_STD = (0.1, 0.1, 0.2, 0.2)
RPN_STD = (1.0, 1.0, 1.0, 1.0)
_LARGEST_LOG_SCALE = math.log(1000 / 16)


class Frame(NamedTuple):
    """Where a network sees an image: resized, and perhaps mirrored.

    Attributes:
        size: (height, width) of what it sees.
        scale: Of it against the image.
        flipped: Whether left and right are swapped.
    """

    size: tuple[int, int]
    scale: float = 1.0
    flipped: bool = False

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [R, 4] of the image in this frame."""
        return self._mirrored(boxes * self.scale)

    def to_image(self, boxes: Tensor) -> Tensor:
        """Boxes [R, 4] of this frame in the image."""
        return self._mirrored(boxes) / self.scale

    def _mirrored(self, boxes: Tensor) -> Tensor:
        if not self.flipped:
            return boxes
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack((self.size[1] - x2, y1, self.size[1] - x1, y2), -1)


def encode(boxes: Tensor, targets: Tensor, std: tuple[float, ...]) -> Tensor:
    """Offsets [R, 4] (dx, dy, dw, dh) that move `boxes` [R, 4] onto `targets` [R, 4]."""
    size, goal = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    size, goal = size.clamp(min=1e-3), goal.clamp(min=1e-3)
    centre = boxes[:, :2] + size / 2
    goal_centre = targets[:, :2] + goal / 2
    offsets = torch.cat(((goal_centre - centre) / size, torch.log(goal / size)), 1)
    return offsets / offsets.new_tensor(std)


def decode(boxes: Tensor, offsets: Tensor, std: tuple[float, ...]) -> Tensor:
    """The inverse of encode; log scales are capped so that no box overflows."""
    offsets = offsets.to(boxes.dtype) * boxes.new_tensor(std)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + size / 2 + offsets[:, :2] * size
    half = size * torch.exp(offsets[:, 2:].clamp(max=_LARGEST_LOG_SCALE)) / 2
    return torch.cat((centre - half, centre + half), 1)


def clip(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Boxes cut to an image of (height, width)."""
    height, width = size
    limit = boxes.new_tensor((width, height, width, height))
    return torch.minimum(boxes.clamp(min=0), limit)


def match(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """For every box its best IoU [R] and that target's index [R] (0 where there is no target)."""
    if len(targets) == 0 or len(boxes) == 0:
        nowhere = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return boxes.new_zeros(len(boxes)), nowhere
    best = box_iou(boxes, targets).max(1)
    return best.values, best.indices


def draw(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At most `count` indices where `mask` [R] is true, drawn without replacement."""
    index = mask.nonzero().flatten()
    if len(index) <= count:
        return index
    return index[torch.randperm(len(index), generator=generator)[:count]]
