import numpy as np
import pytest
from evaluation_scenes import found, known, random_dataset
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelpenet.evaluation import class_iou, confusion_matrix, mean_iou, semantic_map
from labelpenet.reference import metrics
from labelpenet.types import Instances


def test_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]])
    guess = np.array([[0, 1, 1], [1, 0, 3]])
    confusion = confusion_matrix(guess, truth, num_classes=3)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    # background 1 of {2 true, 2 guessed}: 1/3; class 1: 2/3; class 2: 0/1; class 3 not there
    iou = class_iou(confusion)
    assert iou.values == pytest.approx((1 / 3, 2 / 3, 0, np.nan), nan_ok=True)
    assert iou.mean == pytest.approx(1 / 3)


def test_a_class_that_is_only_guessed_is_left_out_but_costs_the_others():
    iou = class_iou(confusion_matrix(np.array([[0, 1]]), np.array([[0, 0]]), 1))
    assert iou.values == pytest.approx((0.5, np.nan), nan_ok=True)


def test_of_equally_large_objects_the_surer_one_is_on_top():
    masks = np.zeros((3, 1, 4), bool)
    masks[0, 0, :2], masks[1, 0, 1:3], masks[2, 0, 2:] = True, True, True
    # given worst first: 0.2 covers 0-1, 0.9 covers 1-2, 0.5 covers 2-3
    painted = semantic_map(found(np.zeros((3, 4)), [0.2, 0.9, 0.5], [4, 5, 6], masks), 1, 4)
    assert painted.tolist() == [[5, 6, 6, 7]]
    assert painted.dtype == np.uint8
    # equal scores: the one given first
    painted = semantic_map(found(np.zeros((3, 4)), [0.5] * 3, [4, 5, 6], masks), 1, 4)
    assert painted.tolist() == [[5, 5, 6, 7]]
    assert not semantic_map(Instances.empty(), 2, 3).any()


@pytest.mark.parametrize(("small", "on_top"), [(0.31, 1), (0.29, 0)])
def test_of_equally_sure_objects_the_smaller_one_is_on_top(small, on_top):
    masks = np.ones((2, 3, 3), bool)
    masks[1, 1:] = False  # a third of the other one
    painted = semantic_map(found(np.zeros((2, 4)), [0.9, small], [0, 1], masks), 3, 3)
    assert painted[0].tolist() == [on_top + 1] * 3
    assert (painted[1:] == 1).all()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)), st.data())
def test_every_pixel_shows_an_object_that_holds_it(masks, data):
    count = len(masks)
    drawn = data.draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))
    scores = drawn.astype(np.float64)  # exact: objects keep float32
    objects = found(np.zeros((count, 4)), scores, range(count), masks)
    painted = semantic_map(objects, *masks.shape[1:])
    areas = masks.sum((1, 2))
    for place in np.ndindex(painted.shape):
        inside = [k for k in range(count) if masks[k][place]]
        best = max((scores[k] / areas[k] for k in inside), default=None)
        shown = int(painted[place]) - 1
        assert (shown < 0) if best is None else (shown in inside)
        assert best is None or scores[shown] / areas[shown] == best


@pytest.mark.parametrize("seed", range(6))
def test_mean_iou_is_the_reference(seed):
    predictions, truth, *_ = random_dataset(seed)
    names = sorted(truth)
    painted = [semantic_map(predictions[n], *truth[n].semantic.shape) for n in names]
    want = [metrics.label_iou(painted, [truth[n].semantic for n in names], c) for c in range(4)]
    assert mean_iou(predictions, truth, 3).values == pytest.approx(want, nan_ok=True)


def test_perfect_is_one():
    truth = np.array([[0, 1], [2, 255]])
    assert class_iou(confusion_matrix(np.where(truth == 255, 0, truth), truth, 2)).mean == 1


def test_no_pixels_give_nan():
    assert np.isnan(
        class_iou(confusion_matrix(np.zeros((0, 3), int), np.zeros((0, 3), int), 1)).mean
    )


@pytest.mark.parametrize(
    ("guess", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((2, 2), int), r"expected .* got \[2, 3\]"),
        (np.zeros(2, int), np.zeros(2, int), r"prediction: expected \[H, W\]"),
        (np.full((1, 1), 3), np.zeros((1, 1), int), r"expected .* \[0, 2\], got \[3, 3\]"),
        (np.full((1, 1), 255), np.zeros((1, 1), int), "prediction: expected classes"),
        (np.zeros((1, 1), int), np.full((1, 1), 9), "truth: expected classes"),
    ],
)  # fmt: skip
def test_bad_maps_are_refused(guess, truth, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(guess, truth, 2)


def test_missing_maps_are_refused():
    with pytest.raises(ValueError, match="a: truth semantic: expected"):
        mean_iou({"a": Instances.empty()}, {"a": known([])}, 1)
    wrong = known([], semantic=np.zeros((3, 3), np.uint8))
    boxes = [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match=r"a: masks: expected \[3, 3\]"):
        mean_iou({"a": found(boxes, masks=np.ones((1, 2, 3), bool))}, {"a": wrong}, 1)
    with pytest.raises(ValueError, match="labels: expected classes"):  # 254 + 1 would be void
        semantic_map(found(boxes, labels=[254], masks=np.ones((1, 2, 2), bool)), 2, 2)
