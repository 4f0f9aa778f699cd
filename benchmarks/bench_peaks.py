"""Peaks of class activation maps, and all of an image's propagated back at once."""

import cv2
import numpy as np
import torch
from torch import nn

from .cases import Absent, Case, Peer, Prepared, adapt, find, small
from .compare import near

SIGMA, WINDOW = 6.0, 5


def _maps(count, height, width):
    """Smooth blobs with some noise: a few peaks each."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 6, 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[:, 0]
    return (smooth + 0.01 * torch.rand(smooth.shape, generator=random),)


def _ours(function):
    return lambda maps: function(maps, SIGMA, WINDOW)[0]


def _cv2(resize):
    """Blur by cv2, maxima by torch's max-pooling."""

    def peaks(maps):
        side = 2 * int(np.ceil(3 * SIGMA)) + 1
        blurred = torch.stack(
            [
                torch.from_numpy(
                    resize(m.numpy(), (side, side), SIGMA, borderType=cv2.BORDER_REPLICATE)
                )
                for m in maps
            ]
        )
        response = (maps - blurred - maps.mean((1, 2), keepdim=True)).clamp(min=0)
        top = torch.nn.functional.max_pool2d(response, WINDOW, 1, WINDOW // 2)
        assert ((response == top) & (response > 0)).any()  # the peaks
        return response

    return peaks


def peaks(count, height, width):
    """Maps of that many classes."""
    return Case(
        op="find_peaks",
        name=f"{count} maps of {height} x {width}",
        inputs=lambda: _maps(count, height, width),
        check_inputs=lambda: _maps(3, 12, 16),
        ours=adapt(find("labelpenet.ops", "find_peaks"), _ours),
        reference=adapt(find("labelpenet.reference", "find_peaks"), _ours),
        peer=Peer("cv2 and torch", adapt(find("cv2", "GaussianBlur"), _cv2)),
        compare=lambda got, want: near(got, want, 1e-4),
    )


def _network(name, width=256, classes=20):
    from labelpenet.config import BackboneName, ModelConfig
    from labelpenet.models.backbones import build_backbone

    torch.manual_seed(0)
    backbone = build_backbone(ModelConfig(backbone=BackboneName(name)))
    fc6 = nn.Conv2d(backbone.stage5_channels, width, 1)
    body = nn.Sequential(backbone.trunk, backbone.make_stage5(), fc6, nn.ReLU())
    return body.eval().requires_grad_(False), nn.Linear(width, classes).requires_grad_(False)


def _scene(count, height, width):
    random = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, height, width, generator=random)
    places = torch.rand(count, 3, generator=random)
    return image.contiguous(memory_format=torch.channels_last), places


def _peaks_at(places, maps):
    return (places * torch.tensor(maps.shape)).long()


def _batched(body, classifier):
    def prepare(image, places):
        from labelpenet.icn.response import PeakTracer

        responses = PeakTracer(body, classifier)(image)
        chosen = _peaks_at(places, responses.maps)
        return lambda: responses.of(chosen)

    return Prepared(prepare)


def _one_by_one(body, classifier):
    """One backward pass for each peak; the forward pass is kept."""

    def prepare(image, places):
        leaf = image.clone().requires_grad_()
        weight, bias = classifier.weight[:, :, None, None], classifier.bias
        maps = nn.functional.conv2d(body(leaf), weight, bias)[0]
        chosen = _peaks_at(places, maps).tolist()

        def call():
            rows = [
                torch.autograd.grad(maps[c, y, x], leaf, retain_graph=True)[0][0].abs().sum(0)
                for c, y, x in chosen
            ]
            return torch.stack(rows)

        return call

    return Prepared(prepare)


def responses(count, name, height=375, width=500):
    """Peaks of one photo, propagated back to it; the forward pass is not timed."""
    networks = []

    def network():
        if not networks:
            networks.append(_network(name))
        return networks[0]

    def later(make):
        return Prepared(lambda *inputs: make(*network()).prepare(*inputs))

    return Case(
        op="peak_responses",
        name=f"{count} peaks, {name}, {height} x {width}",
        inputs=lambda: _scene(count, height, width),
        ours=later(_batched),
        reference=Absent("the peer's form is the reference's; the tests hold it in float64"),
        peer=Peer("autograd, peak by peak", later(_one_by_one)),
        compare=lambda got, want: near(got, want, 1e-3),
        bytes_moved=None,  # bound by convolutions
        cuda=False,
    )


_many = peaks(20, 48, 64)
CASES = [
    small(_many, "3 maps of 12 x 16"),
    _many,
    responses(10, "squeezenet1_0"),
    responses(10, "vgg16"),
]


def test_peaks(case, column, measure):
    measure(case, column)
