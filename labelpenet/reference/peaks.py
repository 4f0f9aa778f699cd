"""Peaks of class activation maps (ICN, eq. 1), a cell at a time, as they are defined."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def find_peaks(
    maps: Tensor, sigma: float, window: int = 3, threshold: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Same arguments as `labelpenet.ops.find_peaks`; responses in the dtype of `maps`."""
    count, height, width = maps.shape
    across, down = _gaussian(width, sigma).to(maps.dtype), _gaussian(height, sigma).to(maps.dtype)
    response = torch.zeros_like(maps)
    peaks = torch.zeros(maps.shape, dtype=torch.bool)
    for m in range(count):
        blurred = down @ maps[m] @ across.T
        response[m] = (maps[m] - blurred - maps[m].mean()).clamp(min=0)
        for y in range(height):
            for x in range(width):
                peaks[m, y, x] = _is_peak(response[m], y, x, window // 2, threshold)
    return response, peaks


def _gaussian(size: int, sigma: float) -> Tensor:
    """[size, size] float64: row i holds the weight of every cell in the blurred cell i."""
    radius = math.ceil(3 * sigma)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(distance**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    matrix = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        for d, weight in zip(range(-radius, radius + 1), weights, strict=True):
            matrix[i, min(max(i + d, 0), size - 1)] += weight  # the edge goes on outside
    return matrix


def _is_peak(response: Tensor, y: int, x: int, reach: int, threshold: float) -> bool:
    own = response[y, x]
    if own <= threshold:
        return False
    height, width = response.shape
    for v in range(max(y - reach, 0), min(y + reach + 1, height)):
        for u in range(max(x - reach, 0), min(x + reach + 1, width)):
            if response[v, u] > own or (response[v, u] == own and (v, u) < (y, x)):
                return False
    return True
