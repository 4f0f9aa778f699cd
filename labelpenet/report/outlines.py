"""Masks as outlines that a page can draw, fill and hide: a few hundred bytes each."""

from __future__ import annotations

import cv2
import numpy as np

_TOLERANCE = 0.6  # pixels of the drawing
_OVERSAMPLING = 2  # of the drawing's resolution: finer masks are reduced to it first


def mask_path(mask: np.ndarray, size: tuple[int, int]) -> str:
    """The data of an SVG path around a mask, holes and parts included; fill it by even-odd.

    Args:
        mask: [H, W] bool.
        size: (height, width) of the drawing.

    Returns:
        Closed rings in pixels of the drawing, one decimal; empty for an empty mask. Objects that
        are too small for the drawing keep a dot.

    Example:
        >>> mask_path(np.ones((20, 40), bool), (10, 20))
        'M0 0L0 10L20 10L20 0Z'
        >>> mask_path(np.zeros((20, 40), bool), (10, 20))
        ''
    """
    fine = (_OVERSAMPLING * size[1], _OVERSAMPLING * size[0])
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
        edges = (contour[:, 0] + 1) // 2 / _OVERSAMPLING  # as contours.edge_outlines has them
        kept = cv2.approxPolyDP(edges.astype(np.float32)[:, None], _TOLERANCE, True)[:, 0]
        if len(kept) < 3:  # thinner than the tolerance
            (left, top), (right, bottom) = edges.min(0), edges.max(0)
            kept = np.array([[left, top], [left, bottom], [right, bottom], [right, top]])
        rings.append("M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in kept) + "Z")
    return "".join(rings)
