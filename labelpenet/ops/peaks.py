"""Peaks of class activation maps: one for every instance that a classifier has seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch
from labelpenet.ops._register import Op

_LARGEST = 2.0**66  # sums of cells stay in the range of float32
_MAX_RADIUS = 127  # of the Gaussian, in cells; kMaxPeakRadius of the kernel


def find_peaks(
    maps: Tensor, sigma: float, window: int = 3, threshold: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Where class activation maps stand out from their surroundings.

    The response of a map M is max(M - G(M) - mean(M), 0), with G a Gaussian that reaches 3 sigma
    and sees the map's edge go on outside it. A cell is a peak where its response is above
    `threshold` and the largest of the window around it; of equal ones the first by row and column.

    Neither result carries a gradient: index the maps with the peaks to have one. On a CUDA device
    nothing is waited for and nobody looks at the numbers: a map that holds one that is not finite
    has no response and no peaks.

    Args:
        maps: [M, H, W] float32, magnitudes up to 2^66: one map per class, or per image and class.
        sigma: Deviation of the Gaussian in cells, 0.001 to 42.
        window: Side of the window in cells, odd. A cell may cost as many looks as the window has
            cells.
        threshold: At least 0.

    Returns:
        The responses, [M, H, W] float32, and the peaks, [M, H, W] bool; `peaks.nonzero()` lists
        them as (map, row, column).

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape, numbers that are not finite or out of the ranges above.

    Source:
        Huang et al., Weakly supervised segmentation via instance-aware propagation, eq. 1.

    Example:
        >>> import torch
        >>> maps = torch.zeros(1, 5, 9)
        >>> maps[0, 2, 1], maps[0, 3, 7] = 4.0, 2.0
        >>> response, peaks = find_peaks(maps, sigma=1.0)
        >>> peaks.nonzero().tolist()
        [[0, 2, 1], [0, 3, 7]]
    """
    _check.tensor("maps", maps, "MHW", (torch.float32,))
    sigma = _check.number("sigma", sigma, minimum=1e-3, maximum=_MAX_RADIUS / 3)
    if isinstance(window, bool) or not isinstance(window, int):
        raise TypeError(f"window: expected an int, got {_check.describe(window)}")
    if window < 1 or window % 2 == 0 or window >= 1 << 20:
        raise ValueError(f"window: expected an odd number of cells from 1 to 2^20, got {window}")
    threshold = _check.number("threshold", threshold, minimum=0.0, maximum=_LARGEST)
    found: tuple[Tensor, Tensor] = _OP(maps.detach().contiguous(), sigma, window, threshold)
    return found


def _weights(sigma: float) -> list[float]:
    """The Gaussian's weights at distance 0, 1, ...; of all cells together they sum to 1."""
    raw = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(math.ceil(3 * sigma) + 1)]
    total = raw[0] + 2 * sum(raw[1:])
    return [weight / total for weight in raw]


def _kernel(maps: Tensor, sigma: float, window: int, threshold: float) -> tuple[Tensor, Tensor]:
    _check.bounded("maps", maps, -_LARGEST, _LARGEST)
    response, blurred = torch.empty_like(maps), torch.empty_like(maps)
    peaks = torch.empty_like(maps, dtype=torch.bool)
    sums = maps.new_empty(maps.shape[:2], dtype=torch.float64)
    kernels().peaks(
        maps,
        _weights(sigma),
        window // 2,
        threshold,
        blurred,
        sums,
        response,
        peaks,
        *launch(maps),
    )
    return response, peaks


def _fake(maps: Tensor, sigma: float, window: int, threshold: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(maps), torch.empty_like(maps, dtype=torch.bool)


_OP = Op(
    "find_peaks(Tensor maps, float sigma, int window, float threshold) -> (Tensor, Tensor)",
    _kernel,
    _fake,
)
