"""COCO's ways to write a mask, read without trusting them.

pycocotools' C code does trust them: runs that do not fill the image give uninitialised memory, and
a polygon with a corner at 1e9 allocates by its length. Hence the checks before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask


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
    counts = value.get("counts")
    runs = _decompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or any(type(run) is not int or run < 0 for run in runs):
        raise ValueError("segmentation: counts: expected run lengths")
    if sum(runs) != height * width:
        raise ValueError(
            f"segmentation: counts: expected runs that fill {height} x {width} pixels, "
            f"got {sum(runs)}"
        )
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # down the columns, zeros first
    mask: np.ndarray = flat.reshape(width, height).T
    return mask


def _polygons(polygons: Sequence[object], height: int, width: int) -> np.ndarray:
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
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    # not coco_mask.decode, which numpy 2 warns about
    return decode_segmentation(runs | {"counts": runs["counts"].decode()}, height, width)


def _decompressed(text: str) -> list[int]:
    """The runs of COCO's compressed string: 5 bits a character, from the third on differences.

    Source: rleFrString in cocoapi's maskApi.c describes the format: character - 48 holds 5 bits,
    least first, bit 6 tells that more follow, the top bit of the last is the sign.
    """
    runs: list[int] = []
    digits: list[int] = []
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or len(digits) > 12:
            raise ValueError(f"segmentation: counts: {text!r:.80} is not compressed run lengths")
        digits.append(digit)
        if digit & 32:
            continue
        value = sum((d & 31) << (5 * i) for i, d in enumerate(digits))
        if digit & 16:
            value -= 1 << (5 * len(digits))
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        digits = []
    if digits:
        raise ValueError("segmentation: counts: the last run length is cut off")
    return runs


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
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    side = (np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner).clip(min=0)
    shared = side.prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    iou = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
    pairs = [p for p in itertools.product(range(len(first)), range(len(second))) if compatible[p]]
    taken: list[tuple[int, int]] = []
    for i, j in sorted(pairs, key=lambda pair: -iou[pair]):
        if iou[i, j] > 0 and all(i != a and j != b for a, b in taken):
            taken.append((i, j))
    return taken
