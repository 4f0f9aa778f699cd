"""The same run from the same seed, whole or stopped and taken up again."""

import csv
import dataclasses
import shutil

import pytest
import torch
from tiny_cascade import saved_state, tiny_config

from labelpenet.models.checkpoint import CheckpointError
from labelpenet.training.optimization import Stepper
from labelpenet.training.targets import TargetStore
from labelpenet.training.trainer import Trainer


def assert_same_run(out, other):
    for name in (*(f"module{number}.pt" for number in range(5)), "forward_backward.pt"):
        ours, theirs = saved_state(out / name), saved_state(other / name)
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


def test_same_seed_same_run(trained, tmp_path, config, data):
    Trainer(config, *data, tmp_path).run()
    assert_same_run(trained, tmp_path)


def test_another_seed_another_run(trained, tmp_path, config, data):
    Trainer(dataclasses.replace(config, seed=1), *data, tmp_path).run(1)
    ours, theirs = saved_state(trained / "module1.pt"), saved_state(tmp_path / "module1.pt")
    assert any(not torch.equal(ours[key], theirs[key]) for key in ours)


def test_whatever_the_thread_count(trained, tmp_path, config, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        Trainer(config, *data, tmp_path).run(2)
    finally:
        torch.set_num_threads(threads)
    for number in (1, 2):
        ours, theirs = (
            saved_state(trained / f"module{number}.pt"),
            saved_state(tmp_path / f"module{number}.pt"),
        )
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
    ours, theirs = (saved_state(out / "forward_backward.pt") for out in (whole, broken))
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


def test_killed_before_merged_parts_were_removed(trained, tmp_path, config, data):
    for name in ("module0.pt", "module1.pt", "module2.pt", "targets2.parquet"):
        shutil.copy(trained / name, tmp_path)
    (tmp_path / ".targets2.0.parquet").write_bytes(b"merged")
    (tmp_path / "..targets2.1.parquet.tmp").write_bytes(b"half a part")
    Trainer(config, *data, tmp_path).run(3)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_finished_run_is_left_alone(trained, config, data):
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    trainer = Trainer(config, *data, trained)
    trainer.run()
    assert trainer.done == 5
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "keys", "list", "shapes"])
def test_a_damaged_state_is_named(tmp_path, data, damage):
    config = tiny_config("train.trunk_steps=0", "train.forward_backward_steps=0")
    trainer = Trainer(config, *data, tmp_path)
    path = tmp_path / "state.pt"
    weights = {"fc.fc6.weight": torch.zeros(2)}
    torch.save({"stage": 1, "step": 1, "weights": weights, "stepper": {}}, path)
    if damage in ("truncated", "text", "empty"):
        whole = path.read_bytes()
        path.write_bytes({"truncated": whole[:-100], "text": b"state", "empty": b""}[damage])
    elif damage != "shapes":
        torch.save({"a": 1} if damage == "keys" else [1], path)
    with pytest.raises(CheckpointError, match=r"^.*state\.pt: damaged \(.+\); delete it") as caught:
        trainer.run(1)
    assert "\n" not in str(caught.value)
