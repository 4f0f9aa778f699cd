"""Training on six scenes: repeatable, resumable, and refused with reasons."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_cascade import random_cascade, tiny_config, with_values

from labelpenet.data import Proposals, ProposalStore, write_proposals
from labelpenet.models.cascade import load_checkpoint
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.training.loop import order
from labelpenet.training.optimization import Stepper
from labelpenet.training.run import train_cascade
from labelpenet.training.targets import TargetStore, keep_for_training
from labelpenet.training.trainer import Trainer, TrainingError, refuse
from labelpenet.types import Dataset, ImageRecord, Instances


@pytest.fixture(scope="module")
def config():
    return tiny_config()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, config, data):
    """A run from start to end."""
    out = tmp_path_factory.mktemp("run")
    Trainer(config, *data, out).run()
    return out


def state(path):
    return load_checkpoint(path)[0].state_dict()


def assert_same_run(out, other):
    for name in (*(f"module{number}.pt" for number in range(5)), "forward_backward.pt"):
        ours, theirs = state(out / name), state(other / name)
        assert ours.keys() == theirs.keys()
        differ = [key for key in ours if not torch.equal(ours[key], theirs[key])]
        assert not differ, f"{name}: {differ}"
    for number in (1, 2, 3):
        ours, theirs = (
            TargetStore.open(folder / f"targets{number}.parquet") for folder in (out, other)
        )
        assert ours.names() == theirs.names()
        for key in ours.names():
            a, b = ours[key], theirs[key]
            for name in ("boxes", "labels", "scores", "masks"):
                assert torch.equal(getattr(a, name), getattr(b, name))


def test_only_its_own_module_learns(trained):
    """From one checkpoint to the next the module's weights change, and no others."""
    prefixes = {1: "classification.", 2: "detection.", 3: "refinement.", 4: "segmentation."}
    before = state(trained / "module0.pt")
    for number, prefix in prefixes.items():
        after = state(trained / f"module{number}.pt")
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed
        assert all(key.startswith(prefix) for key in changed), changed
        assert all(torch.isfinite(value).all() for value in after.values())
        before = after


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
    before, after = state(tmp_path / "module0.pt"), state(tmp_path / "module1.pt")
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    heads = {f"fc.fc7.{kind}" for kind in ("weight", "bias")}
    heads |= {f"{layer}.{kind}" for layer in ("fc8c", "fc8w") for kind in ("weight", "bias")}
    assert changed == {f"classification.{name}" for name in heads}
    assert float(before["classification.places.weight"].std()) > 0.02  # not the noise of the start
    trainer.run(2)
    after = state(tmp_path / "module2.pt")
    assert any(not torch.equal(v, before[k]) for k, v in after.items() if k.startswith("detection"))


def test_trunk_is_taught_and_shared(trained, config, data):
    torch.manual_seed(config.seed)
    from labelpenet.models.cascade import Cascade

    fresh = Cascade(config, data[0].classes).state_dict()
    taught = state(trained / "module0.pt")
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


def test_same_seed_same_run(trained, tmp_path, config, data):
    Trainer(config, *data, tmp_path).run()
    assert_same_run(trained, tmp_path)


def test_another_seed_another_run(trained, tmp_path, config, data):
    Trainer(dataclasses.replace(config, seed=1), *data, tmp_path).run(1)
    ours, theirs = state(trained / "module1.pt"), state(tmp_path / "module1.pt")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


def test_whatever_the_thread_count(trained, tmp_path, config, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        Trainer(config, *data, tmp_path).run(2)
    finally:
        torch.set_num_threads(threads)
    for number in (1, 2):
        ours, theirs = state(trained / f"module{number}.pt"), state(tmp_path / f"module{number}.pt")
        for key in ours:
            assert torch.allclose(ours[key], theirs[key], rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("after", [0, 2, 3])
def test_stopped_and_resumed(trained, tmp_path, config, data, after):
    """A run that ended after a module goes on to exactly where the other one got."""
    if after == 0:  # killed while module 1 was training: the trunk alone is there
        shutil.copy(trained / "module0.pt", tmp_path)
    else:
        assert Trainer(config, *data, tmp_path).run(after) is not None
        assert not (tmp_path / f"module{after + 1}.pt").exists()
    torch.rand(7)  # another process has other random numbers behind it
    trainer = Trainer(config, *data, tmp_path)
    assert trainer.done == after
    trainer.run()
    assert_same_run(trained, tmp_path)


@pytest.mark.parametrize("stage", [0, 1, 3, 4, 5])
def test_stopped_within_a_stage(tmp_path, data, stage, monkeypatch):
    """Killed at some step behind a checkpoint, the run ends with the weights of an undisturbed one.

    Losses are compared as well: what was logged behind the checkpoint is logged once.
    """
    config = tiny_config(
        "train.steps=[3,2,3,3]",
        "train.trunk_steps=3",
        "train.forward_backward_steps=2",
        "train.checkpoint_every=1",
        "calibration.crf.iterations=0",
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Trainer(config, *data, whole).run()
    steps, stop = 0, 3 if stage == 5 else 2
    step = Stepper.step

    def stopping(stepper):
        nonlocal steps
        if trainer.done == stage - 1:
            steps += 1
            if steps == stop + 1:
                raise KeyboardInterrupt
        return step(stepper)

    monkeypatch.setattr(Stepper, "step", stopping)
    trainer = Trainer(config, *data, broken)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    monkeypatch.undo()
    assert (broken / "state.pt").exists()
    Trainer(config, *data, broken).run()
    assert not (broken / "state.pt").exists()
    ours, theirs = (state(out / "forward_backward.pt") for out in (whole, broken))
    assert not [key for key in ours if not torch.equal(ours[key], theirs[key])]
    courses = []
    for out in (whole, broken):
        with (out / "losses.csv").open(newline="") as file:
            courses.append([row[:4] for row in csv.reader(file)])
    assert courses[0] == courses[1]


def test_killed_between_checkpoint_and_targets(trained, tmp_path, config, data):
    for name in ("module0.pt", "module1.pt", "targets1.parquet", "module2.pt"):
        shutil.copy(trained / name, tmp_path)
    (tmp_path / "module3.pt.partial").write_bytes(b"half a checkpoint")
    Trainer(config, *data, tmp_path).run()
    assert_same_run(trained, tmp_path)


def test_a_finished_run_is_left_alone(trained, config, data):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    trainer = Trainer(config, *data, trained)
    trainer.run()
    assert trainer.done == 5
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("train", {"rate": 0.5}, "train.rate: 0.001 there, 0.5 here"),
        ("detection", {"limit": 3}, "detection.limit: 20 there, 3 here"),
        ("model", {"fc_width": 17}, "model.fc_width: 16 there, 17 here"),
    ],
)
def test_changed_settings_are_refused(trained, config, data, section, values, message):
    with pytest.raises(CheckpointError) as error:
        Trainer(with_values(config, section, **values), *data, trained)
    assert message in str(error.value)
    assert "use another folder" in str(error.value)


def test_other_classes_are_refused(trained, config, data):
    dataset = dataclasses.replace(data[0], classes=("box", "disk", "sun"))
    with pytest.raises(CheckpointError, match="other classes"):
        Trainer(config, dataset, data[1], trained)


def test_a_truncated_checkpoint_is_refused(trained, tmp_path, config, data):
    (tmp_path / "module1.pt").write_bytes((trained / "module1.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"module1\.pt: truncated"):
        Trainer(config, *data, tmp_path)


def test_bad_images_are_all_listed(tmp_path, config, data):
    dataset, _ = data
    good, untagged, unproposed, without, resized = dataset.records[:5]
    boxes = np.array([[0, 0, 20, 20], [5, 5, 30, 30]], np.float32)
    rows = [
        Proposals(good.name, 64, 64, boxes),
        Proposals(untagged.name, 64, 64, boxes),
        Proposals(without.name, 64, 64, boxes[:0]),
        Proposals(resized.name, 32, 32, boxes),
    ]
    store = tmp_path / "boxes.parquet"
    write_proposals(store, rows, {})
    missing = ImageRecord("gone", tmp_path / "gone.jpg", (0,))
    records = (
        good, dataclasses.replace(untagged, labels=()), unproposed, without, resized, missing
    )  # fmt: skip
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as error:
        Trainer(config, Dataset(dataset.classes, records), ProposalStore.open(store), out)
    message = str(error.value)
    assert message.startswith("training cannot start, 5 problems:\n")
    for line in (
        f"{untagged.name}: has no labels",
        f"{unproposed.name}: has no proposals",
        f"{without.name}: has 0 proposals",
        f"{resized.name}: is 64 x 64",
        "gone.jpg: no such file",
    ):
        assert line in message
    assert good.name not in message
    assert not out.exists()


def test_an_empty_dataset_is_refused(tmp_path, config, data):
    with pytest.raises(TrainingError, match="the dataset has no images"):
        Trainer(config, Dataset(("a",), ()), data[1], tmp_path)


def test_a_long_list_is_cut():
    refuse([])
    with pytest.raises(TrainingError) as error:
        refuse([f"image {i}" for i in range(60)])
    lines = str(error.value).splitlines()
    assert lines[0] == "training cannot start, 60 problems:"
    assert lines[1] == "  image 0"
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 52


def test_unreadable_images_stop_before_proposals_are_computed(tmp_path, config):
    (tmp_path / "list.csv").write_text("image,labels\na.png,box\n")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"one problem:\n  a: .*a\.png: the file is empty"):
        train_cascade(config, tmp_path / "list.csv", tmp_path / "run")
    assert not (tmp_path / "run").exists()


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


@pytest.mark.parametrize(
    ("scores", "labels", "score", "tags", "empty", "thin", "kept"),
    [
        ([0.9, 0.6, 0.2], [0, 0, 0], 0.5, (0,), [], [], [0, 1]),  # the sure ones
        ([0.3, 0.2, 0.1], [0, 0, 1], 0.5, (0, 1), [], [], [0, 2]),  # the best one of every tag
        ([0.3, 0.2], [0, 0], 0.5, (), [], [], []),  # no tags, none sure
        ([0.9, 0.8], [0, 1], 0.5, (0, 1), [0], [], [1]),  # an empty mask teaches nothing
        ([0.9, 0.8], [0, 1], 0.5, (0, 1), [], [1], [0]),  # nor does a box of no width
        ([0.5], [2], 0.5, (0,), [], [], [0]),  # at the score
        ([], [], 0.5, (0,), [], [], []),
    ],
)
def test_keep_for_training(scores, labels, score, tags, empty, thin, kept):
    count = len(scores)
    masks = torch.ones((count, 4, 5), dtype=torch.bool)
    masks[empty] = False
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(count, 1)
    boxes[thin, 2] = 0.5
    instances = Instances(boxes, torch.tensor(labels).long(), torch.tensor(scores).float(), masks)
    found = keep_for_training(instances, score, tags)
    assert found.scores.tolist() == [pytest.approx(scores[i]) for i in kept]
    assert found.labels.tolist() == [labels[i] for i in kept]
