"""Peaks propagated back in one pass against one backward pass for each."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labelpenet.config import BackboneName, ModelConfig
from labelpenet.icn.patches import Patches
from labelpenet.icn.response import PeakTracer
from labelpenet.models.backbones import build_backbone
from labelpenet.reference.peak_response import gradient_maps, positive_maps

CLASSES = 5


def body_of(name, width=7):
    torch.manual_seed(3)
    backbone = build_backbone(ModelConfig(backbone=BackboneName(name)))
    fc6 = nn.Conv2d(backbone.stage5_channels, width, 1)
    body = nn.Sequential(backbone.trunk, backbone.make_stage5(), fc6, nn.ReLU())
    return body.eval().requires_grad_(False).double()


def chain(*layers):
    torch.manual_seed(5)
    return nn.Sequential(*layers).eval().requires_grad_(False).double()


CHAINS = {
    "strides": lambda: chain(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 2, stride=3)),
    "kernels of no whole strides": lambda: chain(
        nn.Conv2d(3, 4, (5, 3), stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 1, stride=2)
    ),
    "dilated": lambda: chain(nn.Conv2d(3, 5, 3, padding=2, dilation=2), nn.ReLU()),
    "odd pooling": lambda: chain(
        nn.Conv2d(3, 4, (3, 5), padding=(1, 2)),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d(2, 2, ceil_mode=True),
    ),
    "overhanging windows": lambda: chain(
        nn.Conv2d(3, 4, 3, padding=3), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)
    ),
    "two convolutions": lambda: chain(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)),
}


def all_corners(maps, count=6):
    """Random peaks, and one in every corner."""
    classes, height, width = maps.shape
    rows = [[0, 0, 0], [1, 0, width - 1], [2, height - 1, 0], [3, height - 1, width - 1]]
    random = [torch.randint(n, (count,)) for n in (classes, height, width)]
    return torch.cat((torch.tensor(rows), torch.stack(random, 1)))


def traced(body, image, positive=False):
    features = body(image).shape[1]
    torch.manual_seed(1)
    classifier = nn.Linear(features, CLASSES).double().requires_grad_(False)
    return classifier, PeakTracer(body, classifier, positive=positive)(image)


def assert_near(got, want):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= 1e-9 * max(float(want.abs().max()), 1e-30)


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_0"])
@pytest.mark.parametrize("size", [(48, 64), (200, 96)])
def test_gradient_of_backbones(name, size):
    body, image = body_of(name), torch.randn(1, 3, *size, dtype=torch.float64)
    classifier, responses = traced(body, image)
    peaks = all_corners(responses.maps, 3)
    want = gradient_maps(body, classifier.weight, classifier.bias, image, peaks)
    assert_near(responses.of(peaks), want)


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS.keys())
@pytest.mark.parametrize("size", [(13, 17), (31, 12)])
@pytest.mark.parametrize("positive", [False, True])
def test_chains(make, size, positive):
    body, image = make(), torch.randn(1, 3, *size, dtype=torch.float64)
    classifier, responses = traced(body, image, positive)
    peaks = all_corners(responses.maps)
    reference = positive_maps if positive else gradient_maps
    assert_near(
        responses.of(peaks), reference(body, classifier.weight, classifier.bias, image, peaks)
    )


class Branches(nn.Module):
    """One ReLU that a pooling and a convolution both see."""

    def __init__(self):
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU()
        self.pool, self.second = nn.MaxPool2d(2), nn.Conv2d(4, 5, 2, stride=2)

    def forward(self, image):
        seen = self.relu(self.first(image))
        return torch.cat((self.pool(seen), self.second(seen)), 1)


def test_a_relu_of_two_readers():
    torch.manual_seed(5)
    body = Branches().eval().requires_grad_(False).double()
    image = torch.randn(1, 3, 17, 22, dtype=torch.float64)
    classifier, responses = traced(body, image)
    peaks = all_corners(responses.maps)
    assert_near(
        responses.of(peaks), gradient_maps(body, classifier.weight, classifier.bias, image, peaks)
    )
    assert torch.equal(responses.of(peaks), responses.of(peaks))  # nothing kept was changed


def test_maps_are_the_classifiers():
    body, image = CHAINS["strides"](), torch.randn(1, 3, 20, 22, dtype=torch.float64)
    classifier, responses = traced(body, image)
    cells = body(image)[0].permute(1, 2, 0)
    assert torch.allclose(responses.maps.permute(1, 2, 0), classifier(cells))


def test_float32_and_channels_last():
    body = body_of("squeezenet1_0")
    image = torch.randn(1, 3, 80, 72, dtype=torch.float64)
    classifier, exact = traced(body, image)
    peaks = all_corners(exact.maps, 2)
    want = exact.of(peaks)
    image = image.float().contiguous(memory_format=torch.channels_last)
    got = PeakTracer(body.float(), classifier.float())(image).of(peaks)
    assert (got - want).abs().max() <= 1e-4 * want.abs().max()


def test_positive_mass_stays():
    """Excitation is handed on whole where nothing is dead: one of each peak arrives."""
    body = chain(nn.Conv2d(3, 4, 3, padding=1))
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.abs_()
    image = torch.rand(1, 3, 9, 9, dtype=torch.float64)
    classifier = nn.Linear(4, 2).double().requires_grad_(False)
    classifier.weight.abs_()
    responses = PeakTracer(body, classifier, positive=True)(image)
    got = responses.of(torch.tensor([[0, 4, 4], [1, 0, 8]]))
    assert torch.allclose(got.sum((1, 2)), torch.ones(2, dtype=torch.float64))


def test_no_peaks():
    body, image = CHAINS["dilated"](), torch.randn(1, 3, 9, 8, dtype=torch.float64)
    _, responses = traced(body, image)
    assert responses.of(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 9, 8)


UNKNOWN = [
    nn.AvgPool2d(2),
    nn.Sigmoid(),
    nn.Conv2d(3, 3, 3, groups=3),
    nn.Conv2d(3, 3, 3, padding="same"),
    nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
    nn.MaxPool2d(2, dilation=2),
    nn.MaxPool2d(16),
]


@pytest.mark.parametrize("layer", UNKNOWN, ids=str)
def test_unknown_layers_are_refused(layer):
    with pytest.raises(ValueError, match="body: a peak cannot be propagated back through"):
        PeakTracer(nn.Sequential(layer), nn.Linear(3, 2))


@settings(max_examples=60)
@given(
    top=st.lists(st.integers(-6, 9), min_size=2, max_size=2),
    left=st.lists(st.integers(-6, 9), min_size=2, max_size=2),
    window=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    inner=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    apart=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)
def test_windows_say_what_whole_maps_do(top, left, window, inner, apart):
    height, width = 6, 8
    patches = Patches(torch.rand(2, 1, *window), top, left).within(height, width)
    other = Patches(
        torch.rand(2, 1, *inner), [t + apart[0] for t in top], [v + apart[1] for v in left]
    ).within(height, width)
    whole = patches.place(height, width)
    assert torch.equal(
        patches.add(other, height, width).place(height, width), whole + other.place(height, width)
    )
    layer = torch.rand(1, height, width)
    again = Patches(patches.values * patches.gather(layer), patches.top, patches.left)
    assert torch.equal(again.place(height, width), whole * layer)
