"""Confidence maps become masks: the CRF, what is tidied behind it, and boxes around masks."""

import numpy as np
import pytest
import torch
from disk_scene import SIDE, disk, iou, photo
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelpenet.config import CrfConfig
from labelpenet.masks import refine_masks, tidied, tight_boxes


def test_without_the_crf_maps_are_thresholded():
    maps = torch.rand(2, 5, 6)
    masks, change = refine_masks(np.zeros((5, 6, 3), np.uint8), maps, 0.3, CrfConfig(iterations=0))
    assert masks.dtype == torch.bool
    assert torch.equal(masks, maps >= 0.3)
    assert change.isnan().all()  # nothing to compare


@pytest.mark.parametrize("iterations", [0, 3])
def test_no_maps(iterations):
    image = np.zeros((5, 6, 3), np.uint8)
    none = torch.zeros(0, 5, 6)
    masks, change = refine_masks(image, none, 0.5, CrfConfig(iterations=iterations))
    assert change.shape == (0,)
    assert masks.shape == (0, 5, 6)
    assert masks.dtype == torch.bool


def test_the_crf_follows_the_colours():
    """A coarse box of confidence becomes the disk; two maps at once as each alone."""
    soft = torch.full((SIDE, SIDE), 0.1)
    soft[13:47, 17:51] = 0.7
    other = 1 - soft
    crf = CrfConfig(bilateral_sxy=30, bilateral_srgb=20)
    both, change = refine_masks(photo(), torch.stack((soft, other)), 0.5, crf)
    assert change[0] == pytest.approx(iou(soft >= 0.5, both[0]))
    assert change[0] < 0.8
    assert iou(both[0], disk()) > 0.95
    assert iou(soft >= 0.5, disk()) < 0.8
    assert torch.equal(both[0], refine_masks(photo(), soft[None], 0.5, crf)[0][0])
    assert torch.equal(both[1], refine_masks(photo(), other[None], 0.5, crf)[0][0])


def test_what_the_crf_wipes_out_stays_as_it_was():
    """A faint speck on even ground: smoothing takes it away, the thresholded map stands in."""
    soft = torch.zeros(1, SIDE, SIDE)
    soft[0, 10, 10] = 0.55
    wiped = CrfConfig(gaussian_compat=30, bilateral_compat=30)
    even = np.full((SIDE, SIDE, 3), 90, np.uint8)
    masks, change = refine_masks(even, soft, 0.5, wiped)
    assert masks[0].nonzero().tolist() == [[10, 10]]
    assert change.tolist() == [0]  # the mask is the one before, but the CRF did not agree
    nothing, change = refine_masks(even, soft * 0, 0.5, wiped)
    assert not nothing.any()
    assert change.isnan().all()


def test_threshold_is_one_half():
    """Without smoothing, the CRF cuts where the map passes the threshold, whatever that is."""
    maps = torch.linspace(0, 1, SIDE).repeat(SIDE, 1)[None]
    crf = CrfConfig(gaussian_compat=0, bilateral_compat=0)
    for threshold in (0.1, 0.35, 0.8):
        masks, _ = refine_masks(photo(), maps, threshold, crf)
        differ = masks != (maps > threshold)
        assert not differ[(maps - threshold).abs() > 1e-4].any()


def test_tight_boxes():
    masks = torch.zeros((4, 20, 30), dtype=torch.bool)
    masks[0, 5:9, 10:20] = True
    masks[0, 15, 2] = True  # a speckle: in the mask, not in the box
    masks[1, 3, 7] = True
    masks[2, torch.arange(6), torch.arange(6)] = True  # corners touch: one part
    fallback = torch.arange(16.0).reshape(4, 4)
    boxes = tight_boxes(masks, fallback)
    assert boxes.tolist() == [[10, 5, 20, 9], [7, 3, 8, 4], [0, 0, 6, 6], [12, 13, 14, 15]]
    assert fallback[0].tolist() == [0, 1, 2, 3]  # untouched
    assert tight_boxes(masks[:0], fallback[:0]).shape == (0, 4)


def drawn(*rows: str) -> torch.Tensor:
    """A mask [1, H, W] as it is typed."""
    return torch.tensor([[[cell == "#" for cell in row] for row in rows]])


def test_holes_are_filled_and_crumbs_dropped():
    found = tidied(
        drawn(
            "############....",
            "#..........#....",
            "#..........#....",
            "#..........#....",
            "############....",
            "................",
            "................",
            "...............#",
        ),
        1,
    )
    whole = ["############...."] * 5 + ["................"] * 3
    assert torch.equal(found, drawn(*whole))


def test_gaps_are_closed():
    split = drawn("##.##", "##.##", "##.##")
    assert tidied(split, 1)[0, 1].all()
    wide = drawn("##...##", "##...##")
    assert torch.equal(tidied(wide, 1), wide)  # two pieces of one size, both kept
    edge = drawn(".#.", "...", "...")
    assert torch.equal(tidied(edge, 1), edge)  # nothing grows towards the edge


def reached(open_cells: np.ndarray, start: tuple[int, int], diagonal: bool) -> set[tuple[int, int]]:
    """The cells that are joined to one, by brute force."""
    seen, waiting = {start}, [start]
    while waiting:
        y, x = waiting.pop()
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                cell = (y + dy, x + dx)
                if (dy and dx and not diagonal) or cell in seen:
                    continue
                inside = all(0 <= c < n for c, n in zip(cell, open_cells.shape, strict=True))
                if inside and open_cells[cell]:
                    seen.add(cell)
                    waiting.append(cell)
    return seen


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """Every cell with one of the mask within reach."""
    wide = np.pad(mask, reach)
    side = 2 * reach + 1
    return np.lib.stride_tricks.sliding_window_view(wide, (side, side)).any((2, 3))


def tidied_by_brute_force(mask: np.ndarray, reach: int) -> np.ndarray:
    room = np.pad(mask, 2 * reach)
    mask = ~grown(~grown(room, reach), reach)
    mask = mask[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    pieces: list[set[tuple[int, int]]] = []
    for cell in zip(*mask.nonzero(), strict=True):
        if not any(cell in piece for piece in pieces):
            pieces.append(reached(mask, cell, diagonal=True))
    large = np.zeros_like(mask)
    most = max(map(len, pieces), default=0)
    for piece in pieces:
        if len(piece) >= 0.1 * most:
            large[tuple(np.array(sorted(piece)).T)] = True
    ground = np.pad(~large, 1, constant_values=True)
    filled = np.ones_like(ground)
    filled[tuple(np.array(sorted(reached(ground, (0, 0), diagonal=False))).T)] = False
    return filled[1:-1, 1:-1]


@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), fill=st.just(False)),
    st.integers(1, 3),
)
def test_tidied_against_brute_force(mask, reach):
    (found,) = tidied(torch.from_numpy(mask)[None], reach).numpy()
    assert np.array_equal(found, tidied_by_brute_force(mask, reach))


@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)),
    st.integers(0, 12),
)
def test_any_mask_and_any_reach(masks, reach):
    """Beyond the image too; each mask on its own, and none comes from nothing or is lost."""
    every = torch.from_numpy(masks)
    found = tidied(every, reach)
    assert found.shape == every.shape
    assert found.dtype == torch.bool
    for one, mask in zip(found, every, strict=True):
        assert torch.equal(one, tidied(mask[None], reach)[0])
        assert bool(one.any()) == bool(mask.any())


def test_masks_of_the_crf_are_tidied():
    """A disk with a dark spot inside: the CRF leaves the spot out, closing takes it in."""
    image = photo()
    image[28:33, 30:35] = 20
    soft = torch.full((1, SIDE, SIDE), 0.1)
    soft[0, 13:47, 17:51] = 0.7
    crf = {"bilateral_sxy": 30, "bilateral_srgb": 20}
    (open_mask,), change = refine_masks(image, soft, 0.5, CrfConfig(**crf))
    (closed,), same = refine_masks(image, soft, 0.5, CrfConfig(**crf, close=1))
    assert not open_mask[30, 32]
    assert closed[30, 32]
    assert iou(closed, disk()) > iou(open_mask, disk())
    assert torch.equal(change, same)  # of the CRF alone
    (raw,), _ = refine_masks(image, soft, 0.5, CrfConfig(iterations=0, close=2))
    assert torch.equal(raw, soft[0] >= 0.5)
