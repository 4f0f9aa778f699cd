"""What the CUDA kernels make of numbers that nobody looked at, as each op documents it."""

import pytest
import torch

from labelpenet import _C, reference
from labelpenet.ops import (
    RegionMasks,
    _check,
    _extension,
    accumulate_boxes,
    dense_crf,
    excitation_maps,
    find_peaks,
    nms_groups,
    nms_owners,
    project_attention,
    region_sums,
    roi_pool,
)

NAN, INF = torch.nan, torch.inf


@pytest.fixture
def unchecked(emulated, monkeypatch):
    """The emulated kernels; CPU tensors are not looked at, as those of a device are not."""
    monkeypatch.setattr(_check, "readable", lambda value: False)
    return emulated


def nothing(shape):
    return torch.full(shape, NAN)


BAD_BOXES = torch.tensor(
    [
        [2.0, 0, 0, 9, 9],
        [-1, 0, 0, 9, 9],
        [0.5, 0, 0, 9, 9],
        [NAN, 0, 0, 9, 9],
        [3e38, 0, 0, 9, 9],
        [0, NAN, 0, 9, 9],
        [0, 0, 0, INF, 9],
        [1, 0, -INF, 9, NAN],
    ]
)
GOOD_BOXES = torch.tensor([[1.0, 3, 4, 20, 30], [0, -3e38, -3e38, 3e38, 3e38], [0, 5, 5, 1, 1]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("size", [(3, 2), (64, 1)])  # out of slabs, and too many rows for them
def test_roi_pool(unchecked, dtype, size, monkeypatch):
    features = torch.randn(2, 9, 5, 6).to(dtype).requires_grad_()
    boxes = torch.cat((BAD_BOXES, GOOD_BOXES)).to(dtype if dtype == torch.float64 else None)
    pooled, argmax = roi_pool(features, boxes, size, 0.2, return_argmax=True)
    alone = roi_pool(features.detach(), boxes, size, 0.2)
    pooled.nan_to_num().sum().backward()
    monkeypatch.setattr(_extension, "_active", _C)
    want = roi_pool(features.detach(), boxes[len(BAD_BOXES) :], size, 0.2)
    for got in (pooled, alone):
        assert got[: len(BAD_BOXES)].isnan().all()
        assert torch.equal(got[len(BAD_BOXES) :], want)
    assert (argmax[: len(BAD_BOXES)] == -1).all()
    again = features.detach().requires_grad_()
    roi_pool(again, boxes[len(BAD_BOXES) :], size, 0.2).sum().backward()
    assert torch.equal(features.grad, again.grad)


def test_roi_pool_twice_differentiated(unchecked):
    """The gradient's gradient reads where boxes pooled; where a bad one did, nowhere."""
    features = torch.randn(2, 3, 5, 6, requires_grad=True)
    weights = torch.randn(len(BAD_BOXES) + len(GOOD_BOXES), 3, 2, 2, requires_grad=True)
    pooled = roi_pool(features, torch.cat((BAD_BOXES, GOOD_BOXES)), 2, 0.2)
    (grad,) = torch.autograd.grad(
        (pooled * weights).nan_to_num().sum(), features, create_graph=True
    )
    (second,) = torch.autograd.grad(grad.sum(), weights)
    assert (second[: len(BAD_BOXES)] == 0).all()
    assert (second[len(BAD_BOXES)] == 1).all()


def test_roi_pool_of_no_images(unchecked):
    features = torch.zeros(0, 3, 5, 6, requires_grad=True)
    pooled = roi_pool(features, GOOD_BOXES, 2, 0.2)
    assert (pooled == 0).all()
    pooled.sum().backward()
    assert features.grad.shape == features.shape


@pytest.mark.parametrize("mode", ["bilinear", "mass"])
def test_attention(unchecked, mode, monkeypatch):
    maps, size = torch.rand(6, 3, 4), (20, 40)
    good = torch.tensor([[1.0, 2, 30, 15], [5, 5, 9, 9]])
    bad = torch.tensor([[NAN, 2, 30, 15], [1, 2, INF, 15], [1, 2, 30, 15], [1, 2, 30, 15]])
    boxes = torch.cat((good, bad))
    index = torch.tensor([0, 1, 0, 0, 2, -(2**62)])
    got = project_attention(maps, boxes, index, 2, size, mode)
    heat = accumulate_boxes(maps[:, 0, 0], boxes, index, 2, size)
    monkeypatch.setattr(_extension, "_active", _C)
    assert torch.equal(got, project_attention(maps[:2], good, index[:2], 2, size, mode))
    assert torch.allclose(heat, accumulate_boxes(maps[:2, 0, 0], good, index[:2], 2, size))


def test_attention_of_maps_that_are_not_finite(unchecked):
    maps = torch.tensor([[[NAN, 1.0]], [[1.0, 1.0]]])
    boxes = torch.tensor([[0.0, 0, 4, 1], [4, 0, 8, 1]])
    got = project_attention(maps, boxes, torch.tensor([0, 0]), 1, (1, 8))
    assert got[0, 0, 0].isnan()
    assert (got[0, 0, 4:] == 1).all()


@pytest.mark.parametrize("score", [NAN, INF, -1e30])
def test_a_bad_score_makes_all_heat_maps_nan(unchecked, score):
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]])
    got = accumulate_boxes(torch.tensor([1.0, score]), boxes, torch.tensor([0, 1]), 2, (3, 3))
    assert got.isnan().all()


def test_excitation(unchecked):
    activations = [torch.rand(4, 3, 2, 2), torch.rand(4, 5)]
    weights = [torch.randn(5, 12), torch.randn(6, 5)]
    classes = torch.tensor([5, -1, 6, 2**62])
    got = excitation_maps(activations, weights, classes)
    want = reference.excitation_maps([a[:1] for a in activations], weights, classes[:1])
    torch.testing.assert_close(got[:1], want)
    assert (got[1:] == 0).all()
    activations[1][0, 2] = NAN
    assert torch.isfinite(excitation_maps(activations, weights, classes)).all()


@pytest.mark.parametrize(("maps", "labels"), [(1, 2), (2, 2), (1, 3)])
def test_dense_crf(unchecked, maps, labels):
    image = torch.randint(0, 256, (5, 6, 3), dtype=torch.uint8)
    unary = torch.rand(maps, labels, 5, 6)
    unary[0, 1, 2, 3] = NAN
    got = dense_crf(image, unary, iterations=2)
    bad = got.isnan()
    assert bad[0, :, 2, 3].all()
    assert bad.sum() == labels
    assert torch.allclose(got.sum(1)[~bad.any(1)], torch.ones(()))


def test_nms(unchecked):
    boxes = torch.tensor(
        [[0.0, 0, 9, 9], [0, 0, 9, 8], [NAN, 0, 9, 9], [0, 0, INF, 9], [0, 0, 9, 9]]
    )
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, NAN])
    assert nms_owners(boxes[:4], scores[:4], 0.5).tolist() == [0, 0, 2, 3]
    owner = nms_owners(boxes, scores, 0.5, torch.tensor([3, 3, 3, 3, -1]))
    assert owner.tolist() == [0, 0, 2, 3, 4]
    with pytest.raises(ValueError, match="boxes: expected finite"):  # it waits, so it can tell
        nms_groups(boxes, scores, torch.zeros(5, dtype=torch.int64), 0.5)


@pytest.mark.parametrize("number", [NAN, INF, -INF, 3e38])
def test_peaks(unchecked, number, monkeypatch):
    maps = torch.randn(2, 9, 11)
    good = maps[1:].clone()
    maps[0, 4, 5] = number
    response, peaks = find_peaks(maps, 1.0)
    assert torch.isfinite(response).all()
    if number != 3e38:
        assert not response[0].any()
        assert not peaks[0].any()
    monkeypatch.setattr(_extension, "_active", _C)
    for got, want in zip((response, peaks), find_peaks(good, 1.0), strict=True):
        assert torch.equal(got[1:], want)


def test_region_sums(unchecked, monkeypatch):
    maps = torch.rand(2, 4, 5)
    changed = maps.clone()
    changed[0, 1, 2], changed[0, 3, 3], changed[1, 0, 0] = NAN, 2.0, -INF
    counts = torch.tensor([3, 7, 10, 4, 2**31 - 1, -5, 2, 0, 20]).int()
    offsets = torch.tensor([0, 3, 5, 7, 9, 2**62, -(2**62)])
    sums, areas = region_sums(changed, RegionMasks(counts, offsets, (4, 5)))
    assert areas[:4].tolist() == [7, 16, 2, 20]  # runs end at the image's edge
    monkeypatch.setattr(_extension, "_active", _C)
    bad = (changed.abs() <= 1).logical_not()
    fit = RegionMasks(
        torch.tensor([3, 7, 10, 4, 16, 0, 2, 18, 0, 20]).int(),
        torch.tensor([0, 3, 5, 8, 10]),
        (4, 5),
    )
    want, _ = region_sums(maps.masked_fill(bad, 0), fit)
    assert torch.equal(sums[:, :4], want)


def test_the_environment_has_a_device_checked(monkeypatch):
    """On the CPU always; on a device where the user asks for it and no graph is captured."""

    class OnDevice:
        is_cuda = True

    assert _check.readable(torch.zeros(1))
    assert not _check.readable(OnDevice())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setenv("LABELPENET_CHECK_DEVICE", "1")
    assert _check.readable(OnDevice())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert not _check.readable(OnDevice())
