"""Overlap of boxes and of masks in numpy and float64, for what is measured, matched and painted.

`labelpenet.ops.box_iou` is the one for training: it keeps its tensors' dtype and device, and comes
with the kernels. Figures must depend on neither, and be had without a compiled extension.
"""

from __future__ import annotations

import numpy as np


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every box with every other one; 0 where both are empty.

    Args:
        boxes: [K, 4] float, x1 <= x2 and y1 <= y2.
        others: [N, 4] float.

    Returns:
        [K, N] float64.

    Example:
        >>> box_iou(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 4], [0, 2, 4, 6]]))
        array([[1.        , 0.33333333]])
    """
    a, b = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0.0).prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    union = union - shared
    iou: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def front_first(scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The order of overlapping objects, the one that is in front of all others first.

    In front is the object of the highest score to a pixel of its mask. A mask that goes on over
    another object is usually the larger one of the two (a person's over the horse), while what lies
    before something is usually the smaller; the score keeps little wrong ones from the front.

    Args:
        scores: [K] float, >= 0.
        masks: [K, H, W] bool.

    Returns:
        [K] int64 indices; of equals the one given first is in front.

    Example:
        >>> masks = np.array([[[True, True, True]], [[False, False, True]]])
        >>> front_first(np.array([0.8, 0.4]), masks).tolist()
        [1, 0]
    """
    areas = masks.sum(axis=(1, 2)).clip(min=1)
    order: np.ndarray = np.argsort(-scores.astype(np.float64) / areas, kind="stable")
    return order
