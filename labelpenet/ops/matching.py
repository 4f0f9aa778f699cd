"""Matching maps with segments: sums over run lengths, and ICN's score of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch, wants_device_kernel
from labelpenet.ops._register import Op
from labelpenet.ops.selective_search import RegionMasks

_MAX_PIXELS = 1 << 28  # so many ones in units of 2^-32 stay far inside int64


def region_sums(maps: Tensor, regions: RegionMasks) -> tuple[Tensor, Tensor]:
    """Sums of maps over segments that are given as run lengths.

    A map becomes a table of running sums down its columns, so a segment costs two look-ups per run,
    whatever its area, and no mask is ever drawn. Sums are taken in fixed point, each value rounded
    to a multiple of 2^-32: neither the number of threads nor the device changes a bit.

    The sums carry no gradient. On a CUDA device nothing is waited for and nobody looks at the
    numbers: a value outside [-1, 1] counts as 0, and runs that leave the image end at its edge.

    Args:
        maps: [M, H, W] float32 in [-1, 1], at most 2^28 pixels.
        regions: R segments of an image of H x W, as `selective_search_regions` gives them, on the
            same device.

    Returns:
        The sums, [M, R] float32, and the segments' areas in pixels, [R] int64.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or size, values out of range, or runs that do not fill the image.

    Example:
        >>> import torch
        >>> from labelpenet.ops import RegionMasks
        >>> left = RegionMasks(torch.tensor([0, 2, 4]).int(), torch.tensor([0, 3]), (2, 3))
        >>> region_sums(torch.tensor([[[0.5, 1.0, 1.0], [0.25, 1.0, 1.0]]]), left)
        (tensor([[0.7500]]), tensor([2]))
    """
    sizes = _check.tensor("maps", maps, "MHW", (torch.float32,))
    if not isinstance(regions, RegionMasks):
        raise TypeError(f"regions: expected RegionMasks, got {_check.describe(regions)}")
    if tuple(regions.size) != (sizes["H"], sizes["W"]):
        got = f"{sizes['H']} x {sizes['W']}"
        raise ValueError(f"maps: expected the regions' {list(regions.size)} pixels, got {got}")
    if not 0 < sizes["H"] * sizes["W"] <= _MAX_PIXELS:
        raise ValueError(f"maps: expected 1 to 2^28 pixels, got {_check.describe(maps)}")
    _check.tensor("regions.counts", regions.counts, "N", (torch.int32,), like=maps)
    count = _check.tensor("regions.offsets", regions.offsets, "R", (torch.int64,), like=maps)["R"]
    if count < 1:
        raise ValueError("regions.offsets: expected at least one number, got [0]")
    found: tuple[Tensor, Tensor] = _OP(
        maps.detach().contiguous(), regions.counts.contiguous(), regions.offsets.contiguous()
    )
    return found


def contour(maps: Tensor) -> Tensor:
    """E(V) of eq. 5: what a pixel has over the least of its 3 x 3 neighbours in the image.

    Of a binary map these are the pixels along the inside of its outline; the image's own edge is
    none.

    Args:
        maps: [M, H, W] float32.

    Returns:
        [M, H, W] float32, >= 0.

    Raises:
        TypeError: Another type or dtype.
        ValueError: Another shape.

    Source:
        Huang et al., Weakly supervised segmentation via instance-aware propagation, eq. 5.

    Example:
        >>> import torch
        >>> contour(torch.tensor([[[1.0, 1.0, 1.0, 0.0]]]))
        tensor([[[0., 0., 1., 0.]]])
    """
    _check.tensor("maps", maps, "MHW", (torch.float32,))
    if maps.numel() == 0:
        return torch.zeros_like(maps)
    return maps + F.max_pool2d(-maps, 3, stride=1, padding=1)


def matching_scores(
    maps: Tensor,
    regions: RegionMasks,
    alpha: float = 0.95,
    beta: float = 0.1,
    gamma: float = -0.8,
    *,
    rebalance: bool = True,
    shares: bool = False,
) -> Tensor:
    """How well each segment P fits each map V (eq. 5).

    alpha * sum(V P) / |P| + beta * sum(E(V) P) + gamma * sum((1 - V) P), E the contour. The factor
    1 / |P| is the multi-scale rebalance: without it large segments win. A segment without a pixel
    has score -inf.

    Args:
        maps: [M, H, W] float32 in [0, 1].
        regions: R segments of an image of H x W.
        alpha: Weight of the map inside the segment.
        beta: Weight of the map's contour inside the segment.
        gamma: Weight of the background inside the segment; the paper's text has it suppress, so it
            is below 0.
        rebalance: Whether the first term is divided by |P|.
        shares: Puts all terms on one scale, [0, 1]: the contour as a share of the whole contour,
            the background as one of the segment and, without `rebalance`, the inside as one of the
            whole map. As they stand in the equation the last two are counts of pixels, hundreds of
            times the first.

    Returns:
        [M, R] float32; they carry no gradient.

    Raises:
        TypeError: As `region_sums`.
        ValueError: As `region_sums`, and for values outside [0, 1].

    Source:
        Huang et al., Weakly supervised segmentation via instance-aware propagation, eq. 5.

    Example:
        >>> import torch
        >>> from labelpenet.ops import RegionMasks
        >>> runs = torch.tensor([0, 2, 2, 0, 4]).int()  # the left half of 2 x 2, and all of it
        >>> regions = RegionMasks(runs, torch.tensor([0, 3, 5]), (2, 2))
        >>> matching_scores(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), regions, shares=True)
        tensor([[1.0500, 0.1750]])
    """
    _check.tensor("maps", maps, "MHW", (torch.float32,))
    maps = maps.detach()
    _check.bounded("maps", maps, 0.0, 1.0)
    weights = [
        _check.number(name, value)
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma))
    ]
    edges = contour(maps)
    sums, areas = region_sums(torch.cat((maps, edges)), regions)
    inside, outline = sums[: len(maps)], sums[len(maps) :]
    area = areas.to(inside.dtype).clamp(min=1)
    background = areas.to(inside.dtype) - inside
    if shares:
        outline = outline / _or_one(edges.sum((1, 2)))[:, None]
        background = background / area
    if rebalance:
        inside = inside / area
    elif shares:
        inside = inside / _or_one(maps.sum((1, 2)))[:, None]
    scores = weights[0] * inside + weights[1] * outline + weights[2] * background
    return scores.masked_fill(areas == 0, -torch.inf)


def _or_one(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, torch.ones_like(values))


def _kernel(maps: Tensor, counts: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    _check.bounded("maps", maps, -1.0, 1.0)
    number, height, width = maps.shape
    regions = len(offsets) - 1
    sums = maps.new_empty(number, regions)
    areas = offsets.new_empty(regions)
    on_device = wants_device_kernel(maps)
    table = offsets.new_empty((number, height, width) if on_device else 0)
    base = offsets.new_empty((number, width + 1) if on_device else 0)
    status = offsets.new_empty(1)
    kernels().region_sums(maps, counts, offsets, table, base, sums, areas, status, *launch(maps))
    if not on_device and int(status):
        raise ValueError(f"regions: expected runs that fill {height} x {width} pixels exactly")
    return sums, areas


def _fake(maps: Tensor, counts: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    regions = offsets.shape[0] - 1
    return maps.new_empty(maps.shape[0], regions), offsets.new_empty(regions)


_OP = Op(
    "region_sums(Tensor maps, Tensor counts, Tensor offsets) -> (Tensor, Tensor)", _kernel, _fake
)
