"""Selective search of one photo."""

import numpy as np
import torch

from benchmarks import scenes
from benchmarks.harness import Case, Peer, adapt, equal, find


def _inputs(height, width, preset):
    return scenes.photo(height, width), preset


def _opencv(create):
    def search(image, preset):
        found = create()
        found.setBaseImage(np.ascontiguousarray(image.numpy()[:, :, ::-1]))
        if preset == "fast":
            found.switchToSelectiveSearchFast()
        else:
            found.switchToSelectiveSearchQuality()
        return torch.from_numpy(found.process())

    return search


CASES = [
    Case(
        op="selective_search",
        name=f"{preset}, 375 x 500",
        inputs=lambda preset=preset: _inputs(375, 500, preset),
        check_inputs=lambda preset=preset: _inputs(40, 56, preset),
        ours=find("labelpenet.ops", "selective_search"),
        reference=find("labelpenet.reference", "selective_search"),
        # its segmentation, its colours and its random ranks differ: other boxes, the same work
        peer=Peer(
            "OpenCV",
            adapt(find("cv2.ximgproc.segmentation", "createSelectiveSearchSegmentation"), _opencv),
            agrees=False,
        ),
        compare=equal,
        bytes_moved=None,  # graphs and hash tables, far from any bound by traffic
        cuda=False,
    )
    for preset in ("fast", "quality")
]


def test_selective_search(case, column, measure):
    measure(case, column)
