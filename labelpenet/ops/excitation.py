"""Excitation Backprop through fully connected layers, for all proposals of an image at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch
from labelpenet.ops._register import Op

_DTYPES = (torch.float32, torch.bfloat16)
# The widest array that is not an input, [proposals of a chunk, C * h * w], stays about this size.
_CHUNK_BYTES = 192 << 20
# A device's matrix products are the faster the larger, and it has no cache that would be spared.
_DEVICE_CHUNK_BYTES = 512 << 20


@dataclass(frozen=True)
class PositiveWeights:
    """The weights of a head as `excitation_maps` uses them; see `positive_weights`.

    Attributes:
        hidden: max(W, 0) of every layer under the classifier, lowest first.
        classifier: [num_classes, D], with both its signs.
    """

    hidden: tuple[Tensor, ...]
    classifier: Tensor


def positive_weights(weights: Sequence[Tensor]) -> PositiveWeights:
    """Prepares the weights of a head once, for many calls of `excitation_maps`.

    Costs as much memory as the weights themselves. The result holds copies, so that a training
    step on the weights leaves it stale.

    Args:
        weights: One [D_out, D_in] float32 or bfloat16 matrix per layer as in torch.nn.Linear,
            lowest first; the last one is the classifier.

    Raises:
        TypeError: Not a sequence of float32 or bfloat16 tensors.
        ValueError: No weights, empty ones, shapes that do not follow on each other, or values that
            are not finite.

    Example:
        >>> import torch
        >>> positive_weights([torch.tensor([[1.0, -2.0]]), torch.tensor([[-3.0]])])
        PositiveWeights(hidden=(tensor([[1., 0.]]),), classifier=tensor([[-3.]]))
    """
    _sequence("weights", weights)
    if not weights:
        raise ValueError("weights: expected at least the classifier's, got none")
    width: int | str = "D_in"
    for layer, weight in enumerate(weights):
        name = f"weights[{layer}]"
        dtypes = _DTYPES if layer == 0 else (weights[0].dtype,)
        like = None if layer == 0 else weights[0]
        sizes = _check.tensor(name, weight, ("D_out", width), dtypes, like=like)
        if weight.numel() == 0:
            got = _check.describe(weight)
            raise ValueError(f"{name}: expected at least one input and one output, got {got}")
        width = sizes["D_out"]
        _check.bounded(name, weight.detach())
    hidden = tuple(weight.detach().clamp(min=0).contiguous() for weight in weights[:-1])
    return PositiveWeights(hidden, weights[-1].detach().clone().contiguous())


def excitation_maps(
    activations: Sequence[Tensor],
    weights: Sequence[Tensor] | PositiveWeights,
    classes: Tensor,
    start: Tensor | None = None,
    *,
    contrastive: bool = False,
) -> Tensor:
    """Proposal attention maps: where in each proposal the evidence for its class lies.

    Each proposal starts with a probability at the output of one class. A layer with input x and
    weights W, of which W+ = max(W, 0), hands the probability of its outputs down to its inputs,
    p_in = x * (W+^T (p_out / (W+ x))), without the bias and with a share of 0 where W+ x is
    exactly 0. What reaches the pooled features is summed over channels. A map therefore sums to
    the start probability, less what ended at units without any positive input.

    The contrastive form also sends the start probability through the classifier with the signs of
    its weights turned, subtracts the two one layer down, and clamps negative sums of the map to 0.

    On a CUDA device nothing is waited for and nobody looks at the numbers: a proposal whose class
    is out of range gets a map of zeros, and a share that is not finite counts as 0.

    Nothing is differentiated: the maps carry no gradient. Two torch.mm per hidden layer take
    nearly all the time; precision (TF32, say) and reproducibility are what torch is set to for
    them. A share that leaves the range of float32, because its denominator is nearly 0, counts
    as 0.

    Args:
        activations: activations[0] is [R, C, h, w], the pooled features, and activations[l] is
            [R, D_l], the input of layer l; all >= 0, float32 or bfloat16 like the weights. bfloat16
            rounds between layers, which moves a map by less than 2e-3 of its largest value.
        weights: One [D_(l+1), D_l] matrix per layer as in torch.nn.Linear, D_0 = C * h * w; the
            last is the classifier, [num_classes, D]. Or `positive_weights` of them, which saves
            a pass over the weights in each call.
        classes: [R] int64, the class that each proposal starts from.
        start: [R] float32, its probability, >= 0; ones by default.
        contrastive: Use the contrastive form.

    Returns:
        [R, h, w] float32.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape or device, a class outside [0, num_classes), or an activation,
            weight or start that is not finite, or negative where that is excluded.

    Source:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016: the layer rule
        and the contrastive form; Label-PEnet, section 3.2, which starts one per proposal.

    Example:
        >>> import torch
        >>> pooled = torch.tensor([[[[1.0, 3.0]]]])  # one proposal, one channel, 1 x 2 cells
        >>> weights = [torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0], [5.0]])]
        >>> excitation_maps([pooled, torch.tensor([[4.0]])], weights, torch.tensor([1]))
        tensor([[[0.2500, 0.7500]]])
    """
    if not isinstance(weights, PositiveWeights):
        weights = positive_weights(weights)
    _sequence("activations", activations)
    layers = [*weights.hidden, weights.classifier]
    if len(activations) != len(layers):
        raise ValueError(
            f"activations: expected one per layer, {len(layers)}, got {len(activations)}"
        )
    dtype, like = weights.classifier.dtype, weights.classifier
    sizes = _check.tensor("activations[0]", activations[0], "RChw", (dtype,), like=like)
    width = sizes["C"] * sizes["h"] * sizes["w"]
    if width != layers[0].shape[1]:
        raise ValueError(
            f"activations[0]: expected C * h * w = {layers[0].shape[1]} as the lowest layer takes, "
            f"got {width}"
        )
    for i in range(1, len(layers)):
        shape = (sizes["R"], layers[i].shape[1])
        _check.tensor(f"activations[{i}]", activations[i], shape, (dtype,), like=like)
    _check.tensor("classes", classes, (sizes["R"],), (torch.int64,), like=like)
    if start is None:
        start = torch.ones(sizes["R"], dtype=torch.float32, device=like.device)
    _check.tensor("start", start, (sizes["R"],), (torch.float32,), like=like)
    maps: Tensor = _OP(
        [a.detach().contiguous() for a in activations],
        list(weights.hidden),
        weights.classifier,
        classes.contiguous(),
        start.detach().contiguous(),
        bool(contrastive),
    )
    return maps


def _excitation_maps(
    activations: Sequence[Tensor],
    hidden: Sequence[Tensor],
    classifier: Tensor,
    classes: Tensor,
    start: Tensor,
    contrastive: bool,
) -> Tensor:
    for i, activation in enumerate(activations):
        _check.bounded(f"activations[{i}]", activation, 0)
    _check.bounded("start", start, 0)
    _check.index_range("classes", classes, classifier.shape[0])
    pooled = activations[0].flatten(2)
    proposals, channels, cells = pooled.shape
    maps = pooled.new_empty((proposals, cells), dtype=torch.float32)
    limit = _DEVICE_CHUNK_BYTES if pooled.is_cuda else _CHUNK_BYTES
    rows = max(1, limit // (channels * cells * pooled.element_size()))
    chunks = max(1, -(-proposals // rows))
    rows = max(1, -(-proposals // chunks))  # equal chunks: a small last one wastes the products
    rows += -rows % 8 if chunks > 1 else 0  # no odd number: every row's sums round alike
    buffers = [classifier.new_empty((rows, weight.shape[1])) for weight in (*hidden, classifier)]
    shares = [classifier.new_empty((rows, weight.shape[0])) for weight in hidden]
    threads, stream = launch(pooled)
    # torch.mm under autocast would leave the dtype that the kernels are told
    with torch.autocast(pooled.device.type, enabled=False):
        for begin in range(0, proposals, rows):
            end = min(begin + rows, proposals)
            x = [a[begin:end].flatten(1) for a in activations]
            gains = [b[: end - begin] for b in buffers]
            kernels().excitation_start(
                x[-1], classifier, classes[begin:end], start[begin:end], gains[-1],
                contrastive, threads, stream,
            )  # fmt: skip
            for i in range(len(hidden) - 1, -1, -1):
                z = shares[i][: end - begin]
                torch.mm(x[i], hidden[i].t(), out=z)
                kernels().excitation_ratio(x[i + 1], gains[i + 1], z, threads, stream)
                torch.mm(z, hidden[i], out=gains[i])
            kernels().excitation_sum(
                pooled[begin:end], gains[0], maps[begin:end], contrastive, threads, stream
            )
    return maps.view(activations[0].shape[0], *activations[0].shape[2:])


def _fake(
    activations: Sequence[Tensor],
    hidden: Sequence[Tensor],
    classifier: Tensor,
    classes: Tensor,
    start: Tensor,
    contrastive: bool,
) -> Tensor:
    proposals, _, height, width = activations[0].shape
    return activations[0].new_empty((proposals, height, width), dtype=torch.float32)


_OP = Op(
    "excitation_maps(Tensor[] activations, Tensor[] hidden, Tensor classifier, Tensor classes, "
    "Tensor start, bool contrastive) -> Tensor",
    _excitation_maps,
    _fake,
)


def _sequence(name: str, value: object) -> None:
    if isinstance(value, Tensor) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a sequence of tensors, got {_check.describe(value)}")
