"""dense_crf on a device, and the emulation of its kernels."""

from __future__ import annotations

import pytest
import torch
from crf_photo import assert_close, assert_is_reference, photo, reference, unaries

from labelpenet.ops.dense_crf import (
    BILATERAL,
    GAUSSIAN,
    BilateralKernel,
    GaussianKernel,
    Normalization,
    dense_crf,
)


@pytest.mark.parametrize(
    ("maps", "labels", "normalization"),
    [
        (1, 2, Normalization.NONE),
        (1, 2, Normalization.SYMMETRIC),
        (9, 2, Normalization.BEFORE),
        (2, 3, Normalization.AFTER),
    ],
)
def test_emulated(emulated, maps, labels, normalization):
    assert_is_reference(maps, labels, 8, 11, normalization, 2)


@pytest.mark.parametrize(
    ("size", "labels", "gaussian", "bilateral", "iterations"),
    [
        ((1, 1), 2, GAUSSIAN, BILATERAL, 3),
        ((1, 17), 3, GAUSSIAN, None, 2),
        ((6, 7), 2, None, BilateralKernel(0.2, 0.3, 5), 1),  # wide keys, all vertices apart
        ((5, 9), 11, GaussianKernel(1e6, 2), None, 1),  # one vertex; two groups of channels
        ((5, 9), 2, GAUSSIAN, BILATERAL, 0),
    ],
)
def test_emulated_cases(emulated, size, labels, gaussian, bilateral, iterations):
    image, unary = photo(*size), unaries(1, labels, *size)
    options = {"gaussian": gaussian, "bilateral": bilateral, "iterations": iterations}
    got = dense_crf(image, unary, **options)
    assert_close(got, reference(image, unary, **options), 5e-5)


def test_emulated_result_does_not_depend_on_the_thread_order(monkeypatch, emulated_module):
    monkeypatch.setattr("labelpenet.ops._extension._active", emulated_module)
    image, unary = photo(8, 9), unaries(2, 2, 8, 9)
    results = []
    for order in ("0", "1", "7"):
        monkeypatch.setenv("LABELPENET_EMULATION_ORDER", order)
        results.append(dense_crf(image, unary, iterations=2))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.cuda
@pytest.mark.parametrize("normalization", Normalization)
@pytest.mark.parametrize(("maps", "labels"), [(1, 2), (40, 2), (2, 21)])
def test_device(maps, labels, normalization):
    image, unary = photo(61, 84), unaries(maps, labels, 61, 84)
    got = dense_crf(image.cuda(), unary.cuda(), normalization=normalization)
    again = dense_crf(image.cuda(), unary.cuda(), normalization=normalization)
    assert torch.equal(got, again)
    error = (got.cpu() - dense_crf(image, unary, normalization=normalization)).abs()
    if normalization is Normalization.NONE:
        assert (error > 1e-3).float().mean() < 1e-3
    else:
        assert float(error.max()) < 2e-4


@pytest.mark.cuda
def test_device_graph():
    image, unary = photo(20, 30).cuda(), unaries(2, 3, 20, 30).cuda()
    expected = dense_crf(image, unary)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = dense_crf(image, unary)
    graph.replay()
    assert torch.equal(got, expected)
