"""Calibration: the rules by hand, and a bright disk found from the proposals around it."""

import numpy as np
import pytest
import torch
from disk_scene import CENTRE, RADIUS, SIDE, disk, iou, photo
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny_cascade import one_thread

from labelpenet import calibration
from labelpenet.calibration import (
    Candidate,
    Proposals,
    best_boxes,
    calibrate,
    combine,
    scale_to_one,
    soft_iou,
)
from labelpenet.config import BoxRule, CalibrationConfig, Combine, CrfConfig
from labelpenet.ops import positive_weights

__all__ = ["one_thread"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Combine.GEOMETRIC, [0.0, 0.6, 0.5]),
        (Combine.PRODUCT, [0.0, 0.36, 0.25]),
        (Combine.ATTENTION, [0.0, 0.9, 0.25]),
        (Combine.HEAT_MAP, [1.0, 0.4, 1.0]),
    ],
)
def test_combine(rule, expected):
    attention, heat_map = torch.tensor([[[0.0, 0.9, 0.25]], [[1.0, 0.4, 1.0]]])
    assert combine(attention[None], heat_map[None], rule).flatten().tolist() == pytest.approx(
        expected
    )


def test_scale_to_one():
    maps = torch.tensor([[[0.0, 2.0], [4.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    scaled = scale_to_one(maps)
    assert scaled[0].tolist() == [[0, 0.5], [1, 0.25]]
    assert (scaled[1] == 0).all()  # not 0 / 0
    assert scale_to_one(maps[:0]).shape == (0, 2, 2)
    tiny = scale_to_one(torch.full((1, 2, 2), 1e-40))
    assert torch.isfinite(tiny).all()


maps = hnp.arrays(np.float32, (6, 9), elements=st.floats(0, 1, width=32))
corners = st.lists(
    st.tuples(st.integers(-3, 12), st.integers(-3, 9), st.integers(0, 15), st.integers(0, 12)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=50)
@given(maps, corners)
def test_soft_iou_against_brute_force(soft, rows):
    boxes = [(x, y, x + w, y + h) for x, y, w, h in rows]
    found = soft_iou(torch.from_numpy(soft), torch.tensor(boxes).float())
    for value, (x1, y1, x2, y2) in zip(found.tolist(), boxes, strict=True):
        y, x = np.mgrid[:6, :9]
        inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        shared = soft[inside].astype(np.float64).sum()
        union = inside.sum() + soft.astype(np.float64).sum() - shared
        assert value == pytest.approx(shared / max(union, 1e-9), abs=1e-5)


def head(boxes: torch.Tensor, classes: torch.Tensor, heat: torch.Tensor, *, seed: int = 0):
    """A head on its own features: channel 0 of a proposal is the picture cut to its box."""
    count = len(boxes)
    generator = torch.Generator().manual_seed(seed)
    bright = disk().float()
    pooled = torch.zeros(count, 2, 7, 7)
    for i, (x1, y1, x2, y2) in enumerate(boxes.long().tolist()):
        part = bright[None, None, y1:y2, x1:x2]
        pooled[i, 0] = torch.nn.functional.adaptive_max_pool2d(part, 7)[0, 0]
    fc6 = torch.zeros(5, 2, 7, 7)
    fc6[:, 0] = torch.rand(5, 7, 7, generator=generator) + 0.5
    fc6 = fc6.reshape(5, -1)
    fc7 = torch.rand(4, 5, generator=generator)
    fc8 = torch.rand(2, 4, generator=generator)
    hidden = torch.relu(pooled.flatten(1) @ fc6.T)
    last = torch.relu(hidden @ fc7.T)
    return Proposals(
        boxes=boxes,
        classes=classes,
        start=torch.full((count,), 0.9),
        heat=heat,
        rows=torch.arange(count),
        activations=(pooled, hidden, last),
        weights=positive_weights([fc6, fc7, fc8]),
    )


@pytest.fixture
def around():
    """Forty proposals that hold the disk or much of it, ten of another class elsewhere."""
    generator = torch.Generator().manual_seed(1)
    middle = torch.tensor(CENTRE) + torch.randint(-3, 4, (40, 2), generator=generator)
    half = torch.randint(13, 21, (40, 2), generator=generator)
    boxes = torch.cat((middle - half, middle + half), 1).clamp(0, SIDE).float()
    corner = torch.randint(0, 30, (10, 2), generator=generator).float()
    boxes = torch.cat((boxes, torch.cat((corner, corner + 20), 1)))
    classes = torch.cat((torch.zeros(40, dtype=torch.int64), torch.ones(10, dtype=torch.int64)))
    return head(boxes, classes, torch.rand(50, generator=generator) + 0.1)


def candidate(members, heat, box=(0.0, 0.0, 9.0, 9.0), label=0) -> Candidate:
    return Candidate(label, 0.9, torch.tensor(box), torch.tensor(members), torch.tensor(heat))


CRF = CrfConfig(bilateral_sxy=30, bilateral_srgb=20)


@pytest.mark.parametrize("rule", list(Combine))
@pytest.mark.parametrize("projection", ["bilinear", "mass"])
def test_a_disk_is_found(around, rule, projection):
    config = CalibrationConfig(combine=rule, projection=projection, crf=CRF)
    x, y = CENTRE
    own = (x - RADIUS, y - RADIUS, x + RADIUS + 1.0, y + RADIUS + 1.0)
    found = calibrate(photo(), around, [candidate(range(40), range(40), own)], config)
    assert iou(found.masks[0], disk()) > 0.9
    assert (found.boxes[0] - torch.tensor(own)).abs().max() <= 2
    for maps in (found.attention, found.heat_map, found.confidence):
        assert maps.shape == (1, SIDE, SIDE)
        assert maps.min() >= 0
        assert maps.max() == 1


def test_box_rules(around):
    whole = candidate(range(40), range(40))
    config = CalibrationConfig(box=BoxRule.PROPOSAL, crf=CRF)
    found = calibrate(photo(), around, [whole], config)
    rated = soft_iou(found.confidence[0], around.boxes[:40])
    assert found.boxes[0].tolist() == around.boxes[rated.argmax()].tolist()
    assert best_boxes(found.confidence[:0], around, []).shape == (0, 4)


def test_no_calibration(around):
    """The box as NMS left it, and all of it as the mask."""
    crf = CrfConfig(iterations=0)
    config = CalibrationConfig(combine=Combine.BOX, box=BoxRule.OWN, crf=crf)
    boxes = [(3.2, 4.0, 20.0, 30.7), (60.4, 60.0, 60.5, 64.0)]  # the second of no whole pixel
    found = calibrate(photo(), around, [candidate([0], [0], b) for b in boxes], config)
    assert torch.equal(found.boxes, torch.tensor(boxes))
    expected = torch.zeros((2, SIDE, SIDE), dtype=torch.bool)
    expected[0, 4:31, 3:20] = True
    expected[1, 60:64, 60:61] = True
    assert torch.equal(found.masks, expected)
    assert len(calibrate(photo(), around, [], config).masks) == 0


def test_gamma_sharpens(around):
    whole = candidate(range(40), range(40))
    soft = calibrate(photo(), around, [whole], CalibrationConfig(crf=CRF)).confidence
    sharp = calibrate(photo(), around, [whole], CalibrationConfig(crf=CRF, gamma=2.0)).confidence
    assert torch.allclose(sharp, soft**2)


def test_heat_by_area():
    """Of two boxes of one score, the smaller one adds more unless the power is 0."""
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [44.0, 44.0, 54.0, 54.0]])
    proposals = head(boxes, torch.zeros(2, dtype=torch.int64), torch.ones(2))
    both = [candidate([0, 1], [0, 1])]
    for power, expected in ((0.0, 1.0), (0.5, 0.25), (1.0, 0.0625)):
        config = CalibrationConfig(heat_area_power=power, crf=CrfConfig(iterations=0))
        heat_map = calibrate(photo(), proposals, both, config).heat_map[0]
        assert heat_map[50, 50] == 1
        assert heat_map[20, 20].item() == pytest.approx(expected)
        assert heat_map[2, 60] == 0


def test_only_members_are_propagated(around, monkeypatch):
    """What no group holds does not reach Excitation BP, and cannot change the result."""
    groups = [
        candidate([3, 7, 30], range(40)),
        candidate([41, 45, 7], range(40, 50), label=1),
    ]
    config = CalibrationConfig(crf=CRF)
    seen = []
    real = calibration.excitation_maps

    def counted(activations, *rest):
        seen.append(len(activations[0]))
        return real(activations, *rest)

    monkeypatch.setattr(calibration, "excitation_maps", counted)
    few = calibrate(photo(), around, groups, config)
    assert seen == [16]  # five, and rows that make products round alike

    def everything(activations, weights, classes, start):
        maps = real(list(around.activations), around.weights, around.classes, around.start)
        return maps[torch.tensor([3, 7, 30, 41, 45])]

    monkeypatch.setattr(calibration, "excitation_maps", everything)
    full = calibrate(photo(), around, groups, config)
    for name in ("heat_map", "masks", "boxes"):
        assert torch.equal(getattr(few, name), getattr(full, name)), name
    for name in ("attention", "confidence"):  # layers of 5 and 4 round by the row's place
        assert torch.allclose(getattr(few, name), getattr(full, name), rtol=0, atol=1e-6), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3, 8, 9, 16, 70, 199])
def test_members_alone_give_the_same_bits(monkeypatch, dtype, count):
    """As propagating every proposal, with layers of whole tens as networks have them."""
    generator = torch.Generator().manual_seed(count)

    def random(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    boxes = 20 * torch.rand(200, 4, generator=generator) + torch.tensor([0, 0, 40, 40])
    proposals = Proposals(
        boxes=boxes.round(),
        classes=torch.randint(3, (200,), generator=generator),
        start=torch.rand(200, generator=generator),
        heat=torch.rand(200, generator=generator),
        rows=torch.arange(200),
        activations=[random(200, 16, 7, 7).relu(), random(200, 64).relu(), random(200, 32).relu()],
        weights=positive_weights([random(64, 784), random(32, 64), random(3, 32)]),
    )
    members = torch.randperm(200, generator=generator)[:count]
    groups = [Candidate(0, 0.9, boxes[0], members, torch.arange(200))]
    few = calibrate(photo(), proposals, groups, CalibrationConfig(crf=CRF))
    real = calibration.proposal_maps
    every = torch.arange(200)
    monkeypatch.setattr(calibration, "proposal_maps", lambda p, entries: real(p, every)[entries])
    full = calibrate(photo(), proposals, groups, CalibrationConfig(crf=CRF))
    assert few.attention.max() == 1
    for name in ("attention", "heat_map", "confidence", "masks", "boxes"):
        assert torch.equal(getattr(few, name), getattr(full, name)), name


def test_objects_do_not_disturb_each_other(around):
    first = candidate(range(20), range(40))
    second = candidate(range(40, 50), range(40, 50), label=1)
    config = CalibrationConfig(crf=CRF)
    both = calibrate(photo(), around, [first, second], config)
    for i, one in enumerate((first, second)):
        alone = calibrate(photo(), around, [one], config)
        assert torch.allclose(both.confidence[i], alone.confidence[0], atol=1e-6)
        assert iou(both.masks[i], alone.masks[0]) > 0.99


def test_no_candidates(around):
    found = calibrate(photo(), around, [], CalibrationConfig())
    assert found.masks.shape == (0, SIDE, SIDE)
    assert found.boxes.shape == (0, 4)
    assert found.confidence.shape == (0, SIDE, SIDE)


def test_a_dead_head_gives_the_candidates_box(around):
    """Activations of zero: no attention, an empty mask, and the candidate's own box."""
    dead = Proposals(
        **{**vars(around), "activations": tuple(torch.zeros_like(a) for a in around.activations)}
    )
    found = calibrate(photo(), dead, [candidate([0, 1], [0, 1])], CalibrationConfig(crf=CRF))
    assert not found.masks.any()
    assert found.boxes.tolist() == [[0, 0, 9, 9]]
    assert torch.isfinite(found.confidence).all()
