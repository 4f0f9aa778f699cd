"""Gradients of ROI pooling, and what torch makes of it."""

from __future__ import annotations

import pytest
import torch
from roi_pool_case import case
from tolerances import assert_near

from labelpenet.ops import roi_pool
from labelpenet.reference import roi_pool as reference


def test_gradient_against_reference():
    features, boxes, scale = case()
    features.requires_grad_()
    grad = torch.randn(len(boxes), features.shape[1], 3, 4)
    (got,) = torch.autograd.grad(roi_pool(features, boxes, (3, 4), scale), features, grad)
    wide = features.double()
    pooled = reference(wide, boxes, (3, 4), scale)[0]
    (want,) = torch.autograd.grad(pooled, features, grad.double())
    assert_near(got, want, torch.float32)


def test_gradcheck():
    features, boxes, scale = case(c=2, rois=4)
    features = torch.randperm(features.numel()).double().reshape(features.shape).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f: roi_pool(f, boxes.double(), (2, 3), scale), (features,)
    )


def test_gradient_of_a_gradient():
    features, boxes, scale = case(c=3, rois=5)
    wide, boxes = features.double().requires_grad_(), boxes.double()
    found = []
    for pool in (roi_pool, lambda *arguments: reference(*arguments)[0]):
        loss = pool(wide, boxes, (2, 3), scale).pow(3).sum()
        (first,) = torch.autograd.grad(loss, wide, create_graph=True)
        found += torch.autograd.grad(first.pow(2).sum(), wide)
    torch.testing.assert_close(*found)
    assert bool((found[0] != 0).any())
    none = torch.zeros(0, 5, dtype=torch.float64)
    (first,) = torch.autograd.grad(roi_pool(wide, none, 2).sum(), wide, create_graph=True)
    assert not bool(first.any())


def test_no_gradient_no_argmax(monkeypatch):
    from labelpenet.ops import _extension

    given_argmax = []

    class Spy:
        def roi_pool(self, *args):
            given_argmax.append(args[4] is not None)
            args[3].zero_()

    monkeypatch.setattr(_extension, "_active", Spy())
    features, boxes, scale = case()
    roi_pool(features, boxes, 2, scale)
    features.requires_grad_()
    with torch.no_grad():
        roi_pool(features, boxes, 2, scale)
        roi_pool(features, boxes, 2, scale, return_argmax=True)
    roi_pool(features, boxes, 2, scale)
    assert given_argmax == [False, False, True, True]


def test_image_without_boxes_gets_zero_gradient():
    features = torch.randn(3, 2, 4, 4, requires_grad=True)
    roi_pool(features, torch.tensor([[1.0, 0, 0, 3, 3]]), 1).sum().backward()
    assert features.grad[[0, 2]].eq(0).all()
    assert features.grad[1].sum() == 2


def test_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    features, boxes, scale = case(n=2, c=24, h=40, w=50, rois=200)
    features.requires_grad_()
    got, want = roi_pool(features, boxes, 7, scale), ops.roi_pool(features, boxes, 7, scale)
    assert torch.equal(got, want)
    grad = torch.randn_like(got)
    for a, b in zip(
        torch.autograd.grad(got, features, grad),
        torch.autograd.grad(want, features, grad),
        strict=True,
    ):
        assert_near(a, b, torch.float32)


def test_opcheck():
    features, boxes, scale = case()
    features.requires_grad_()
    for with_argmax in (True, False):
        torch.library.opcheck(
            torch.ops.labelpenet.roi_pool,
            (features if with_argmax else features.detach(), boxes, 3, 2, scale, with_argmax),
        )
    _, argmax = torch.ops.labelpenet.roi_pool(features.detach(), boxes, 3, 2, scale, True)
    torch.library.opcheck(
        torch.ops.labelpenet.roi_pool_backward,
        (torch.randn(argmax.shape), argmax, boxes, 2, 11, 23),
    )


def test_compile():
    features, boxes, scale = case()
    features.requires_grad_()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def total(f, b):
        return roi_pool(f, b, 3, scale).square().sum()

    (got,) = torch.autograd.grad(total(features, boxes), features)
    (want,) = torch.autograd.grad(roi_pool(features, boxes, 3, scale).square().sum(), features)
    assert torch.equal(got, want)
