"""The way back through one layer, for a window of each of several peaks (Patches)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.icn.patches import Patches

EPSILON = 1e-10  # what lets nothing through has no shares
OUTSIDE = 255  # in place of an offset within a pooling window


def plain(layer: nn.Module) -> bool:
    """Whether a layer of a known kind is of the form that the way back is written for."""
    if isinstance(layer, nn.Conv2d):
        simple = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return simple and layer.groups == 1
    if isinstance(layer, nn.MaxPool2d):
        rows, columns = _pair(layer.kernel_size)
        return _pair(layer.dilation) == (1, 1) and rows * columns <= OUTSIDE
    return True


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _moved(at: Patches, layer: Any, values: Tensor) -> Patches:
    """Windows of a layer's input: they begin where those of its output look first."""
    (sy, sx), (py, px) = _pair(layer.stride), _pair(layer.padding)
    return Patches(values, [t * sy - py for t in at.top], [v * sx - px for v in at.left])


def conv_back(layer: nn.Conv2d, at: Patches, weight: Tensor) -> Patches:
    """The plain gradient of a convolution whose kernel is `weight`."""
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0):
        return Patches(F.conv2d(at.values, weight.transpose(0, 1)), at.top, at.left)
    if layer.dilation == (1, 1) and layer.stride[0] == layer.stride[1] > 1:
        return _moved(at, layer, _strided_back(at.values, weight, layer.stride[0]))
    values = F.conv_transpose2d(at.values, weight, stride=layer.stride, dilation=layer.dilation)
    return _moved(at, layer, values)


def _strided_back(values: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A transposed convolution [P, D, h, w] x [D, C, k, k] as a plain one and a shuffle.

    Each of the stride's phases along an axis sees its own cells of the kernel: as channels, they
    fill a convolution's lanes, which the three of an image leave empty.
    """
    deep, channels, ky, kx = weight.shape
    rows, columns = -(-ky // stride), -(-kx // stride)
    whole = F.pad(weight, (0, columns * stride - kx, 0, rows * stride - ky))
    phases = whole.reshape(deep, channels, rows, stride, columns, stride).permute(1, 3, 5, 0, 2, 4)
    kernel = phases.reshape(-1, deep, rows, columns).flip(2, 3)
    out = F.pixel_shuffle(F.conv2d(values, kernel, padding=(rows - 1, columns - 1)), stride)
    height, width = (values.shape[2] - 1) * stride + ky, (values.shape[3] - 1) * stride + kx
    return out[:, :, :height, :width]


def share_back(layer: nn.Conv2d, at: Patches, image: Tensor) -> Patches:
    """Excitation: x * W+^T (p / (W+ x)), with x shifted by its minimum and no bias."""
    shifted = image - image.min()
    weight = layer.weight.clamp(min=0)
    let_through = F.conv2d(shifted, weight, None, layer.stride, layer.padding, layer.dilation)[0]
    whole = at.gather(let_through)
    share = torch.where(whole > EPSILON, at.values / whole, torch.zeros_like(whole))
    back = conv_back(layer, Patches(share, at.top, at.left), weight)
    return Patches(back.values * back.gather(shifted[0]), back.top, back.left)


def pool(layer: nn.MaxPool2d, image: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled image, and which cell of its window each value came from, [C, h, w] uint8."""
    pooled, index = F.max_pool2d(
        image,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        ceil_mode=layer.ceil_mode,
        return_indices=True,
    )
    (sy, sx), (py, px), (_, kx) = map(_pair, (layer.stride, layer.padding, layer.kernel_size))
    width = image.shape[3]
    top = torch.arange(pooled.shape[2], device=image.device)[:, None] * sy - py
    left = torch.arange(pooled.shape[3], device=image.device) * sx - px
    down = torch.div(index[0], width, rounding_mode="floor") - top
    right = index[0] % width - left
    return pooled, (down * kx + right).to(torch.uint8)


def pool_back(layer: nn.MaxPool2d, at: Patches, offsets: Tensor) -> Patches:
    """The gradient of max-pooling: each value goes to the cell that it came from (see pool).

    Takes the values of `at` over. On a GPU, what overlapping windows send to one cell is summed in
    no fixed order, unless torch.use_deterministic_algorithms asks for one.
    """
    (sy, sx), (ky, kx) = _pair(layer.stride), _pair(layer.kernel_size)
    own = at.gather(offsets, OUTSIDE)
    count, channels, h, w = at.values.shape
    height, width = (h - 1) * sy + ky, (w - 1) * sx + kx
    # from a cell's offset and where its window begins to its place in the values
    offset = torch.arange(OUTSIDE + 1, device=own.device)
    step = torch.where(offset < ky * kx, offset // kx * width + offset % kx, 0)
    down, right = (torch.arange(n, device=own.device) for n in (h, w))
    begin = down[:, None] * sy * width + right * sx
    passed = at.values.masked_fill_(own == OUTSIDE, 0).flatten(2)
    values = at.values.new_zeros(count, channels, height * width)
    for into, gradient, cells in zip(values, passed, own.expand(count, -1, -1, -1), strict=True):
        into.scatter_add_(1, (step[cells.int()] + begin).flatten(1), gradient)
    return _moved(at, layer, values.view(count, channels, height, width))


def norm_back(layer: nn.GroupNorm, at: Patches, image: Tensor) -> Patches:
    """Through group normalisation, whose mean and deviation tie all cells of a group together."""
    channels, height, width = image.shape
    grouped = image.reshape(layer.num_groups, -1)
    variance, mean = torch.var_mean(grouped, 1, correction=0, keepdim=True)
    scale = (variance + layer.eps).rsqrt()
    normal = (grouped - mean) * scale
    gradient = at.place(height, width) * layer.weight[:, None, None]
    gradient = gradient.reshape(len(gradient), layer.num_groups, -1)
    straight = gradient - gradient.mean(2, keepdim=True)
    values = scale * (straight - normal * (gradient * normal).mean(2, keepdim=True))
    none = [0] * len(at.top)
    return Patches(values.reshape(-1, channels, height, width), none, none)
