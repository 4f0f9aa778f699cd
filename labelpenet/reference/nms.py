"""Non-maximum suppression, box by box from its definition."""

from __future__ import annotations

from torch import Tensor


def _iou(a: list[Tensor], b: list[Tensor]) -> Tensor:
    width = (min(a[2], b[2]) - max(a[0], b[0])).clamp(min=0)
    height = (min(a[3], b[3]) - max(a[1], b[1])).clamp(min=0)
    both = width * height
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return both / (areas[0] + areas[1] - both)


def nms_groups(
    boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float
) -> tuple[list[int], list[int]]:
    """Kept boxes by falling score, and for each box the best kept box that suppressed it.

    Overlaps are computed in the dtype of `boxes` [N, 4] and compared with the threshold as given.
    """
    order = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    corners = [list(box) for box in boxes]
    keep: list[int] = []
    owner = [-1] * len(scores)
    for i in order:
        owner[i] = i
        for k in keep:
            if labels[k] == labels[i] and float(_iou(corners[k], corners[i])) > iou_threshold:
                owner[i] = k
                break
        else:
            keep.append(i)
    return keep, owner
