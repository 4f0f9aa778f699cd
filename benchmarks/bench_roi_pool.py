"""Max pooling of features under boxes: 600 x 800 pixels, stride 8."""

import torch

from benchmarks import scenes
from benchmarks.compare import equal
from benchmarks.harness import Case, Peer, adapt, find, small


def _inputs(count, channels, size):
    boxes = torch.cat([torch.zeros(count, 1), scenes.boxes(count, 600, 800)], dim=1)
    features = torch.randn(1, channels, 75, 100, generator=torch.Generator().manual_seed(0)).relu()
    return features, boxes, (size, size), 1 / 8


CASES = [
    Case(
        op="roi_pool",
        name=f"1,600 x 512 x {size} x {size} on 75 x 100",
        inputs=lambda size=size: _inputs(1_600, 512, size),
        check_inputs=lambda size=size: _inputs(10, 3, size),
        ours=find("labelpenet.ops", "roi_pool"),
        reference=adapt(
            find("labelpenet.reference.roi_pool", "roi_pool"),
            lambda f: lambda *inputs: f(*inputs)[0],  # without the argmax
        ),
        peer=Peer("torchvision", find("torchvision.ops", "roi_pool"), cuda=True),
        compare=equal,
    )
    for size in (7, 14)
]
CASES = [small(CASES[0], "10 x 3 x 7 x 7 on 75 x 100"), *CASES]


def test_roi_pool(case, column, measure):
    measure(case, column)
