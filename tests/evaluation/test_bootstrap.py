import math

import numpy as np
import pytest
from evaluation_scenes import found, known, random_dataset

from labelpenet.evaluation import (
    box_ap,
    box_matches,
    corloc_hits,
    mean_ap,
    mean_corloc,
    paired_bootstrap,
)
from labelpenet.types import Instances


def mean(values, counts):
    return float(counts @ values / counts.sum())


def test_a_constant_gain_is_certain():
    a = np.random.default_rng(0).random(50)
    result = paired_bootstrap(a, a + 0.25, mean, samples=200)
    assert (result.difference, result.low, result.high) == pytest.approx((0.25,) * 3)
    assert result.p_value == pytest.approx(2 / 201)
    assert result.samples == 200


def test_no_difference_has_no_significance():
    a = np.random.default_rng(0).random(50)
    result = paired_bootstrap(a, a, mean, samples=100)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_the_interval_is_that_of_a_mean():
    """The bootstrap of a mean has a known spread: sd / sqrt(n)."""
    gain = np.random.default_rng(1).normal(0.1, 1.0, 400)
    result = paired_bootstrap(np.zeros(400), gain, mean, samples=2000)
    spread = gain.std() / math.sqrt(400)
    assert result.low == pytest.approx(gain.mean() - 1.96 * spread, abs=0.15 * spread)
    assert result.high == pytest.approx(gain.mean() + 1.96 * spread, abs=0.15 * spread)
    # and its p-value that of a z test
    z = abs(gain.mean()) / spread
    assert result.p_value == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.03)


def test_draws_equal_repeated_images():
    """Counts stand for images that are really there several times."""
    predictions, truth, *_ = random_dataset(3)
    names = sorted(truth)
    counts = np.array([2, 0, 1, 3, 0, 1])
    repeated = [(f"{n}-{i}", n) for n, c in zip(names, counts, strict=True) for i in range(c)]
    want = box_ap({k: predictions[n] for k, n in repeated}, {k: truth[n] for k, n in repeated}, 3)
    assert mean_ap(box_matches(predictions, truth, 3), counts) == pytest.approx(want.mean)


def test_seeds():
    a, b = np.random.default_rng(0).random((2, 30))
    first = paired_bootstrap(a, b, mean, samples=50, seed=1)
    assert first == paired_bootstrap(a, b, mean, samples=50, seed=1)
    assert first != paired_bootstrap(a, b, mean, samples=50, seed=2)


def test_on_metrics():
    square = [0, 0, 10, 10]
    truth = {str(i): known([square]) for i in range(12)}
    good = {name: found([square]) for name in truth}
    poor = {name: good[name] if int(name) % 2 else Instances.empty() for name in truth}
    result = paired_bootstrap(
        box_matches(poor, truth, 1), box_matches(good, truth, 1), mean_ap, samples=200
    )
    assert result.difference == pytest.approx(0.5)
    assert 0 < result.low < 0.5 < result.high < 1
    result = paired_bootstrap(
        corloc_hits(poor, truth, 1), corloc_hits(good, truth, 1), mean_corloc, samples=200
    )
    assert result.difference == pytest.approx(0.5)


def test_draws_without_objects_are_left_out():
    truth = {"a": known([[0, 0, 9, 9]]), "b": known([])}
    good = box_matches({"a": found([[0, 0, 9, 9]]), "b": Instances.empty()}, truth, 1)
    poor = box_matches(dict.fromkeys("ab", Instances.empty()), truth, 1)
    result = paired_bootstrap(poor, good, mean_ap, samples=100)
    assert 50 < result.samples < 100  # both draws are b in a quarter of the samples
    assert result.low == result.high == 1


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (np.zeros(3), np.zeros(4), {}, "b: expected as many images as a has, 3"),
        (np.zeros(0), np.zeros(0), {}, "b: expected as many images"),
        (np.zeros(3), np.full(3, np.nan), {}, "metric: expected a number on all images, got nan"),
        (np.zeros(3), np.zeros(3), {"samples": 0}, "samples: expected at least 1, got 0"),
        (np.zeros(3), np.zeros(3), {"confidence": 1.0}, "confidence: expected"),
    ],
)
def test_bad_input_is_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b, mean, **options)


def test_other_images_are_refused():
    one, other = ({"a": known([[0, 0, 9, 9]] * n)} for n in (1, 2))
    nothing = {"a": Instances.empty()}
    with pytest.raises(ValueError, match="b: expected the same images as a"):
        paired_bootstrap(box_matches(nothing, one, 1), box_matches(nothing, other, 1), mean_ap)
