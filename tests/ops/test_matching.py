"""Sums over run lengths and the matching score against dense masks, hand-worked and random."""

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_near

from labelpenet import _C, reference
from labelpenet.ops import (
    RegionMasks,
    _extension,
    contour,
    matching,
    matching_scores,
    region_sums,
    selective_search_regions,
)


def regions_of(masks):
    """Masks [R, H, W] bool as run lengths down the columns, zeros first."""
    counts, offsets = [], [0]
    for mask in masks:
        runs, value = [0], False
        for pixel in mask.T.flatten().tolist():
            if pixel != value:
                runs.append(0)
                value = pixel
            runs[-1] += 1
        counts += runs
        offsets.append(len(counts))
    size = (masks.shape[1], masks.shape[2])
    return RegionMasks(
        torch.tensor(counts, dtype=torch.int32), torch.tensor(offsets, dtype=torch.int64), size
    )


def scene(maps, regions, size, share=0.4):
    masks = torch.rand(regions, *size) < share
    return torch.rand(maps, *size), regions_of(masks), masks


def to(regions, device):
    return RegionMasks(regions.counts.to(device), regions.offsets.to(device), regions.size)


V = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
WHOLE = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
PART = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
ALL = [[1] * 4] * 3
NONE = [[0] * 4] * 3
# The contour of V is all of it but the corner (0, 0): 3 pixels.
# segment, rebalance, shares -> score at the paper's weights
HAND_WORKED = {
    "the object": (WHOLE, True, False, 0.95 + 0.1 * 3),
    "a part of it": (PART, True, False, 0.95),
    "everything": (ALL, True, False, 0.95 * 4 / 12 + 0.1 * 3 - 0.8 * 8),
    "the object, without rebalance": (WHOLE, False, False, 0.95 * 4 + 0.1 * 3),
    "everything, without rebalance": (ALL, False, False, 0.95 * 4 + 0.1 * 3 - 0.8 * 8),
    "the object, shares": (WHOLE, True, True, 0.95 + 0.1),
    "everything, shares": (ALL, True, True, 0.95 * 4 / 12 + 0.1 - 0.8 * 8 / 12),
    "a part, shares, without rebalance": (PART, False, True, 0.95 / 4),
    "nothing": (NONE, True, False, -torch.inf),
}


@pytest.mark.parametrize("case", HAND_WORKED.values(), ids=HAND_WORKED.keys())
def test_hand_worked(case):
    segment, rebalance, shares, want = case
    maps, masks = torch.tensor([V]), torch.tensor([segment], dtype=torch.bool)
    got = matching_scores(maps, regions_of(masks), rebalance=rebalance, shares=shares)
    assert got.item() == pytest.approx(want, abs=1e-5)
    exact = reference.matching_scores(maps.double(), masks, rebalance=rebalance, shares=shares)
    assert exact.item() == pytest.approx(want, abs=1e-9)


def test_sums_of_hand_worked_runs():
    maps = torch.arange(1, 7, dtype=torch.float32).reshape(1, 2, 3) / 8  # columns 14 25 36
    regions = RegionMasks(
        torch.tensor([1, 2, 3, 0, 6, 6], dtype=torch.int32), torch.tensor([0, 3, 5, 6]), (2, 3)
    )
    sums, areas = region_sums(maps, regions)
    assert sums.tolist() == [[(4 + 2) / 8, 21 / 8, 0]]
    assert areas.tolist() == [2, 6, 0]


@pytest.mark.parametrize("size", [(1, 1), (13, 17), (40, 3), (3, 40), (65, 33)])
@pytest.mark.parametrize("count", [1, 8, 11])
def test_against_reference(size, count, isa):
    maps, regions, masks = scene(count, 9, size)
    maps = maps * 2 - 1
    sums, areas = region_sums(maps, regions)
    want, pixels = reference.region_sums(maps.double(), masks)
    assert (sums - want).abs().max() <= 2e-6 * max(float(want.abs().max()), 1)
    assert torch.equal(areas, pixels)


@pytest.mark.parametrize("rebalance", [True, False])
@pytest.mark.parametrize("shares", [True, False])
def test_scores_against_reference(rebalance, shares):
    maps, regions, masks = scene(3, 7, (12, 15))
    maps[0] = (maps[0] > 0.5).float()
    arguments = {"rebalance": rebalance, "shares": shares}
    got = matching_scores(maps, regions, 0.3, -0.2, 0.7, **arguments)
    want = reference.matching_scores(maps.double(), masks, 0.3, -0.2, 0.7, **arguments)
    assert_near(got, want, torch.float32)


def test_contour_against_reference():
    maps = torch.rand(2, 7, 9)
    assert torch.equal(contour(maps), reference.contour(maps))
    assert contour(torch.ones(1, 4, 4)).sum() == 0
    assert contour(torch.zeros(0, 4, 4)).shape == (0, 4, 4)


def test_segments_of_selective_search():
    torch.manual_seed(1)
    image = torch.full((60, 80, 3), 30, dtype=torch.uint8)
    image[10:40, 20:60] = torch.tensor([200, 40, 40], dtype=torch.uint8)
    boxes, regions = selective_search_regions(image)
    masks = torch.stack([regions.mask(i) for i in range(len(regions))])
    maps = torch.rand(4, 60, 80)
    sums, areas = region_sums(maps, regions)
    want, pixels = reference.region_sums(maps.double(), masks)
    assert_near(sums, want, torch.float32)
    assert torch.equal(areas, pixels)
    seen = (torch.arange(80) // 20).eq(1).logical_or(torch.arange(80) // 20 == 2)
    map_ = seen[None] & (torch.arange(60) // 10 >= 1)[:, None] & (torch.arange(60) < 40)[:, None]
    best = int(matching_scores(map_[None].float(), regions)[0].argmax())
    assert boxes[best].tolist() == [20, 10, 60, 40]


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 999),
)
def test_binary_maps_are_exact(size, share, seed):
    torch.manual_seed(seed)
    _, regions, masks = scene(0, 5, size, share)
    maps = (torch.rand(3, *size) < 0.5).float()
    sums, areas = region_sums(maps, regions)
    want, _ = reference.region_sums(maps.double(), masks)
    assert torch.equal(sums.double(), want)
    ones, _ = region_sums(torch.ones(1, *size), regions)
    assert torch.equal(ones[0].long(), areas)


def test_threads_and_isas_change_no_bit(isa):
    maps, regions, _ = scene(11, 60, (50, 70))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        got = region_sums(maps, regions)
    finally:
        torch.set_num_threads(threads)
    _C.force_isa("baseline")
    for a, b in zip(got, region_sums(maps, regions), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("maps", "size"), [(6, (9, 45)), (1, (70, 3)), (0, (4, 4))])
def test_emulated(maps, size, emulated, monkeypatch):
    images, regions, _ = scene(maps, 11, size)
    got = region_sums(images, regions)
    monkeypatch.setattr(_extension, "_active", _C)
    for a, b in zip(got, region_sums(images, regions), strict=True):
        assert torch.equal(a, b)


@pytest.mark.cuda
def test_cuda():
    maps, regions, _ = scene(21, 500, (61, 83))
    got = region_sums(maps.cuda(), to(regions, "cuda"))
    for a, b in zip(got, region_sums(maps, regions), strict=True):
        assert torch.equal(a.cpu(), b)


def test_scores_carry_no_gradient():
    maps = torch.rand(2, 3, 4).requires_grad_()
    regions = regions_of(torch.ones(1, 3, 4, dtype=torch.bool))
    assert not matching_scores(maps, regions, shares=True, rebalance=False).requires_grad


def test_empty():
    none = RegionMasks(torch.zeros(0, dtype=torch.int32), torch.zeros(1, dtype=torch.int64), (3, 4))
    sums, areas = region_sums(torch.rand(2, 3, 4), none)
    assert sums.shape == (2, 0)
    assert areas.shape == (0,)
    assert matching_scores(torch.rand(2, 3, 4), none).shape == (2, 0)
    _, regions, masks = scene(0, 3, (3, 4))
    sums, areas = region_sums(torch.zeros(0, 3, 4), regions)
    assert sums.shape == (0, 3)
    assert torch.equal(areas, masks.sum((1, 2)))


def test_layouts_and_gradients():
    maps, regions, _ = scene(3, 4, (6, 8))
    want = region_sums(maps, regions)
    strided = maps.permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    other = RegionMasks(
        torch.stack((regions.counts, regions.counts), 1)[:, 0],
        torch.stack((regions.offsets, regions.offsets), 1)[:, 0],
        regions.size,
    )
    got = region_sums(strided, other)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert not got[0].requires_grad


def runs(*counts, offsets=None, size=(2, 3), dtype=torch.int32):
    offsets = [0, len(counts)] if offsets is None else offsets
    return RegionMasks(torch.tensor(counts, dtype=dtype), torch.tensor(offsets), size)


BAD_INPUT = {
    "nan": ({"maps": torch.full((1, 2, 3), torch.nan)}, ValueError, "maps"),
    "above one": ({"maps": torch.full((1, 2, 3), 1.5)}, ValueError, "maps"),
    "dtype": ({"maps": torch.zeros(1, 2, 3).double()}, TypeError, "maps"),
    "shape": ({"maps": torch.zeros(2, 3)}, ValueError, "maps"),
    "other size": ({"maps": torch.zeros(1, 3, 2)}, ValueError, r"regions' \[2, 3\]"),
    "empty": ({"maps": torch.zeros(1, 0, 3), "regions": runs(size=(0, 3))}, ValueError, "pixels"),
    "masks": ({"regions": torch.zeros(1, 2, 3)}, TypeError, "regions: expected RegionMasks"),
    "count dtype": ({"regions": runs(6, dtype=torch.int64)}, TypeError, "regions.counts"),
    "no offsets": ({"regions": runs(offsets=[])}, (ValueError, TypeError), "regions.offsets"),
    "too few": ({"regions": runs(2, 3)}, ValueError, "regions: expected runs that fill"),
    "too many": ({"regions": runs(2, 5)}, ValueError, "regions: expected runs that fill"),
    "far too many": ({"regions": runs(2**31 - 1, 2**31 - 1)}, ValueError, "regions"),
    "negative": ({"regions": runs(4, -1, 3)}, ValueError, "regions: expected runs that fill"),
    "falling": ({"regions": runs(6, offsets=[0, 1, 0])}, ValueError, "regions"),
    "beyond": ({"regions": runs(6, offsets=[0, 2])}, ValueError, "regions"),
    "before": ({"regions": runs(6, offsets=[-1, 1])}, ValueError, "regions"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input(case):
    change, error, message = case
    with pytest.raises(error, match=message):
        region_sums(**({"maps": torch.zeros(1, 2, 3), "regions": runs(6)} | change))


def test_bad_scores_input():
    with pytest.raises(ValueError, match=r"maps.*\[0, 1\]"):
        matching_scores(-torch.ones(1, 2, 3), runs(6))
    with pytest.raises(TypeError, match="beta"):
        matching_scores(torch.ones(1, 2, 3), runs(6), 1.0, "much")


def test_opcheck():
    regions = runs(1, 2, 3)
    torch.library.opcheck(
        torch.ops.labelpenet.region_sums.default,
        (torch.rand(2, 2, 3), regions.counts, regions.offsets),
    )


def test_doctest():
    assert doctest.testmod(matching).failed == 0
