"""Outlines of masks as polygons, in the two conventions that label formats use."""

from __future__ import annotations

import cv2
import numpy as np


def joined_outline(mask: np.ndarray) -> np.ndarray:
    """One polygon through the centres of the border pixels of a mask, holes and parts included.

    Formats with a single polygon per object (YOLO) cannot say that a mask has several parts or
    holes. Here every further ring hangs on the first one by a bridge that is walked there and
    back, so that an even-odd or non-zero fill sees the rings alone. A reader that also paints
    the polygon's own line, as `cv2.fillPoly` does, gets the mask back with the bridges between
    the parts added, one pixel wide; a mask of one part without holes comes back exactly.

    Args:
        mask: [H, W] bool.

    Returns:
        [N, 2] int64 pixel indices (x, y), N >= 3; [0, 2] for an empty mask. Fewer than three
        border pixels are repeated.

    Example:
        >>> joined_outline(np.ones((2, 3), bool)).tolist()
        [[0, 0], [0, 1], [2, 1], [2, 0]]
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = sorted((c[:, 0].astype(np.int64) for c in contours), key=_extent, reverse=True)
    if not rings:
        return np.zeros((0, 2), dtype=np.int64)
    outline = rings[0]
    for ring in rings[1:]:
        at, start = _near(outline, ring)
        loop = np.concatenate([ring[start:], ring[: start + 1], outline[at : at + 1]])
        outline = np.insert(outline, at + 1, loop, axis=0)
    return np.pad(outline, ((0, max(0, 3 - len(outline))), (0, 0)), mode="edge")


def edge_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outer outlines of a mask along the pixel edges; its holes are lost.

    pycocotools fills these polygons to exactly the mask (with its holes filled).

    Args:
        mask: [H, W] bool.

    Returns:
        One [N, 2] int64 polygon (x, y) per part, x in [0, W] and y in [0, H], N >= 4.

    Example:
        >>> [p.tolist() for p in edge_outlines(np.ones((2, 3), bool))]
        [[[0, 0], [0, 2], [3, 2], [3, 0]]]
    """
    # each pixel becomes 2 x 2; the border of the larger mask then runs along the pixel edges
    large = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [_corners((c[:, 0].astype(np.int64) + 1) // 2) for c in contours]


def _corners(ring: np.ndarray) -> np.ndarray:
    """`ring` without the points that lie on a straight line."""
    ring = ring[(ring != np.roll(ring, 1, axis=0)).any(axis=1)]
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    corners: np.ndarray = ring[(turn != 0) | ((before * after).sum(axis=1) < 0)]
    return corners


def _extent(ring: np.ndarray) -> int:
    return int(np.ptp(ring, axis=0).sum())


def _near(a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """Indices of two near points of two rings, by alternating projection: linear time."""
    i = j = 0
    for _ in range(3):
        i = int(((a - b[j]) ** 2).sum(axis=1).argmin())
        j = int(((b - a[i]) ** 2).sum(axis=1).argmin())
    return i, j
