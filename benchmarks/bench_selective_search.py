"""Selective search of one photo."""

import numpy as np
import torch

from . import scenes
from .cases import Absent, Case, Peer, adapt, find

MIN_SIDE = 20


def _opencv(create):
    def search(image, preset):
        found = create()
        found.setBaseImage(np.ascontiguousarray(image.numpy()[:, :, ::-1]))
        if preset == "fast":
            found.switchToSelectiveSearchFast()
        else:
            found.switchToSelectiveSearchQuality()
        x, y, width, height = torch.from_numpy(found.process()).float().unbind(1)
        large = (width >= MIN_SIDE) & (height >= MIN_SIDE)
        return torch.stack([x, y, x + width, y + height], dim=1)[large]

    return search


def opencv():
    """OpenCV's search as (photo [H, W, 3] uint8, preset) -> boxes [R, 4], if it is installed."""
    return adapt(find("cv2.ximgproc.segmentation", "createSelectiveSearchSegmentation"), _opencv)


def _same_places(got, want, share=0.8):
    """At least `share` of the wanted boxes have a box with IoU >= 0.5.

    Segmentation, colours and random ranks differ, so the boxes do; where they lie should not. On
    this scene 98 % of OpenCV's were seen to have one of ours, and 90 % of ours one of OpenCV's.
    """
    low = torch.maximum(got[:, None, :2], want[None, :, :2])
    high = torch.minimum(got[:, None, 2:], want[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=-1) for boxes in (got, want)]
    iou = shared / (areas[0][:, None] + areas[1][None] - shared)
    covered = float((iou.amax(dim=0) >= 0.5).float().mean())
    assert covered >= share, f"{covered:.0%} of the boxes have one nearby, expected {share:.0%}"


def case(preset, height=375, width=500):
    """One photo."""
    return Case(
        op="selective_search",
        name=f"{preset}, {height} x {width}",
        inputs=lambda: (scenes.photo(height, width), preset),
        ours=find("labelpenet.ops", "selective_search"),
        reference=Absent("the tests hold every stage against it; colours may differ by rounding"),
        peer=Peer("OpenCV", opencv()),
        compare=_same_places,
        bytes_moved=None,  # graphs and hash tables, far from any bound by traffic
        cuda=False,
    )


CASES = [case("fast"), case("quality")]


def test_selective_search(case, column, measure):
    measure(case, column)
