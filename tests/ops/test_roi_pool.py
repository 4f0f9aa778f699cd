from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roi_pool_case import case

from labelpenet.ops import roi_pool
from labelpenet.reference import roi_pool as reference

GRID = torch.arange(16.0).reshape(1, 1, 4, 4)
LOWEST = torch.finfo(torch.float32).min


def assert_as_reference(features, boxes, size, scale):
    pooled, argmax = roi_pool(features, boxes, size, scale, return_argmax=True)
    want, places = reference(features, boxes, size, scale)
    assert torch.equal(pooled, want)
    assert torch.equal(argmax, places.int())
    assert torch.equal(roi_pool(features, boxes, size, scale), want)


HAND_WORKED = {
    # box, scale, output size, pooled
    "whole": ([0, 0, 3, 3], 1.0, (2, 2), [[5, 7], [13, 15]]),
    "one cell": ([1, 2, 1, 2], 1.0, (1, 1), [[9]]),
    "one cell, many bins": ([1, 2, 1, 2], 1.0, (2, 2), [[9, 9], [9, 9]]),
    "corners swapped count one cell": ([2, 2, 0, 0], 1.0, (1, 1), [[10]]),
    "0.5 rounds up": ([0.5, 0.5, 0.5, 0.5], 1.0, (1, 1), [[5]]),
    "2.5 rounds up, not to even": ([2.5, 0, 2.5, 0], 1.0, (1, 1), [[3]]),
    "-0.5 rounds down: cells -1 to 0": ([-0.5, 0, 0, 0], 1.0, (1, 2), [[0, 0]]),
    "-1.5 rounds to -2": ([-1.5, 0, 1, 0], 1.0, (1, 4), [[0, 0, 0, 1]]),
    "the float below 0.5 rounds to 0": ([0.49999997, 0, 0.49999997, 0], 1.0, (1, 1), [[0]]),
    "bins overlap where they do not divide": ([0, 0, 2, 0], 1.0, (1, 2), [[1, 2]]),
    "scale": ([0, 0, 31, 31], 1 / 8, (1, 1), [[15]]),
    "left of the image": ([-9, 0, -5, 3], 1.0, (1, 2), [[0, 0]]),
    "below the image": ([0, 40, 3, 60], 1.0, (2, 1), [[0], [0]]),
    "cut by the image": ([2, 2, 5, 5], 1.0, (2, 2), [[15, 0], [0, 0]]),
    "far outside the integers": ([-1e30, -1e30, 1e30, 1e30], 1.0, (1, 1), [[15]]),
}


@pytest.mark.parametrize("hand", HAND_WORKED.values(), ids=HAND_WORKED.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hand_worked(hand, dtype):
    box, scale, size, want = hand
    if dtype == torch.float64 and box[0] == 0.49999997:
        box = [0.49999999999999994] * 4
    boxes = torch.tensor([[0, *box]], dtype=dtype)
    got = roi_pool(GRID.to(dtype), boxes, size, scale)
    assert got.tolist() == [[want]]
    assert reference(GRID.to(dtype), boxes, size, scale)[0].tolist() == [[want]]


def test_argmax_by_hand():
    features = torch.tensor([[[[1.0, 3, 3], [3, 0, 2]]]])
    pooled, argmax = roi_pool(
        features, torch.tensor([[0.0, 0, 0, 2, 1], [0, 7, 7, 8, 8]]), 1, return_argmax=True
    )
    assert pooled.flatten().tolist() == [3, 0]
    assert argmax.flatten().tolist() == [1, -1]  # the first of equals, row by row; none
    assert argmax.dtype == torch.int32


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (2, 5), (5, 17)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference(size, dtype, isa):
    features, boxes, scale = case()
    assert_as_reference(features.to(dtype), boxes.to(dtype), size, scale)


@settings(max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, n) for n in (2, 18, 6, 40)]),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([1 / 16, 1 / 8, 0.123, 1.0]),
)
def test_reference_hypothesis(shape, size, seed, scale):
    features, boxes, _ = case(*shape, rois=6, seed=seed)
    # few distinct values: ties decide the argmax
    assert_as_reference(features.round(), boxes.round(), size, scale)


def test_wide_bins_of_many_levels(isa):
    """One box for each width, so that every running maximum is read."""
    features = torch.randn(1, 3, 2, 70).round(decimals=1)
    ends = torch.arange(70.0)
    boxes = torch.stack((0 * ends, 0 * ends, 0 * ends, ends, 0 * ends + 1), 1)
    assert_as_reference(features, boxes, (1, 2), 1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats(dtype):
    features, boxes, scale = case()
    features = features.to(dtype).requires_grad_()
    got = roi_pool(features, boxes, 3, scale)
    want = reference(features.detach().float(), boxes, (3, 3), scale)[0]
    assert got.dtype == dtype
    assert torch.equal(got, want.to(dtype))
    grad = torch.randn_like(got)
    got.backward(grad)
    wide = features.detach().float().requires_grad_()
    roi_pool(wide, boxes, 3, scale).backward(grad.float())
    assert torch.equal(features.grad, wide.grad.to(dtype))


def test_nan_and_infinities_never_win():
    features = torch.tensor([[[[torch.nan, 1, -torch.inf, torch.nan, torch.inf]]]])
    boxes = torch.tensor([[0.0, 0, 0, 1, 0], [0, 2, 0, 3, 0], [0, 0, 0, 4, 0]])
    pooled, argmax = roi_pool(features, boxes, 1, return_argmax=True)
    assert pooled.flatten().tolist() == [1, LOWEST, torch.inf]
    assert argmax.flatten().tolist() == [1, -1, 4]


def test_nan_and_infinities_at_random(isa):
    features, boxes, scale = case(h=9, w=45, rois=20)
    kind = torch.randint(0, 6, features.shape)
    for i, value in enumerate((torch.nan, torch.inf, -torch.inf, LOWEST)):
        features[kind == i] = value
    boxes[:10, 3:] = boxes[:10, 1:3] + 9  # few cells a bin: many have nothing above the lowest
    assert_as_reference(features, boxes, (7, 3), scale)


def test_list_of_boxes():
    features, boxes, scale = case(n=3)
    boxes = boxes[boxes[:, 0].argsort(stable=True)]
    per_image = [boxes[boxes[:, 0] == i, 1:] for i in range(3)]
    assert torch.equal(roi_pool(features, per_image, 2, scale), roi_pool(features, boxes, 2, scale))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_list_of_boxes_for_many_images(dtype):
    count = 2100  # bfloat16 counts to 256, float16 to 2,048
    features = (torch.arange(count) % 64).to(dtype).reshape(-1, 1, 1, 1)
    pooled = roi_pool(features, [torch.zeros(1, 4, dtype=dtype)] * count, 1)
    assert torch.equal(pooled, features)


def test_empty():
    features, boxes, scale = case()
    features.requires_grad_()
    pooled = roi_pool(features, boxes[:0], 3, scale)
    assert pooled.shape == (0, 19, 3, 3)
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))
    assert roi_pool(features[:, :0], boxes, 3, scale).shape == (12, 0, 3, 3)
    assert roi_pool(features[:0], [], 3, scale).shape == (0, 19, 3, 3)
    flat = roi_pool(features[:, :, :0], boxes, 3, scale)
    assert torch.equal(flat, torch.zeros(12, 19, 3, 3))


def test_non_contiguous():
    features, boxes, scale = case()
    want = roi_pool(features, boxes, 3, scale)
    last = features.to(memory_format=torch.channels_last)
    assert torch.equal(roi_pool(last, boxes, 3, scale), want)
    assert torch.equal(roi_pool(features, boxes.T.contiguous().T, 3, scale), want)
    assert torch.equal(roi_pool(features.double().float()[:, :], boxes.double(), 3, scale), want)


F, B = torch.rand(2, 3, 4, 5), torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((F[0], B, 2), ValueError, r"features: expected \[N, C, H, W\]"),
        ((F.int(), B, 2), TypeError, "features: expected"),
        ((F, B[:, :4], 2), ValueError, r"boxes: expected \[R, 5\]"),
        ((F, B.long(), 2), TypeError, "boxes: expected"),
        ((F, "boxes", 2), TypeError, "boxes: expected .* got str"),
        ((F, None, 2), TypeError, "boxes: expected .* got NoneType"),
        ((F, [B[:, :4]], 2), ValueError, "boxes: expected one tensor for each of 2 images, got 1"),
        ((F, [B[:, :4], B], 2), ValueError, r"boxes\[1\]: expected \[R1, 4\]"),
        ((F, B, 0), ValueError, "output_size: expected"),
        ((F, B, (2, 2, 2)), ValueError, "output_size: expected"),
        ((F, B, 2.0), ValueError, "output_size: expected"),
        ((F, B, 2**12), ValueError, "output_size: expected fewer than 2\\*\\*24 bins"),
        ((F, B, 2, 0.0), ValueError, "spatial_scale: expected"),
        ((F, B, 2, float("inf")), ValueError, "spatial_scale: expected"),
        ((F, B * torch.nan, 2), ValueError, "boxes: expected finite"),
        ((F, B + torch.inf, 2), ValueError, "boxes: expected finite"),
        ((F, B + 2, 2), ValueError, r"boxes: expected image indices .* \[0, 2\), got 2.0 \(3 of"),
        ((F, B - 1, 2), ValueError, "boxes: expected image indices .* got -1.0"),
        ((F, B + 0.5, 2), ValueError, "boxes: expected image indices .* got 0.5"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        roi_pool(*arguments)
