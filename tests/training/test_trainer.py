"""Training on six scenes: each module learns what it should."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cascade import random_cascade, saved_state, tiny_config

from labelpenet.models.cascade import load_checkpoint
from labelpenet.training.loop import order
from labelpenet.training.targets import TargetStore
from labelpenet.training.trainer import Trainer
from labelpenet.types import ImageRecord, Instances


def test_only_its_own_module_learns(trained):
    """From one checkpoint to the next the module's weights change, and no others."""
    prefixes = {1: "classification.", 2: "detection.", 3: "refinement.", 4: "segmentation."}
    before = saved_state(trained / "module0.pt")
    for number, prefix in prefixes.items():
        after = saved_state(trained / f"module{number}.pt")
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed
        assert all(key.startswith(prefix) for key in changed), changed
        assert all(torch.isfinite(value).all() for value in after.values())
        before = after


def test_module_4_starts_where_module_3_started(trained):
    """Its weights end nearer to those that it was made with than to module 3's, which taught it."""
    before, after = saved_state(trained / "module3.pt"), saved_state(trained / "module4.pt")
    key = "{}.detection.fc.fc6.weight".format
    end = after[key("segmentation")]
    assert not torch.equal(end, before[key("segmentation")])
    moved = (end - before[key("segmentation")]).norm()
    assert moved < 0.5 * (end - before[key("refinement")]).norm()


@pytest.mark.parametrize("setting", ["detection.box_share=1", "test_flip=true"])
def test_no_module_learns_from_what_answers_alone_add(setting, tmp_path, trained, data):
    """All of the box in masks, or mirrored images, change nothing that is learned in any stage."""
    config = tiny_config(setting)
    Trainer(config, *data, tmp_path).run(5)
    for name in ("module4.pt", "forward_backward.pt"):
        before, after = saved_state(trained / name), saved_state(tmp_path / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), name


def test_module_1_leaves_what_was_fitted(tmp_path, data):
    """Classifiers fitted to cells stay true: neither they nor what they stand on move after it.

    No trunk is taught here, and the fits are the first stage all the same.
    """
    config = tiny_config(
        "train.trunk_steps=0",
        "train.place_images=6",
        "train.region_images=6",
        "train.tag_loss=1",
        "calibration.score=class_map",
    )
    trainer = Trainer(config, *data, tmp_path)
    trainer.run(1)
    before, after = saved_state(tmp_path / "module0.pt"), saved_state(tmp_path / "module1.pt")
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    heads = {f"fc.fc7.{kind}" for kind in ("weight", "bias")}
    heads |= {f"{layer}.{kind}" for layer in ("fc8c", "fc8w") for kind in ("weight", "bias")}
    assert changed == {f"classification.{name}" for name in heads}
    assert float(before["classification.places.weight"].std()) > 0.02  # not the noise of the start
    trainer.run(2)
    after = saved_state(tmp_path / "module2.pt")
    assert any(not torch.equal(v, before[k]) for k, v in after.items() if k.startswith("detection"))


def test_trunk_is_taught_and_shared(trained, config, data):
    torch.manual_seed(config.seed)
    from labelpenet.models.cascade import Cascade

    fresh = Cascade(config, data[0].classes).state_dict()
    taught = saved_state(trained / "module0.pt")
    changed = {key for key in taught if not torch.equal(taught[key], fresh[key])}
    assert any(key.startswith("backbone.trunk.") for key in changed)
    heads = ("stage5", "fc.fc6", "fc.fc7", "fc8c", "classification.tags")
    assert all(key.startswith("backbone.trunk.") or any(h in key for h in heads) for key in changed)
    for name in ("detection", "refinement", "segmentation"):
        for key in [k for k in taught if k.startswith("classification.stage5")]:
            other = key.replace("classification", name)
            assert torch.equal(taught[key], taught[other]), other
    fc8c = taught["classification.fc8c.weight"]
    assert torch.equal(taught["detection.fc8c.weight"][:-1], fc8c)
    assert not taught["detection.fc8c.bias"][-1]


def test_a_module_labels_images_that_it_has_not_learned_from():
    config = tiny_config("train.steps=[1,3,2,1]", "train.batch=2")
    records = [ImageRecord(f"{i}", Path("a.jpg")) for i in range(10)]
    learned = [{r.name for r in order(config, records, n).first(c)} for n, c in ((2, 6), (3, 4))]
    assert not learned[0] & learned[1]
    third = order(config, records, 4)  # behind all ten: in another order
    assert sorted(third[i].name for i in range(10)) == sorted(r.name for r in records)


def test_checkpoints_say_what_is_trained(trained, data):
    for number in range(5):
        cascade, count = load_checkpoint(trained / f"module{number}.pt")
        assert count == number
        assert cascade.classes == data[0].classes


def test_targets_are_of_the_tags(trained, config, data):
    records = {record.name: record for record in data[0].records}
    for number in (1, 2, 3):
        store = TargetStore.open(trained / f"targets{number}.parquet")
        # two steps of two images: the labels that the next module will read, and no others
        wanted = order(config, data[0].records, number + 1).first(4)
        assert store.names() == [record.name for record in wanted]
        assert sum(len(store[name]) for name in store.names()) > 0
        for record in map(records.__getitem__, store.names()):
            found = store[record.name]
            assert set(found.labels.tolist()) <= set(record.labels)
            assert ((found.scores >= 0) & (found.scores <= 1)).all()
            assert found.masks.flatten(1).any(1).all()


def test_losses_are_written(trained):
    with (trained / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names: dict[str, set[str]] = {}
    for row in rows:
        names.setdefault(row["stage"], set()).add(row["name"])
        assert float(row["value"]) >= 0  # false for NaN too
        assert row["step"] == "2"
    always = {"rate", "gradient"}
    boxes = {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
    masks = boxes | {"mask"}
    both = {
        *(f"forward_{number}_{name}" for number in (3, 4) for name in masks),
        *(f"forward_2_{name}" for name in boxes),
        *(f"backward_2_{name}" for name in boxes),
        *(f"backward_3_{name}" for name in masks),
        "forward_1_multi_label",
        "backward_1_multi_label",
        "backward_1_single_label",
        "agreement_2",
        "agreement_3",
    }
    expected = {"0": {"tags"}, "1": {"multi_label"}, "2": boxes, "3": masks, "4": masks, "5": both}
    assert names == {stage: found | always for stage, found in expected.items()}


def test_an_image_without_targets_trains_on_background(config):
    """What a module found can be nothing at all; the next one must not stumble over it."""
    from labelpenet.training.examples import Example, generator_for
    from labelpenet.training.steps import detection_loss

    cascade = random_cascade()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    example = Example(ImageRecord("a", "a.png", (0,)), image, 1.0, False, generator_for(0))
    for number in (2, 3, 4):
        boxes = {"a": np.zeros((0, 4), np.float32)}
        loss = detection_loss(cascade, number, {"a": Instances.empty(64, 64)}, boxes)
        losses = loss([example])
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        assert losses["rpn_box"].item() == losses["roi_box"].item() == 0
        total.backward()
