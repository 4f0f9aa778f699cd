"""COCO's ways to write a mask, read without trusting them; masks' boxes, and pairs of boxes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from labelpenet.overlap import box_iou
from labelpenet.rle import decode_mask, fill_polygons


def decode_segmentation(value: object, height: int, width: int) -> np.ndarray:
    """The mask of an annotation's `segmentation`.

    Args:
        value: Polygons (lists of x, y, x, y, …), or run lengths (a list, or compressed).
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        [height, width] bool.

    Raises:
        ValueError: None of these, or they do not fit the image.

    Example:
        >>> decode_segmentation({"size": [2, 3], "counts": [2, 3, 1]}, 2, 3).astype(int)
        array([[0, 1, 1],
               [0, 1, 0]])
    """
    if isinstance(value, list):
        return _polygons(value, height, width)
    if not isinstance(value, dict):
        raise ValueError(f"segmentation: expected polygons or run lengths, got {value!r:.80}")
    if value.get("size") != [height, width]:
        raise ValueError(
            f"segmentation: expected size [{height}, {width}], got {value.get('size')!r:.80}"
        )
    try:
        return decode_mask(value.get("counts"), height, width)
    except ValueError as error:
        raise ValueError(f"segmentation: {error}") from None


def _polygons(polygons: list[Any], height: int, width: int) -> np.ndarray:
    margin = height + width
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("segmentation: expected polygons of 3 or more x, y")
        for value in polygon:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"segmentation: expected coordinates, got {value!r:.80}")
            if not math.isfinite(value) or not -margin <= value <= 2 * margin:
                raise ValueError(f"segmentation: {value:g} is far outside {width} x {height}")
    if not polygons:
        raise ValueError("segmentation: expected at least one polygon")
    return fill_polygons(polygons, height, width)


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The tight box of a mask with at least one pixel: (x1, y1, x2, y2), x2 and y2 exclusive.

    Example:
        >>> mask = np.zeros((4, 5), bool)
        >>> mask[1, 2:4] = True
        >>> box_of(mask)
        (2.0, 1.0, 4.0, 2.0)
    """
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return float(x1), float(y1), float(x2), float(y2)


def match_boxes(
    first: np.ndarray, second: np.ndarray, compatible: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs boxes of two lists, best IoU first; each is taken once, and only if they overlap.

    Args:
        first: [N, 4].
        second: [M, 4].
        compatible: [N, M] bool, which pairs may be.

    Returns:
        Pairs of indices.

    Example:
        >>> a = np.array([[0, 0, 2, 2], [5, 5, 9, 9]])
        >>> match_boxes(a, a[::-1], np.ones((2, 2), bool))
        [(0, 1), (1, 0)]
    """
    iou = box_iou(first, second)
    pairs = [p for p in itertools.product(range(len(first)), range(len(second))) if compatible[p]]
    taken: list[tuple[int, int]] = []
    for i, j in sorted(pairs, key=lambda pair: -iou[pair]):
        if iou[i, j] > 0 and all(i != a and j != b for a, b in taken):
            taken.append((i, j))
    return taken
