"""The kernels as functions on torch tensors; each can be used without the rest of the package."""

from labelpenet.ops.dense_crf import (
    BilateralKernel,
    GaussianKernel,
    Normalization,
    dense_crf,
    unary_from_probability,
)

__all__ = [
    "BilateralKernel",
    "GaussianKernel",
    "Normalization",
    "dense_crf",
    "unary_from_probability",
]
