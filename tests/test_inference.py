"""What the modules find with random weights: always well-formed, whatever the image."""

import numpy as np
import pytest
import torch
from tiny_cascade import CLASSES, one_thread, random_cascade

from labelpenet.config import GroupScore
from labelpenet.inference import Predictor
from labelpenet.labeler import Labeler, propose
from labelpenet.models.cascade import save_checkpoint
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.types import Labelling

__all__ = ["one_thread"]
NOTHING = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(random_cascade())


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blurred noise, so that there is something to see."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1)[:height, :width])


def boxes_in(height: int, width: int, count: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y = (np.sort(rng.integers(0, side, (count, 2)), 1) for side in (width, height))
    return np.stack((x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1), 1).astype(np.float32)


def check(labelling: Labelling, module: int, image: np.ndarray) -> None:
    """Everything that must hold of any labelling."""
    height, width = image.shape[:2]
    found = labelling.instances
    count = len(found)
    assert labelling.module == module
    if labelling.presence is not None:
        assert labelling.presence.dtype == torch.float32
        assert ((labelling.presence >= 0) & (labelling.presence <= 1)).all()
    assert found.boxes.shape == (count, 4)
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    assert found.labels.shape == found.scores.shape == (count,)
    assert found.labels.dtype == torch.int64
    assert found.masks.shape == (count, height, width)
    assert found.masks.dtype == torch.bool
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([width, height, width, height])).all(), found.boxes
    assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.scores.diff() <= 0).all()
    assert set(found.labels.tolist()) <= set(range(len(CLASSES)))
    assert bool(labelling.maps) == bool(count)
    for picture in labelling.maps.values():
        assert picture.shape == (height, width)
        assert picture.dtype == torch.float32
        assert ((picture >= 0) & (picture <= 1)).all()


@pytest.mark.parametrize("module", [1, 2, 3, 4])
@pytest.mark.parametrize("tags", [None, (1,), (0, 2)])
def test_well_formed(predictor, module, tags):
    image = photo(50, 70)
    labelling = predictor(image, boxes_in(50, 70), module, tags)
    check(labelling, module, image)
    if tags is not None:
        assert set(labelling.instances.labels.tolist()) == set(tags)
        assert len(labelling.instances) >= len(tags)


@pytest.mark.parametrize("module", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("height", "width"),
    [(50, 1), (1, 50), (1, 1), (7, 3), (24, 10_000), (10_000, 45), (90, 47), (301, 199)],
)
def test_odd_sizes(module, height, width):
    """Scaled down to 96 at most, and boxes scaled back stay in the image."""
    predictor = Predictor(random_cascade("test_longest=96", "calibration.crf.iterations=1"))
    image = photo(height, width)
    for tags in (None, (0, 1)):
        check(predictor(image, boxes_in(height, width), module, tags), module, image)


@pytest.mark.parametrize("shorter", [20, 33, 130])
def test_test_scale(shorter):
    predictor = Predictor(random_cascade(f"test_scales=[{shorter}]"))
    for module in (1, 2, 4):
        image = photo(50, 71)
        labelling = predictor(image, boxes_in(50, 71), module, (0,))
        check(labelling, module, image)
        assert len(labelling.instances)


@pytest.mark.parametrize("module", [1, 2, 3, 4])
def test_scales_and_flip(module):
    predictor = Predictor(random_cascade("test_scales=[48,64]", "test_flip=true"))
    image = photo(50, 71)
    for tags in (None, (0, 1)):
        check(predictor(image, boxes_in(50, 71), module, tags), module, image)


def test_a_mirrored_image_has_mirrored_scores():
    """With the flip averaged in, left and right no longer matter to module 1."""
    image, boxes = photo(56, 72), boxes_in(56, 72)
    mirrored = image[:, ::-1].copy()
    flipped = boxes[:, [2, 1, 0, 3]] * np.float32([-1, 1, -1, 1]) + np.float32([72, 0, 72, 0])
    alone, both = (
        Predictor(random_cascade(f"test_flip={flip}", "train.precision=fp32"))
        for flip in ("false", "true")
    )
    one, other = (both(*pair, 1).presence for pair in ((image, boxes), (mirrored, flipped)))
    assert torch.allclose(one, other, atol=1e-5)
    one, other = (alone(*pair, 1).presence for pair in ((image, boxes), (mirrored, flipped)))
    assert not torch.allclose(one, other, atol=1e-5)


def test_no_proposals(predictor):
    image = photo(40, 40)
    for tags in (None, (0, 1)):
        labelling = predictor(image, NOTHING, 1, tags)
        check(labelling, 1, image)
        assert len(labelling.instances) == 0
        for module in (2, 3, 4):  # they make their own
            assert len(predictor(image, NOTHING, module, (1,)).instances)


@pytest.mark.parametrize("score", list(GroupScore))
def test_fewer_proposals_than_tags(score):
    predictor = Predictor(random_cascade(f"calibration.score={score.value}", "train.tag_loss=1"))
    image = photo(40, 40)
    for count in (1, 2, 3):
        labelling = predictor(image, boxes_in(40, 40, count), 1, (0, 1, 2))
        check(labelling, 1, image)
        assert len(labelling.instances) == count
        assert len(set(labelling.instances.labels.tolist())) == count


def test_every_tag_has_an_object(predictor):
    """Even one that no proposal is most likely of."""
    image = photo(40, 40)
    for seed in range(5):
        labelling = predictor(image, boxes_in(40, 40, 6, seed), 1, (0, 1, 2))
        assert sorted(labelling.instances.labels.tolist()) == [0, 1, 2]


def test_untagged_classes_are_likely_ones(predictor):
    """Without tags, module 1 names the classes that the image has with p^ over the threshold."""
    image = photo(40, 40)
    boxes = boxes_in(40, 40)
    likely = predictor(image, boxes, 1).presence
    assert likely.shape == (3,)
    assert likely.sum().item() == pytest.approx(1, abs=1e-5)
    found = predictor(image, boxes, 1).instances
    assert sorted(found.labels.tolist()) == (likely >= 0.05).nonzero().flatten().tolist()
    tagged = predictor(image, boxes, 1, tuple(found.labels.sort().values.tolist())).instances
    by_class = dict(zip(tagged.labels.tolist(), tagged.scores.tolist(), strict=True))
    for label, score in zip(found.labels.tolist(), found.scores.tolist(), strict=True):
        assert score == pytest.approx(by_class[label] * likely[label].item(), rel=1e-4)


def test_no_tags_at_all(predictor):
    """An empty tuple says that nothing is there."""
    image = photo(40, 40)
    for module in (1, 2, 3, 4):
        labelling = predictor(image, boxes_in(40, 40), module, ())
        check(labelling, module, image)
        assert len(labelling.instances) == 0


def test_same_image_same_labels(predictor):
    image = photo(50, 60)
    for module in (1, 2, 3, 4):
        first, again = (predictor(image, boxes_in(50, 60), module, (0, 1)) for _ in range(2))
        for name in ("boxes", "labels", "scores", "masks"):
            assert torch.equal(getattr(first.instances, name), getattr(again.instances, name))


def test_the_proposal_limit_holds():
    image = photo(40, 40)
    boxes = boxes_in(40, 40, 20)
    limited = Predictor(random_cascade("proposals.limit=5"))
    few, cut = limited(image, boxes, 1, (0,)), limited(image, boxes[:5], 1, (0,))
    assert torch.equal(few.instances.boxes, cut.instances.boxes)
    assert torch.equal(few.instances.masks, cut.instances.masks)


def test_bf16():
    predictor = Predictor(random_cascade("train.precision=bf16"))
    image = photo(50, 60)
    for module in (1, 2, 4):
        check(predictor(image, boxes_in(50, 60), module, (0, 1)), module, image)


def test_no_such_module(predictor):
    for module in (0, 5):
        with pytest.raises(ValueError, match="expected 1, 2, 3 or 4"):
            predictor(photo(40, 40), NOTHING, module)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("labeler") / "module3.pt"
    save_checkpoint(path, random_cascade(), 3)
    return path


def test_labeler(checkpoint):
    labeler = Labeler(checkpoint)
    assert labeler.module == 3
    assert labeler.classes == CLASSES
    image = photo(60, 60)
    labelling = labeler(image, (1,))
    check(labelling, 3, image)
    assert set(labelling.instances.labels.tolist()) == {1}
    untagged = Labeler(checkpoint, use_tags=False)
    assert torch.equal(untagged(image, (1,)).instances.boxes, labeler(image, ()).instances.boxes)


def test_labeler_traces_module_1(checkpoint):
    image = photo(60, 60)
    plain = Labeler(checkpoint)(image, (1,), "a")
    assert set(plain.maps) == {"mask confidence", "CRF mask"}
    traced = Labeler(checkpoint).with_trace({"a"})
    assert list(traced(image, (1,), "a").maps) == [
        "attention", "heat-map", "CRF mask", "mask confidence"
    ]  # fmt: skip
    assert set(traced(image, (1,), "b").maps) == set(plain.maps)
    first, same = traced(image, (1,), "a").instances, plain.instances
    assert torch.equal(first.masks, same.masks)


def test_labeler_refuses_untrained_modules(checkpoint):
    for module in (0, 4, -1):
        with pytest.raises(CheckpointError, match="has modules 1 to 3"):
            Labeler(checkpoint, module=module)


def test_propose_is_within_the_limit():
    config = random_cascade("proposals.limit=7").config
    boxes = propose(photo(64, 64), config)
    assert boxes.shape == (7, 4)
    assert boxes.dtype == np.float32
    assert np.array_equal(boxes, propose(photo(64, 64), config))


@pytest.mark.parametrize("module", [1, 2, 4])
def test_weights_rounded_before_are_the_same(module):
    """What autocast rounds for every image may be rounded once: same bits."""
    image, boxes = photo(50, 70), boxes_in(50, 70)
    found = [
        Predictor(cascade)(image, boxes, module, (0, 2))
        for cascade in (
            random_cascade("train.precision=bf16"),
            random_cascade("train.precision=bf16").round_weights(),
        )
    ]
    check(found[0], module, image)
    for name in ("boxes", "labels", "scores", "masks"):
        assert torch.equal(*(getattr(f.instances, name) for f in found)), name
    for name, picture in found[0].maps.items():
        assert torch.equal(picture, found[1].maps[name]), name


def test_bfloat16_is_near_float32():
    image, boxes = photo(50, 70), boxes_in(50, 70)
    low, full = (
        Predictor(random_cascade(f"train.precision={p}"))(image, boxes, 1, (1,))
        for p in ("bf16", "fp32")
    )
    difference = (low.maps["attention"] - full.maps["attention"]).abs()
    assert 0 < difference.max() < 0.1  # not the same, or bfloat16 was not in use
