"""Masks as outlines that a page can draw, fill and hide: a few hundred bytes each."""

from __future__ import annotations

import cv2
import numpy as np

UNITS = 2
"""Of a path in a pixel of the drawing; finer masks are reduced to that resolution first."""

_TOLERANCE = 1.2  # units: a little more than half a pixel


def mask_path(mask: np.ndarray, size: tuple[int, int]) -> str:
    """The data of an SVG path around a mask, holes and parts included; fill it by even-odd.

    Args:
        mask: [H, W] bool.
        size: (height, width) of the drawing.

    Returns:
        Closed rings in half pixels of the drawing (integers, and relative: there are thousands);
        empty for an empty mask. Objects that are too small for the drawing keep a dot.

    Example:
        >>> mask_path(np.ones((20, 40), bool), (10, 20))
        'M0 0l+0+20+40+0+0-20z'
        >>> mask_path(np.zeros((20, 40), bool), (10, 20))
        ''
    """
    fine = (UNITS * size[1], UNITS * size[0])
    picture = mask.astype(np.uint8) * 255
    how = cv2.INTER_AREA if fine[0] < mask.shape[1] else cv2.INTER_NEAREST
    share = cv2.resize(picture, fine, interpolation=how)
    if not share.any():
        return ""
    shrunk = share >= min(128, share.max())
    large = shrunk.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = []
    for contour in contours:
        edges = (contour[:, 0] + 1) // 2  # as contours.edge_outlines has them
        kept = cv2.approxPolyDP(edges.astype(np.float32)[:, None], _TOLERANCE, True)[:, 0]
        if len(kept) < 3:  # thinner than the tolerance
            (left, top), (right, bottom) = edges.min(0), edges.max(0)
            kept = np.array([[left, top], [left, bottom], [right, bottom], [right, top]])
        rings.append(ring_path(kept))
    return "".join(rings)


def ring_path(points: np.ndarray) -> str:
    """The data of a closed line through points [N, 2] (x, y), which are rounded.

    Example:
        >>> ring_path(np.array([[1, 2], [4, 2], [4, 0]]))
        'M1 2l+3+0+0-2z'
    """
    whole = np.rint(points).astype(np.int64)
    steps = "".join(f"{x:+d}{y:+d}" for x, y in np.diff(whole, axis=0).tolist())
    return f"M{whole[0, 0]} {whole[0, 1]}l{steps}z"
