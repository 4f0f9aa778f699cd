from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.ops import box_iou, nms, nms_groups, nms_owners
from labelpenet.reference import nms_groups as reference


def photo_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Overlapping boxes on a grid of pixels, scores with ties, three labels."""
    g = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 60, (count, 2), generator=g)
    size = torch.randint(0, 30, (count, 2), generator=g)
    boxes = torch.cat((corner, corner + size), 1).float()
    scores = torch.randint(-4, 5, (count,), generator=g) / 4
    return boxes, scores, torch.randint(-1, 2, (count,), generator=g)


def assert_as_reference(boxes, scores, labels, threshold):
    keep, owner = nms_groups(boxes, scores, labels, threshold)
    assert (keep.tolist(), owner.tolist()) == reference(boxes, scores, labels, threshold)
    assert torch.equal(nms_owners(boxes, scores, threshold, labels), owner)
    alone = reference(boxes, scores, torch.zeros_like(labels), threshold)[0]
    assert nms(boxes, scores, threshold).tolist() == alone


SQUARE = [0.0, 0, 10, 10]
HALF = [0.0, 0, 10, 5]  # IoU 0.5 with SQUARE
HAND_WORKED = {
    "apart": ([SQUARE, [20, 20, 30, 30]], [0.1, 0.9], 0.5, [1, 0], [0, 1]),
    "same twice, tie to the lower index": ([SQUARE, SQUARE], [0.5, 0.5], 0.5, [0], [0, 0]),
    "at the threshold stays": ([SQUARE, HALF], [0.9, 0.8], 0.5, [0, 1], [0, 1]),
    "above the threshold goes": ([SQUARE, HALF], [0.9, 0.8], 0.49, [0], [0, 0]),
    "threshold 1 keeps all": ([SQUARE, SQUARE], [0.5, 0.6], 1.0, [1, 0], [0, 1]),
    "threshold 0, touching": ([SQUARE, [10, 0, 20, 10]], [0.5, 0.6], 0.0, [1, 0], [0, 1]),
    "threshold 0, overlapping": ([SQUARE, [9, 0, 20, 10]], [0.5, 0.6], 0.0, [1], [1, 1]),
    "no area: 0 / 0 suppresses nothing": ([[3, 3, 3, 3]] * 2, [0.5, 0.6], 0.0, [1, 0], [0, 1]),
    "corners swapped": ([[10, 10, 0, 0], SQUARE], [0.5, 0.6], 0.0, [1, 0], [0, 1]),
    # 2 overlaps 1 only, and 1 is gone: it stays, and the chain ends
    "suppressed boxes do not suppress": (
        [SQUARE, [0, 4, 10, 14], [0, 8, 10, 18]],
        [0.9, 0.8, 0.7],
        0.4,
        [0, 2],
        [0, 0, 2],
    ),
    "the best of two owners": (
        [[0, 0, 10, 10], [4, 0, 14, 10], [2, 0, 12, 10]],
        [0.8, 0.9, 0.7],
        0.5,
        [1, 0],
        [0, 1, 1],
    ),
    "infinite scores, -0 ties 0": (
        [[0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1], [6, 0, 7, 1]],
        [-0.0, float("-inf"), 0.0, float("inf")],
        0.5,
        [3, 0, 2, 1],
        [0, 1, 2, 3],
    ),
}


@pytest.mark.parametrize("case", HAND_WORKED.values(), ids=HAND_WORKED.keys())
def test_hand_worked(case, isa):
    boxes, scores, threshold, keep, owner = case
    boxes, scores = torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores)
    assert nms(boxes, scores, threshold).tolist() == keep
    got = nms_groups(boxes, scores, torch.full((len(boxes),), 5), threshold)
    assert (got[0].tolist(), got[1].tolist()) == (keep, owner)


def test_labels_do_not_meet():
    boxes = torch.tensor([SQUARE] * 4)
    scores = torch.tensor([0.1, 0.4, 0.3, 0.2])
    labels = torch.tensor([2**62, -(2**62), 2**62, 0])
    keep, owner = nms_groups(boxes, scores, labels, 0.3)
    assert keep.tolist() == [1, 2, 3]
    assert owner.tolist() == [2, 1, 2, 3]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 15, 17, 70])
def test_reference(count, threshold, isa):
    assert_as_reference(*photo_boxes(count), threshold)


@settings(max_examples=40)
@given(
    count=st.integers(0, 40),
    seed=st.integers(0, 2**20),
    threshold=st.floats(0, 1),
    magnitude=st.sampled_from([1e-30, 1e-3, 1.0, 1e18]),
)
def test_reference_hypothesis(count, seed, threshold, magnitude):
    boxes, scores, labels = photo_boxes(count, seed)
    assert_as_reference(boxes * magnitude, scores, labels, threshold)


def test_threshold_is_compared_as_a_double():
    # IoU is the float 0.3, which is above the double 0.3
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    assert float(torch.tensor(3.0) / 10) > 0.3
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.3).tolist() == [0]
    assert nms(boxes, torch.tensor([0.9, 0.8]), float(torch.tensor(0.3))).tolist() == [0, 1]


def test_instruction_sets_and_threads_agree():
    from labelpenet import _C

    boxes, scores, _ = photo_boxes(9000)
    boxes = boxes * 7 + torch.rand(9000, 4)
    labels = torch.arange(9000) % 11
    threads = torch.get_num_threads()
    results = []
    try:
        for name, count in (("baseline", 1), ("", 1), ("", 4)):
            _C.force_isa(name)
            torch.set_num_threads(count)
            keep, owner = nms_groups(boxes, scores, labels, 0.4)
            results.append((keep, owner, nms(boxes, scores, 0.4)))
    finally:
        _C.force_isa("")
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    keep, owner, _ = results[0]
    assert torch.equal(owner[keep], keep)
    assert torch.equal(labels[owner], labels)
    assert torch.equal(owner.unique(), keep.sort().values)


def test_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    boxes, scores, _ = photo_boxes(2000)
    boxes = boxes * 3 + torch.rand(2000, 4)
    for threshold in (0.0, 0.3, 0.7):
        assert torch.equal(nms(boxes, scores, threshold), ops.nms(boxes, scores, threshold))


@pytest.mark.parametrize("count", [0, 1, 64, 130])
def test_emulated(count, emulated):
    boxes, scores, labels = photo_boxes(count)
    got = (nms(boxes, scores, 0.3), *nms_groups(boxes, scores, labels, 0.3))
    alone, owners = reference(boxes, scores, torch.zeros_like(labels), 0.3)
    keep, owner = reference(boxes, scores, labels, 0.3)
    assert [t.tolist() for t in got] == [alone, keep, owner]
    assert nms_owners(boxes, scores, 0.3).tolist() == owners
    assert nms_owners(boxes, scores, 0.3, labels).tolist() == owner


@pytest.mark.parametrize("labels", [torch.arange(130) // 65, torch.arange(130) % 40, None])
def test_emulated_labels_across_words(labels, emulated):
    """A label that spans words of 64 boxes, labels that share one, and every place to begin in."""
    boxes, scores, _ = photo_boxes(130)
    labels = torch.zeros(130, dtype=torch.int64) if labels is None else labels
    for threshold in (0.0, 0.2, 0.6):
        keep, owner = nms_groups(boxes, scores, labels, threshold)
        assert (keep.tolist(), owner.tolist()) == reference(boxes, scores, labels, threshold)


def test_emulated_more_boxes_than_threads(emulated_module, monkeypatch):
    monkeypatch.setattr("labelpenet.ops._extension._active", emulated_module)
    boxes, scores, _ = photo_boxes(550)
    labels = (torch.arange(550) > 20).long()
    keep, owner = nms_groups(boxes, scores, labels, 0.5)
    assert (keep.tolist(), owner.tolist()) == reference(boxes, scores, labels, 0.5)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-22, 1.0, 1e18])
def test_emulated_overlap_without_division(magnitude, emulated):
    """Pairs close to the threshold, and where products leave the range of float32."""
    boxes = torch.tensor([[0.0, 0, 10, x / 8] for x in range(1, 65)]) * magnitude
    scores = torch.rand(64)
    for threshold in (0.0, 1e-40, 0.5, 1 / 3, 1.0):
        owner = nms_owners(boxes, scores, threshold)
        want = reference(boxes, scores, torch.zeros(64, dtype=torch.int64), threshold)[1]
        assert owner.tolist() == want


def test_emulated_refuses_nan(emulated):
    boxes, scores, _ = photo_boxes(70)
    scores[66] = float("nan")
    with pytest.raises(ValueError, match="scores: expected no NaN"):
        nms(boxes, scores, 0.5)
    boxes[69, 2] = float("inf")
    with pytest.raises(ValueError, match="boxes: expected finite"):
        nms(boxes, scores, 0.5)


@pytest.mark.cuda
@pytest.mark.parametrize("count", [0, 1, 63, 1000, 12000])
def test_device(count):
    boxes, scores, labels = photo_boxes(count)
    boxes = boxes * 5 + torch.rand(count, 4)
    on_device = [t.cuda() for t in (boxes, scores, labels)]
    for threshold in (0.0, 0.3, 0.7):
        expected = nms_groups(boxes, scores, labels, threshold)
        for got, want in zip(nms_groups(*on_device, threshold), expected, strict=True):
            assert torch.equal(got.cpu(), want)
        got = nms(*on_device[:2], threshold)
        assert torch.equal(got.cpu(), nms(boxes, scores, threshold))


def test_empty():
    boxes, scores, labels = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert nms(boxes, scores, 0.5).shape == (0,)
    keep, owner = nms_groups(boxes, scores, labels, 0.5)
    assert nms_owners(boxes, scores, 0.5, labels).shape == (0,)
    assert keep.shape == owner.shape == (0,)
    assert keep.dtype == owner.dtype == torch.int64


def test_huge_coordinates_overflow_to_no_suppression():
    # areas are infinite, IoU is NaN: as in torchvision nothing is suppressed
    boxes = torch.tensor([[-3e38, -3e38, 3e38, 3e38]] * 3)
    assert nms(boxes, torch.rand(3), 0.5).numel() == 3


def test_non_contiguous():
    boxes, scores, labels = photo_boxes(50)
    strided = boxes.T.contiguous().T
    wide_scores = torch.stack((scores, -scores), 1)
    wide_labels = torch.stack((labels, labels + 1), 1)
    got = nms_groups(strided, wide_scores[:, 0], wide_labels[:, 0], 0.3)
    want = nms_groups(boxes, scores, labels, 0.3)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1], want[1])


def test_inputs_with_gradient():
    boxes, scores, _ = photo_boxes(20)
    keep = nms(boxes.requires_grad_(), scores.requires_grad_(), 0.3)
    assert not keep.requires_grad


BOXES, SCORES, LABELS = torch.rand(3, 4), torch.rand(3), torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.rand(3, 5), SCORES, LABELS, 0.5), ValueError, r"boxes: expected \[N, 4\]"),
        ((BOXES.double(), SCORES, LABELS, 0.5), TypeError, "boxes: expected .* float32"),
        (([[0, 0, 1, 1]], SCORES, LABELS, 0.5), TypeError, "boxes: .* got list"),
        ((BOXES, torch.rand(2), LABELS, 0.5), ValueError, r"scores: expected \[3\]"),
        ((BOXES, SCORES.double(), LABELS, 0.5), TypeError, "scores: expected"),
        ((BOXES, SCORES, LABELS[:2], 0.5), ValueError, r"labels: expected \[3\]"),
        ((BOXES, SCORES, LABELS.int(), 0.5), TypeError, "labels: expected .* int64"),
        ((BOXES, SCORES, LABELS, 1.5), ValueError, "iou_threshold: expected"),
        ((BOXES, SCORES, LABELS, float("nan")), ValueError, "iou_threshold: expected"),
        ((BOXES, SCORES, LABELS, "0.5"), TypeError, "iou_threshold: expected"),
        ((BOXES, SCORES * torch.nan, LABELS, 0.5), ValueError, "scores: expected no NaN, got 3"),
        ((BOXES / 0, SCORES, LABELS, 0.5), ValueError, "boxes: expected finite"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        nms_groups(*arguments)
    if "labels" not in message:
        boxes, scores, _, threshold = arguments
        with pytest.raises(error, match=message):
            nms(boxes, scores, threshold)


def test_opcheck():
    boxes, scores, labels = photo_boxes(20)
    torch.library.opcheck(torch.ops.labelpenet.nms, (boxes, scores, 0.5))
    torch.library.opcheck(torch.ops.labelpenet.nms_groups, (boxes, scores, labels, 0.5))
    torch.library.opcheck(torch.ops.labelpenet.nms_owners, (boxes, scores, labels, 0.5))
    torch.library.opcheck(torch.ops.labelpenet.nms_owners, (boxes, scores, None, 0.5))


def test_box_iou():
    a = torch.tensor([[0.0, 0, 2, 2], [1, 1, 1, 1], [5, 5, 3, 3]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 2], [1, 1, 1, 1]], dtype=torch.float64)
    want = torch.tensor([[1 / 3, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(box_iou(a, b), want)
    assert box_iou(a[:0], b).shape == (0, 3)
    large = torch.tensor([[0.0, 0, 300, 300], [0, 0, 300, 150]])
    for narrow in (torch.float16, torch.bfloat16):
        got = box_iou(large.to(narrow), large.to(narrow))
        assert torch.equal(got, torch.tensor([[1, 0.5], [0.5, 1]], dtype=narrow))
    assert box_iou(a, b[:0]).shape == (3, 0)
    with pytest.raises(ValueError, match=r"b: expected \[M, 4\]"):
        box_iou(a, b[0])
    with pytest.raises(TypeError, match="b: expected"):
        box_iou(a, b.float())
