"""A bright disk on a dark, noisy ground."""

import numpy as np
import torch

SIDE, RADIUS, CENTRE = 64, 15, (34, 30)  # (x, y)


def disk() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    return (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 <= RADIUS**2


def photo() -> np.ndarray:
    """A bright disk on a dark, noisy ground."""
    noise = np.random.default_rng(0).integers(0, 20, (SIDE, SIDE, 3))
    return (noise + np.where(disk().numpy()[..., None], 200, 20)).astype(np.uint8)


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a & b).sum() / (a | b).sum()).item()
