"""From proposals to image maps: attention drawn into boxes, and boxes added up to a heat-map."""

from __future__ import annotations

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch
from labelpenet.ops._register import Op

# Above this, about 7e19, sums of maps could leave the range of float32.
_LARGEST = 2.0**66
# Up to this many pixels a side, pixel centres and their distance from an edge are exact in float32.
_LONGEST_SIDE = 1 << 22


def project_attention(
    maps: Tensor,
    boxes: Tensor,
    index: Tensor,
    num_maps: int,
    size: tuple[int, int],
    mode: str = "bilinear",
) -> Tensor:
    """Draws every proposal's map into its box and adds up the proposals of each output map.

    Pixel (px, py) belongs to box i where its centre does, x1 <= px + 0.5 < x2 and likewise y. There
    it gets the bilinear sample of map i at u = (px + 0.5 - x1) / (x2 - x1) * w - 0.5 and the same
    for v, held at the outermost cells (torch's align_corners=False), added to output map index[i].
    Pixels outside the image are left out; a box without a pixel contributes nothing. Boxes are
    added in their order, so the result has the same bits whatever the number of threads.

    The maps carry no gradient. On a CUDA device nothing is waited for and nobody looks at the
    numbers: a box that is not finite or whose index is out of range contributes nothing, a map that
    is not finite makes the pixels that sample it so, and negative ones are drawn like others.

    Args:
        maps: [R, h, w] float32, magnitudes up to 2^66; in mode "mass" also >= 0.
        boxes: [R, 4] float32 (x1, y1, x2, y2) in pixels; may leave the image or be degenerate.
        index: [R] int64, the output map of each proposal.
        num_maps: M, the number of output maps.
        size: (H, W) of the image in pixels.
        mode: "bilinear" adds the samples as they are. "mass" first scales those of each box so that
            they sum to the sum of its map: a map keeps its weight whatever the size of its box. A
            box whose samples are all 0 contributes nothing.

    Returns:
        [M, H, W] float32.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, an unknown mode, an index outside [0, M), or numbers
            that are not finite or out of the ranges above.

    Source:
        Label-PEnet, section 3.2: proposal attention maps projected to the image and accumulated.

    Example:
        >>> import torch
        >>> maps, boxes = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[1.0, 0.0, 5.0, 1.0]])
        >>> project_attention(maps, boxes, torch.tensor([0]), 1, (1, 6))
        tensor([[[0.0000, 1.0000, 1.5000, 2.5000, 3.0000, 0.0000]]])
        >>> project_attention(maps, boxes, torch.tensor([0]), 1, (1, 6), mode="mass")
        tensor([[[0.0000, 0.5000, 0.7500, 1.2500, 1.5000, 0.0000]]])
    """
    sizes = _check.tensor("maps", maps, "Rhw", (torch.float32,))
    if sizes["h"] < 1 or sizes["w"] < 1:
        raise ValueError(f"maps: expected at least one cell, got {_check.describe(maps)}")
    _check.tensor("boxes", boxes, (sizes["R"], 4), (torch.float32,), like=maps)
    _check.tensor("index", index, (sizes["R"],), (torch.int64,), like=maps)
    if mode not in ("bilinear", "mass"):
        raise ValueError(f'mode: expected "bilinear" or "mass", got {mode!r}')
    height, width = _image_size(size)
    out: Tensor = _PROJECT(
        maps.detach().contiguous(),
        boxes.detach().contiguous(),
        index.contiguous(),
        _count(num_maps),
        height,
        width,
        mode == "mass",
    )
    return out


def accumulate_boxes(
    scores: Tensor, boxes: Tensor, index: Tensor, num_maps: int, size: tuple[int, int]
) -> Tensor:
    """Object heat-maps: every box adds its score to the pixels whose centres it holds.

    The pixel rule is that of `project_attention`. On the CPU the cost depends on the number of
    boxes and of pixels, not on the boxes' areas. Sums run in 62-bit fixed point: each score is
    rounded to a multiple of at most 2^-60 of R times the largest one, then everything is exact up
    to the result's float32. So pixels outside all boxes are exactly 0, and neither the number of
    threads nor the device changes a bit.

    The maps carry no gradient. On a CUDA device nothing is waited for and nobody looks at the
    numbers: a box that is not finite or whose index is out of range contributes nothing, and one
    score that is not finite or out of range makes all maps NaN.

    Args:
        scores: [R] float32, any sign, magnitudes up to 2^66.
        boxes: [R, 4] float32 (x1, y1, x2, y2) in pixels; may leave the image or be degenerate.
        index: [R] int64, the output map of each box.
        num_maps: M, the number of output maps.
        size: (H, W) of the image in pixels.

    Returns:
        [M, H, W] float32.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, an index outside [0, M), or numbers that are not
            finite or out of range.

    Source:
        Label-PEnet, section 3.2: the object heat-map of a class.

    Example:
        >>> import torch
        >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 1.0]])
        >>> accumulate_boxes(torch.tensor([0.25, 0.5]), boxes, torch.tensor([0, 0]), 1, (1, 4))
        tensor([[[0.2500, 0.7500, 0.5000, 0.0000]]])
    """
    sizes = _check.tensor("scores", scores, "R", (torch.float32,))
    _check.tensor("boxes", boxes, (sizes["R"], 4), (torch.float32,), like=scores)
    _check.tensor("index", index, (sizes["R"],), (torch.int64,), like=scores)
    height, width = _image_size(size)
    out: Tensor = _ACCUMULATE(
        scores.detach().contiguous(),
        boxes.detach().contiguous(),
        index.contiguous(),
        _count(num_maps),
        height,
        width,
    )
    return out


def _project(
    maps: Tensor,
    boxes: Tensor,
    index: Tensor,
    num_maps: int,
    height: int,
    width: int,
    mass: bool,
) -> Tensor:
    _check.bounded("maps", maps, 0.0 if mass else -_LARGEST, _LARGEST)
    _check.finite("boxes", boxes)
    _check.index_range("index", index, num_maps)
    out = maps.new_empty((num_maps, height, width))
    proposals, cells_y, cells_x = maps.shape if mass else (0, 0, 0)
    scaled = maps.new_empty((proposals, cells_y, cells_x))
    weights = maps.new_empty((proposals, cells_y + cells_x), dtype=torch.float64)
    kernels().project_attention(maps, boxes, index, scaled, weights, out, mass, *launch(maps))
    return out


def _project_fake(
    maps: Tensor,
    boxes: Tensor,
    index: Tensor,
    num_maps: int,
    height: int,
    width: int,
    mass: bool,
) -> Tensor:
    return maps.new_empty((num_maps, height, width))


def _accumulate(
    scores: Tensor, boxes: Tensor, index: Tensor, num_maps: int, height: int, width: int
) -> Tensor:
    _check.bounded("scores", scores, -_LARGEST, _LARGEST)
    _check.finite("boxes", boxes)
    _check.index_range("index", index, num_maps)
    out = scores.new_empty((num_maps, height, width))
    fixed = scores.new_empty(scores.shape, dtype=torch.int64)
    unit = scores.new_empty(1, dtype=torch.float64)
    kernels().accumulate_boxes(scores, boxes, index, fixed, unit, out, *launch(scores))
    return out


def _accumulate_fake(
    scores: Tensor, boxes: Tensor, index: Tensor, num_maps: int, height: int, width: int
) -> Tensor:
    return scores.new_empty((num_maps, height, width))


_PROJECT = Op(
    "project_attention(Tensor maps, Tensor boxes, Tensor index, SymInt num_maps, SymInt height, "
    "SymInt width, bool mass) -> Tensor",
    _project,
    _project_fake,
)
_ACCUMULATE = Op(
    "accumulate_boxes(Tensor scores, Tensor boxes, Tensor index, SymInt num_maps, SymInt height, "
    "SymInt width) -> Tensor",
    _accumulate,
    _accumulate_fake,
)


def _image_size(size: object) -> tuple[int, int]:
    height, width = _check.size_pair("size", size)
    if max(height, width) > _LONGEST_SIDE:
        raise ValueError(f"size: expected sides up to {_LONGEST_SIDE}, got ({height}, {width})")
    return height, width


def _count(num_maps: object) -> int:
    if isinstance(num_maps, bool) or not isinstance(num_maps, int):
        raise TypeError(f"num_maps: expected an int, got {_check.describe(num_maps)}")
    if num_maps < 0:
        raise ValueError(f"num_maps: expected at least 0, got {num_maps}")
    return num_maps
