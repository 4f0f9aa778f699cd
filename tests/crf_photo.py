"""Photos and unaries for the dense CRF, and what the float64 lattice makes of them."""

import functools

import torch

from labelpenet.ops.dense_crf import (
    BILATERAL,
    GAUSSIAN,
    Normalization,
    dense_crf,
    unary_from_probability,
)
from labelpenet.reference.dense_crf import dense_crf_lattice


def photo(height, width, seed=0):
    """[H, W, 3] uint8: smooth colours and noise."""
    noise = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, height // 12 + 2, width // 12 + 2, generator=noise) * 300 - 20
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    smooth = smooth + 6 * torch.randn(smooth.shape, generator=noise)
    return smooth.permute(1, 2, 0).clamp(0, 255).to(torch.uint8).contiguous()


def unaries(maps, labels, height, width, seed=0):
    noise = torch.Generator().manual_seed(seed)
    coarse = 3 * torch.randn(maps, labels, height // 9 + 2, width // 9 + 2, generator=noise)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    smooth = smooth + torch.randn(smooth.shape, generator=noise)
    return unary_from_probability(smooth.softmax(1))


def potentials(gaussian=GAUSSIAN, bilateral=BILATERAL):
    found = []
    if gaussian is not None:
        found.append((gaussian.sxy, 0.0, gaussian.compat))
    if bilateral is not None:
        found.append((bilateral.sxy, bilateral.srgb, bilateral.compat))
    return found


@functools.cache
def photo_reference(maps, labels, height, width, normalization, iterations):
    """What every instruction set is compared with, computed once."""
    image, unary = photo(height, width), unaries(maps, labels, height, width)
    return reference(image, unary, normalization=normalization, iterations=iterations)


def assert_is_reference(maps, labels, height, width, normalization, iterations):
    """What the kernels make of a photo is what the float64 lattice does, and adds up to 1."""
    image, unary = photo(height, width), unaries(maps, labels, height, width)
    got = dense_crf(image, unary, iterations=iterations, normalization=normalization)
    expected = photo_reference(maps, labels, height, width, normalization, iterations)
    # without normalisation the scores are thousands: their rounding shows
    assert_close(got, expected, 1e-3 if normalization is Normalization.NONE else 5e-5)
    assert_close(got.sum(1), torch.ones(maps, height, width), 1e-5)


def reference(image, unary, gaussian=GAUSSIAN, bilateral=BILATERAL, **options):
    options["normalization"] = options.pop("normalization", Normalization.SYMMETRIC).name
    return torch.from_numpy(
        dense_crf_lattice(
            image.numpy(), unary.double().numpy(), potentials(gaussian, bilateral), **options
        )
    )


def assert_close(got, expected, limit):
    assert got.shape == expected.shape
    assert torch.isfinite(got).all()
    error = float((got.double() - expected.double()).abs().max()) if got.numel() else 0.0
    assert error <= limit, f"largest error {error:.2e}, allowed {limit:.2e}"
