"""The library's door: photos in any form, tags in any form."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cascade import CLASSES, random_cascade

import labelpenet
from labelpenet.data import Proposals, ProposalStore, write_proposals
from labelpenet.data.images import ImageError
from labelpenet.models.cascade import save_checkpoint
from labelpenet.models.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def labeler(tmp_path_factory):
    path = tmp_path_factory.mktemp("labeler") / "module1.pt"
    save_checkpoint(path, random_cascade(), 1)
    return labelpenet.Labeler(path, "cpu")


@pytest.fixture(scope="module")
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return pixels.repeat(8, 0).repeat(8, 1)


def same(a, b):
    return torch.equal(a.instances.masks, b.instances.masks) and a.module == b.module == 1


def test_arrays_pictures_and_paths_are_one(labeler, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    forms = [photo, Image.fromarray(photo), tmp_path / "a.png", str(tmp_path / "a.png")]
    found = labeler.label(forms, [["disk"]] * 4)
    assert len(found) == 4
    assert all(same(found[0], one) for one in found)
    assert found[0].instances.masks.shape == (1, 64, 48)
    assert found[0].instances.labels.tolist() == [CLASSES.index("disk")]


def test_a_picture_and_a_file_with_a_flag_are_turned(labeler, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo).copy()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (64, 48)
        found = labeler.label([photo, picture, tmp_path / "a.png"], [[1]] * 3)
    assert all(same(found[0], one) for one in found)


def test_tags_as_names_indices_or_none(labeler, photo):
    named, numbered, mixed = labeler.label([photo] * 3, [["star", "box"], [2, 0], ("box", 2, 2)])
    assert same(named, numbered)
    assert same(named, mixed)
    guessed, none, empty = (labeler.label([photo], tags)[0] for tags in (None, [None], [[]]))
    assert same(guessed, none)
    assert same(guessed, empty)
    assert labeler.label([]) == labeler.label(iter(())) == []


def test_bad_input(labeler, photo, tmp_path):
    for one in (photo, "a.png", tmp_path, Image.new("RGB", (2, 2))):
        with pytest.raises(TypeError, match="images: expected a list of photos, got one"):
            labeler.label(one)
    with pytest.raises(TypeError, match="photo: expected an array, picture or path, got int"):
        labeler.label([3])
    with pytest.raises(TypeError, match=r"expected \[H, W, 3\] uint8, got float64"):
        labeler.label([photo / 255])
    with pytest.raises(ValueError, match=r"expected \[H, W, 3\] uint8, got \[64, 48\]"):
        labeler.label([photo[:, :, 0]])
    with pytest.raises(ImageError, match="no such file"):
        labeler.label([tmp_path / "nothing.jpg"])
    with pytest.raises(ValueError, match=r"got 'disc' \(did you mean 'disk'\?\)"):
        labeler.label([photo], [["disc"]])
    with pytest.raises(ValueError, match="tags: expected indices below 3, got 3"):
        labeler.label([photo], [[3]])
    with pytest.raises(ValueError, match="tags: expected one entry for each of 1, got 2"):
        labeler.label([photo], [[0], [0]])
    with pytest.raises(TypeError, match="expected a list of classes for each photo, got 'disk'"):
        labeler.label([photo], ["disk"])


def test_settings_in_place_of_the_checkpoints(labeler, photo):
    path = labeler.checkpoint
    hard = labelpenet.Labeler(path, overrides=["calibration.crf.iterations=0"])
    assert hard.config.calibration.crf.iterations == 0
    assert hard.config.seed == labeler.config.seed
    few = labelpenet.Labeler(path, overrides=["detection.score_threshold=1"])
    assert len(few.label([photo])[0].instances) == 0  # and not in the module's copy alone
    assert len(labeler.label([photo])[0].instances) > 0


def test_objects_of_a_low_score_are_left_out(labeler, photo):
    path = labeler.checkpoint
    tags = [["disk", "star"]]
    wide = ["calibration.objects=5", "calibration.score=class_map", "train.tag_loss=1"]
    (every,) = labelpenet.Labeler(path, overrides=wide).label([photo], tags)
    (best,) = labelpenet.Labeler(path, overrides=wide, min_score=1).label([photo], tags)
    assert len(every.instances) > 2
    assert sorted(best.instances.labels.tolist()) == [1, 2]  # a tag's best one stays
    assert len(labelpenet.Labeler(path, min_score=1).label([photo])[0].instances) == 0
    (own,) = labelpenet.Labeler(path, overrides=[*wide, "detection.paint_score=1"]).label(
        [photo], tags
    )
    assert torch.equal(own.instances.masks, best.instances.masks)
    with pytest.raises(ValueError, match="min_score: expected a number from 0 to 1, got 2"):
        labelpenet.Labeler(path, min_score=2)


def test_proposals_of_another_image_are_refused(labeler, photo, tmp_path):
    height, width = photo.shape[:2]
    boxes = np.array([[0, 0, width, height], [8, 8, 40, 40]], np.float32)
    rows = [Proposals("a", height, width, boxes), Proposals("b", 300, 400, boxes * 6)]
    write_proposals(tmp_path / "boxes.parquet", rows, {})
    store = ProposalStore.open(tmp_path / "boxes.parquet")
    stored = labelpenet.Labeler(labeler.checkpoint, proposals=store)
    assert (stored.propose(photo, "a", False) == boxes).all()
    message = r"boxes\.parquet: proposals of 'b': expected .* 64 x 48 .*, got 300 x 400"
    with pytest.raises(ValueError, match=message):
        stored(photo, (), "b")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("detection.score_treshold=1", "did you mean detection.score_threshold"),
        ("detection.score_threshold=2", "less than or equal to 1"),
        ("score_threshold", "expected section.key=value"),
        ("model.fc_width=32", "fc6"),
    ],
)
def test_settings_that_do_not_fit(labeler, override, says):
    with pytest.raises(CheckpointError, match=says):
        labelpenet.Labeler(labeler.checkpoint, overrides=[override])


def test_importing_the_package_is_light(tmp_path):
    code = "import sys, labelpenet; assert 'torch' not in sys.modules; labelpenet.Labeler"
    # from elsewhere: in a checkout, `-c` would find the sources before the installed package
    environment = os.environ | {"PYTHONPATH": str(Path(labelpenet.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    with pytest.raises(AttributeError, match="no attribute 'Labeller'"):
        _ = labelpenet.Labeller
