"""Peak response maps, one peak at a time (ICN, eq. 2; Zhou et al., CVPR 2018, eq. 3 to 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gradient_maps(
    body: nn.Module, weight: Tensor, bias: Tensor, image: Tensor, peaks: Tensor
) -> Tensor:
    """The plain gradient: one backward pass through the whole network for every peak.

    Args:
        body: Image [1, 3, H, W] -> features [1, D, h, w].
        weight: [C, D] of the classifier of each cell.
        bias: [C].
        image: [1, 3, H, W].
        peaks: [P, 3] (class, row, column).

    Returns:
        [P, H, W], summed over the channels as magnitudes.
    """
    leaf = image.detach().clone().requires_grad_()
    maps = F.conv2d(body(leaf), weight[:, :, None, None], bias)[0]
    out = torch.zeros(len(peaks), *image.shape[2:], dtype=image.dtype)
    for i, (label, row, column) in enumerate(peaks.tolist()):
        (gradient,) = torch.autograd.grad(maps[label, row, column], leaf, retain_graph=True)
        out[i] = gradient[0].abs().sum(0)
    return out


def positive_maps(
    body: nn.Sequential, weight: Tensor, bias: Tensor, image: Tensor, peaks: Tensor
) -> Tensor:
    """The positive form of a chain of convolutions, ReLU and max-pooling, layer by layer.

    Of what reaches an output, a cell of the input gets the share that its value, counted from the
    layer's smallest, has in the sum of its positive weights: x W+ / sum(x W+), summed.
    """
    classifier = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=weight.dtype)
    with torch.no_grad():
        classifier.weight.copy_(weight[:, :, None, None])
        classifier.bias.copy_(bias)  # type: ignore[union-attr]
    layers = [*body, classifier]
    inputs = [image.detach()]
    for layer in layers:
        inputs.append(layer(inputs[-1]).detach())
    out = torch.zeros(len(peaks), *image.shape[2:], dtype=image.dtype)
    for i, (label, row, column) in enumerate(peaks.tolist()):
        arrived = torch.zeros_like(inputs[-1])
        arrived[0, label, row, column] = 1
        for layer, x in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
            arrived = _through(layer, x, arrived)
        out[i] = arrived[0].sum(0)
    return out


def _through(layer: Any, x: Tensor, arrived: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    if isinstance(layer, nn.Conv2d):
        low = x.min()
        let_through = F.conv2d(
            leaf - low,
            layer.weight.clamp(min=0),
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
        )
        known = let_through.detach() > 1e-10
        ratio = torch.where(known, arrived / let_through.detach().clamp(min=1e-10), 0)
        (share,) = torch.autograd.grad(let_through, leaf, ratio)
        return share * (x - low)
    (gradient,) = torch.autograd.grad(layer(leaf), leaf, arrived)
    return gradient
