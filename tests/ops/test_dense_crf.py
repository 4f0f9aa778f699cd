"""dense_crf: by hand, against the float64 lattice and exact sums, against pydensecrf."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
import torch
from crf_photo import assert_close, assert_is_reference, photo, potentials, reference, unaries
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.ops.dense_crf import (
    BILATERAL,
    GAUSSIAN,
    BilateralKernel,
    GaussianKernel,
    Normalization,
    dense_crf,
)
from labelpenet.reference.dense_crf import (
    ExactFilter,
    LatticeFilter,
    dense_crf_exact,
    features,
)

module = importlib.import_module("labelpenet.ops.dense_crf")  # not the function


# ---- by hand -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "normalization", [Normalization.BEFORE, Normalization.AFTER, Normalization.SYMMETRIC]
)
@pytest.mark.parametrize("labels", [2, 3])
def test_one_pixel(normalization, labels):
    # K' = 1 for a single pixel, so Q = softmax(-U + 13 Q)
    unary = torch.linspace(0.3, 1.0, labels).reshape(1, labels, 1, 1)
    image = torch.full((1, 1, 3), 77, dtype=torch.uint8)
    q = torch.softmax(-unary, 1)
    for _ in range(3):
        q = torch.softmax(-unary + 13 * q, 1)
    assert_close(dense_crf(image, unary, iterations=3, normalization=normalization), q, 1e-6)


@pytest.mark.parametrize("labels", [2, 5])
def test_no_iterations_is_softmax(labels):
    image, unary = photo(7, 9), unaries(3, labels, 7, 9)
    assert_close(dense_crf(image, unary, iterations=0), torch.softmax(-unary, 1), 1e-6)


def test_no_kernels_is_softmax():
    image, unary = photo(7, 9), unaries(1, 4, 7, 9)
    got = dense_crf(image, unary, gaussian=None, bilateral=None)
    assert_close(got, torch.softmax(-unary, 1), 1e-6)


def test_negative_compat_pushes_labels_apart():
    unary = torch.tensor([0.4, 0.6]).reshape(1, 2, 1, 1)
    image = torch.zeros(1, 1, 3, dtype=torch.uint8)
    q = torch.softmax(-unary, 1)
    got = dense_crf(
        image, unary, iterations=1, gaussian=GaussianKernel(compat=-2.0), bilateral=None
    )
    assert_close(got, torch.softmax(-unary - 2 * q, 1), 1e-6)


# ---- the specification of the specification -----------------------------------------------------
@pytest.mark.parametrize(("sxy", "srgb"), [(3.0, 0.0), (30.0, 40.0)])
def test_lattice_filter_approximates_the_exact_one(sxy, srgb):
    f = features(photo(24, 30).numpy(), sxy, srgb)
    x = np.random.default_rng(0).uniform(size=(len(f), 3))
    ones = np.ones((len(f), 1))
    exact, lattice = ExactFilter(f), LatticeFilter(f)
    error = np.abs(lattice(x) / lattice(ones) - exact(x) / exact(ones))
    assert error.max() < 0.05
    assert error.mean() < 0.01
    interior = (lattice(ones) / exact(ones)).reshape(24, 30)[8:-8, 8:-8]
    assert 0.5 < interior.mean() < 1.3  # vertices that no pixel touches are missing


def test_lattice_crf_approximates_the_exact_one():
    image, unary = photo(20, 24), unaries(1, 3, 20, 24)
    exact = dense_crf_exact(image.numpy(), unary.double().numpy(), potentials())
    error = np.abs(dense_crf(image, unary).numpy() - exact)
    assert error.mean() < 0.06
    assert (dense_crf(image, unary).numpy().argmax(1) == exact.argmax(1)).mean() > 0.9


# ---- against the reference ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("maps", "labels", "normalization"),
    [
        *((1, 2, each) for each in Normalization),
        *((2, 3, each) for each in Normalization),
        (3, 2, Normalization.SYMMETRIC),
        (12, 2, Normalization.BEFORE),
        (1, 21, Normalization.SYMMETRIC),
        (1, 45, Normalization.AFTER),
    ],
)
def test_reference(maps, labels, normalization, isa):
    assert_is_reference(maps, labels, 21, 35, normalization, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (5, 7), (16, 16), (12, 50)])
@pytest.mark.parametrize("labels", [2, 4])
def test_sizes(size, labels):
    image, unary = photo(*size), unaries(2, labels, *size)
    assert_close(dense_crf(image, unary), reference(image, unary), 1e-4)


@pytest.mark.parametrize(
    ("gaussian", "bilateral"),
    [
        (GAUSSIAN, None),
        (None, BILATERAL),
        (GaussianKernel(1, 3), BilateralKernel(67, 3, 4)),
        (GaussianKernel(0.05, 1), BilateralKernel(0.2, 0.3, 5)),  # keys above 32 bits
        (GaussianKernel(1e6, 2), BilateralKernel(1e6, 1e6, 2)),  # one vertex
    ],
)
@pytest.mark.parametrize("labels", [2, 3])
def test_kernels(gaussian, bilateral, labels):
    image, unary = photo(15, 21), unaries(1, labels, 15, 21)
    got = dense_crf(image, unary, gaussian=gaussian, bilateral=bilateral)
    assert_close(got, reference(image, unary, gaussian, bilateral), 1e-4)


@pytest.mark.parametrize("value", [0, 255])
def test_flat_image(value):
    image = torch.full((20, 30, 3), value, dtype=torch.uint8)
    unary = unaries(1, 2, 20, 30)
    assert_close(dense_crf(image, unary), reference(image, unary), 1e-4)


@settings(max_examples=15)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(2, 9), st.integers(0, 9),
    st.floats(0.3, 100), st.floats(1, 200), st.integers(0, 10**6),
)  # fmt: skip
def test_any_size_and_width(height, width, labels, maps, sxy, srgb, seed):
    noise = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (height, width, 3), generator=noise, dtype=torch.uint8)
    unary = 4 * torch.rand(maps, labels, height, width, generator=noise)
    bilateral = BilateralKernel(sxy, srgb, 4)
    got = dense_crf(image, unary, iterations=2, bilateral=bilateral)
    assert_close(got, reference(image, unary, bilateral=bilateral, iterations=2), 1e-4)


# ---- invariances -------------------------------------------------------------------------------
@pytest.mark.parametrize(("maps", "labels"), [(1, 2), (5, 2), (1, 6)])
def test_result_does_not_depend_on_the_thread_count(maps, labels):
    image, unary = photo(70, 130), unaries(maps, labels, 70, 130)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(dense_crf(image, unary))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert torch.equal(results[0], other)


@pytest.mark.parametrize(("maps", "labels"), [(34, 2), (3, 5)])
def test_maps_are_independent(maps, labels):
    image, unary = photo(18, 25), unaries(maps, labels, 18, 25)
    together = dense_crf(image, unary)
    alone = torch.cat([dense_crf(image, one[None]) for one in unary])
    assert_close(together, alone, 1e-5)


def test_swapping_labels_swaps_the_result():
    image, unary = photo(18, 25), unaries(1, 2, 18, 25)
    assert_close(dense_crf(image, unary.flip(1)).flip(1), dense_crf(image, unary), 1e-4)


def test_extreme_unaries():
    image = photo(6, 8)
    for labels in (2, 3):
        unary = unaries(1, labels, 6, 8)
        unary[0, 0, :3], unary[0, 1, 3:] = 3e38, -3e38
        got = dense_crf(image, unary)
        assert_close(got.sum(1), torch.ones(1, 6, 8), 1e-5)
        assert (got[0, 1, 3:] == 1).all()


def test_strides_do_not_matter():
    image, unary = photo(12, 17), unaries(2, 3, 12, 17)
    wide = torch.zeros(12, 34, 4, dtype=torch.uint8)
    wide[:, ::2, :3] = image
    sparse = unary.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    got = dense_crf(wide[:, ::2, :3], sparse)
    assert got.is_contiguous()
    assert torch.equal(got, dense_crf(image, unary))


def test_empty():
    image = photo(4, 5)
    assert dense_crf(image, torch.zeros(0, 2, 4, 5)).shape == (0, 2, 4, 5)
    nothing = dense_crf(torch.zeros(0, 5, 3, dtype=torch.uint8), torch.zeros(1, 2, 0, 5))
    assert nothing.shape == (1, 2, 0, 5)


# ---- against the peer --------------------------------------------------------------------------
@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize("labels", [2, 21])
@pytest.mark.parametrize("size", [(1, 50), (90, 67)])
def test_peer(size, labels, normalization):
    peer = pytest.importorskip("pydensecrf.densecrf")
    kinds = (
        peer.NO_NORMALIZATION,
        peer.NORMALIZE_BEFORE,
        peer.NORMALIZE_AFTER,
        peer.NORMALIZE_SYMMETRIC,
    )
    image, unary = photo(*size), unaries(1, labels, *size)
    crf = peer.DenseCRF2D(size[1], size[0], labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1).numpy())
    kind = kinds[normalization]
    crf.addPairwiseGaussian(sxy=3, compat=3, normalization=kind)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image.numpy(), compat=10, normalization=kind)
    expected = torch.from_numpy(np.array(crf.inference(10))).reshape(1, labels, *size)
    error = (dense_crf(image, unary, normalization=normalization) - expected).abs()
    if normalization is Normalization.NONE:
        # scores of 1e4 and more in float32: a pixel between two labels may fall either way
        assert (error > 1e-3).float().mean() < 1e-3
    else:
        assert float(error.max()) < 1e-3


# ---- torch -------------------------------------------------------------------------------------
def test_opcheck():
    image, unary = photo(5, 6), unaries(2, 3, 5, 6)
    torch.library.opcheck(module._OP.op, (image, unary, 2, [3.0, 0.0, 3.0, 80.0, 13.0, 10.0], 3))


def test_examples():
    assert doctest.testmod(module).failed == 0
