"""Label quality by hand: each figure, what is unknown, and how far a cascade agrees with itself."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from labeling.scenes import from_masks
from largest_result import LargestResult
from tiny_cascade import one_thread, random_cascade

from labelpenet.inference import Predictor
from labelpenet.labeler import Labeler
from labelpenet.models.cascade import save_checkpoint
from labelpenet.quality import agreement, paired_iou, peak_support, score_margin, with_agreement
from labelpenet.types import Instances, Quality

__all__ = ["one_thread"]
NAMES = [f.name for f in dataclasses.fields(Quality)]


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor([math.nan if v is None else v for v in values])


def test_peak_support():
    maps = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]])
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 1, 1]]]).bool()
    assert peak_support(maps, masks).tolist() == pytest.approx([0.7, 0, math.nan], nan_ok=True)
    assert peak_support(maps[:0], masks[:0]).shape == (0,)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_peak_support_map_by_map_is_that_of_all_at_once(count, threads):
    """Bit by bit, and in float64 two maps are there at a time."""
    draw = torch.Generator().manual_seed(count)
    maps = torch.rand((count, 201, 203), generator=draw) ** 8
    maps[-1] *= count == 1  # a map of zeros beside others
    masks = torch.rand(maps.shape, generator=draw) > 0.5
    mass = maps.double().flatten(1)
    once = ((mass * masks.flatten(1)).sum(1) / mass.sum(1)).float()  # in one thread
    torch.set_num_threads(threads)
    with LargestResult() as largest:
        found = peak_support(maps, masks)
    torch.set_num_threads(1)
    assert torch.equal(found.view(torch.int32), once.view(torch.int32))
    assert largest.bytes <= 2 * 8 * 201 * 203


def test_paired_iou():
    masks = torch.tensor([[[1, 1, 1, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]]).bool()
    others = torch.tensor([[[0, 1, 1, 1]], [[0, 1, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 0]]]).bool()
    assert paired_iou(masks, others).tolist() == pytest.approx([0.5, 0, 0, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("row", "label", "margin"),
    [
        ([0.6, 0.3, 0.1], 0, 0.3),
        ([0.6, 0.3, 0.1], 1, -0.3),  # something else was likelier
        ([0.0, 1.0, 0.0], 0, -1.0),
        ([0.4, 0.4, 0.2], 1, 0.0),
        ([0.7], 0, 0.7),  # no other class to be ahead of
    ],
)
def test_score_margin(row, label, margin):
    found = score_margin(torch.tensor([row]), torch.tensor([label]))
    assert found.tolist() == [pytest.approx(margin)]


def test_agreement():
    """The best mask of the same class, no other class's; two empty masks say nothing."""
    found = from_masks(
        [[[1, 1, 1, 1, 0, 0]], [[1, 1, 1, 1, 0, 0]], [[1, 1, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0]]],
        labels=[0, 1, 2, 1],
    )
    other = from_masks(
        [[[1, 1, 0, 0, 0, 0]], [[1, 1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0, 0]]], labels=[0, 0, 1]
    )
    expected = [0.75, 0, 0, math.nan]
    assert agreement(found, other).tolist() == pytest.approx(expected, nan_ok=True)
    assert agreement(found, found).tolist() == pytest.approx([1, 1, 1, 0], nan_ok=True)
    assert agreement(found, Instances.empty(1, 6)).tolist() == [0, 0, 0, 0]
    assert agreement(Instances.empty(1, 6), found).shape == (0,)
    noted = with_agreement(found, other)
    assert noted.quality.crf_change.isnan().all()
    assert torch.equal(noted.masks, found.masks)
    first = dataclasses.replace(found, quality=Quality.of(4, crf_change=torch.ones(4)))
    assert with_agreement(first, other).quality.crf_change.tolist() == [1, 1, 1, 1]


def test_overall_is_the_mean_of_what_is_known():
    quality = Quality(
        numbers(0.8, None, 1, None),
        numbers(0.4, 0.25, 1, None),
        numbers(0.6, None, 1, None),
        numbers(0.2, None, 1, None),
    )
    # (0.8 + 0.4 + 0.6 + 0.6) / 4
    assert quality.overall().tolist() == pytest.approx([0.6, 0.25, 1, math.nan], nan_ok=True)
    worst = Quality.of(
        1, **{name: torch.zeros(1) for name in NAMES[:3]}, score_margin=-torch.ones(1)
    )
    assert worst.overall().tolist() == [0]
    assert Quality.of(0).overall().shape == (0,)


def test_what_is_not_given_is_unknown():
    quality = Quality.of(2, crf_change=torch.tensor([0.5, 1], dtype=torch.float64))
    assert quality.crf_change.dtype == torch.float32
    for name in NAMES:
        assert getattr(quality, name).isnan().all() == (name != "crf_change")
    with pytest.raises(TypeError, match="sharpness"):
        Quality.of(2, sharpness=torch.ones(2))


def test_select_keeps_quality():
    found = from_masks(np.ones((3, 2, 2)))
    found = dataclasses.replace(found, quality=Quality.of(3, crf_change=numbers(0.1, 0.2, 0.3)))
    for index in ([2, 0], torch.tensor([2, 0])):
        assert found.select(index).quality.crf_change.tolist() == pytest.approx([0.3, 0.1])
    assert len(found.select([]).quality.agreement) == 0
    kept = found.select(torch.tensor([False, True, False]))
    assert kept.quality.crf_change.tolist() == pytest.approx([0.2])


def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8).repeat(8, 0).repeat(8, 1)


BOXES = np.array([[0, 0, 30, 30], [20, 10, 60, 50], [5, 30, 40, 56], [0, 0, 72, 56]], np.float32)


@pytest.mark.parametrize("module", [1, 2, 3, 4])
@pytest.mark.parametrize("tags", [None, (0, 2)])
def test_every_module_tells_its_quality(module, tags):
    predictor = Predictor(random_cascade())
    found = predictor(photo(), BOXES, module, tags).instances
    quality = found.quality
    assert len(found) > 0
    for name in NAMES:
        values = getattr(quality, name)
        assert values.shape == (len(found),)
        low = -1 if name == "score_margin" else 0
        assert values.isnan().all() if name == "agreement" else (values >= low).all()
        assert not (values > 1).any()
    assert ((quality.overall() >= 0) & (quality.overall() <= 1)).all()
    nothing = predictor(photo(), BOXES, module, ()).instances
    assert nothing.quality is None or len(nothing.quality.overall()) == 0


@pytest.mark.parametrize("module", [2, 3, 4])
def test_margin_is_of_the_detection_itself(module):
    """Its own probability is its score, so the best other one is at most the rest."""
    found = Predictor(random_cascade())(photo(), BOXES, module, (0, 2)).instances
    best_other = found.scores - found.quality.score_margin
    assert ((best_other >= 0) & (best_other <= 1 - found.scores + 1e-6)).all()
    assert (best_other >= (1 - found.scores) / 3 - 1e-6).all()  # two classes and background


def test_without_a_crf_nothing_is_known_of_it():
    found = Predictor(random_cascade("calibration.crf.iterations=0"))(photo(), BOXES, 1, (0, 1))
    assert found.instances.quality.crf_change.isnan().all()
    assert not found.instances.quality.overall().isnan().any()


@pytest.mark.parametrize(
    ("module", "trained", "known"), [(4, 4, 1), (3, 4, 1), (2, 4, 0), (3, 3, 0)]
)
def test_modules_3_and_4_are_compared(tmp_path, module, trained, known):
    path = tmp_path / "cascade.pt"
    cascade = random_cascade()
    cascade.segmentation.load_state_dict(cascade.refinement.state_dict())
    save_checkpoint(path, cascade, trained)
    labeler = Labeler(path, module=module)
    found = labeler(photo(), (0, 2)).instances
    if known:  # two modules of the same weights find the same
        assert found.quality.agreement.tolist() == pytest.approx([1] * len(found))
    else:
        assert found.quality.agreement.isnan().all()
    alone = Labeler(path, module=module, agreement=False)
    assert alone(photo(), (0, 2)).instances.quality.agreement.isnan().all()
    assert torch.equal(alone(photo(), (0, 2)).instances.masks, found.masks)
