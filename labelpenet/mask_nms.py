"""Non-maximum suppression on masks: boxes around parts of one object may end in the same mask."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.types import Instances

_PIXELS = 1 << 16  # multiplied at a time


def mask_nms(instances: Instances, iou_threshold: float) -> Tensor:
    """Greedy NMS on masks, per class.

    Args:
        instances: N, with masks.
        iou_threshold: A mask goes where its IoU with a better kept one of its class is above it.

    Returns:
        [K] int64, the kept ones, best score first (equal scores keep the given order).

    Example:
        >>> masks = torch.ones(2, 3, 3, dtype=torch.bool)
        >>> boxes, labels = torch.ones(2, 4), torch.zeros(2, dtype=torch.int64)
        >>> scores = torch.tensor([0.1, 0.9])
        >>> found = Instances(boxes, labels, scores, masks)
        >>> mask_nms(found, 0.5)
        tensor([1])
    """
    assert instances.masks is not None
    shared = _shared(instances.masks.flatten(1))
    area = shared.diagonal()
    iou = shared / (area[:, None] + area - shared).clamp(min=1)
    rivals = (iou > iou_threshold) & (instances.labels[:, None] == instances.labels)
    kept: list[int] = []
    for i in instances.scores.argsort(descending=True, stable=True).tolist():
        if not bool(rivals[i, kept].any()):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64)


def _shared(flat: Tensor) -> Tensor:
    """Pixels [N, N] that masks [N, P] share; part by part, not all of them as numbers at once."""
    shared = torch.zeros((len(flat), len(flat)), dtype=torch.float64, device=flat.device)
    for part in flat.split(_PIXELS, 1):
        numbers = part.float()
        shared += numbers @ numbers.T
    return shared.float()
