"""Peaks of a classifier, pseudo labels, lessons on disk, mask NMS."""

import dataclasses

import pytest
import torch
from icn_scenes import icn_config
from tiny_cascade import CLASSES

from labelpenet.config import MatchingConfig
from labelpenet.icn.cues import (
    at_size,
    find_cues,
    match,
    overlaps,
    propose_segments,
    smoothed,
    union_of_best,
)
from labelpenet.icn.model import Icn
from labelpenet.icn.store import Lesson, LessonStore
from labelpenet.mask_nms import mask_nms
from labelpenet.ops import RegionMasks
from labelpenet.training.targets import TargetsError
from labelpenet.types import Instances


@pytest.fixture(scope="module")
def icn():
    torch.manual_seed(0)
    return Icn(icn_config(), CLASSES).eval()


def halves():
    """Of an image of 2 x 4: the left half, a column of it, the right half, everything."""
    masks = torch.zeros(4, 2, 4, dtype=torch.bool)
    masks[0, :, :2] = True
    masks[1, :, 0] = True
    masks[2, :, 2:] = True
    masks[3] = True
    runs = [[0, 4, 4], [0, 2, 6], [4, 4], [0, 8]]
    counts = torch.tensor([n for row in runs for n in row], dtype=torch.int32)
    return RegionMasks(counts, torch.tensor([0, 3, 6, 8, 10]), (2, 4)), masks


@pytest.mark.parametrize(
    ("scores", "count", "want"),
    [
        ([9, 8, 7, 6], 1, [0]),
        ([9, 8, 7, 6], 2, [0, 2]),  # the column lies inside the left half: passed by
        ([8, 9, 7, 6], 2, [0, 1]),  # the other way round it does not
        ([1, 2, 3, 9], 3, [3]),  # everything else lies inside
        ([-torch.inf, 1, -torch.inf, -torch.inf], 3, [1]),
    ],
)
def test_union_of_best(scores, count, want):
    regions, masks = halves()
    got = union_of_best(torch.tensor(scores, dtype=torch.float32), regions, count)
    assert torch.equal(got, masks[want].any(0))


def test_match_takes_maps_of_any_size():
    regions, masks = halves()
    small = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])  # one row of the two
    assert match(small, regions, MatchingConfig()).argmax().item() == 0
    exact = masks[2:3].float()
    assert match(exact, regions, MatchingConfig()).argmax().item() == 2
    assert overlaps(exact, regions)[0].tolist() == [0, 0, 1, 0.5]
    by_overlap = match(exact, regions, MatchingConfig(score="overlap"))
    assert torch.equal(by_overlap, overlaps(exact, regions))
    assert at_size(torch.zeros(0, 3, 3), (5, 6)).shape == (0, 5, 6)


def test_smoothed_maps_keep_their_mass():
    maps = torch.zeros(2, 21, 23)
    maps[0, 10, 11] = 2.0
    got = smoothed(maps, 2.0)
    assert got[0].sum().item() == pytest.approx(2.0, rel=1e-5)
    assert got[0].argmax() == maps[0].argmax()
    assert not got[1].any()
    assert smoothed(maps, 0) is maps
    assert smoothed(maps[:0], 2.0).shape == (0, 21, 23)


def test_gamma_weakens_the_contrast_of_response_maps(icn):
    image = torch.randint(0, 256, (60, 50, 3), dtype=torch.uint8).numpy()
    plain = find_cues(icn.classifier, image, icn.config, (0, 2)).maps
    peaks = dataclasses.replace(icn.config.icn.peaks, gamma=0.5)
    config = dataclasses.replace(icn.config, icn=dataclasses.replace(icn.config.icn, peaks=peaks))
    weaker = find_cues(icn.classifier, image, config, (0, 2)).maps
    assert len(plain)
    torch.testing.assert_close(weaker, plain.sqrt())


def test_cues(icn):
    image = torch.randint(0, 256, (60, 50, 3), dtype=torch.uint8).numpy()
    cues = find_cues(icn.classifier, image, icn.config, (0, 2))
    assert set(cues.labels.tolist()) <= {0, 2}
    assert cues.maps.shape[1:] == (58, 48)
    assert cues.maps.min() >= 0
    assert cues.maps.max() <= 1
    assert (cues.shares >= icn.config.icn.peaks.threshold).all()
    assert len(cues.labels) == len(cues.shares) == len(cues.probabilities) == len(cues.maps)
    guessed = find_cues(icn.classifier, image, icn.config, None)
    assert guessed.maps.shape[1:] == (58, 48)


def test_peaks_are_listed_by_class_and_strength(icn):
    maps = torch.zeros(3, 20, 20)
    maps[0, 3, 4], maps[0, 15, 15], maps[2, 9, 9] = 5.0, 9.0, 4.0
    maps[0, 3, 15] = 0.1  # below the threshold's share of the strongest
    peaks, shares = icn.classifier.list_peaks(maps, [2, 0, 1])
    assert peaks.tolist() == [[2, 9, 9], [0, 15, 15], [0, 3, 4]]
    assert shares[0] == shares[1] == 1
    assert 0.3 <= shares[2] < 1
    none, _ = icn.classifier.list_peaks(maps, [])
    assert none.shape == (0, 3)


def test_peak_scores_have_a_gradient_through_peaks_alone(icn):
    maps = torch.zeros(1, 3, 9, 9)
    maps[0, 0, 2, 2], maps[0, 0, 6, 7] = 4.0, 2.0
    maps.requires_grad_()
    classifier = icn.classifier
    original = classifier.maps
    try:
        classifier.maps = lambda images: maps
        scores = classifier(torch.zeros(1, 3, 8, 8))
    finally:
        classifier.maps = original
    assert scores.peaks[0, 0].item() == pytest.approx(3.0)
    assert scores.tags[0, 0].item() == pytest.approx(6 / 81)
    scores.peaks[0, 0].backward()
    assert [tuple(p) for p in maps.grad[0, 0].nonzero().tolist()] == [(2, 2), (6, 7)]
    assert maps.grad.sum().item() == pytest.approx(1.0)


def test_segments_are_limited():
    image = torch.randint(0, 256, (60, 50, 3), dtype=torch.uint8).numpy()
    boxes, regions = propose_segments(image, icn_config())
    assert len(boxes) == len(regions) <= 30
    for i, box in enumerate(boxes[:5]):
        rows, columns = regions.mask(i).nonzero().T
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == [float(edge) for edge in edges]


def test_mask_nms():
    masks = torch.zeros(4, 4, 4, dtype=torch.bool)
    masks[0, :2], masks[1, :2], masks[2, :2], masks[3, 2:] = True, True, True, True
    found = Instances(
        torch.zeros(4, 4), torch.tensor([0, 0, 1, 0]), torch.tensor([0.5, 0.9, 0.7, 0.1]), masks
    )
    assert mask_nms(found, 0.5).tolist() == [1, 2, 3]
    assert mask_nms(found, 1.0).tolist() == [1, 2, 0, 3]
    assert mask_nms(found.select([]), 0.5).tolist() == []


def test_lessons_on_disk(tmp_path):
    path = tmp_path / "lessons.parquet"
    cue = torch.arange(12.0).reshape(3, 4) / 11
    mask = cue > 0.4
    count = LessonStore.write(
        path, [("a", [Lesson(1, cue, mask), Lesson(0, 1 - cue, ~mask)]), ("none", [])]
    )
    assert count == 2
    store = LessonStore(path)
    assert store.names() == ["a"]
    assert (store.count("a"), store.count("none")) == (2, 0)
    lesson = store.lesson("a", 1)
    assert lesson.label == 0
    assert (lesson.cue - (1 - cue)).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(lesson.mask, ~mask)


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b"", lambda b: b[::-1]])
def test_damaged_lessons(tmp_path, damage):
    path = tmp_path / "lessons.parquet"
    LessonStore.write(path, [("a", [Lesson(1, torch.ones(3, 4), torch.ones(3, 4).bool())])])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TargetsError, match="lessons"):
        LessonStore(path)
