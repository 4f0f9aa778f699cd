"""Module 1: equations 1 and 2 on numbers small enough to follow, and where the gradient goes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_cascade import random_cascade
from torch import Tensor

from labelpenet.models.classification import (
    HeadOutput,
    combined_scores,
    distinct,
    image_log_probabilities,
    multi_label_loss,
)
from labelpenet.ops import roi_pool

NONE = (torch.empty(0),) * 3


def head(logits, second) -> HeadOutput:
    return HeadOutput(NONE, torch.tensor(logits), torch.tensor(second))


TWO = head([[1.0, 0.0], [3.0, 2.0]], [[0.0, 0.0], [math.log(3.0), 0.0]])


def test_equation_1_by_hand():
    # softmax over the two proposals: (1/4, 3/4) for class 0, (1/2, 1/2) for class 1
    combined = combined_scores(TWO)
    assert torch.allclose(combined, torch.tensor([[0.25, 0.0], [2.25, 1.0]]))
    # s = (2.5, 1.0)
    probability = image_log_probabilities(TWO).exp()
    first = 1 / (1 + math.exp(-1.5))
    assert probability.tolist() == pytest.approx([first, 1 - first])


def test_equation_2_by_hand():
    first = 1 / (1 + math.exp(-1.5))
    assert multi_label_loss(TWO, (0,)).item() == pytest.approx(-math.log(first))
    both = -math.log(first) - math.log(1 - first)
    assert multi_label_loss(TWO, (0, 1)).item() == pytest.approx(both)


def test_one_proposal_has_all_the_weight():
    one = head([[0.5, -0.5]], [[7.0, -7.0]])
    assert combined_scores(one).tolist() == [[0.5, -0.5]]


@given(
    st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([1.0, 30.0, 1e4])
)
def test_probabilities_are_ones(proposals, classes, seed, size):
    generator = torch.Generator().manual_seed(seed)
    logits, second = (torch.randn(proposals, classes, generator=generator) * size for _ in range(2))
    output = HeadOutput(NONE, logits, second)
    probability = image_log_probabilities(output).exp()
    assert torch.isfinite(probability).all()
    assert probability.sum().item() == pytest.approx(1, abs=1e-4)
    assert torch.isfinite(multi_label_loss(output, tuple(range(classes))))


def losses(steps: int) -> tuple[list[float], dict[str, Tensor]]:
    """Module 1 trained on one image; the weights that changed are named."""
    cascade = random_cascade("train.rate=1e-2")
    cascade.backbone.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in cascade.named_parameters()}
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 30.0, 30.0], [20.0, 20.0, 64.0, 64.0], [5.0, 9.0, 40.0, 60.0]])
    optimizer = torch.optim.AdamW(cascade.classification.parameters(), lr=1e-2)
    course = []
    for _ in range(steps):
        loss = multi_label_loss(cascade.classification([cascade.trunk(image)], [boxes])[0], (1,))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    changed = {n: p.grad for n, p in cascade.named_parameters() if not torch.equal(p, before[n])}
    return course, changed


def test_gradient_reaches_stage5_and_fc_but_not_the_trunk():
    course, changed = losses(8)
    assert course[-1] < course[0]
    assert all(name.startswith("classification.") for name in changed)
    for layer in ("stage5.0", "fc.fc6", "fc.fc7", "fc8c", "fc8w"):
        assert f"classification.{layer}.weight" in changed


def test_head_activations_feed_excitation():
    cascade = random_cascade()
    boxes = torch.tensor([[0.0, 0.0, 30.0, 30.0], [20.0, 20.0, 64.0, 64.0]])
    (output,) = cascade.classification([cascade.trunk(torch.rand(3, 64, 64) * 255)], [boxes])
    pooled, hidden, last = output.activations
    assert pooled.shape == (2, 128, 7, 7)
    assert hidden.shape == last.shape == (2, 16)
    assert all((a >= 0).all() for a in output.activations)
    assert output.logits.shape == output.second.shape == (2, 3)


def test_no_proposals():
    cascade = random_cascade()
    trunk = cascade.trunk(torch.rand(3, 64, 64) * 255)
    (output,) = cascade.classification([trunk], [torch.zeros(0, 4)])
    assert output.logits.shape == (0, 3)


def test_images_of_a_batch_do_not_touch_each_other():
    """Images of different sizes and numbers of proposals give what each gives alone."""
    cascade = random_cascade()
    trunks = [cascade.trunk(torch.rand(3, *size) * 255) for size in ((64, 64), (48, 80), (32, 40))]
    boxes = [torch.rand(count, 4).cumsum(1) * 30 for count in (5, 0, 3)]
    together = cascade.classification(trunks, boxes)
    assert [len(output.logits) for output in together] == [5, 0, 3]
    for trunk, own, output in zip(trunks, boxes, together, strict=True):
        (alone,) = cascade.classification([trunk], [own])
        assert torch.equal(alone.activations[0], output.activations[0])
        assert torch.allclose(alone.logits, output.logits, atol=1e-6)
        assert torch.allclose(alone.second, output.second, atol=1e-6)


edges = st.integers(-48, 96).map(lambda n: n / 16)  # halves of cells, and what lies between


@settings(max_examples=50)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=edges))
def test_boxes_of_a_kind_pool_alike(corners):
    """And boxes of two kinds differ in their cells."""
    boxes = torch.from_numpy(corners)
    first, kind = distinct(boxes)
    features = torch.rand(1, 2, 6, 6)
    pooled = roi_pool(features, [boxes], 7)
    assert torch.equal(pooled[first][kind], pooled)
    assert all(first[k] == kind.tolist().index(k) for k in kind.tolist())
    away = np.trunc(corners.astype(np.float64) + np.copysign(0.5, corners))
    assert len(first) == len(np.unique(away, axis=0))


def test_just_under_a_half_rounds_down():
    """Where adding 0.5 in float32 would round up."""
    below = np.nextafter(np.float32(0.5), np.float32(0))
    boxes = torch.tensor([[below, 0, 3, 3], [0.0, 0, 3, 3], [0.5, 0, 3, 3]])
    assert distinct(boxes)[1].tolist() == [0, 0, 1]


def test_the_head_sees_each_kind_once():
    cascade = random_cascade()
    boxes = torch.tensor([[0.0, 0, 30, 40], [16.0, 8, 60, 60], [1.0, 1, 31, 39], [0.0, 0, 30, 40]])
    features = cascade.trunk(torch.rand(3, 64, 64))
    (every,) = cascade.classification([features], [boxes])
    with torch.no_grad():
        (once,) = cascade.classification([features], [boxes])
    assert every.rows is None
    assert [len(a) for a in once.activations] == [2, 2, 2]
    assert torch.allclose(once.logits, every.logits, atol=1e-6)
    assert torch.allclose(once.second, every.second, atol=1e-6)
    for few, all_ in zip(once.activations, every.activations, strict=True):
        assert torch.allclose(few[once.rows], all_, atol=1e-6)
