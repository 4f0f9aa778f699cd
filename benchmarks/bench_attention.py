"""From proposals to maps of the image: projected attention and object heat-maps."""

import numpy as np
import torch

from benchmarks import scenes
from benchmarks.compare import near
from benchmarks.harness import Absent, Case, Peer, adapt, find, small

SIZE = (600, 800)


def _maps(count, size=SIZE, mode="bilinear"):
    maps = torch.rand(count, 7, 7, generator=torch.Generator().manual_seed(0))
    return maps, scenes.boxes(count, *size).round(), scenes.labels(count, 3), 3, size, mode


def _heat(count, size=SIZE):
    boxes = scenes.boxes(count, *size).round()
    return scenes.scores(count), boxes, scenes.labels(count, 3), 3, size


def _resize_loop(resize):
    """One cv2.resize a proposal, added into its box; boxes are whole-numbered here."""

    def project(maps, boxes, index, num_maps, size, mode):
        out = np.zeros((num_maps, *size), np.float32)
        corners = boxes.int().tolist()
        for one, (x1, y1, x2, y2), i in zip(maps.numpy(), corners, index.tolist(), strict=True):
            out[i, y1:y2, x1:x2] += resize(one, (x2 - x1, y2 - y1))
        return torch.from_numpy(out)

    return project


def _slice_loop(scores, boxes, index, num_maps, size):
    out = np.zeros((num_maps, *size), np.float32)
    corners = boxes.int().tolist()
    for score, (x1, y1, x2, y2), i in zip(scores.tolist(), corners, index.tolist(), strict=True):
        out[i, y1:y2, x1:x2] += score
    return torch.from_numpy(out)


CASES = [
    Case(
        op="project_attention",
        name=f"1,600 maps to 600 x 800, {mode}",
        inputs=lambda mode=mode: _maps(1_600, mode=mode),
        check_inputs=lambda mode=mode: _maps(20, (90, 120), mode),
        ours=find("labelpenet.ops", "project_attention"),
        reference=find("labelpenet.reference", "project_attention"),
        peer=(
            Peer("cv2.resize loop", adapt(find("cv2", "resize"), _resize_loop))
            if mode == "bilinear"
            else Absent("cv2 has no such mode")
        ),
        compare=lambda got, want: near(got, want, 1e-3),  # cv2 rounds its weights
    )
    for mode in ("bilinear", "mass")
] + [
    Case(
        op="accumulate_boxes",
        name="1,600 boxes to 600 x 800",
        inputs=lambda: _heat(1_600),
        check_inputs=lambda: _heat(50, (90, 120)),
        ours=find("labelpenet.ops", "accumulate_boxes"),
        reference=find("labelpenet.reference", "accumulate_boxes"),
        peer=Peer("numpy slices", _slice_loop),
    )
]
CASES = [
    small(CASES[0], "20 maps to 90 x 120, bilinear"),
    small(CASES[-1], "50 boxes to 90 x 120"),
    *CASES,
]


def test_attention(case, column, measure):
    measure(case, column)
