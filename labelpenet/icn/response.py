"""Peak response maps: every peak of an image propagated back to it, all in one pass (ICN, eq. 2).

The network runs once. Its layers are then walked backwards with the peaks as the batch: what the
forward pass left behind is shared by all of them, and each peak carries no more of a layer than
the window that it can depend on, a single cell at first and its receptive field in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.icn.patches import Patches

_EPSILON = 1e-10
_OUTSIDE = 255  # in place of an offset within a pooling window


@dataclass(frozen=True)
class Responses:
    """A network's class activation maps, and what back-propagating their peaks needs.

    Attributes:
        maps: [C, h, w] class activation maps.
    """

    maps: Tensor
    _trace: _Trace

    def of(self, peaks: Tensor) -> Tensor:
        """Peak response maps of peaks [P, 3] (class, row, column): [P, H, W], >= 0."""
        return self._trace.back(peaks)


class PeakTracer:
    """Runs a network so that peaks of its class activation maps can be propagated back.

    Args:
        body: Image [1, 3, H, W] -> features [1, D, h, w]: convolutions, ReLU, max-pooling, group
            normalisation, dropout and concatenation, in any graph.
        classifier: Features of one cell -> class scores; its class activation maps are traced.
        positive: Excitation in place of the gradient: every convolution passes on a cell's share of
            what its positive weights let through, its input shifted by its minimum (Zhou et al.,
            CVPR 2018). Otherwise the plain gradient, as in the paper.

    Raises:
        ValueError: A layer of another kind.
    """

    def __init__(self, body: nn.Module, classifier: nn.Linear, *, positive: bool = False) -> None:
        self._graph = torch.fx.symbolic_trace(body)
        self._classifier = classifier
        self._positive = positive
        for node in self._graph.graph.nodes:
            _kind(node, self._graph)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Responses:
        """Image [1, 3, H, W] as the body takes it; the body should be in evaluation mode."""
        trace = _Trace(self._graph, self._classifier, self._positive)
        features = trace.run(image)
        weight, bias = self._classifier.weight, self._classifier.bias
        return Responses(F.conv2d(features, weight[:, :, None, None], bias)[0], trace)


class _Trace:
    """One forward pass, and the way back through it."""

    def __init__(self, graph: torch.fx.GraphModule, classifier: nn.Linear, positive: bool) -> None:
        self._graph = graph
        self._classifier = classifier
        self._positive = positive
        self._values: dict[torch.fx.Node, Tensor] = {}
        self._offsets: dict[torch.fx.Node, Tensor] = {}  # [C, h, w] of max-pooling

    def run(self, image: Tensor) -> Tensor:
        """The body's features; every layer's output is kept."""
        values = self._values
        for node in self._graph.graph.nodes:
            kind = _kind(node, self._graph)
            if kind == "placeholder":
                values[node] = image
            elif kind == "output":
                return values[node.args[0]]
            elif kind == "pool":
                pooled, offsets = _pool(self._layer(node), values[node.args[0]])
                if _kind(node.args[0], self._graph) == "relu":  # which stops what is pooled to zero
                    offsets.masked_fill_(pooled[0] <= 0, _OUTSIDE)
                values[node], self._offsets[node] = pooled, offsets
            elif kind == "cat":
                values[node] = torch.cat([values[part] for part in node.args[0]], 1)
            elif kind == "relu":
                values[node] = torch.relu(values[node.args[0]])
            elif kind == "same":
                values[node] = values[node.args[0]]
            else:
                values[node] = self._layer(node)(values[node.args[0]])
        raise AssertionError("a graph ends with its output")

    @torch.no_grad()
    def back(self, peaks: Tensor) -> Tensor:
        """Peaks [P, 3] -> [P, H, W]."""
        nodes = list(self._graph.graph.nodes)
        image = self._values[nodes[0]]
        height, width = int(image.shape[2]), int(image.shape[3])
        if len(peaks) == 0:
            return image.new_zeros(0, height, width)
        carried = {nodes[-1].args[0]: self._start(peaks)}
        for node in reversed(nodes):
            if _kind(node, self._graph) in _ENDS or node not in carried:
                continue
            for source, patches in self._step(node, carried.pop(node)):
                size = self._values[source].shape[2:]
                known = carried.get(source)
                patches = patches.within(*size)
                carried[source] = patches if known is None else known.add(patches, *size)
        found = carried[nodes[0]]
        strength = found.values.abs().sum(1, keepdim=True)
        return Patches(strength, found.top, found.left).place(height, width)[:, 0]

    def _start(self, peaks: Tensor) -> Patches:
        """What the classifier sends to the features of each peak's cell."""
        rows = self._classifier.weight[peaks[:, 0]]
        last = list(self._graph.graph.nodes)[-1].args[0]
        listed = peaks.tolist()
        top, left = [int(p[1]) for p in listed], [int(p[2]) for p in listed]
        cells = Patches(rows[:, :, None, None], top, left)
        if self._positive:
            features = self._values[last][0]
            shifted = cells.gather(features - features.min())
            kept = rows.clamp(min=0)[:, :, None, None] * shifted
            cells = Patches(kept / kept.sum(1, keepdim=True).clamp(min=_EPSILON), top, left)
        return cells

    def _step(self, node: torch.fx.Node, at: Patches) -> list[tuple[torch.fx.Node, Patches]]:
        """From a layer's output to its inputs."""
        kind, out = _kind(node, self._graph), self._values[node]
        if kind == "cat":
            parts: Any = node.args[0]
            split = at.values.split([self._values[p].shape[1] for p in parts], 1)
            return [
                (part, Patches(values, at.top, at.left))
                for part, values in zip(parts, split, strict=True)
            ]
        source = node.args[0]
        assert isinstance(source, torch.fx.Node)
        if kind == "same":
            return [(source, at)]
        if kind == "relu":
            if any(_kind(user, self._graph) != "pool" for user in node.users):
                at.keep_where(out[0] > 0)
            return [(source, at)]
        layer = self._layer(node)
        if kind == "pool":
            return [(source, _pool_back(layer, at, self._offsets[node]))]
        if kind == "norm":
            return [(source, _norm_back(layer, at, self._values[source][0]))]
        if self._positive:
            return [(source, _share_back(layer, at, self._values[source]))]
        return [(source, _conv_back(layer, at, layer.weight))]

    def _layer(self, node: torch.fx.Node) -> Any:
        return self._graph.get_submodule(str(node.target))


_ENDS = ("placeholder", "output")
_FUNCTIONS: dict[Callable[..., Any], str] = {torch.relu: "relu", torch.cat: "cat"}
_LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.ReLU: "relu",
    nn.MaxPool2d: "pool",
    nn.GroupNorm: "norm",
    nn.Dropout: "same",
    nn.Identity: "same",
}


def _kind(node: torch.fx.Node, graph: torch.fx.GraphModule) -> str:
    if node.op in _ENDS:
        return node.op
    if node.op == "call_function" and node.target in _FUNCTIONS:
        return _FUNCTIONS[node.target]
    if node.op == "call_module":
        layer = graph.get_submodule(str(node.target))
        plain = not isinstance(layer, nn.Conv2d) or (
            layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding != "same"
        )
        if type(layer) in _LAYERS and plain:
            return _LAYERS[type(layer)]
    raise ValueError(f"body: a peak cannot be propagated back through {node.target}")


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _moved(at: Patches, layer: Any, values: Tensor) -> Patches:
    """Windows of a layer's input: they begin where those of its output look first."""
    (sy, sx), (py, px) = _pair(layer.stride), _pair(layer.padding)
    return Patches(values, [t * sy - py for t in at.top], [v * sx - px for v in at.left])


def _conv_back(layer: nn.Conv2d, at: Patches, weight: Tensor) -> Patches:
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


def _share_back(layer: nn.Conv2d, at: Patches, image: Tensor) -> Patches:
    """Excitation: x * W+^T (p / (W+ x)), with x shifted by its minimum and no bias."""
    shifted = image - image.min()
    weight = layer.weight.clamp(min=0)
    let_through = F.conv2d(shifted, weight, None, layer.stride, layer.padding, layer.dilation)[0]
    whole = at.gather(let_through)
    share = torch.where(whole > _EPSILON, at.values / whole, torch.zeros_like(whole))
    back = _conv_back(layer, Patches(share, at.top, at.left), weight)
    return Patches(back.values * back.gather(shifted[0]), back.top, back.left)


def _pool(layer: nn.MaxPool2d, image: Tensor) -> tuple[Tensor, Tensor]:
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


def _pool_back(layer: nn.MaxPool2d, at: Patches, offsets: Tensor) -> Patches:
    (sy, sx), (ky, kx) = _pair(layer.stride), _pair(layer.kernel_size)
    own = at.gather(offsets, _OUTSIDE)
    count, channels, h, w = at.values.shape
    height, width = (h - 1) * sy + ky, (w - 1) * sx + kx
    # from a cell's offset and where its window begins to its place in the values
    offset = torch.arange(_OUTSIDE + 1, device=own.device)
    step = torch.where(offset < ky * kx, offset // kx * width + offset % kx, 0)
    down, right = (torch.arange(n, device=own.device) for n in (h, w))
    begin = down[:, None] * sy * width + right * sx
    passed = at.values.masked_fill_(own == _OUTSIDE, 0).flatten(2)
    values = at.values.new_zeros(count, channels, height * width)
    for into, gradient, cells in zip(values, passed, own.expand(count, -1, -1, -1), strict=True):
        into.scatter_add_(1, (step[cells.int()] + begin).flatten(1), gradient)
    return _moved(at, layer, values.view(count, channels, height, width))


def _norm_back(layer: nn.GroupNorm, at: Patches, image: Tensor) -> Patches:
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
