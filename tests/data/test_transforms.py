"""Resizing, mirroring, normalising."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.data import (
    clip_boxes,
    flip_boxes,
    flip_image,
    flip_masks,
    normalize,
    resize_image,
    resized_shape,
    scale_boxes,
    to_tensor,
)


@pytest.mark.parametrize(
    ("size", "sides", "shape", "scale"),
    [
        ((375, 500), (480, 1200), (480, 640), 1.28),
        ((500, 375), (480, 1200), (640, 480), 1.28),
        ((375, 500), (1024, 1200), (900, 1200), 2.4),  # the longer side decides
        ((480, 640), (480, 1200), (480, 640), 1.0),
        ((1000, 1000), (100, 100), (100, 100), 0.1),
        ((1, 1), (480, 1200), (480, 480), 480.0),
        ((1, 10_000), (480, 1200), (1, 1200), 0.12),
        ((10_000, 1), (480, 1200), (1200, 1), 0.12),
    ],
)
def test_resized_shape(size, sides, shape, scale):
    assert resized_shape(*size, *sides) == (shape, pytest.approx(scale))


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_resize_image(height, width, shorter, longest):
    image = torch.full((3, height, width), 77, dtype=torch.uint8)
    resized, scale = resize_image(image, shorter, longest)
    assert resized.dtype == torch.float32
    assert max(resized.shape[1:]) <= longest
    assert min(resized.shape[1:]) <= shorter
    for before, after in zip((height, width), resized.shape[1:], strict=True):
        assert after == 1 or abs(before * scale - after) <= 0.5 + 1e-6
    torch.testing.assert_close(resized, torch.full_like(resized, 77.0))


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 3.0])
def test_boxes_stay_on_what_they_show(scale):
    """The frame: a bright box, resized, is where its scaled coordinates say."""
    image = torch.zeros(3, 40, 40)
    image[:, 8:24, 12:32] = 1
    resized, found = resize_image(image, round(40 * scale), 1000)
    assert found == scale
    x1, y1, x2, y2 = scale_boxes(torch.tensor([[12.0, 8, 32, 24]]), found)[0].tolist()
    for profile, low, high in ((resized[0].amax(0), x1, x2), (resized[0].amax(1), y1, y2)):
        inside = (profile > 0.5).nonzero().flatten()
        assert [inside[0], inside[-1] + 1] == [low, high]
    mass = resized[0].sum() / scale**2  # symmetric at the edges: nothing is shifted
    torch.testing.assert_close(mass, image[0].sum(), rtol=1e-3, atol=0)


def test_shrinking_filters():
    """A fine checkerboard becomes grey, not a beat of every fourth pixel."""
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255.0
    resized, _ = resize_image(board.expand(3, 64, 64), 16, 100)
    assert (resized[:, 2:-2, 2:-2] - 127.5).abs().max() < 2


def test_same_size_is_a_float_copy_of_the_values():
    image = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)
    resized, scale = resize_image(image, 4, 100)
    assert scale == 1
    torch.testing.assert_close(resized, image.float(), rtol=0, atol=0)


def test_non_contiguous():
    image = torch.rand(6, 8, 3)
    resized, _ = resize_image(image.permute(2, 0, 1), 12, 100)
    expected, _ = resize_image(image.permute(2, 0, 1).contiguous(), 12, 100)
    torch.testing.assert_close(resized, expected)


@settings(max_examples=25)
@given(st.integers(0, 6), st.integers(1, 50))
def test_mirrored_twice_is_the_same(count, width):
    image = torch.rand(3, 4, width)
    masks = torch.rand(count, 4, width) > 0.5
    boxes = torch.rand(count, 4).cumsum(-1)
    assert torch.equal(flip_image(flip_image(image)), image)
    assert torch.equal(flip_masks(flip_masks(masks)), masks)
    torch.testing.assert_close(flip_boxes(flip_boxes(boxes, width), width), boxes)
    assert (flip_boxes(boxes, width)[:, 2] >= flip_boxes(boxes, width)[:, 0]).all()


def test_mirrored_boxes_and_masks_agree():
    mask = torch.zeros(1, 4, 10, dtype=torch.bool)
    mask[0, 1:3, 2:7] = True
    columns = flip_masks(mask)[0].any(0).nonzero().flatten()
    flipped = flip_boxes(torch.tensor([[2.0, 1, 7, 3]]), 10)
    assert flipped.tolist() == [[columns[0], 1, columns[-1] + 1, 3]] == [[3, 1, 8, 3]]


def test_normalize():
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(3, 1, 3).contiguous()
    normal = normalize(image)
    assert normal.dtype == torch.float32
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.array([0, 128, 255])[None] / 255 - mean[:, None]) / std[:, None]
    np.testing.assert_allclose(normal[:, 0], expected, rtol=1e-6)
    torch.testing.assert_close(normalize(image.float()), normal)


def test_to_tensor():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    tensor = to_tensor(image)
    assert tensor[1, 0, 2] == image[0, 2, 1]
    assert tensor.is_contiguous()
    tensor[:] = 0
    assert image.max() == 17


def test_clip_boxes():
    boxes = torch.tensor([[-3.0, -1, 40, 50], [2, 3, 4, 5]])
    assert clip_boxes(boxes, 20, 30).tolist() == [[0, 0, 30, 20], [2, 3, 4, 5]]
    assert clip_boxes(boxes[:0], 20, 30).shape == (0, 4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: to_tensor(np.zeros((2, 3), np.uint8)),
        lambda: to_tensor(np.zeros((2, 3, 4), np.uint8)),
        lambda: to_tensor(np.zeros((2, 3, 3))),
        lambda: to_tensor(torch.zeros(2, 3, 3)),
        lambda: resize_image(torch.zeros(4, 2, 2), 10, 10),
        lambda: resize_image(torch.zeros(3, 2), 10, 10),
        lambda: resize_image(torch.zeros(3, 0, 2), 10, 10),
        lambda: resize_image(torch.zeros(3, 2, 2).double(), 10, 10),
        lambda: normalize(torch.zeros(3, 2, 2, dtype=torch.int32)),
        lambda: normalize(np.zeros((3, 2, 2))),
        lambda: flip_image(torch.zeros(3)),
    ],
)
def test_bad_images(call):
    with pytest.raises((TypeError, ValueError), match=r"^image: expected .*got "):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: scale_boxes(torch.zeros(4), 2.0),
        lambda: flip_boxes(torch.zeros(2, 5), 10),
        lambda: clip_boxes(torch.zeros(2, 4, dtype=torch.int64), 5, 5),
        lambda: flip_boxes([[0, 0, 1, 1]], 10),
    ],
)
def test_bad_boxes(call):
    with pytest.raises((TypeError, ValueError), match=r"^boxes: expected .*got "):
        call()


@pytest.mark.parametrize("sides", [(0, 10), (10, 0), (-1, 10), (1.5, 10), (True, 10)])
def test_bad_sides(sides):
    with pytest.raises(ValueError, match=r"^(shorter|longest): expected a length"):
        resize_image(torch.zeros(3, 4, 4), *sides)
