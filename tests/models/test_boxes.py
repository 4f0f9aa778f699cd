"""Box coding, matching and sampling."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelpenet.models.boxes import ROI_STD, Frame, clip, decode, draw, encode, match

sides = st.floats(2, 500)
places = st.floats(-100, 500)


@given(st.lists(st.tuples(places, places, sides, sides), min_size=2, max_size=6))
def test_decode_inverts_encode(rows):
    x, y, w, h = torch.tensor(rows, dtype=torch.float64).unbind(1)
    boxes = torch.stack((x, y, x + w, y + h), 1)
    targets = boxes.roll(1, 0)
    again = decode(boxes, encode(boxes, targets, ROI_STD), ROI_STD)
    ratio = (targets[:, 2:] - targets[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    capped = (ratio > 1000 / 16).any(1)  # decode caps growth there
    assert torch.allclose(again[~capped], targets[~capped], atol=1e-6)


def test_encode_by_hand():
    box = torch.tensor([[10.0, 10.0, 30.0, 50.0]])  # 20 x 40 around (20, 30)
    target = torch.tensor([[20.0, 20.0, 40.0, 40.0]])  # 20 x 20 around (30, 30)
    offsets = encode(box, target, (1.0, 1.0, 1.0, 1.0))
    assert torch.allclose(offsets, torch.tensor([[0.5, 0.0, 0.0, -0.6931472]]))


def test_huge_offsets_stay_finite():
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    assert torch.isfinite(decode(box, torch.full((1, 4), 1e4), (1.0,) * 4)).all()


def test_clip():
    boxes = torch.tensor([[-5.0, -5.0, 200.0, 80.0]])
    assert clip(boxes, (50, 100)).tolist() == [[0.0, 0.0, 100.0, 50.0]]


def test_match():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 110.0, 110.0]])
    targets = torch.tensor([[50.0, 50.0, 60.0, 60.0], [0.0, 0.0, 10.0, 5.0]])
    overlap, index = match(boxes, targets)
    assert overlap.tolist() == [0.5, 0.0]
    assert int(index[0]) == 1
    overlap, index = match(boxes, targets[:0])
    assert overlap.tolist() == [0.0, 0.0]
    assert index.tolist() == [0, 0]


def test_match_of_nothing_is_where_the_boxes_are():
    overlap, index = match(torch.zeros(3, 4, device="meta"), torch.zeros(0, 4, device="meta"))
    assert overlap.device.type == index.device.type == "meta"


def test_draw_is_seeded_and_without_repeats():
    mask = torch.ones(50, dtype=torch.bool)
    first = draw(mask, 20, torch.Generator().manual_seed(3))
    again = draw(mask, 20, torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert len(set(first.tolist())) == 20
    assert draw(mask[:0], 5, torch.Generator()).numel() == 0


@pytest.mark.parametrize("flipped", [False, True])
def test_frames(flipped):
    """What is put into a frame comes back out of it."""
    frame = Frame((50, 80), 0.5, flipped)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], [30.0, 20.0, 160.0, 100.0]])
    expected = [[0, 0, 10, 5], [15, 10, 80, 50]]
    if flipped:
        expected = [[70, 0, 80, 5], [0, 10, 65, 50]]
    assert frame.boxes(boxes).tolist() == expected
    assert torch.equal(frame.to_image(frame.boxes(boxes)), boxes)
    assert frame.boxes(boxes[:0]).shape == (0, 4)
