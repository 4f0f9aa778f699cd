"""Max pooling of features under boxes, and its gradient: 600 x 800 pixels, stride 8."""

import torch

from . import scenes
from .cases import Case, Peer, Prepared, adapt, find, small
from .compare import equal, near

SCALE = 1 / 8


def _inputs(count, channels, size):
    boxes = torch.cat([torch.zeros(count, 1), scenes.boxes(count, 600, 800)], dim=1)
    features = torch.randn(1, channels, 75, 100, generator=torch.Generator().manual_seed(0)).relu()
    return features, boxes, (size, size), SCALE


def _gradient_inputs(count, channels, size):
    features, boxes, *rest = _inputs(count, channels, size)
    random = torch.Generator().manual_seed(1)
    return features, boxes, *rest, torch.randn(count, channels, size, size, generator=random)


def _backward(pool):
    """The gradient in the features; the forward pass is done before, and not timed."""

    def prepare(features, boxes, size, scale, gradient):
        features = features.detach().requires_grad_()
        pooled = pool(features, boxes, size, scale)
        return lambda: torch.autograd.grad(pooled, features, gradient, retain_graph=True)[0]

    return Prepared(prepare)


def _without_argmax(reference):
    return lambda *inputs: reference(*inputs)[0]


_ours = find("labelpenet.ops", "roi_pool")
_reference = adapt(find("labelpenet.reference.roi_pool", "roi_pool"), _without_argmax)
_peer = find("torchvision.ops", "roi_pool")


def forward(count, size=7, channels=512):
    """Pooling `count` boxes to size x size."""
    return Case(
        op="roi_pool",
        name=f"{count:,} x {channels} x {size} x {size} on 75 x 100",
        inputs=lambda: _inputs(count, channels, size),
        check_inputs=lambda: _inputs(10, 3, size),
        ours=_ours,
        reference=_reference,
        peer=Peer("torchvision", _peer, cuda=True),
        compare=equal,
    )


def backward(count, size=7, channels=512):
    """The gradient of the same."""
    return Case(
        op="roi_pool_backward",
        name=f"{count:,} x {channels} x {size} x {size} on 75 x 100",
        inputs=lambda: _gradient_inputs(count, channels, size),
        check_inputs=lambda: _gradient_inputs(10, 3, size),
        ours=adapt(_ours, _backward),
        reference=adapt(_reference, _backward),
        peer=Peer("torchvision", adapt(_peer, _backward), cuda=True),
        compare=lambda got, want: near(got, want, 1e-5),  # the order of the sums differs
    )


CASES = [
    small(forward(1_600), "10 x 3 x 7 x 7 on 75 x 100"),
    forward(1_600),
    forward(1_600, 14),
    small(backward(1_600), "10 x 3 x 7 x 7 on 75 x 100"),
    backward(1_600),
]


def test_roi_pool(case, column, measure):
    measure(case, column)
