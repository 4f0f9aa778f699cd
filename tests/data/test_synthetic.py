"""Synthetic scenes, and the dataset they make."""

from __future__ import annotations

import filecmp

import numpy as np
import pytest
from PIL import Image

from labelpenet.data import (
    SCENE_CLASSES,
    SceneSettings,
    check_for_training,
    load_dataset,
    load_image,
    render_scene,
    scenes,
    voc_palette,
    write_scenes,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", 24, seed=3, size=(64, 80))


def test_scene():
    scene = render_scene(5, (96, 128))
    assert (scene.image.shape, scene.image.dtype) == ((96, 128, 3), np.uint8)
    assert (scene.masks.shape[1:], scene.masks.dtype) == ((96, 128), bool)
    assert len(scene.masks) == len(scene.labels) >= 1
    assert scene.masks.sum(0).max() == 1  # what is seen of one hides the other
    assert scene.labels.dtype == np.int64


def test_many_scenes():
    settings = SceneSettings()
    counts, labels, lengths = [], [], []
    for seed in range(60):
        scene = render_scene(seed, (64, 64), settings)
        counts.append(len(scene.labels))
        labels += scene.labels.tolist()
        lengths += [max(np.ptp(axis) + 1 for axis in mask.nonzero()) for mask in scene.masks]
        assert scene.image.std() > 10
    assert set(counts) == {1, 2, 3}
    assert set(labels) == {0, 1, 2}
    assert min(lengths) >= 0.25 * 64 * 0.6  # some are cut off, or partly hidden
    assert max(lengths) <= 0.6 * 64 + 2


def test_same_seed_same_scene():
    one, other = (render_scene([1, 2], (40, 50)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.masks, other.masks)
    assert (render_scene([1, 3], (40, 50)).image != one.image).any()


def test_crowded_scenes_end():
    crowded = SceneSettings(objects=(30, 30), scale=(0.5, 0.9), visible=1.0)
    scene = render_scene(0, (64, 64), crowded)
    assert 1 <= len(scene.labels) < 30
    assert scene.masks.any((1, 2)).all()


def test_an_object_stands_out_from_the_ground():
    """The masks are where the objects are: colours inside and outside differ."""
    calm = SceneSettings(objects=(1, 1), light=0, noise=0, odd_hues=0, clutter=(0, 0))
    for seed in range(10):
        scene = render_scene(seed, (64, 64), calm)
        hue = np.asarray(Image.fromarray(scene.image).convert("HSV"))[..., 0] / 255
        wanted = {"box": 0.08, "disk": 0.55, "star": 0.88}[SCENE_CLASSES[scene.labels[0]]]
        distance = abs((hue - wanted + 0.5) % 1 - 0.5)[scene.masks[0]]
        assert np.median(distance) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": (0, 3)}, "objects: expected a range"),
        ({"objects": (3, 1)}, "objects: expected a range"),
        ({"scale": (0.01, 0.5)}, "scale: expected a range"),
        ({"scale": (0.5, 1.5)}, "scale: expected a range"),
        ({"clutter": (-1, 2)}, "clutter: expected a range"),
        ({"visible": 1.5}, "visible: expected a number in"),
        ({"noise": -0.1}, "noise: expected a number in"),
        ({"light": float("nan")}, "light: expected a number in"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SceneSettings(**options)


def test_too_small():
    with pytest.raises(ValueError, match="size: expected at least 32 x 32 pixels, got 31 x 64"):
        render_scene(0, (31, 64))


def test_the_readers_read_it(folder):
    train = load_dataset(folder, split="train")
    assert (len(train), train.classes) == (24, SCENE_CLASSES)
    assert check_for_training(train) == []
    from_list = load_dataset(folder / "train.csv")
    assert from_list.classes == train.classes
    assert [r.labels for r in from_list.records] == [r.labels for r in train.records]
    assert train.truth[train.records[0].name].masks is None  # masks are for the test alone


def test_the_truth_is_what_was_drawn(folder):
    test = load_dataset(folder, split="test")
    assert len(test) == len(test.truth) == 6
    for number, record in enumerate(test.records):
        scene = render_scene([3, 1, number], (64, 80))
        truth = test.truth[record.name]
        np.testing.assert_array_equal(truth.masks, scene.masks)
        np.testing.assert_array_equal(truth.labels, scene.labels)
        assert set(record.labels) == set(scene.labels.tolist())
        for box, mask in zip(truth.boxes, scene.masks, strict=True):
            rows, columns = mask.nonzero()
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == tight
        assert abs(load_image(record.path).astype(int) - scene.image).mean() < 8  # JPEG


def test_deterministic_and_independent_of_the_count(folder, tmp_path):
    again = write_scenes(tmp_path / "again", 3, seed=3, test_count=6, size=(64, 80))
    names = [p.relative_to(again) for p in sorted(again.rglob("t*_*.*")) if "Image" in str(p)]
    names = [name for name in names if "Sets" not in str(name)]
    assert len(names) == 9
    equal, different, failed = filecmp.cmpfiles(folder, again, names, shallow=False)
    assert (len(equal), different, failed) == (9, [], [])


def test_no_test_scenes(tmp_path):
    root = write_scenes(tmp_path / "few", 1, seed=0, size=(32, 32))
    assert len(load_dataset(root, split="train")) == 1
    assert not (root / "SegmentationClass").exists()


def test_nothing_is_overwritten(folder, tmp_path):
    with pytest.raises(ValueError, match="expected an absent or empty folder"):
        write_scenes(folder, 1, seed=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="expected an absent or empty folder"):
        write_scenes(tmp_path / "file", 1, seed=0)


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "_write_lists", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "scenes", 1, seed=0, size=(32, 32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0, "seed": 0}, "count: expected a whole number"),
        ({"count": 1.5, "seed": 0}, "count: expected a whole number"),
        ({"count": 1, "seed": -1}, "seed: expected a whole number"),
        ({"count": 1, "seed": 0, "test_count": -1}, "test_count: expected a whole number"),
        ({"count": 1, "seed": 0, "size": (8, 64)}, "size: expected at least"),
    ],
)
def test_bad_numbers(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_scenes(tmp_path / "scenes", **options)
    assert list(tmp_path.iterdir()) == []


def test_palette(shared):
    path = shared / "data/voc12-mini/VOC2012/SegmentationClass/2007_000061.png"
    with Image.open(path) as image:
        palette = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(voc_palette()[: len(palette)], palette)
