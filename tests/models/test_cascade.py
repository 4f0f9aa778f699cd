"""Four modules on one trunk, and checkpoints: read back exactly, or refused with a reason."""

import errno
import os
import pickle

import pytest
import torch
from tiny_cascade import CLASSES, random_cascade, tiny_config, with_values

from labelpenet.config import BackboneName, Config, DetectionConfig, ModelConfig
from labelpenet.files import OutputError
from labelpenet.models.boxes import Frame
from labelpenet.models.cascade import (
    MODULES,
    Cascade,
    load_checkpoint,
    save_checkpoint,
)
from labelpenet.models.checkpoint import CheckpointError, write_tensors


@pytest.fixture
def saved(tmp_path):
    """A checkpoint's path."""
    path = tmp_path / "module2.pt"
    save_checkpoint(path, random_cascade(), 2)
    return path


def change(path, **values):
    """Rewrites parts of a checkpoint; None drops one."""
    content = torch.load(path, weights_only=True) | values
    torch.save({key: value for key, value in content.items() if value is not None}, path)


@pytest.mark.parametrize("name", list(BackboneName))
def test_builds_and_runs(name):
    """Every backbone's parts fit together; fc as narrow as can be, VGG's would take gigabytes."""
    model = ModelConfig(backbone=name, fc_width=4, rpn_channels=4, mask_channels=4)
    detection = DetectionConfig(test_boxes=4, score_threshold=0)
    cascade = Cascade(Config(model=model, detection=detection), ("a", "b")).eval()
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [10.0, 20.0, 64.0, 60.0]])
    with torch.no_grad():
        trunk = cascade.trunk(torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8))
        assert cascade.classification([trunk], [boxes])[0].logits.shape == (2, 2)
        for part in (cascade.detection, cascade.refinement.detection):
            found = part.detect([part.stage5(trunk)], [Frame((64, 96))])
            assert torch.isfinite(found.boxes).all()
        masks = cascade.segmentation
        logits = masks.mask_logits(masks.mask_features(trunk), boxes, torch.tensor([0, 1]))
        assert logits.shape == (2, 28, 28)


def test_trunk_of_one_and_of_many():
    cascade = random_cascade()
    images = torch.randint(0, 256, (2, 3, 40, 48), dtype=torch.uint8)
    both = cascade.trunk(images)
    assert both.shape == (2, 96, 5, 6)
    for image, features in zip(images, both, strict=True):
        assert torch.allclose(cascade.trunk(image)[0], features, atol=1e-5)
        assert torch.equal(cascade.trunk(image), cascade.trunk(image.float()))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (31, 33)])
def test_small_images_are_padded(size):
    trunk = random_cascade().trunk(torch.zeros(3, *size))
    assert min(trunk.shape[-2:]) >= 4
    assert torch.isfinite(trunk).all()


def test_modules_by_number():
    cascade = random_cascade()
    assert [cascade.module(n) for n in (1, 2, 3, 4)] == [getattr(cascade, n) for n in MODULES]
    for number in (0, 5, -1):
        with pytest.raises(ValueError, match=f"expected 1, 2, 3 or 4, got {number}"):
            cascade.module(number)


def test_modules_share_nothing_but_the_trunk():
    cascade = random_cascade()
    seen: set[int] = set()
    for part in (cascade.backbone.trunk, *(cascade.module(n) for n in (1, 2, 3, 4))):
        own = {id(p) for p in part.parameters()}
        assert own
        assert not own & seen
        seen |= own
    assert seen == {id(p) for p in cascade.parameters()}


def test_no_classes():
    with pytest.raises(ValueError, match="at least one class name"):
        Cascade(tiny_config(), ())


def test_round_trip(saved):
    cascade, trained = load_checkpoint(saved)
    assert trained == 2
    assert cascade.classes == CLASSES
    assert cascade.config == tiny_config()
    assert not cascade.training
    ours, theirs = random_cascade().state_dict(), cascade.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_the_weights_file_is_not_needed_again(tmp_path, saved):
    config = with_values(tiny_config(), "model", weights=str(tmp_path / "gone.pth"))
    change(saved, config=config.to_dict())
    assert load_checkpoint(saved)[0].config.model.weights is None


def test_truncated(saved):
    content = saved.read_bytes()
    for length in (0, 1, 4, 1000, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(saved)
        assert str(error.value).startswith(f"{saved}: truncated or not a checkpoint: ")
        assert "\n" not in str(error.value)


def test_missing(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            load_checkpoint(path)


def test_code_in_a_pickle_is_not_run(saved, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    change(saved, config=None)
    content = torch.load(saved, weights_only=True)
    for write in (
        lambda: torch.save(content | {"config": Evil()}, saved),
        lambda: saved.write_bytes(pickle.dumps({"format": 1, "config": Evil()}, protocol=2)),
    ):
        write()
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(saved)
        assert "\n" not in str(error.value)
        assert "weights_only" not in str(error.value)  # no advice to run it all the same
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"format": 0}, {"format": 2}, torch.zeros(3)])
def test_another_format(saved, content):
    torch.save(content, saved)
    with pytest.raises(CheckpointError, match="expected a labelpenet checkpoint of format 1"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"config": None}, "config"),
        ({"state": None}, "state"),
        ({"classes": None}, "classes"),
        ({"trained": None}, "trained"),
        ({"config": {"model": 3}}, ""),
        ({"config": [1]}, ""),
        ({"config": {}}, "model"),
        ({"config": {"model": {"backbone": "resnet"}}}, "backbone"),
        ({"config": {"model": {}, "sede": 3}}, "did you mean seed"),
        ({"state": [1]}, ""),
        ({"state": {"a": 3}}, ""),
        ({"classes": []}, "class"),
        ({"classes": 3}, ""),
        ({"classes": [1, 2, 3]}, "class"),
        ({"classes": "abc"}, "class"),
        ({"trained": "all"}, "trained"),
        ({"trained": 5}, "trained"),
        ({"trained": -1}, "trained"),
    ],
)
def test_wrong_parts(saved, values, message):
    if "config" in values and isinstance(values["config"], dict) and "model" in values["config"]:
        plain = tiny_config().to_dict()
        model = values["config"]["model"]
        merged = plain["model"] | model if isinstance(model, dict) else model
        values = {"config": plain | values["config"] | {"model": merged}}
    change(saved, **values)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(saved)
    assert str(error.value).startswith(f"{saved}: ")
    assert message in str(error.value)


def test_classes_of_another_number(saved):
    """The heads are as wide as the classes are many, so every head is named."""
    change(saved, classes=["box", "disk"])
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(saved)
    for key in ("classification.fc8c.weight: expected [2, 16], got [3, 16]", "detection.fc8c.bias"):
        assert key in str(error.value)


def test_every_bad_key_is_named(saved):
    state = torch.load(saved, weights_only=True)["state"]
    del state["detection.fc.fc6.bias"]
    state["refinement.detection.fc8b.weight"] = torch.zeros(4, 17)
    state["icing"] = torch.zeros(1)
    change(saved, state=state)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(saved)
    for part in (
        "detection.fc.fc6.bias: missing",
        "refinement.detection.fc8b.weight: expected [4, 16], got [4, 17]",
        "icing: unknown",
    ):
        assert part in str(error.value)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "a.pt", tmp_path / "file" / "a.pt"):
        with pytest.raises(OSError, match="cannot write"):
            save_checkpoint(path, random_cascade(), 0)


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(content, file):
        file.write(b"half")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("torch's own words")  # noqa: B904 - torch hides the cause like this

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, random_cascade(), 3)
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("cause", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_stops_the_writing_is_told(tmp_path, monkeypatch, cause):
    """torch's writer raises its own error on top, about the file's unfinished end."""

    def save(content, file):
        try:
            raise cause
        finally:
            raise RuntimeError("unexpected pos")

    monkeypatch.setattr(torch, "save", save)
    expected = OutputError if isinstance(cause, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_tensors(tmp_path / "state.pt", {})
    assert not list(tmp_path.iterdir())
