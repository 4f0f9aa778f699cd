"""Scores of an image's boxes, box voting, and what is kept."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from labelpenet.config import ConfigError, load_config
from labelpenet.models.ranking import (
    blended,
    contrasted,
    limited,
    presence,
    sure_enough,
    voted,
)
from labelpenet.ops import box_iou

POWERS = st.floats(0, 20)


def drawn(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random boxes [R, 4] and strengths [R, 3], some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 50
    side = 1 + torch.rand(count, 2, generator=generator) * 50
    strength = torch.relu(torch.rand(count, 3, generator=generator) - 0.2)
    return torch.cat((corner, corner + side), 1), strength


def test_the_papers_strength_is_the_heads_probability():
    head = torch.softmax(torch.randn(5, 4), 1)
    assert torch.equal(blended(head, None, 0.0, 0.0), head[:, :-1])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 100))
def test_a_blend_lies_between_what_it_blends(first, second, seed):
    generator = torch.Generator().manual_seed(seed)
    head = torch.softmax(4 * torch.randn(6, 4, generator=generator), 1)
    fit = torch.rand(6, 3, generator=generator)
    weight, other = first, (1 - first) * second
    known = torch.stack((head[:, :-1], fit, (1 - head[:, -1:]).expand(-1, 3)))
    strength = blended(head, fit, weight, other)
    assert bool((strength >= known.amin(0) - 1e-6).all())
    assert bool((strength <= known.amax(0) + 1e-6).all())


def test_a_weight_of_nothing_stops_no_score():
    """0.7 + 0.3 leaves a trace of 1, and a class of probability 0 to the power of it is 0."""
    head, fit = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    assert blended(head, fit, 0.7, 0.3)[0].tolist() == pytest.approx([0.5**0.7] * 2)


def test_more_than_the_maps_weight_is_refused():
    with pytest.raises(ConfigError, match=r": detection.object_weight is part of map_weight.*it$"):
        load_config("voc-squeezenet", ["detection.map_weight=0.4", "detection.object_weight=0.5"])


@given(st.floats(0, 1), st.integers(0, 100), st.integers(1, 6))
def test_presence_lies_between_both_opinions(share, seed, count):
    generator = torch.Generator().manual_seed(seed)
    head = torch.softmax(9 * torch.randn(count, 4, generator=generator), 1)
    known = torch.rand(3, generator=generator)
    both = torch.stack((known, head[:, :-1].amax(0)))
    present = presence(known, head, share)
    assert bool((present >= both.amin(0) - 2e-6).all())
    assert bool((present <= both.amax(0) + 2e-6).all())


def test_presence_of_one_opinion():
    head = torch.tensor([[0.7, 0.0, 0.3], [0.9, 0.0, 0.1]])
    known = torch.tensor([0.2, 1.0])
    assert presence(known, head, 0.0) is known
    assert presence(known, head[:0], 0.5) is known  # no box, no opinion
    assert presence(known, head, 1.0).tolist() == pytest.approx([0.9, 0.0], abs=2e-6)
    assert presence(known, head, 0.5)[1] == pytest.approx(0.5, abs=0.01)


def test_a_score_is_a_strength_times_its_share():
    strength = torch.tensor([[0.5, 0.0], [0.25, 0.0]])
    assert contrasted(strength, 2.0).tolist() == [[0.5, 0.0], [0.0625, 0.0]]
    assert contrasted(strength, 0.0) is strength


@given(st.integers(0, 1000), st.integers(0, 20), POWERS)
def test_contrast_keeps_the_best_and_the_order(seed, count, power):
    strength = drawn(seed, count)[1]
    score = contrasted(strength, power)
    assert torch.isfinite(score).all()
    assert bool((score <= strength).all())
    if count:
        torch.testing.assert_close(score.amax(0), strength.amax(0))
        for own, before in zip(score.T, strength.T, strict=True):
            ranked = own[before.argsort(stable=True)]
            assert bool((ranked.diff() >= 0).all())


def test_a_vote_weighs_near_boxes_by_strength():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 12], [40.0, 40, 50, 50]])
    strength = torch.tensor([[1.0], [0.5], [1.0]])
    zero = torch.zeros(1, dtype=torch.int64)
    # weights 1 and 1/4: y2 = (10 + 12 / 4) / (5 / 4)
    assert voted(boxes, strength, zero, zero, 2.0).tolist() == [[0, 0, 10, pytest.approx(10.4)]]
    assert voted(boxes, strength, zero, zero, 0.0).tolist() == [[0, 0, 10, 10]]


@given(st.integers(0, 1000), st.integers(1, 20), POWERS)
@example(256, 15, 18.0)  # a neighbour is stronger by more than a float holds to that power
def test_a_vote_stays_among_the_boxes_that_had_one(seed, count, power):
    boxes, strength = drawn(seed, count)
    rows, labels = (strength > 0).nonzero(as_tuple=True)
    mean = voted(boxes, strength, rows, labels, power)
    assert mean.shape == (len(rows), 4)
    near = box_iou(boxes[rows], boxes) >= 0.5
    for k, one in enumerate(mean):
        around = boxes[near[k]]
        assert bool((one >= around.amin(0) - 1e-3).all() and (one <= around.amax(0) + 1e-3).all())


def test_a_box_without_strength_keeps_its_place():
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    zero = torch.zeros(1, dtype=torch.int64)
    assert torch.isfinite(voted(boxes, torch.zeros(1, 1), zero, zero, 3.0)).all()


def test_the_best_of_every_tag_counts_before_others():
    keep, labels = torch.tensor([3, 1, 0, 2]), torch.tensor([7, 5, 5, 5])
    assert limited(keep, labels, (), 2).tolist() == [3, 1]
    assert limited(keep, labels, (7,), 2).tolist() == [3, 0]
    assert limited(keep, labels, (5, 7), 1).tolist() == [3, 0]


def test_a_tags_best_detection_is_sure_enough():
    scores, labels = torch.tensor([0.9, 0.4, 0.2, 0.1]), torch.tensor([1, 1, 2, 2])
    assert sure_enough(scores, labels, 0.5, (2,)).tolist() == [True, False, True, False]
    assert sure_enough(scores, labels, 0.5, ()).tolist() == [True, False, False, False]


def test_detection_needs_boxes_to_look_at():
    with pytest.raises(ConfigError, match="test_boxes or search_boxes"):
        load_config(None, ["detection.test_boxes=0", "detection.search_boxes=0"])
