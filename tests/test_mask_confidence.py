"""Scores that ask the mask: one that does not fill its box counts against it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_cascade import one_thread, random_cascade

from labelpenet.inference import Predictor
from labelpenet.mask_confidence import (
    lowered_by_masks,
    mask_confidence,
    ranked_by_masks,
    with_box,
)
from labelpenet.models.boxes import Frame
from labelpenet.models.classification import HeadOutput
from labelpenet.models.detection import Detections

__all__ = ["one_thread"]

USUAL = torch.tensor([0.6, 0.5])


def detections(boxes: list[list[float]], scores: list[float]) -> Detections:
    count = len(boxes)
    nothing = torch.zeros(0)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.arange(count),
        torch.tensor(scores),
        [torch.tensor([k]) for k in range(count)],
        torch.arange(count),
        torch.arange(count),
        torch.tensor(scores),
        torch.tensor(boxes).reshape(-1, 4),
        HeadOutput((nothing, nothing, nothing), nothing, nothing),
        presence=torch.zeros(max(count, 1)),
    )


def ranked(found, masks, power, least=0.0, tags=()):
    """As ranked_by_masks, the masks at hand; and which of them were asked for."""
    asked: list[int] = []

    def masks_of(some):
        rows = [int(own[0]) for own in some.members]
        asked.extend(rows)
        return masks[rows]

    kept, confidence = ranked_by_masks(found, masks_of, USUAL, power, least, tags)
    return kept, confidence, asked


def test_members_without_a_score_say_nothing():
    """A tag may be given whose class no proposal speaks for at all."""
    found = detections([[0.0, 0, 10, 10], [0.0, 0, 5, 10]], [0.0, 0.5])
    module = SimpleNamespace(mask_logits=lambda own, boxes, labels: torch.full((2, 14, 14), 9.0))
    masks = mask_confidence(module, [None], [Frame((10, 10))], found, (10, 10))
    assert (masks[0] == 0).all()
    assert (masks[1, :, :5] > 0.9).all()


def test_the_fuller_box_goes_first():
    found = detections([[0, 0, 10, 10], [10, 0, 20, 10]], [0.5, 0.4])
    masks = torch.zeros(2, 10, 20)
    masks[0, :3, :10] = 1  # 30 of its 100 pixels
    masks[1, :4, 10:] = 1
    first, sorted_masks, _ = ranked(found, masks, 2.0)
    expected = [0.4 * (0.4 / 0.5) ** 2, 0.5 * (0.3 / 0.6) ** 2]
    torch.testing.assert_close(first.scores, torch.tensor(expected))
    assert first.labels.tolist() == [1, 0]
    assert [own.tolist() for own in first.members] == [[1], [0]]
    torch.testing.assert_close(first.boxes, found.boxes.flip(0))
    torch.testing.assert_close(sorted_masks, masks.flip(0))


@given(
    scores=st.lists(st.floats(0, 1, width=32), max_size=8),
    labels=st.lists(st.integers(0, 1), min_size=8, max_size=8),
    filled=st.lists(st.integers(0, 10), min_size=8, max_size=8),
    power=st.sampled_from([0.0, 0.5, 2.0]),
    least=st.floats(0, 1.5, width=32),
    tags=st.sampled_from([(), (1,), (0, 1)]),
)
def test_what_is_not_asked_for_would_not_have_been_kept(scores, labels, filled, power, least, tags):
    scores = sorted(scores, reverse=True)
    count = len(scores)
    found = detections([[0, 0, 10, 10]] * count, scores)
    found = found._replace(labels=torch.tensor(labels[:count], dtype=torch.long))
    if tags == (1,):  # no other class is found where tags are known
        found = found.at((found.labels == 1).nonzero().flatten())
    masks = torch.zeros(count, 10, 10)
    for mask, rows in zip(masks, filled, strict=False):
        mask[:rows] = 1
    own = [int(member[0]) for member in found.members]
    lowered = lowered_by_masks(found, masks[own], USUAL, power)
    order = torch.argsort(lowered, descending=True, stable=True).tolist()
    best = {int(found.labels[k]): k for k in reversed(order) if int(found.labels[k]) in tags}
    expected = [k for k in order if lowered[k] >= least or k in best.values()]
    kept, confidence, asked = ranked(found, masks, power, least, tags)
    assert [int(member[0]) for member in kept.members] == [own[k] for k in expected]
    assert torch.equal(kept.scores, lowered[expected])
    assert torch.equal(confidence, masks[[own[k] for k in expected]])
    assert len(asked) == len(set(asked))


def test_few_masks_are_asked_for():
    found = detections([[0, 0, 10, 10]] * 5, [0.9, 0.5, 0.4, 0.3, 0.2])
    found = found._replace(labels=torch.zeros(5, dtype=torch.long))
    masks = torch.zeros(5, 10, 10)
    masks[0, :3] = 1  # half of the usual: 0.45
    assert ranked(found, masks, 1.0, 0.8, (0,))[2] == [0, 1]
    assert ranked(found, masks, 1.0, 0.45, (0,))[2] == [0, 1]
    assert ranked(found, masks, 1.0, 0.35, (0,))[2] == [0, 1, 2]


def test_a_mask_that_goes_on_outside_counts_against_its_box():
    found = detections([[0, 0, 10, 10]], [0.5])
    scores = lowered_by_masks(found, torch.ones(1, 10, 20), USUAL, 1.0)
    torch.testing.assert_close(scores, torch.tensor([0.5 * 0.5 / 0.6]))


def test_a_class_is_compared_with_itself():
    found = detections([[0, 0, 10, 10], [10, 0, 20, 10]], [0.5, 0.4])
    masks = torch.zeros(2, 10, 20)
    masks[0, :6, :10] = 1
    masks[1, :4, 10:] = 1
    scores = lowered_by_masks(found, masks, torch.tensor([0.6, 0.4]), 2.0)
    torch.testing.assert_close(scores, torch.tensor([0.5, 0.4]))


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
    filled=st.lists(st.integers(0, 10), min_size=4, max_size=4),
    power=st.floats(0.1, 4),
)
def test_more_than_usual_says_nothing_for_a_box(scores, filled, power):
    found = detections([[0, 0, 10, 10]] * len(scores), scores)
    found = found._replace(labels=torch.zeros(len(scores), dtype=torch.long))
    masks = torch.zeros(len(scores), 10, 10)
    for mask, rows in zip(masks, filled, strict=False):
        mask[:rows] = 1
    lowered = lowered_by_masks(found, masks, USUAL, power).tolist()
    for told, score, rows in zip(lowered, scores, filled, strict=False):
        if rows >= 6:
            assert told == score
        else:
            assert told == pytest.approx(score * (rows / 6) ** power, abs=1e-6)


@pytest.mark.parametrize("count", [0, 2])
def test_the_papers_scores_are_left_alone(count):
    found = detections([[0, 0, 10, 10]] * count, [0.5] * count)
    masks = torch.zeros(count, 10, 10)
    scores = lowered_by_masks(found, masks, USUAL, 0.0 if count else 2.0)
    assert torch.equal(scores, found.scores)


@pytest.mark.parametrize("module", [3, 4])
@pytest.mark.parametrize("tags", [None, (0, 2)])
def test_a_least_score_only_leaves_out(module, tags):
    cascade = random_cascade("detection.mask_power=2", "detection.score_threshold=0")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 30, 40], [10, 5, 60, 44], [2, 2, 20, 20]], np.float32)
    every = Predictor(cascade)(image, boxes, module, tags).instances
    least = float(every.scores.median())
    sure = Predictor(cascade, least)(image, boxes, module, tags).instances
    assert 0 < len(sure) < len(every)
    best = [int((every.labels == tag).nonzero()[0]) for tag in tags or ()]
    expected = sorted({*(every.scores >= least).nonzero().flatten().tolist(), *best})
    torch.testing.assert_close(sure.scores, every.scores[expected])
    torch.testing.assert_close(sure.boxes, every.boxes[expected])


@given(
    corners=st.lists(st.tuples(*[st.floats(-5, 25)] * 4), max_size=4),
    share=st.floats(0, 1),
)
def test_a_share_of_the_box_is_added_within_it_alone(corners, share):
    boxes = torch.tensor(corners).reshape(-1, 4)
    confidence = torch.rand(len(boxes), 12, 16, generator=torch.Generator().manual_seed(0))
    seen = with_box(confidence, boxes, share)
    x, y = torch.arange(16) + 0.5, torch.arange(12)[:, None] + 0.5
    for one, mixed, (x1, y1, x2, y2) in zip(confidence, seen, boxes, strict=True):
        inside = ((x >= x1) & (x < x2) & (y >= y1) & (y < y2)).float()
        torch.testing.assert_close(mixed, (1 - share) * one + share * inside)


def test_masks_come_nearer_to_their_boxes():
    """The whole way: with all of the box and no CRF, masks are boxes."""
    image, proposals = (
        np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8),
        np.array([[8.0, 8, 40, 40], [30, 20, 90, 60]], np.float32),
    )
    found = {}
    for share in (0.0, 1.0):
        cascade = random_cascade(
            "detection.score_threshold=0",
            "detection.test_boxes=0",
            "detection.search_boxes=2",
            "detection.regress=false",
            "calibration.crf.iterations=0",
            f"detection.box_share={share}",
        )
        with torch.no_grad():  # an untaught mask part is of one opinion everywhere
            cascade.refinement.mask_head[-1].weight.normal_()
        found[share] = Predictor(cascade)(image, proposals, 3).instances
    boxed = found[1.0]
    assert len(boxed)
    for (x1, y1, x2, y2), mask in zip(boxed.boxes.int().tolist(), boxed.masks, strict=True):
        assert bool(mask[y1:y2, x1:x2].all())
        assert int(mask.sum()) == (x2 - x1) * (y2 - y1)
    assert not torch.equal(found[0.0].masks.sum((1, 2)), boxed.masks.sum((1, 2)))
