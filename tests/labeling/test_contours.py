import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from labeling.scenes import STEADY
from pycocotools import mask as coco_mask

from labelpenet.labeling.contours import edge_outlines, joined_outline
from labelpenet.rle import decode_mask

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def fill_joined(mask):
    got = np.zeros(mask.shape, np.uint8)
    outline = joined_outline(mask)
    if len(outline):
        cv2.fillPoly(got, [outline.astype(np.int32)], 1)
    return got.astype(bool)


def ring_count(mask):
    return len(cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0])


@STEADY
@given(MASKS)
def test_joined_outline_loses_nothing_and_adds_bridges_alone(mask):
    got = fill_joined(mask)
    assert not (mask & ~got).any()
    assert (got & ~mask).sum() <= max(0, ring_count(mask) - 1) * max(mask.shape)


def test_joined_outline_keeps_a_hole_and_an_island_in_it():
    mask = np.ones((11, 11), bool)
    mask[2:9, 2:9] = False
    np.testing.assert_array_equal(fill_joined(mask), mask)
    mask[5, 5] = True
    got = fill_joined(mask)
    assert 0 < (got & ~mask).sum() <= 3  # the bridge to the island


def test_joined_outline_of_two_parts_bridges_the_gap_alone():
    mask = np.zeros((5, 12), bool)
    mask[:, :4] = mask[:, 8:] = True
    got = fill_joined(mask)
    assert (got & ~mask).sum() == 4
    assert (got & ~mask)[:, 4:8].any(axis=0).all()


def test_few_pixels():
    mask = np.zeros((3, 4), bool)
    assert joined_outline(mask).shape == (0, 2)
    assert edge_outlines(mask) == []
    mask[1, 2] = True
    assert joined_outline(mask).tolist() == [[2, 1]] * 3
    assert edge_outlines(mask)[0].tolist() == [[2, 1], [2, 2], [3, 2], [3, 1]]


@STEADY
@given(MASKS)
def test_edge_outlines_are_exact_for_pycocotools(mask):
    height, width = mask.shape
    polygons = [outline.reshape(-1).tolist() for outline in edge_outlines(mask)]
    assert all(len(polygon) >= 8 for polygon in polygons)
    if not polygons:
        assert not mask.any()
        return
    filled = np.zeros(mask.shape, np.uint8)
    outer, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, outer, -1, 1, cv2.FILLED)
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    got = decode_mask(rle["counts"].decode(), height, width)
    np.testing.assert_array_equal(got, filled.astype(bool))


@pytest.mark.parametrize("parts", [1, 40])
def test_many_parts(parts):
    """The bridges of a speckled mask stay short: the mask keeps its shape."""
    mask = np.zeros((200, 300), bool)
    rng = np.random.default_rng(0)
    for x, y in zip(rng.integers(0, 290, parts), rng.integers(0, 190, parts), strict=True):
        mask[y : y + 10, x : x + 10] = True
    got = fill_joined(mask)
    assert (mask & got).sum() / (mask | got).sum() > (0.99 if parts == 1 else 0.7)
