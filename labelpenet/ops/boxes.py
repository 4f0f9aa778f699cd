"""Overlap of boxes, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.ops import _check


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
        a: [N, 4] float (x1, y1, x2, y2).
        b: [M, 4] of the same dtype and device.

    Returns:
        [N, M] of that dtype; 0 where the union has no area.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device.

    Example:
        >>> import torch
        >>> from labelpenet.ops import box_iou
        >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [5.0, 5, 6, 6]]))
        tensor([[0.3333, 0.0000]])
    """
    _check.tensor("a", a, ("N", 4))
    _check.tensor("b", b, ("M", 4), (a.dtype,), like=a)
    dtype = a.dtype
    if dtype in (torch.float16, torch.bfloat16):  # areas of an image leave float16's range
        a, b = a.float(), b.float()
    low = torch.maximum(a[:, None, :2], b[:, :2])
    high = torch.minimum(a[:, None, 2:], b[:, 2:])
    both = (high - low).clamp_(min=0).prod(2)
    either = _area(a)[:, None] + _area(b) - both
    return torch.where(either > 0, both / either, 0.0).to(dtype)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
