import numpy as np
import pytest
from evaluation_scenes import HEIGHT, WIDTH, fill, found, known, random_dataset

from labelpenet.evaluation import Evaluator, Matching, average_best_overlap, mask_ap, mask_iou
from labelpenet.reference import metrics
from labelpenet.types import Instances

LEFT, RIGHT = [0, 0, 4, 4], [8, 0, 12, 4]


def scene(guesses, objects, labels=None):
    """One image: found masks and true ones, all filled boxes."""
    predictions = {"a": found(guesses, labels=labels, masks=fill(guesses))}
    return predictions, {"a": known(objects, masks=fill(objects))}


CASES = {
    # name: (guesses, objects, threshold, AP with BEST, AP with GREEDY)
    "perfect": ([LEFT, RIGHT], [LEFT, RIGHT], 0.75, 1.0, 1.0),
    # IoU 8/16: BEST reaches 0.5, GREEDY must pass it
    "exactly half": ([[0, 0, 4, 2]], [LEFT], 0.5, 1.0, 0.0),
    "exactly a quarter": ([[0, 0, 4, 1]], [LEFT], 0.25, 1.0, 0.0),
    # IoU 12/16
    "exactly three quarters": ([[0, 0, 4, 3]], [LEFT], 0.75, 1.0, 0.0),
    # objects overlap: rows 0-3 and rows 1-4. Guess 1 = object 0; guess 2 = rows 0-4:
    # IoU 16/20 with both, the first is its best and taken; GREEDY goes on to the second
    "second best": ([LEFT, [0, 0, 4, 5]], [LEFT, [0, 1, 4, 5]], 0.5, 0.5, 1.0),
    "nothing found": ([], [LEFT], 0.5, 0.0, 0.0),
    "nothing there": ([LEFT], [], 0.5, np.nan, np.nan),
}


@pytest.mark.parametrize(
    ("guesses", "objects", "threshold", "best", "greedy"), CASES.values(), ids=CASES
)
def test_mask_ap_by_hand(guesses, objects, threshold, best, greedy):
    predictions, truth = scene(guesses, objects)
    for matching, want in ((Matching.BEST, best), (Matching.GREEDY, greedy)):
        got = mask_ap(predictions, truth, 1, iou_threshold=threshold, matching=matching)
        assert got.mean == pytest.approx(want, nan_ok=True)


def test_iou_counts_pixels():
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 9, 7)) < 0.5, rng.random((4, 9, 7)) < 0.7
    a[0], b[0] = False, False  # empty masks overlap nothing, not even each other
    want = [[metrics.pixel_iou(x, y) for y in b] for x in a]
    np.testing.assert_array_equal(mask_iou(a, b), want)
    assert mask_iou(a[:0], b).shape == (0, 4)
    assert mask_iou(a, b[:0]).shape == (5, 0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((1, 4, 4), bool), np.zeros((1, 4, 5), bool)),
        (np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool)),
        (np.zeros((4, 4), bool), np.zeros((1, 4, 4), bool)),
    ],
    ids=["size", "dtype", "dimensions"],
)
def test_iou_refuses(a, b):
    with pytest.raises(ValueError, match="masks: expected"):
        mask_iou(a, b)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("matching", [Matching.BEST, Matching.GREEDY], ids=lambda m: m.value)
def test_mask_ap_is_the_reference(seed, threshold, matching):
    predictions, truth, _, (guesses, objects) = random_dataset(seed)
    got = mask_ap(predictions, truth, 3, iou_threshold=threshold, matching=matching)
    want = [
        metrics.class_ap(
            guesses, objects, c, threshold=threshold, matching=matching.value,
            overlap=metrics.pixel_iou,
        )
        for c in range(3)
    ]  # fmt: skip
    assert got.values == pytest.approx(want, abs=1e-12, nan_ok=True)


def test_abo_by_hand():
    # class 0: objects found at IoU 8/16 and not at all; class 1: found at 12/16 by the worse
    # scored of two; class 2 has no object
    objects = [LEFT, RIGHT, LEFT]
    guesses = [[0, 0, 4, 2], RIGHT, [0, 0, 4, 1], [0, 0, 4, 3]]
    labels = [0, 2, 1, 1]
    predictions = {"a": found(guesses, labels=labels, masks=fill(guesses))}
    truth = {"a": known(objects, [0, 0, 1], masks=fill(objects))}
    per_class, per_object = average_best_overlap(predictions, truth, 3)
    assert per_class.values == pytest.approx((0.25, 0.75, np.nan), nan_ok=True)
    assert per_class.mean == 0.5
    assert per_object == pytest.approx((0.5 + 0 + 0.75) / 3)


@pytest.mark.parametrize("seed", range(8))
def test_abo_is_the_reference(seed):
    predictions, truth, _, (guesses, objects) = random_dataset(seed)
    per_class, per_object = average_best_overlap(predictions, truth, 3)
    overlaps = np.array(metrics.object_overlaps(guesses, objects))
    labels = np.array([thing.label for thing in objects])
    want = [overlaps[labels == c].mean() if (labels == c).any() else np.nan for c in range(3)]
    assert per_class.values == pytest.approx(want, nan_ok=True)
    assert per_object == pytest.approx(overlaps.mean())


def test_objects_without_pixels_are_never_found():
    truth = {"a": known([LEFT], masks=np.zeros((1, HEIGHT, WIDTH), bool))}
    predictions = {"a": found([LEFT], masks=np.zeros((1, HEIGHT, WIDTH), bool))}
    assert mask_ap(predictions, truth, 1, iou_threshold=0.25).mean == 0


def test_difficult_objects_count_for_masks():
    truth = {"a": known([LEFT], difficult=[True], masks=fill([LEFT]))}
    assert mask_ap({"a": Instances.empty()}, truth, 1).mean == 0


CROWD = [8, 0, 16, 8]


@pytest.mark.parametrize("matching", [Matching.BEST, Matching.GREEDY])
@pytest.mark.parametrize(
    ("guesses", "expected"),
    [
        ([LEFT], 1.0),  # nobody has to find the crowd
        ([RIGHT, LEFT], 1.0),  # in the crowd: ignored, though it covers a quarter of it
        ([[6, 0, 12, 4], LEFT], 1.0),  # two thirds in it
        ([[0, 8, 4, 12], LEFT], 0.5),  # elsewhere: false
        ([RIGHT], 0.0),
    ],
)
def test_a_crowd_is_no_object(guesses, expected, matching):
    truth = known([LEFT, CROWD], masks=fill([LEFT, CROWD]), crowd=[False, True])
    found_in = {"a": found(guesses, masks=fill(guesses))}
    for threshold in (0.5, 0.6):
        ap = mask_ap(found_in, {"a": truth}, 1, iou_threshold=threshold, matching=matching)
        assert ap.mean == expected
    per_class, per_object = average_best_overlap(found_in, {"a": truth}, 1)
    assert per_class.mean == per_object == (LEFT in guesses)
    evaluator = Evaluator(["thing"])
    evaluator.add("a", found_in["a"], truth)
    result = evaluator.result()
    assert result.mask_ap[matching][0.5].mean == expected
    assert result.abo_per_object == per_object


def test_an_object_before_a_crowd_around_it():
    """As pycocotools: a crowd takes what no object does."""
    around = [0, 0, 8, 8]
    truth = {"a": known([LEFT, around], masks=fill([LEFT, around]), crowd=[False, True])}
    assert mask_ap({"a": found([LEFT], masks=fill([LEFT]))}, truth, 1).mean == 1


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (
            found([LEFT]), known([LEFT], masks=fill([LEFT])),
            r"a: masks: expected \[1, H, W\] bool, got None",
        ),
        (found([LEFT], masks=fill([LEFT])), known([LEFT]), "a: truth masks: expected"),
        (
            found([LEFT], masks=fill([LEFT])[:, :, :-1]), known([LEFT], masks=fill([LEFT])),
            r"a: masks: expected \[12, 16\] pixels as the truth has, got \[12, 15\]",
        ),
    ],
    ids=["no masks", "no true masks", "other size"],
)  # fmt: skip
def test_masks_that_do_not_fit_are_refused(prediction, truth, message):
    for function in (mask_ap, average_best_overlap):
        with pytest.raises(ValueError, match=message):
            function({"a": prediction}, {"a": truth}, 1)
