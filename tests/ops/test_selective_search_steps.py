"""The steps of selective search against their plain reference: color, regions, grouping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noise_image import noise, planes_of

from labelpenet import _C
from labelpenet.reference import selective_search as reference

SPACES = {
    "hsv": (0, reference.hsv),
    "lab": (1, reference.lab),
    "rgi": (2, reference.rgi),
    "hue": (3, lambda image: reference.hsv(image)[:1]),
    "intensity": (4, reference.intensity),
}
TERM_SETS = [15, 14, 1, 2, 4, 8, 5, 10]


def segment(planes, k, min_size):
    labels = torch.full(planes.shape[1:], -1, dtype=torch.int32)
    count = _C.selective_search_segment(torch.from_numpy(planes.copy()), k, min_size, labels)
    assert count == len(labels.unique()) == labels.max() + 1
    return labels.numpy()


def group(planes, labels, terms):
    """Boxes and children, as reference.group."""
    args = torch.from_numpy(planes.copy()), torch.from_numpy(labels.copy()), labels.max() + 1
    children, boxes = _C.selective_search_group(*args, terms)
    return (
        np.frombuffer(boxes, np.int32).reshape(-1, 4),
        np.frombuffer(children, np.int32).reshape(-1, 2),
    )


# ---- color ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_color_is_within_a_level_of_float64(space):
    grid = np.array([0, 1, 2, 5, 11, 40, 85, 128, 170, 213, 254, 255], np.uint8)
    image = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(
        len(grid) ** 2, -1, 3
    )
    number, convert = SPACES[space]
    difference = planes_of(image, number) - convert(image)
    if space in ("hsv", "hue"):
        difference[0] = (difference[0] + 128) % 256 - 128
    assert np.abs(difference).max() < 1.2


def test_color_by_hand():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    hue, saturation, value = planes_of(image, 0)[:, 0]
    assert hue.tolist() == [0, 85, 170, 0]
    assert saturation.tolist() == [255, 255, 255, 0]
    assert value.tolist() == [255, 255, 255, 255]
    assert planes_of(image, 1)[:, 0, 3].tolist() == [255, 128, 128]
    assert planes_of(image, 2)[:, 0].T.tolist()[0] == [255, 0, 77]


# ---- base segmentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("k", "min_size"), [(20, 1), (150, 6), (1000, 1), (0, 1), (300, 1000)])
def test_segmentation_is_the_reference(channels, k, min_size):
    for seed, size in enumerate([(1, 1), (1, 9), (9, 1), (2, 2), (13, 17), (21, 16)]):
        planes = noise(*size, seed, channels)
        expected = reference.graph_segmentation(planes, k, min_size)
        np.testing.assert_array_equal(segment(planes, k, min_size), expected)


def test_segmentation_by_hand():
    # Two flat halves, 200 levels apart: the blur spreads the step over four columns.
    planes = np.zeros((1, 6, 12), np.uint8)
    planes[:, :, 6:] = 200
    halves = np.repeat(np.arange(2), 6)[None].repeat(6, 0)
    # Every edge is at most 128 / 256 * 200 = 100 levels. k = 1: a pixel joins by an edge of 1
    # level, so the columns of the slope stay alone unless they are too small.
    assert segment(planes, 1, 1)[0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5]
    np.testing.assert_array_equal(segment(planes, 100, 20), halves)
    assert segment(planes, 1e6, 1).max() == 0  # nothing keeps regions apart
    assert segment(planes, 1, 37).max() == 0  # 36 pixels are too few


def test_segmentation_respects_min_size(isa):
    planes = noise(40, 50, 3, 3)
    for min_size in (1, 5, 50):
        assert np.bincount(segment(planes, 30, min_size).ravel()).min() >= min_size


# ---- grouping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", TERM_SETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_grouping_is_the_reference(channels, terms):
    for seed, size in enumerate([(1, 7), (12, 10), (24, 31)]):
        planes = noise(*size, seed, channels)
        labels = reference.graph_segmentation(planes, 100, 8)
        boxes, children = group(planes, labels, terms)
        expected_boxes, expected_children = reference.group(planes, labels, terms)
        np.testing.assert_array_equal(children, expected_children)
        np.testing.assert_array_equal(boxes, expected_boxes)


@pytest.mark.parametrize(
    ("terms", "first"),
    [
        (1, [0, 3]),  # color: both are black
        (4, [1, 2]),  # size: the two smallest
        (8, [2, 3]),  # fill: together they are a square
        (2, [0, 1]),  # texture: none has any, so the lowest numbers
    ],
)
def test_grouping_by_hand(terms, first):
    labels = np.array([[0, 0, 1, 1], [0, 0, 2, 3], [0, 0, 3, 3]], np.int32)
    flat = np.zeros((1, 3, 4), np.uint8)
    planes = flat if terms == 2 else np.array([[0, 255, 128, 0]], np.uint8)[:, labels]
    boxes, children = group(planes, labels, terms)
    assert children[0].tolist() == first
    assert children.shape == (3, 2)
    assert boxes[:4].tolist() == [[0, 0, 2, 3], [2, 0, 4, 1], [2, 1, 3, 2], [2, 1, 4, 3]]
    assert boxes[-1].tolist() == [0, 0, 4, 3]


def test_grouping_of_a_region_with_many_neighbors():
    # Every merge makes a hundred pairs obsolete; the queue has to drop them and nothing else.
    labels = np.zeros((31, 31), np.int32)
    spots = labels[1::3, 1::3]
    spots[:] = np.arange(1, spots.size + 1).reshape(spots.shape)
    planes = np.random.default_rng(0).integers(0, 256, spots.size + 1).astype(np.uint8)[labels]
    for terms in (8, 15):
        _, children = group(planes[None], labels, terms)
        np.testing.assert_array_equal(children, reference.group(planes[None], labels, terms)[1])
