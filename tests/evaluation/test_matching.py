import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelpenet.evaluation.matching import (
    FALSE,
    IGNORED,
    TRUE,
    ImageMatches,
    Interpolation,
    Matches,
    Matching,
    PerClass,
    average_precision,
    match,
)
from labelpenet.reference import metrics

T, F, G = TRUE, FALSE, IGNORED
WORD = {T: "true", F: "false", G: "ignored"}

AP_CASES = {
    # name: (ranked outcomes, positives, area, 11 points)
    "no positives": ([F, F], 0, math.nan, math.nan),
    "no predictions": ([], 3, 0.0, 0.0),
    "perfect": ([T, T], 2, 1.0, 1.0),
    "all false": ([F, F], 2, 0.0, 0.0),
    # recall 1/2 at precision 1, recall 1 at 2/3: area 1/2 + 1/2 * 2/3;
    # recalls 0 ... 0.5 see 1 (six points), 0.6 ... 1 see 2/3 (five points)
    "one between": ([T, F, T], 2, 5 / 6, (6 + 5 * 2 / 3) / 11),
    # recall stops at 1/2: the other half counts zero
    "half found": ([T, F], 2, 1 / 2, 6 / 11),
    # precision 0, 1/2, 2/3: made non-increasing from the right it is 2/3 throughout
    "envelope": ([F, T, T], 2, 2 / 3, 2 / 3),
    # ignored ones are as if they were not there
    "ignored": ([G, T, G, F, T, G], 2, 5 / 6, (6 + 5 * 2 / 3) / 11),
    # 3 of 10 found: 0, 0.1, 0.2 and 0.3 are reached, 0.3 too although 0.1 * 3 > 3 / 10 in floats
    "exact tenths": ([T, T, T], 10, 0.3, 4 / 11),
}


@pytest.mark.parametrize(
    ("ranked", "positives", "area", "elevenths"), AP_CASES.values(), ids=AP_CASES
)
def test_average_precision_by_hand(ranked, positives, area, elevenths):
    ranked = np.array(ranked, np.int8)
    got = average_precision(ranked, positives)
    assert got == pytest.approx(area, nan_ok=True)
    got = average_precision(ranked, positives, Interpolation.ELEVEN_POINT)
    assert got == pytest.approx(elevenths, nan_ok=True)


ranking = st.lists(st.sampled_from([T, F, G]), max_size=12)


@given(ranking, st.integers(0, 5), st.sampled_from(Interpolation))
def test_average_precision_is_its_definition(ranked, missed, interpolation):
    positives = ranked.count(T) + missed
    got = average_precision(np.array(ranked, np.int8), positives, interpolation)
    eleven = interpolation is Interpolation.ELEVEN_POINT
    want = metrics.average_precision([WORD[r] for r in ranked], positives, eleven)
    assert got == pytest.approx(want, abs=1e-12, nan_ok=True)


@given(st.lists(st.tuples(st.sampled_from([T, F, G]), st.integers(0, 3)), max_size=8))
def test_weights_repeat_a_prediction(rows):
    ranked = np.array([r for r, _ in rows], np.int8)
    weights = np.array([w for _, w in rows], np.int64)
    repeated = np.repeat(ranked, weights)
    positives = int((repeated == T).sum()) + 1
    for interpolation in Interpolation:
        assert average_precision(ranked, positives, interpolation, weights) == pytest.approx(
            average_precision(repeated, positives, interpolation)
        )


@given(ranking, st.integers(0, 3), st.sampled_from(Interpolation))
def test_a_last_false_positive_never_raises_ap(ranked, missed, interpolation):
    positives = ranked.count(T) + missed + 1
    before = average_precision(np.array(ranked, np.int8), positives, interpolation)
    after = average_precision(np.array([*ranked, F], np.int8), positives, interpolation)
    assert after <= before


@given(ranking, st.data())
def test_a_false_positive_anywhere_never_raises_ap(ranked, data):
    positives = ranked.count(T) + 1
    at = data.draw(st.integers(0, len(ranked)))
    worse = [*ranked[:at], F, *ranked[at:]]
    for interpolation in Interpolation:
        assert average_precision(
            np.array(worse, np.int8), positives, interpolation
        ) <= average_precision(np.array(ranked, np.int8), positives, interpolation)


IOU = [[0.9, 0.6], [0.8, 0.6], [0.5, 0.2]]
MATCH_CASES = {
    # name: (iou, difficult, {matching: outcomes}) at threshold 0.5, one class
    # second prediction: its best object is taken; only GREEDY moves on to the other one.
    # third: exactly 0.5 with object 0, which is taken anyway
    "second best": (
        IOU, [0, 0],
        {Matching.VOC: [T, F, F], Matching.BEST: [T, F, F], Matching.GREEDY: [T, T, F]},
    ),
    # exactly at the threshold: only BEST takes it
    "on the threshold": (
        [[0.5]], [0], {Matching.VOC: [F], Matching.BEST: [T], Matching.GREEDY: [F]},
    ),
    # a difficult object swallows any number of predictions
    "difficult": ([[0.9, 0.0], [0.8, 0.0]], [1, 0], {Matching.VOC: [G, G]}),
    # the difficult object is the best: ignored, though the easy one would do
    "difficult is best": ([[0.7, 0.6]], [1, 0], {Matching.VOC: [G]}),
    # a poor overlap with a difficult object is a false positive
    "difficult, missed": ([[0.4]], [1], {Matching.VOC: [F]}),
    "no objects": (np.zeros((2, 0)), [], {m: [F, F] for m in Matching}),
    "no predictions": (np.zeros((0, 2)), [0, 0], {m: [] for m in Matching}),
}  # fmt: skip


@pytest.mark.parametrize(("iou", "difficult", "wanted"), MATCH_CASES.values(), ids=MATCH_CASES)
def test_match_by_hand(iou, difficult, wanted):
    iou = np.asarray(iou, np.float64)
    k, n = iou.shape
    for matching, outcome in wanted.items():
        got = match(
            iou, np.zeros(k, int), np.zeros(n, int), np.array(difficult, bool), 0.5, matching
        )
        assert got.tolist() == outcome, matching


def test_other_classes_do_not_match():
    got = match(
        np.ones((2, 1)), np.array([0, 1]), np.array([1]), np.zeros(1, bool), 0.5, Matching.VOC
    )
    assert got.tolist() == [F, T]


def test_matches_rank_over_images_and_leave_out_what_counts_zero():
    # ranked: b's 0.9 (false), a's 0.8 (true), b's 0.4 (true)
    a = ImageMatches(np.array([0]), np.array([0.8]), np.array([T], np.int8), np.array([1, 0]))
    b = ImageMatches(
        np.array([0, 0]), np.array([0.9, 0.4]), np.array([F, T], np.int8), np.array([1, 0])
    )
    matches = Matches([a, b], 2)
    assert len(matches) == 2
    assert matches.average_precision() == PerClass(
        (pytest.approx(2 / 3), pytest.approx(math.nan, nan_ok=True))
    )
    only = matches.average_precision(counts=np.array([1, 0]))
    assert only.values[0] == 1
    # twice b: false, false, true, true of 2
    assert matches.average_precision(counts=np.array([0, 2])).values[0] == pytest.approx(0.5)


def test_no_images_give_nan():
    assert all(map(math.isnan, Matches([], 2).average_precision().values))


def test_mean_leaves_out_classes_without_truth():
    assert PerClass((0.5, math.nan, 1.0)).mean == 0.75
    assert math.isnan(PerClass((math.nan,)).mean)
