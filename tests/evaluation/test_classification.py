import numpy as np
import pytest

from labelpenet.evaluation import Interpolation, classification_ap
from labelpenet.reference import metrics


def test_by_hand():
    scores = np.array([[0.9, 0.1], [0.8, 0.7], [0.3, 0.6]])
    labels = np.array([[True, False], [False, False], [True, False]])
    # class 0 ranks true, false, true; class 1 is in no image
    assert classification_ap(scores, labels).values == pytest.approx((5 / 6, np.nan), nan_ok=True)
    elevenths = classification_ap(scores, labels, interpolation=Interpolation.ELEVEN_POINT)
    assert elevenths.mean == pytest.approx((6 + 5 * 2 / 3) / 11)
    ignore = np.array([[False, False], [True, False], [False, False]])
    assert classification_ap(scores, labels, ignore=ignore).mean == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("interpolation", Interpolation)
def test_is_the_reference(seed, interpolation):
    rng = np.random.default_rng(seed)
    scores, labels = rng.random((15, 4)), rng.random((15, 4)) < 0.3
    eleven = interpolation is Interpolation.ELEVEN_POINT
    want = []
    for c in range(4):
        ranked = ["true" if labels[i, c] else "false" for i in np.argsort(-scores[:, c])]
        want.append(metrics.average_precision(ranked, int(labels[:, c].sum()), eleven))
    got = classification_ap(scores, labels, interpolation=interpolation)
    assert got.values == pytest.approx(want, abs=1e-12, nan_ok=True)


def test_no_images_give_nan():
    assert np.isnan(classification_ap(np.zeros((0, 2)), np.zeros((0, 2), bool)).mean)


@pytest.mark.parametrize(
    ("scores", "labels", "error", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 2), bool), ValueError, r"labels: expected .* got \[2, 2\]"),
        (np.zeros(3), np.zeros(3, bool), ValueError, r"labels: expected \[N, C\]"),
        (np.zeros((2, 3)), np.zeros((2, 3)), TypeError, "labels: expected bool, got float64"),
        (np.full((2, 3), np.nan), np.zeros((2, 3), bool), ValueError, "scores: expected .* got 6"),
        (np.zeros((2, 0)), np.zeros((2, 0), bool), ValueError, "num_classes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(scores, labels, error, message):
    with pytest.raises(error, match=message):
        classification_ap(scores, labels)
