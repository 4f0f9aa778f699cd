"""ICN from scenes to labels: repeatable, resumable, and refused with reasons."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from icn_scenes import icn_config
from tiny_cascade import CLASSES, random_cascade
from typer.testing import CliRunner

from labelpenet.cli import app
from labelpenet.config import Attention, config_from_dict
from labelpenet.data import load_dataset, load_image, write_scenes
from labelpenet.icn import lessons, training
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.icn.model import load_icn, save_icn
from labelpenet.icn.store import LessonStore
from labelpenet.icn.training import IcnTrainer, train_icn
from labelpenet.inference import Predictor
from labelpenet.labeling import open_labels
from labelpenet.labeling.job import LabelerSettings, label_dataset
from labelpenet.labeling.manifest import JobMismatch
from labelpenet.labeling.runner import Options
from labelpenet.models.cascade import load_checkpoint, save_checkpoint
from labelpenet.models.checkpoint import CheckpointError, method_of
from labelpenet.report.gallery import write_report
from labelpenet.training.loop import STATE


@pytest.fixture(scope="module")
def run(tmp_path_factory, scenes):
    out = tmp_path_factory.mktemp("run")
    train_icn(icn_config(), scenes, out, split="train")
    return out


def state(path):
    return load_icn(path)[0].state_dict()


def test_files_of_a_run(run):
    names = {path.name for path in run.iterdir()}
    assert {"classifier.pt", "lessons.parquet", "icn.pt", "losses.csv", "training.html"} <= names
    assert STATE not in names
    assert "ICN: cue propagation" in (run / "training.html").read_text()
    assert LessonStore(run / "lessons.parquet").names()


@pytest.mark.parametrize("stage", ["classifier", "cue propagation"])
def test_a_killed_run_goes_on_with_the_same_bits(stage, run, scenes, tmp_path, monkeypatch):
    original = training.run_stage

    def killed(stage_, config, engine, records, out, console):
        losses = stage_.losses

        def stops(step, examples):
            if stage_.title == stage and step == 2:
                raise KeyboardInterrupt
            return losses(step, examples)

        object.__setattr__(stage_, "losses", stops)
        original(stage_, config, engine, records, out, console)

    monkeypatch.setattr(training, "run_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        train_icn(icn_config(), scenes, tmp_path, split="train")
    assert (tmp_path / STATE).exists()
    monkeypatch.setattr(training, "run_stage", original)
    train_icn(icn_config(), scenes, tmp_path, split="train")
    ours, theirs = state(tmp_path / "icn.pt"), state(run / "icn.pt")
    assert [k for k in ours if not torch.equal(ours[k], theirs[k])] == []


def test_a_finished_run_is_left_alone(run, scenes, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    before = (tmp_path / "run" / "icn.pt").read_bytes()
    assert train_icn(icn_config(), scenes, tmp_path / "run", split="train").name == "icn.pt"
    assert (tmp_path / "run" / "icn.pt").read_bytes() == before
    train_icn(icn_config(steps=1), scenes, tmp_path / "run", split="train")  # inference alone
    with pytest.raises(CheckpointError, match="other settings"):
        train_icn(icn_config(channels=16), scenes, tmp_path / "run", split="train")


def test_without_a_network(scenes, tmp_path):
    path = train_icn(icn_config(network_steps=0, steps=0), scenes, tmp_path, split="train")
    assert path.name == "classifier.pt"
    image = load_image(load_dataset(scenes, split="train").records[0].path)
    assert IcnLabeler(path)(image, (0,)).module == 0


def test_saliency(scenes, tmp_path):
    train_icn(icn_config(saliency=str(scenes)), scenes, tmp_path, split="train")
    store = LessonStore(tmp_path / "lessons.parquet")
    masked = {record.name for record in load_dataset(scenes, split="test").records}
    assert store.names()
    assert set(store.names()) <= masked
    assert all(store.lesson(name, 0).label == -1 for name in store.names())


@pytest.mark.parametrize("taught", ["tags", "saliency"])
def test_large_photos_are_looked_at_as_copies(taught, tmp_path, monkeypatch):
    """Whose sides round otherwise; lessons have the size at which the network sees the photo."""
    write_scenes(tmp_path / "scenes", 3, seed=1, test_count=2, size=(150, 214))
    config = icn_config(saliency=str(tmp_path / "scenes") if taught == "saliency" else None)
    config = dataclasses.replace(config, longest=96, test_longest=96)
    seen = []
    for name in ("find_cues", "propose_segments"):
        real = getattr(lessons, name)
        at = 1 if name == "find_cues" else 0

        def watched(*given, real=real, at=at):
            seen.append(given[at].shape)
            return real(*given)

        monkeypatch.setattr(lessons, name, watched)
    train_icn(config, tmp_path / "scenes", tmp_path / "run", split="train")
    assert set(seen) == {(67, 96, 3)}
    store = LessonStore(tmp_path / "run" / "lessons.parquet")
    assert store.names()
    for record in load_dataset(tmp_path / "scenes").records:
        if record.name in store.names():
            example = lessons.load_at_network_size(record, config, torch.Generator())
            lesson = store.lesson(record.name, 0)
            assert lesson.mask.shape == lesson.cue.shape == example.size


def test_labels(run, scenes, tmp_path):
    settings = LabelerSettings(run / "icn.pt", method="icn")
    summary = label_dataset(scenes, tmp_path, settings, split="train", options=Options(pictures=9))
    assert summary.errors == 0
    labels = open_labels(tmp_path)
    assert labels.classes == CLASSES
    dataset = load_dataset(scenes, split="train")
    for record in dataset.records:
        image = labels[record.name]
        instances = image.instances()
        assert set(instances.labels.tolist()) <= set(record.labels)
        assert instances.masks.shape[1:] == (image.height, image.width)
        for box, mask in zip(instances.boxes, instances.masks, strict=True):
            rows, columns = mask.nonzero().T
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert "enhanced" in write_report(tmp_path).read_text()


def test_labels_are_repeatable(run, scenes):
    image = load_image(load_dataset(scenes, split="train").records[1].path)
    first, second = (IcnLabeler(run / "icn.pt", use_tags=False)(image, ()) for _ in range(2))
    assert torch.equal(first.instances.masks, second.instances.masks)
    assert torch.equal(first.instances.scores, second.instances.scores)


def test_bfloat16_runs_the_network_and_changes_little(run, scenes):
    image = load_image(load_dataset(scenes, split="test").records[0].path)
    whole, low = (
        IcnLabeler(run / "icn.pt", overrides=[f"train.precision={p}", "icn.binary=false"])
        for p in ("fp32", "bf16")
    )
    a, b = (one.predictor.enhanced(image, (0, 1, 2)).maps for one in (whole, low))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)


def test_refused(run, tmp_path):
    cascade = tmp_path / "cascade.pt"
    save_checkpoint(cascade, random_cascade(), 1)
    assert method_of(run / "icn.pt") == "icn"
    assert method_of(cascade) == "cascade"
    assert method_of(tmp_path / "missing.pt") is None
    with pytest.raises(CheckpointError, match="a checkpoint of method cascade, got 'icn'"):
        load_checkpoint(run / "icn.pt")
    with pytest.raises(CheckpointError, match="a checkpoint of method icn, got 'cascade'"):
        load_icn(cascade)
    with pytest.raises(CheckpointError, match="expected a checkpoint of icn, got one of cascade"):
        LabelerSettings(cascade, method="icn").labeler()
    with pytest.raises(CheckpointError, match="expected a checkpoint of cascade, got one of icn"):
        LabelerSettings(run / "icn.pt", method="cascade").labeler()
    with pytest.raises(ValueError, match="no modules"):
        LabelerSettings(run / "icn.pt", module=1).labeler()
    with pytest.raises(CheckpointError, match="method icn"):
        load_icn(cascade)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_icn(tmp_path / "missing.pt")
    broken = tmp_path / "broken.pt"
    broken.write_bytes((run / "icn.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_icn(broken)
    other = torch.load(run / "icn.pt", weights_only=True)
    for key, value in (("trained", 7), ("classes", "cat"), ("state", {}), ("format", 9)):
        torch.save(other | {key: value}, broken)
        with pytest.raises(CheckpointError, match=str(broken)):
            load_icn(broken)


def test_command(scenes, tmp_path):
    settings = tmp_path / "tiny.yaml"
    import yaml

    settings.write_text(yaml.safe_dump(icn_config().to_dict()))
    out = tmp_path / "run"
    arguments = ["train", str(scenes), str(out), "--split", "train", "--method", "icn"]
    result = CliRunner().invoke(app, [*arguments, "-c", str(settings)])
    assert result.exit_code == 0, result.output
    assert (out / "icn.pt").exists()
    arguments = ["label", str(scenes), str(tmp_path / "labels"), "--split", "train"]
    result = CliRunner().invoke(app, [*arguments, "--checkpoint", str(out / "icn.pt")])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("kind", [Attention.PRM, Attention.ICN])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_of_calibration(kind, precision, run, scenes):
    cascade = random_cascade(f"train.precision={precision}")
    plain = cascade.config.to_dict()
    plain["calibration"]["attention"] = kind.value
    cascade.config = config_from_dict(plain)
    with pytest.raises(ValueError, match=r"icn.attention_checkpoint: calibration.attention"):
        Predictor(cascade)
    plain["icn"]["attention_checkpoint"] = str(run / "icn.pt")
    cascade.config = config_from_dict(plain)
    image = load_image(load_dataset(scenes, split="train").records[0].path)
    boxes = np.array([[5.0, 5, 40, 40], [20, 10, 60, 50], [0, 0, 64, 64]], np.float32)
    labelling = Predictor(cascade)(image, boxes, 1, (0, 1))
    assert labelling.instances.masks.shape[1:] == image.shape[:2]
    assert float(labelling.maps["attention"].min()) >= 0
    assert float(labelling.maps["attention"].max()) <= 1
    icn, trained = load_icn(run / "icn.pt")
    icn.classes = ("cat", "dog", "cow")
    save_icn(run / "other.pt", icn, trained)
    plain["icn"]["attention_checkpoint"] = str(run / "other.pt")
    cascade.config = config_from_dict(plain)
    with pytest.raises(CheckpointError, match="expected the classes"):
        Predictor(cascade)


def test_labels_by_another_attention_are_another_job(run, scenes, tmp_path):
    save_checkpoint(tmp_path / "cascade.pt", random_cascade(), 1)
    seen = tmp_path / "icn.pt"
    shutil.copy(run / "icn.pt", seen)
    overrides = ("calibration.attention=prm", f"icn.attention_checkpoint={seen}")
    settings = LabelerSettings(tmp_path / "cascade.pt", overrides=overrides)
    label_dataset(scenes, tmp_path / "labels", settings, split="train")
    icn, trained = load_icn(seen)
    with torch.no_grad():
        next(icn.parameters()).add_(0.1)
    save_icn(seen, icn, trained)
    with pytest.raises(JobMismatch, match="attention checkpoint"):
        label_dataset(scenes, tmp_path / "labels", settings, split="train")


def test_settings_change_what_is_compared():
    assert training._comparable(icn_config()) == training._comparable(icn_config(steps=4))
    assert training._comparable(icn_config()) != training._comparable(icn_config(size=50))


def test_trainer_wants_a_peak(scenes, tmp_path, monkeypatch):
    dataset = load_dataset(scenes, split="train")
    trainer = IcnTrainer(icn_config(), dataset, tmp_path)
    monkeypatch.setattr(trainer.teacher, "_teach", lambda record: [])
    with pytest.raises(ValueError, match="expected a peak and"):
        trainer.run()
