import numpy as np
import pytest
from evaluation_scenes import found, known, random_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.evaluation import Interpolation, box_ap, box_iou, corloc, corloc_hits
from labelpenet.reference import metrics
from labelpenet.types import Instances

SQUARE = [0, 0, 10, 10]

AP_CASES = {
    # name: (predictions by image, truth by image, AP)
    "perfect": ({"a": found([SQUARE])}, {"a": known([SQUARE])}, 1.0),
    # IoU 50/100, not above the threshold
    "exactly half": ({"a": found([[0, 0, 10, 5]])}, {"a": known([SQUARE])}, 0.0),
    # IoU 60/100 and 55/100: the object is taken when the second comes; it comes too late to matter
    "duplicate": (
        {"a": found([[0, 0, 10, 6], [0, 0, 10, 5.5]])}, {"a": known([SQUARE])}, 1.0,
    ),
    # the duplicate stands before the second object: precision 1, 1/2, 2/3
    "duplicate between": (
        {"a": found([SQUARE, SQUARE, [20, 0, 30, 10]])},
        {"a": known([SQUARE, [20, 0, 30, 10]])}, (1 + 2 / 3) / 2,
    ),
    # the difficult object is no positive, and finding it does not hurt
    "difficult": (
        {"a": found([SQUARE, [20, 0, 30, 10]])},
        {"a": known([SQUARE, [20, 0, 30, 10]], difficult=[True, False])}, 1.0,
    ),
    # an image without the class can only hold false positives; this one ranks first
    "other image": (
        {"a": found([SQUARE], [0.5]), "b": found([SQUARE], [0.9])},
        {"a": known([SQUARE]), "b": known([])}, 0.5,
    ),
    "another class": (
        {"a": found([SQUARE], labels=[1])}, {"a": known([SQUARE])}, 0.0,
    ),
    "nothing found": ({"a": Instances.empty()}, {"a": known([SQUARE])}, 0.0),
    "nothing there": ({"a": found([SQUARE])}, {"a": known([])}, np.nan),
    "only difficult": (
        {"a": found([SQUARE])}, {"a": known([SQUARE], difficult=[True])}, np.nan,
    ),
    "empty dataset": ({}, {}, np.nan),
}  # fmt: skip


@pytest.mark.parametrize(("predictions", "truth", "ap"), AP_CASES.values(), ids=AP_CASES)
def test_box_ap_by_hand(predictions, truth, ap):
    got = box_ap(predictions, truth, num_classes=2)
    assert got.values[0] == pytest.approx(ap, nan_ok=True)


def test_iou_is_vocs_with_inclusive_corners():
    # the pixel (3, 5) alone, and the 2 x 2 pixels that hold it: VOC areas 1 and 4
    assert box_iou(np.array([[3.0, 5, 4, 6]]), np.array([[3.0, 5, 5, 7]])).item() == 1 / 4
    rng = np.random.default_rng(0)
    corners = np.sort(rng.random((2, 30, 2, 2)) * 20, axis=2).reshape(2, 30, 4)
    got = box_iou(*corners)
    want = [[metrics.voc_box_iou(a, b) for b in corners[1]] for a in corners[0]]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_empty_boxes_overlap_nothing():
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).item() == 0
    assert box_iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("interpolation", Interpolation)
def test_box_ap_is_the_reference(seed, interpolation):
    predictions, truth, (guesses, objects), _ = random_dataset(seed)
    got = box_ap(predictions, truth, 3, interpolation=interpolation)
    eleven = interpolation is Interpolation.ELEVEN_POINT
    want = [metrics.class_ap(guesses, objects, c, eleven_point=eleven) for c in range(3)]
    assert got.values == pytest.approx(want, abs=1e-12, nan_ok=True)


CORLOC_CASES = {
    # the top box misses; the second would hit
    "only the top box": (
        {"a": found([[20, 0, 30, 10], SQUARE])}, {"a": known([SQUARE])}, 0.0,
    ),
    "any box of the class": (
        {"a": found([SQUARE])}, {"a": known([[20, 0, 30, 10], SQUARE])}, 1.0,
    ),
    "a box of another class": (
        {"a": found([SQUARE])}, {"a": known([[20, 0, 30, 10], SQUARE], [0, 1])}, 0.0,
    ),
    "no prediction is a miss": (
        {"a": found([SQUARE]), "b": Instances.empty()},
        {"a": known([SQUARE]), "b": known([SQUARE])}, 0.5,
    ),
    "other images do not count": (
        {"a": found([SQUARE]), "b": found([SQUARE])}, {"a": known([SQUARE]), "b": known([])}, 1.0,
    ),
    "difficult alone is no positive image": (
        {"a": found([SQUARE])}, {"a": known([SQUARE], difficult=[True])}, np.nan,
    ),
    "difficult may be hit": (
        {"a": found([SQUARE])},
        {"a": known([SQUARE, [20, 0, 30, 10]], difficult=[True, False])}, 1.0,
    ),
    "exactly half": ({"a": found([[0, 0, 10, 5]])}, {"a": known([SQUARE])}, 0.0),
    "empty dataset": ({}, {}, np.nan),
}  # fmt: skip


@pytest.mark.parametrize(("predictions", "truth", "rate"), CORLOC_CASES.values(), ids=CORLOC_CASES)
def test_corloc_by_hand(predictions, truth, rate):
    assert corloc(predictions, truth, num_classes=2).values[0] == pytest.approx(rate, nan_ok=True)


@pytest.mark.parametrize("seed", range(12))
def test_corloc_is_the_reference(seed):
    predictions, truth, (guesses, objects), _ = random_dataset(seed)
    want = [metrics.class_corloc(guesses, objects, c) for c in range(3)]
    assert corloc(predictions, truth, 3).values == pytest.approx(want, nan_ok=True)
    assert corloc_hits(predictions, truth, 3).shape == (len(truth), 3)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_perfect_predictions_give_one(seed):
    _, truth, *_ = random_dataset(seed)
    perfect = {
        name: Instances(*(np.asarray(v) for v in (t.boxes, t.labels, np.ones(len(t.labels)))))
        for name, t in truth.items()
    }
    # the same object twice in an image is one prediction too many for VOC's rule
    if any(
        len(np.unique(np.c_[t.boxes, t.labels], axis=0)) < len(t.labels) for t in truth.values()
    ):
        return
    for interpolation in Interpolation:
        values = box_ap(perfect, truth, 3, interpolation=interpolation).values
        assert all(v == 1 or np.isnan(v) for v in values)
    assert all(v == 1 or np.isnan(v) for v in corloc(perfect, truth, 3).values)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_is_of_no_effect(seed, random):
    predictions, truth, *_ = random_dataset(seed)
    names = sorted(truth)
    random.shuffle(names)
    mixed = {}
    for name in names:
        order = list(range(len(predictions[name])))
        random.shuffle(order)
        mixed[name] = predictions[name].select(order)
    shuffled = {name: truth[name] for name in reversed(names)}
    want = box_ap(predictions, truth, 3).values
    assert box_ap(mixed, shuffled, 3).values == pytest.approx(want, abs=0, nan_ok=True)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_a_lower_scored_false_positive_never_raises_ap(seed):
    predictions, truth, *_ = random_dataset(seed)
    before = box_ap(predictions, truth, 3).values
    far = found([[100, 100, 110, 110]] * 3, [-1.0] * 3, [0, 1, 2])
    worse = {
        name: Instances(
            *(np.concatenate([np.asarray(a), np.asarray(b)]) for a, b in (
                (p.boxes, far.boxes), (p.labels, far.labels), (p.scores, far.scores)
            ))
        )
        for name, p in predictions.items()
    }  # fmt: skip
    after = box_ap(worse, truth, 3).values
    assert all(np.isnan(a) or b <= a for a, b in zip(before, after, strict=True))
