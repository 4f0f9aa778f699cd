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

from labelpenet.icn.layer_gradients import (
    EPSILON,
    OUTSIDE,
    conv_back,
    norm_back,
    plain,
    pool,
    pool_back,
    share_back,
)
from labelpenet.icn.patches import Patches


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
                pooled, offsets = pool(self._layer(node), values[node.args[0]])
                if _kind(node.args[0], self._graph) == "relu":  # which stops what is pooled to zero
                    offsets.masked_fill_(pooled[0] <= 0, OUTSIDE)
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
            cells = Patches(kept / kept.sum(1, keepdim=True).clamp(min=EPSILON), top, left)
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
            return [(source, pool_back(layer, at, self._offsets[node]))]
        if kind == "norm":
            return [(source, norm_back(layer, at, self._values[source][0]))]
        if self._positive:
            return [(source, share_back(layer, at, self._values[source]))]
        return [(source, conv_back(layer, at, layer.weight))]

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
        if type(layer) in _LAYERS and plain(layer):
            return _LAYERS[type(layer)]
    raise ValueError(f"body: a peak cannot be propagated back through {node.target}")
