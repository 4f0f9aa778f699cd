"""Mean field in a dense CRF, in numpy float64: the exact sum, and the lattice that approximates it.

`dense_crf_exact` says what the CRF computes; `dense_crf_lattice` says how its filter is
approximated, which `labelpenet.ops.dense_crf` reproduces to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Potential = tuple[float, float, float]  # sxy, srgb (0: no colour part), compat


def features(image: npt.NDArray[np.uint8], sxy: float, srgb: float) -> Array:
    """[H, W, 3] -> [H * W, 2 or 5]: (x, y) / sxy and, where srgb > 0, (r, g, b) / srgb."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    columns = [x / sxy, y / sxy]
    if srgb > 0:
        columns += list(image.reshape(-1, 3).T / srgb)
    return np.stack(columns, axis=1).astype(np.float64)


class ExactFilter:
    """x -> K x with K[i, j] = exp(-|f_i - f_j|^2 / 2). Krähenbühl and Koltun 2011, eq. 3."""

    def __init__(self, f: Array) -> None:
        self.matrix: Array = np.exp(-0.5 * ((f[:, None] - f[None]) ** 2).sum(-1))

    def __call__(self, x: Array) -> Array:
        """[N, C] -> [N, C]."""
        y: Array = self.matrix @ x
        return y


class LatticeFilter:
    """The same sum by splatting, blurring and slicing. Adams, Baek and Davis 2010, section 3."""

    def __init__(self, f: Array) -> None:
        n, d = f.shape
        i = np.arange(d)
        scaled = f * ((d + 1) * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2)))
        # elevated[j] = sum_{k >= j} scaled[k] - j scaled[j - 1]: onto the plane of sum 0
        elevated = np.concatenate([scaled[:, ::-1].cumsum(1)[:, ::-1], np.zeros((n, 1))], axis=1)
        elevated[:, 1:] -= np.arange(1, d + 1) * scaled

        quotient = np.rint(elevated / (d + 1))
        height = elevated - quotient * (d + 1)
        order = np.argsort(-height, axis=1, kind="stable")
        rank = np.argsort(order, axis=1) + quotient.sum(1, keepdims=True).astype(int)
        wrap = (rank < 0).astype(int) - (rank > d)  # rounding left the plane: step back into it
        rank, quotient, height = (
            rank + wrap * (d + 1), quotient + wrap, height - wrap * (d + 1)
        )  # fmt: skip
        descending = np.take_along_axis(height, np.argsort(rank, axis=1), axis=1) / (d + 1)
        self.weight = np.empty((n, d + 1))  # barycentric coordinates, by remainder
        self.weight[:, 0] = 1 + descending[:, d] - descending[:, 0]
        self.weight[:, 1:] = (descending[:, :-1] - descending[:, 1:])[:, ::-1]

        r = np.arange(d + 1)[:, None]
        key = (d + 1) * quotient[:, None].astype(int) + r - (d + 1) * (rank[:, None] > d - r)
        vertices, corner = np.unique(key.reshape(-1, d + 1), axis=0, return_inverse=True)
        self.corner = corner.reshape(n, d + 1)
        self.vertices = len(vertices)
        self.d = d

        number = {vertex.tobytes(): v for v, vertex in enumerate(vertices)}
        self.neighbour = np.empty((d + 1, 2, self.vertices), int)  # absent: row `vertices`, zero
        for axis in range(d + 1):
            step = np.ones(d + 1, int)
            step[axis] = -d
            for side, moved in enumerate((vertices + step, vertices - step)):
                self.neighbour[axis, side] = [
                    number.get(vertex.tobytes(), self.vertices) for vertex in moved
                ]

    def __call__(self, x: Array) -> Array:
        """[N, C] -> [N, C]."""
        value = np.zeros((self.vertices + 1, x.shape[1]))
        for r in range(self.d + 1):
            np.add.at(value, self.corner[:, r], self.weight[:, r, None] * x)
        for after, before in self.neighbour:
            value[:-1] += 0.5 * (value[after] + value[before])
        y: Array = (self.weight[:, :, None] * value[self.corner]).sum(1) / (1 + 2.0**-self.d)
        return y


Filter = Callable[[Array], Array]


def normalized(kernel: Filter, n: int, normalization: str) -> Filter:
    """K, K D^-1, D^-1 K or D^-1/2 K D^-1/2 (none, before, after, symmetric), D = diag(K 1)."""
    degree = kernel(np.ones((n, 1))) + 1e-20
    before, after = {
        "none": (0.0, 0.0),
        "before": (-1.0, 0.0),
        "after": (0.0, -1.0),
        "symmetric": (-0.5, -0.5),
    }[normalization.lower()]
    return lambda x: degree**after * kernel(degree**before * x)


def mean_field(unary: Array, kernels: Sequence[tuple[Filter, float]], iterations: int) -> Array:
    """Algorithm 1 of Krähenbühl and Koltun with Potts compatibility.

    Args:
        unary: [N, L], -log probability.
        kernels: The (normalised) filters and their compat.
        iterations: Steps after the start from softmax(-unary).

    Returns:
        [N, L] probabilities.
    """
    q = _softmax(-unary)
    for _ in range(iterations):
        q = _softmax(-unary + sum(compat * kernel(q) for kernel, compat in kernels))
    return q


def dense_crf_exact(
    image: npt.NDArray[np.uint8],
    unary: Array,
    potentials: Sequence[Potential],
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
) -> Array:
    """[K, L, H, W] unary -> probabilities, by the full N x N sum: tiny images only."""
    return _dense_crf(ExactFilter, image, unary, potentials, iterations, normalization)


def dense_crf_lattice(
    image: npt.NDArray[np.uint8],
    unary: Array,
    potentials: Sequence[Potential],
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
) -> Array:
    """[K, L, H, W] unary -> probabilities, by permutohedral lattices."""
    return _dense_crf(LatticeFilter, image, unary, potentials, iterations, normalization)


def _dense_crf(
    kind: Callable[[Array], Filter],
    image: npt.NDArray[np.uint8],
    unary: Array,
    potentials: Sequence[Potential],
    iterations: int,
    normalization: str,
) -> Array:
    n = image.shape[0] * image.shape[1]
    kernels = [
        (normalized(kind(features(image, sxy, srgb)), n, normalization), compat)
        for sxy, srgb, compat in potentials
    ]
    flat = unary.astype(np.float64).reshape(*unary.shape[:2], n)
    maps = [mean_field(one.T, kernels, iterations).T for one in flat]
    return np.stack(maps).reshape(unary.shape) if maps else flat.reshape(unary.shape)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    q: Array = e / e.sum(1, keepdims=True)
    return q
