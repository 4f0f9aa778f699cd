"""Excitation Backprop, one proposal and one layer at a time, as the equations have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def excitation_maps(
    activations: Sequence[Tensor],
    weights: Sequence[Tensor],
    classes: Tensor,
    start: Tensor | None = None,
    *,
    contrastive: bool = False,
) -> Tensor:
    """Same arguments as `labelpenet.ops.excitation_maps`; [R, h, w] in the activations' dtype.

    Source:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.
    """
    maps = []
    for r in range(activations[0].shape[0]):
        inputs = [a[r].flatten() for a in activations]
        p = torch.zeros(weights[-1].shape[0], dtype=inputs[0].dtype)
        p[classes[r]] = 1 if start is None else start[r]
        below = _layer(inputs[-1], weights[-1], p)
        if contrastive:
            below = below - _layer(inputs[-1], -weights[-1], p)
        for x, weight in zip(inputs[-2::-1], weights[-2::-1], strict=True):
            below = _layer(x, weight, below)
        total = below.reshape(activations[0].shape[1:]).sum(0)
        maps.append(total.clamp(min=0) if contrastive else total)
    return torch.stack(maps) if maps else activations[0].sum(1)


def _layer(x: Tensor, weight: Tensor, p_out: Tensor) -> Tensor:
    """p_in of one layer: every output shares its probability among inputs in ratio x * w+."""
    excitatory = weight.clamp(min=0) * x  # [D_out, D_in]
    denominator = excitatory.sum(1, keepdim=True)
    shares = torch.where(denominator == 0, 0, excitatory / denominator)
    return (shares * p_out[:, None]).sum(0)
