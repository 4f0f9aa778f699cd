"""COCO's run-length encoding of masks.

Runs go down the columns and start with zeros. Encoding is pycocotools'; decoding is done here,
because pycocotools' C code trusts its input: runs that do not fill the image give uninitialised
memory, and a file may come from anywhere. (Its `decode` also warns with numpy 2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from pycocotools import mask as coco_mask

# A run is stored in 5-bit digits; 7 of them hold any run (or difference of two) of a mask that
# has fewer than 2**34 pixels.
_MAX_DIGITS = 7


class Rle(TypedDict):
    """One mask: `size` is [height, width], `counts` pycocotools' compressed ASCII string."""

    size: list[int]
    counts: str


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """Encodes masks, [K, H, W] bool, one at a time: each is copied, columns first.

    Example:
        >>> encode_masks(np.eye(2, dtype=bool)[None])
        [{'size': [2, 2], 'counts': '0120'}]
    """
    codes = (coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks)
    return [
        Rle(size=[int(v) for v in rle["size"]], counts=rle["counts"].decode("ascii"))
        for rle in codes
    ]


def fill_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The union of polygons as a mask, [height, width] bool, by COCO's rule.

    Args:
        polygons: At least one, each x, y, x, y, ... of 3 or more corners. The caller has made sure
            that they are finite and near the image: pycocotools walks along every edge, so that far
            corners would make it allocate without bound.
        height: Of the image, at least 1.
        width: Of the image, at least 1.

    Example:
        >>> fill_polygons([[0, 0, 2, 0, 2, 1, 0, 1]], 2, 3).astype(int)
        array([[1, 1, 0],
               [0, 0, 0]])
    """
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return decode_mask(rle["counts"].decode("ascii"), height, width)


def runs_of(counts: object, height: int, width: int) -> np.ndarray:
    """The checked runs of a mask: [N] int64, zeros first, that sum to height * width.

    Args:
        counts: A compressed string, or a list of run lengths.
        height: Of the image, at least 1.
        width: Of the image, at least 1.

    Raises:
        ValueError: Not such counts, or they do not fill the image exactly.
    """
    pixels = height * width
    if isinstance(counts, str):
        runs = _decompress(counts, pixels)
    elif isinstance(counts, Sequence) and all(type(v) is int for v in counts):
        if len(counts) > pixels + 2 or any(not 0 <= v <= pixels for v in counts):
            raise ValueError(f"counts: expected runs in [0, {pixels}]")
        runs = np.array(counts, dtype=np.int64)
    else:
        raise ValueError(f"counts: expected a string or a list of ints, got {_shown(counts)}")
    if (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        raise ValueError(f"counts: expected runs that fill {height} x {width} pixels exactly")
    return runs


def decode_mask(counts: object, height: int, width: int) -> np.ndarray:
    """The mask, [height, width] bool, of untrusted `counts`; raises as `runs_of`.

    Example:
        >>> decode_mask("0120", 2, 2).astype(int)
        array([[1, 0],
               [0, 1]])
    """
    runs = runs_of(counts, height, width)
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask: np.ndarray = flat.reshape(width, height).T
    return mask


def _decompress(counts: str, pixels: int) -> np.ndarray:
    if not counts.isascii() or len(counts) > _MAX_DIGITS * (pixels + 2):
        raise ValueError(f"counts: expected ASCII for {pixels} pixels, got {_shown(counts)}")
    digits = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 0x20:
        raise ValueError(f"counts: expected complete 6-bit digits, got {_shown(counts)}")
    # bit 5: another digit follows; lowest digit first; bit 4 of the last digit is the sign
    ends = np.flatnonzero((digits & 0x20) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_DIGITS or len(ends) > pixels + 2:
        raise ValueError(f"counts: too large for {pixels} pixels: {_shown(counts)}")
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    runs: np.ndarray = np.add.reduceat((digits & 0x1F) << (5 * place), starts)
    runs -= np.where(digits[ends] & 0x10, np.int64(1) << (5 * lengths), 0)
    # from the fourth run on, the difference to the run before the last is stored
    for first in (1, 2):
        np.cumsum(runs[first::2], out=runs[first::2])
    return runs


def _shown(value: object) -> str:
    text = repr(value[:41]) if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}..."
