"""The detection part: which ROIs are learned from, and which are kept."""

import pytest
import torch
from tiny_cascade import random_cascade
from torch import Tensor

from labelpenet.models.boxes import Frame
from labelpenet.models.classification import HeadOutput
from labelpenet.models.detection import DetectionModule, Targets
from labelpenet.ops import box_iou


@pytest.fixture
def module() -> DetectionModule:
    return random_cascade("detection.roi_batch=8", "detection.roi_positive=0.25").detection


def targets(weights: list[float]) -> Targets:
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]])[: len(weights)]
    return Targets(boxes, torch.tensor([2, 0])[: len(weights)], torch.tensor(weights))


def sample(module, rois, goal, seed=0):
    rois = torch.tensor(rois).reshape(-1, 4)
    return module.sample(rois, goal, torch.Generator().manual_seed(seed))


NEAR = [[1.0, 0.0, 20.0, 20.0]]  # IoU 0.95 with the first target
TOUCHING = [[10.0, 10.0, 30.0, 30.0]]  # IoU 1/7 with it
FAR = [[0.0, 40.0, 20.0, 60.0]]


def test_objects_come_first(module):
    found = sample(module, NEAR + TOUCHING + FAR, targets([0.5, 1.0]))
    count = len(found.matched)
    assert count == 2  # a quarter of 8
    assert len(found.labels) == 5 - 1  # three candidates are objects, two of them drawn
    overlap = box_iou(found.boxes, targets([0.5, 1.0]).boxes).max(1).values
    assert (overlap[:count] >= 0.5).all()
    assert (overlap[count:] < 0.5).all()
    assert (found.labels[count:] == 3).all()  # background
    assert (found.labels[:count] == torch.tensor([2, 0])[found.matched]).all()
    assert (found.weights[:count] == torch.tensor([0.5, 1.0])[found.matched]).all()


def test_weights_of_the_background(module):
    found = sample(module, TOUCHING + FAR, targets([0.5, 0.1]))
    weight = {
        tuple(box): float(w) for box, w in zip(found.boxes.tolist(), found.weights, strict=True)
    }
    assert weight[tuple(TOUCHING[0])] == pytest.approx(0.5)  # of the target that it touches
    assert weight[tuple(FAR[0])] == pytest.approx(0.3)  # the mean


def test_targets_are_rois_too(module):
    """With nothing proposed, a target is still learned from."""
    found = sample(module, [], targets([0.5]))
    assert found.boxes.tolist() == [[0, 0, 20, 20]]
    assert found.labels.tolist() == [2]


def test_no_targets(module):
    found = sample(module, NEAR + FAR, targets([]))
    assert len(found.matched) == 0
    assert found.labels.tolist() == [3, 3]
    assert found.weights.tolist() == [1, 1]
    nothing = sample(module, [], targets([]))
    assert nothing.boxes.shape == (0, 4)


def test_sampling_is_seeded(module):
    rois = (torch.rand(40, 2).repeat(1, 2) * 30 + torch.tensor([0, 0, 9, 9])).tolist()
    first, again, other = (sample(module, rois, targets([1.0]), seed) for seed in (1, 1, 2))
    assert torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.boxes, other.boxes)
    objects = len(first.matched)
    assert objects >= 1
    assert (first.labels[objects:] == module.classes).all()
    # the share of objects is kept: background does not fill the batch up
    config = module.config
    background = round(objects * (1 - config.roi_positive) / config.roi_positive)
    assert len(first.labels) == min(objects + background, config.roi_batch)


def test_weights_scale_the_losses():
    """Half of every W is half of the ROI losses (eq. 4), the objectness apart."""
    losses = []
    for factor in (1.0, 0.5):
        cascade = random_cascade("model.dropout=0")
        trunk = cascade.trunk(torch.full((3, 64, 64), 90.0))
        goal = targets([0.8 * factor, 0.4 * factor])
        losses.append(
            cascade.detection.loss([trunk], [goal], [(64, 64)], [torch.Generator().manual_seed(0)])
        )
    for name in ("rpn_box", "roi_class", "roi_box"):
        assert losses[0][name].item() > 0
        assert losses[1][name].item() == pytest.approx(losses[0][name].item() / 2, rel=1e-4)
    assert losses[1]["rpn_objectness"].item() == losses[0]["rpn_objectness"].item()


class FixedRpn(torch.nn.Module):
    """Proposes what the test says."""

    def __init__(self, rois: Tensor) -> None:
        super().__init__()
        self.rois = rois

    def forward(self, features: Tensor) -> Tensor:
        return self.rois

    def propose(self, output: Tensor, size: tuple[int, int], limit: int) -> Tensor:
        return output[:limit]


def detect(rois, probability, tags=None, *, offsets=None, **config: object):
    """detect() with boxes and class probabilities (background last) given."""
    overrides = [f"detection.{key}={value}" for key, value in config.items()]
    module = random_cascade("train.tag_loss=1", *overrides).detection
    rois = torch.tensor(rois).reshape(-1, 4)
    logits = torch.tensor(probability).reshape(-1, 4).log()
    second = torch.zeros(len(rois), 4) if offsets is None else torch.tensor(offsets)
    module.rpn = FixedRpn(rois)
    module.head = lambda features, boxes: [HeadOutput((rois, rois, rois), logits, second)]
    return module.detect([torch.zeros(1, 1, 1, 1)], [Frame((100, 100))], tags)


ROIS = [[0.0, 0.0, 40.0, 40.0], [2.0, 0.0, 42.0, 40.0], [50.0, 50.0, 90.0, 90.0]]
SURE = [[0.60, 0.20, 0.01, 0.19], [0.70, 0.02, 0.02, 0.26], [0.02, 0.90, 0.01, 0.07]]


def test_detections_by_hand():
    found = detect(ROIS, SURE)
    # class 1 on ROI 2, class 0 on ROI 1 (takes in ROI 0), class 1 on ROI 0
    assert found.labels.tolist() == [1, 0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.2])
    assert found.boxes.tolist() == [ROIS[2], ROIS[1], ROIS[0]]
    groups = [
        [(int(found.entry_rois[m]), int(found.entry_labels[m])) for m in members]
        for members in found.members
    ]
    assert groups == [[(2, 1)], [(1, 0), (0, 0)], [(0, 1)]]


def test_tags_restrict_the_classes():
    found = detect(ROIS, SURE, (0,))
    assert found.labels.tolist() == [0]
    assert set(found.entry_labels.tolist()) == {0}
    assert len(detect(ROIS, SURE, ()).boxes) == 0


@pytest.mark.parametrize("tags", [None, (0,)])
def test_any_object_counts_where_tags_are_known(tags):
    found = detect(ROIS[:1], SURE[:1], tags, map_weight=0.5, object_weight=0.25)
    objects = 1.0 if tags is None else (1 - 0.19) ** 0.25  # no map is given, nor counts
    assert found.scores[0].item() == pytest.approx(0.6**0.5 * objects)


def test_the_best_of_every_tag_is_kept():
    found = detect(ROIS, SURE, (0, 2))
    assert sorted(found.labels.tolist()) == [0, 2]
    best = found.labels.tolist().index(2)
    assert found.scores[best].item() == pytest.approx(0.02)  # far below the threshold of 0.05
    assert found.boxes[best].tolist() == ROIS[1]


def test_the_limit_does_not_drop_a_tag():
    """One tag with many sure objects must not push the only object of another one out."""
    rois = [[20.0 * i, 0.0, 20.0 * i + 15, 20.0] for i in range(5)]
    probability = [[0.9, 0.05, 0.01, 0.04]] * 4 + [[0.6, 0.1, 0.2, 0.1]]
    found = detect(rois, probability, (0, 2), limit=3)
    assert len(found.labels) == 3
    assert set(found.labels.tolist()) == {0, 2}
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_limit():
    rois = [[20.0 * i, 0.0, 20.0 * i + 15, 20.0] for i in range(5)]
    probability = [[0.5 + 0.1 * i, 0.04, 0.01, 0.45 - 0.1 * i] for i in range(5)]
    found = detect(rois, probability, limit=2)
    assert found.boxes.tolist() == [rois[4], rois[3]]


def test_boxes_are_moved_and_clipped():
    found = detect([ROIS[2]], [SURE[2]], offsets=[[10.0, 0.0, 0.0, 0.0]])  # 10 deviations of 0.1
    assert found.boxes.tolist() == [[90, 50, 100, 90]]


@pytest.mark.parametrize("tags", [None, (), (0,), (0, 1, 2)])
def test_nothing_proposed(tags):
    found = detect([], [], tags)
    assert found.boxes.shape == (0, 4)
    assert found.members == []


@pytest.mark.parametrize("tags", [None, (1,), (0, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_members_partition_the_entries(seed, tags):
    """Every entry belongs to one detection of its class; none is lost while the limit allows."""
    cascade = random_cascade("detection.limit=1000", "detection.score_threshold=0.1", seed=seed)
    trunk = cascade.trunk(torch.rand(3, 80, 96) * 255)
    found = cascade.detection.detect([cascade.detection.stage5(trunk)], [Frame((80, 96))], tags)
    entries = torch.cat(found.members).tolist()
    assert sorted(entries) == list(range(len(found.entry_scores)))
    assert len(found.boxes) > 0
    for label, score, members in zip(found.labels, found.scores, found.members, strict=True):
        assert (found.entry_labels[members] == label).all()
        scores = found.entry_scores[members]
        assert scores[0] == score
        assert (scores.diff() <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([96, 80, 96, 80])).all()
    assert set(found.labels.tolist()) <= set(range(3) if tags is None else tags)
