"""From proposals to maps of the image: projected attention and object heat-maps."""

import numpy as np
import torch

from . import scenes
from .cases import Case, Peer, adapt, find, small
from .compare import near

SIZE = (600, 800)


def _maps(count, size, mode, num_maps):
    maps = torch.rand(count, 7, 7, generator=torch.Generator().manual_seed(0))
    boxes, index = scenes.boxes(count, *size).round(), scenes.labels(count, num_maps)
    return maps, boxes, index, num_maps, size, mode


def _heat(count, size=SIZE):
    boxes = scenes.boxes(count, *size).round()
    return scenes.scores(count), boxes, scenes.labels(count, 3), 3, size


def _resize_loop(resize):
    """One cv2.resize a proposal, added into its box; boxes are whole-numbered here."""

    def project(maps, boxes, index, num_maps, size, mode):
        out = np.zeros((num_maps, *size), np.float32)
        corners = boxes.int().tolist()
        for one, (x1, y1, x2, y2), i in zip(maps.numpy(), corners, index.tolist(), strict=True):
            drawn = resize(one, (x2 - x1, y2 - y1))
            if mode == "mass":
                drawn *= one.sum() / drawn.sum()
            out[i, y1:y2, x1:x2] += drawn
        return torch.from_numpy(out)

    return project


def _separable(maps, boxes, index, num_maps, size, mode):
    """Bilinear sampling is linear along either axis: a product of matrices for each output map.

    Most factors are 0, so a CPU does better with a loop over boxes; a GPU has products to spare.
    """
    height, width = maps.shape[1:]
    x1, y1, x2, y2 = boxes.unbind(1)
    rows = _weights(y1, y2, height, size[0])  # [R, h, H]
    columns = _weights(x1, x2, width, size[1])  # [R, w, W]
    if mode == "mass":
        drawn = torch.einsum("rij,ri,rj->r", maps, rows.sum(2), columns.sum(2))
        maps = maps * (maps.sum((1, 2)) / drawn)[:, None, None]
    left = torch.bmm(maps.transpose(1, 2), rows)  # [R, w, H]
    out = maps.new_empty(num_maps, *size)
    for m in range(num_maps):
        chosen = index == m
        torch.mm(left[chosen].flatten(0, 1).T, columns[chosen].flatten(0, 1), out=out[m])
    return out


def _weights(low, high, cells, pixels):
    """[R, cells, pixels]: what each cell adds to the pixels in [low, high)."""
    centres = torch.arange(pixels, device=low.device) + 0.5
    u = (centres - low[:, None]) / (high - low)[:, None] * cells - 0.5
    inside = (centres >= low[:, None]) & (centres < high[:, None])
    away = u.clamp(0, cells - 1)[:, None] - torch.arange(cells, device=low.device)[:, None]
    return (1 - away.abs()).clamp(min=0) * inside[:, None]


def _slice_loop(scores, boxes, index, num_maps, size):
    out = np.zeros((num_maps, *size), np.float32)
    corners = boxes.int().tolist()
    for score, (x1, y1, x2, y2), i in zip(scores.tolist(), corners, index.tolist(), strict=True):
        out[i, y1:y2, x1:x2] += score
    return torch.from_numpy(out)


def _dense(maps, boxes, index, num_maps, size, *_):
    """One float32 picture a proposal."""
    return 4 * len(maps) * size[0] * size[1]


CV2 = Peer("cv2.resize loop", adapt(find("cv2", "resize"), _resize_loop))
SEPARABLE = Peer("torch.mm, separable", _separable, cuda=True)


def project(count, peer=CV2, mode="bilinear", size=SIZE, num_maps=3):
    """`count` maps of 7 x 7 drawn into `num_maps` maps of the image."""
    return Case(
        op="project_attention",
        name=f"{count:,} maps to {size[0]} x {size[1]}, {mode}",
        inputs=lambda: _maps(count, size, mode, num_maps),
        check_inputs=lambda: _maps(20, (90, 120), mode, 3),
        ours=find("labelpenet.ops", "project_attention"),
        reference=find("labelpenet.reference", "project_attention"),
        peer=peer,
        compare=lambda got, want: near(got, want, 1e-3),  # cv2 rounds its weights
        dense_bytes=_dense,
    )


_heat_maps = Case(
    op="accumulate_boxes",
    name="1,600 boxes to 600 x 800",
    inputs=lambda: _heat(1_600),
    check_inputs=lambda: _heat(50, (90, 120)),
    ours=find("labelpenet.ops", "accumulate_boxes"),
    reference=find("labelpenet.reference", "accumulate_boxes"),
    peer=Peer("numpy slices", _slice_loop),
    dense_bytes=_dense,
)
CASES = [
    small(project(1_600), "20 maps to 90 x 120, bilinear"),
    project(1_600),
    project(1_600, SEPARABLE),
    project(1_600, mode="mass"),
    small(_heat_maps, "50 boxes to 90 x 120"),
    _heat_maps,
]


def test_attention(case, column, measure):
    measure(case, column)
