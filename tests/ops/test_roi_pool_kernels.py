"""ROI pooling's kernels agree: instruction sets, threads, emulated CUDA, a device."""

from __future__ import annotations

import pytest
import torch
from roi_pool_case import case
from tolerances import assert_near

from labelpenet.ops import roi_pool
from labelpenet.reference import roi_pool as reference

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def test_instruction_sets_and_threads_agree():
    from labelpenet import _C

    features, boxes, scale = case(n=2, c=70, h=20, w=30, rois=60)
    features.requires_grad_()
    grad = torch.randn(60, 70, 7, 7)
    threads = torch.get_num_threads()
    results = []
    try:
        for name, count in (("baseline", 1), ("", 1), ("", 4)):
            _C.force_isa(name)
            torch.set_num_threads(count)
            pooled = roi_pool(features, boxes, 7, scale)
            results.append((pooled, *torch.autograd.grad(pooled, features, grad)))
    finally:
        _C.force_isa("")
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("channels", [64, 67])
def test_results_beyond_the_caches(channels, isa):
    """Large results take streaming stores where their alignment allows; the bits stay the same."""
    features, boxes, scale = case(n=1, c=channels, h=12, w=15, rois=750)
    whole = roi_pool(features, boxes, 7, scale, return_argmax=True)
    assert whole[0].nbytes > 8 << 20
    parts = [roi_pool(features, b, 7, scale, return_argmax=True) for b in boxes.split(150)]
    for got, want in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(got, torch.cat(want))


def check_kernels(dtype, device, features, boxes, scale, size=(3, 2)):
    """Forward and backward of the CUDA kernels against the CPU's, which must agree to the bit."""
    features = features.to(dtype).requires_grad_()
    pooled, argmax = roi_pool(
        features.to(device), boxes.to(device), size, scale, return_argmax=True
    )
    want, places = reference(features.detach(), boxes.to(torch.promote_types(dtype, boxes.dtype)),
                             size, scale)  # fmt: skip
    assert torch.equal(pooled.cpu(), want)
    assert torch.equal(argmax.cpu(), places.int())
    with torch.no_grad():
        assert torch.equal(roi_pool(features.to(device), boxes.to(device), size, scale), pooled)
    grad = torch.randn(pooled.shape).to(dtype)
    return torch.autograd.grad(pooled, features, grad.to(device))[0], grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_emulated(dtype, emulated, monkeypatch):
    from labelpenet import _C
    from labelpenet.ops import _extension

    features, boxes, scale = case(c=35, h=5, w=9, rois=5)
    got, grad = check_kernels(dtype, "cpu", features, boxes, scale)
    monkeypatch.setattr(_extension, "_active", _C)
    features = features.to(dtype).requires_grad_()
    pooled = roi_pool(features, boxes, (3, 2), scale)
    assert torch.equal(got, torch.autograd.grad(pooled, features, grad)[0])


def test_emulated_plane_beyond_shared_memory(emulated):
    features, boxes, scale = case(n=1, c=1, h=112, w=112, rois=2)
    got, grad = check_kernels(torch.float32, "cpu", features, boxes, scale)
    features.requires_grad_()
    pooled = reference(features, boxes, (3, 2), scale)[0]
    assert_near(got, torch.autograd.grad(pooled, features, grad)[0], torch.float32)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 35, 11, 23), (1, 5, 120, 130)])
def test_device(dtype, shape):
    features, boxes, scale = case(*shape, rois=40)
    got, grad = check_kernels(dtype, "cuda", features, boxes, scale, (7, 7))
    features = features.to(dtype).requires_grad_()
    pooled = roi_pool(features, boxes, 7, scale)
    assert torch.equal(got.cpu(), torch.autograd.grad(pooled, features, grad)[0])
