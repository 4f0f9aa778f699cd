"""What training refuses to start from, with reasons."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_cascade import with_values

from labelpenet.data import Proposals, ProposalStore, write_proposals
from labelpenet.models.checkpoint import CheckpointError
from labelpenet.training.engine import Engine
from labelpenet.training.errors import TrainingError, refuse
from labelpenet.training.optimization import Stepper
from labelpenet.training.resume import same_run
from labelpenet.training.run import train_cascade
from labelpenet.training.trainer import Trainer
from labelpenet.types import Dataset, ImageRecord


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


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, config, data):
    """Stopped within the first stage: there is no checkpoint yet that knows the settings."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    step, steps = Stepper.step, []

    def stopping(stepper):
        steps.append(stepper)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(stepper)

    often = with_values(config, "train", trunk_steps=5, checkpoint_every=1)
    trainer = Trainer(often, *data, out)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert (out / "state.pt").exists()
    assert not list(out.glob("module*.pt"))
    return out, often


@pytest.mark.parametrize("change", ["settings", "classes", "images", "order", "tags", "nothing"])
def test_within_a_stage_too(stopped, data, change):
    (out, config), (dataset, proposals) = stopped, data
    first, *others = dataset.records
    message = "images and tags: other ones than the"
    if change == "settings":
        config, message = with_values(config, "train", rate=0.5), "train.rate: 0.001 there"
    elif change == "classes":
        dataset = dataclasses.replace(dataset, classes=dataset.classes[::-1])
        message = r"classes: \["
    elif change == "images":
        dataset = dataclasses.replace(dataset, records=tuple(others))
    elif change == "order":
        dataset = dataclasses.replace(dataset, records=(*others, first))
    elif change == "tags":
        tags = tuple(sorted({0, 1} - set(first.labels))) or (0,)
        changed = dataclasses.replace(first, labels=tags)
        dataset = dataclasses.replace(dataset, records=(changed, *others))
    if change == "nothing":
        Trainer(config, dataset, proposals, out)
        return
    with pytest.raises(CheckpointError, match=message):
        Trainer(config, dataset, proposals, out)


@pytest.fixture
def stopped_again(stopped, tmp_path):
    return shutil.copytree(stopped[0], tmp_path / "run"), stopped[1]


def test_weights_bind_up_to_the_first_checkpoint(stopped_again, trained, data, tmp_path):
    """The trunk is not in the state of a stage that leaves it as it is."""
    out, config = stopped_again
    file = tmp_path / "weights.pth"
    torch.save({}, file)
    another = with_values(config, "model", weights=file)
    for changed in (another, config):
        if changed is config:  # and the other way round: forgotten
            note = json.loads((out / "cascade.json").read_text())
            (out / "cascade.json").write_text(json.dumps(note | {"weights": "of some file"}))
        with pytest.raises(CheckpointError, match=r"model\.weights: another file than there"):
            same_run(out / "cascade.json", changed, data[0], Engine(config), data[1])
    shutil.copy(trained / "module0.pt", out)
    file.unlink()
    for later in (another, config):
        same_run(out / "cascade.json", later, data[0], Engine(config), data[1])


def test_proposals_bind(stopped, data, tmp_path):
    (out, config), (dataset, proposals) = stopped, data
    rows = [row._replace(boxes=row.boxes[1:]) for row in proposals.rows()]
    write_proposals(tmp_path / "others.parquet", rows, {})
    with pytest.raises(CheckpointError, match="proposals: other boxes than there"):
        Trainer(config, dataset, ProposalStore.open(tmp_path / "others.parquet"), out)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": 1}'])
def test_a_broken_note_of_the_start_is_refused(tmp_path, config, data, text):
    (tmp_path / "cascade.json").write_text(text)
    (tmp_path / "state.pt").touch()  # something to go on from
    with pytest.raises(CheckpointError, match=r"cascade\.json: expected what the run was"):
        Trainer(config, *data, tmp_path)


def test_before_a_first_checkpoint_nothing_binds(trained, tmp_path, config, data):
    """The start failed, or a checkpoint from elsewhere was refused: the next call may differ."""
    Trainer(with_values(config, "train", rate=1e6), *data, tmp_path)
    Trainer(config, *data, tmp_path)
    shutil.copy(trained / "module1.pt", tmp_path)
    (tmp_path / "cascade.json").unlink()
    with pytest.raises(CheckpointError, match=r"module1\.pt: made with other settings"):
        Trainer(with_values(config, "train", rate=1e6), *data, tmp_path)
    assert Trainer(config, *data, tmp_path).done == 1


def test_gradients_that_never_are_finite_end_the_training(tmp_path, config, data, monkeypatch):
    monkeypatch.setattr(Stepper, "step", lambda stepper: float("nan"))
    with pytest.raises(TrainingError, match=r"steps in a row without a finite gradient"):
        Trainer(config, *data, tmp_path).run()
    assert not list(tmp_path.glob("module*.pt"))


def test_steps_that_changed_nothing_are_told(tmp_path, config, data, monkeypatch):
    step, steps = Stepper.step, []

    def once(stepper):
        steps.append(step(stepper))
        return float("inf") if len(steps) == 1 else steps[-1]

    monkeypatch.setattr(Stepper, "step", once)
    console = Console(record=True, file=io.StringIO(), width=200)
    often = with_values(config, "train", trunk_steps=3)
    Trainer(often, *data, tmp_path, console).run(0)
    assert "1 of 3 steps changed nothing" in console.export_text()


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
