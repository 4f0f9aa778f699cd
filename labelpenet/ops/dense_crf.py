"""Mean-field inference in a fully connected CRF: label maps that follow the edges of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import cast

import torch
from torch import Tensor

from labelpenet.ops import _check
from labelpenet.ops._extension import kernels, launch
from labelpenet.ops._register import Op


class Normalization(IntEnum):
    """How a kernel matrix K is scaled by its row sums, D = diag(K 1).

    Attributes:
        NONE: K.
        BEFORE: K D^-1.
        AFTER: D^-1 K.
        SYMMETRIC: D^-1/2 K D^-1/2.
    """

    NONE = 0
    BEFORE = 1
    AFTER = 2
    SYMMETRIC = 3


@dataclass(frozen=True)
class GaussianKernel:
    """Neighbours in the picture like to have the same label.

    Attributes:
        sxy: Standard deviation in pixels.
        compat: Potts weight: what two unlike labels cost.
    """

    sxy: float = 3.0
    compat: float = 3.0


@dataclass(frozen=True)
class BilateralKernel:
    """Neighbours of like colour like to have the same label.

    Attributes:
        sxy: Standard deviation in pixels.
        srgb: Standard deviation in grey levels (0 to 255).
        compat: Potts weight: what two unlike labels cost.
    """

    sxy: float = 80.0
    srgb: float = 13.0
    compat: float = 10.0


GAUSSIAN = GaussianKernel()
BILATERAL = BilateralKernel()


def dense_crf(
    image: Tensor,
    unary: Tensor,
    *,
    iterations: int = 10,
    gaussian: GaussianKernel | None = GAUSSIAN,
    bilateral: BilateralKernel | None = BILATERAL,
    normalization: Normalization = Normalization.SYMMETRIC,
) -> Tensor:
    """Refines label maps of one image by mean-field inference in a dense CRF.

    Starting from Q = softmax(-U), every iteration sets Q = softmax(-U + sum_k compat_k K_k Q) with
    K_k[i, j] = exp(-|f_i - f_j|^2 / 2), i = j included, over f = (x, y) / sxy (`gaussian`) and
    f = (x, y) / sxy, (r, g, b) / srgb (`bilateral`), filtered by a permutohedral lattice. The K
    label maps are independent of each other; they share the lattices, so ten of them cost far less
    than ten calls. Two labels cost half a map. The result does not depend on the thread count.

    Not differentiable. On a CUDA device nothing is waited for, so a call can be captured in a
    graph, and nobody looks at the numbers: a NaN makes all labels of its pixel NaN and is nothing
    to other pixels. The device lends scratch memory of up to 1.3 KB a pixel meanwhile.

    Args:
        image: [H, W, 3] uint8, RGB.
        unary: [K, L, H, W] float32, finite: -log probability of each label; at least 2 labels.
        iterations: Mean-field steps; 0 gives softmax(-U). At most 100000.
        gaussian: The smoothness kernel, or None.
        bilateral: The appearance kernel, or None.
        normalization: Of both kernels.

    Returns:
        [K, L, H, W] float32 probabilities; they sum to 1 over the labels.

    Raises:
        TypeError: An argument of another type or dtype.
        ValueError: Another shape, fewer than 2 labels, a unary that is not finite or needs a
            gradient, a standard deviation below 1e-30 or too small for the image.

    Source:
        Krähenbühl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge
        potentials", NIPS 2011, algorithm 1; Adams, Baek and Davis, "Fast high-dimensional filtering
        using the permutohedral lattice", Eurographics 2010. Defaults as commonly used on VOC.

    Example:
        >>> image = torch.zeros(4, 6, 3, dtype=torch.uint8)
        >>> image[:, 3:] = 255
        >>> unary = unary_from_probability(torch.full((1, 2, 4, 6), 0.5))
        >>> unary[0, 0, 0, 0] = unary[0, 1, 0, 5] = 0.1  # a hint in each half
        >>> dense_crf(image, unary).argmax(1)[0, :, 2:4].tolist()
        [[0, 1], [0, 1], [0, 1], [0, 1]]
    """
    _check.tensor("image", image, ("H", "W", 3), (torch.uint8,))
    size = _check.tensor("unary", unary, ("K", "L", *image.shape[:2]), (torch.float32,), like=image)
    if size["L"] < 2:
        raise ValueError(f"unary: expected at least 2 labels, got {_check.describe(unary)}")
    if isinstance(iterations, bool) or not isinstance(iterations, int):
        raise TypeError(f"iterations: expected an int, got {_check.describe(iterations)}")
    if not 0 <= iterations <= 100_000:
        raise ValueError(f"iterations: expected 0 to 100000, got {iterations}")
    if not isinstance(normalization, Normalization):
        raise TypeError(f"normalization: expected Normalization, got {normalization!r}")
    if unary.requires_grad and torch.is_grad_enabled():
        raise ValueError("unary: needs a gradient, but dense_crf has none; pass unary.detach()")
    potentials = _potentials(gaussian, bilateral)
    return cast(Tensor, _OP(image, unary, iterations, potentials, int(normalization)))


def unary_from_probability(probability: Tensor, *, gt_prob: float | None = None) -> Tensor:
    """Turns soft maps into the unary energies that `dense_crf` takes.

    Args:
        probability: [K, L, ...] float32, in [0, 1].
        gt_prob: None: U = -log(max(p, 1e-5)). A number in (1 / L, 1): the maps are trusted only so
            far as to name a label: the largest gets probability gt_prob, the other labels share
            the rest (of equals, the first).

    Returns:
        Unary energies, like `probability`.

    Raises:
        TypeError: Not a float32 tensor.
        ValueError: Fewer than 2 labels, or gt_prob outside (0, 1).

    Source:
        The two usual ways to make unaries for Krähenbühl and Koltun's CRF.

    Example:
        >>> p = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
        >>> unary_from_probability(p, gt_prob=0.5).exp().flatten().tolist()
        [2.0, 2.0]
    """
    if not isinstance(probability, Tensor) or probability.dtype != torch.float32:
        raise TypeError(
            f"probability: expected [K, L, ...] float32 tensor, got {_check.describe(probability)}"
        )
    if probability.dim() < 2 or probability.shape[1] < 2:
        raise ValueError(
            "probability: expected [K, L, ...] float32 with L at least 2, "
            f"got {_check.describe(probability)}"
        )
    if gt_prob is None:
        return -probability.clamp_min(1e-5).log()
    _check.number("gt_prob", gt_prob, minimum=0.0, maximum=1.0)
    if gt_prob in (0, 1):
        raise ValueError(f"gt_prob: expected a number in (0, 1), got {gt_prob}")
    labels = probability.shape[1]
    rest = -math.log((1 - gt_prob) / (labels - 1))
    unary = torch.full_like(probability, rest)
    return unary.scatter_(1, probability.argmax(1, keepdim=True), -math.log(gt_prob))


def _potentials(gaussian: object, bilateral: object) -> list[float]:
    """(sxy, srgb or 0, compat) of each kernel, one after the other."""
    flat: list[float] = []
    if gaussian is not None:
        if not isinstance(gaussian, GaussianKernel):
            raise TypeError(f"gaussian: expected GaussianKernel or None, got {gaussian!r}")
        flat += [_deviation("gaussian.sxy", gaussian.sxy), 0.0]
        flat += [_compat("gaussian.compat", gaussian.compat)]
    if bilateral is not None:
        if not isinstance(bilateral, BilateralKernel):
            raise TypeError(f"bilateral: expected BilateralKernel or None, got {bilateral!r}")
        flat += [_deviation("bilateral.sxy", bilateral.sxy)]
        flat += [_deviation("bilateral.srgb", bilateral.srgb)]
        flat += [_compat("bilateral.compat", bilateral.compat)]
    return flat


def _compat(name: str, value: float) -> float:
    return _check.number(name, value, minimum=-1e9, maximum=1e9)  # finite scores in float32


def _deviation(name: str, value: float) -> float:
    return _check.number(name, value, minimum=1e-30, maximum=1e9)  # above 0 in float32


def _kernel(
    image: Tensor, unary: Tensor, iterations: int, potentials: list[float], normalization: int
) -> Tensor:
    image, unary = image.contiguous(), unary.contiguous()
    probability = torch.empty_like(unary)
    if probability.numel() == 0:
        return probability
    _check.finite("unary", unary)
    bytes_needed = kernels().dense_crf_scratch(image, unary, potentials, iterations)
    scratch = torch.empty(bytes_needed, dtype=torch.uint8, device=unary.device)
    threads, stream = launch(unary)
    kernels().dense_crf(
        image, unary, probability, scratch, potentials, iterations, normalization, threads, stream
    )
    return probability


def _fake(
    image: Tensor, unary: Tensor, iterations: int, potentials: list[float], normalization: int
) -> Tensor:
    return unary.new_empty(unary.shape)


_OP = Op(
    "dense_crf(Tensor image, Tensor unary, int iterations, float[] potentials, int normalization)"
    " -> Tensor",
    _kernel,
    _fake,
)
