"""Two processes share a run by torchrun and learn what one process learns."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_cascade import OVERRIDES, scene_data, tiny_config

import labelpenet
from labelpenet.data import ProposalStore, write_scenes
from labelpenet.models.cascade import load_checkpoint
from labelpenet.training.engine import Engine
from labelpenet.training.targets import TargetStore

# Each process draws its own dropout masks; everything else follows from the place in the batch.
# AdamW's first steps are the gradient's signs, which rounding may turn.
SETTINGS = (*OVERRIDES, "model.dropout=0", "train.optimizer=sgd", "train.own_labels_at=0.5")

LAUNCHER = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def train(out: Path, scenes: Path, processes: int, until: int, stored: bool = True) -> None:
    several = [*LAUNCHER, f"--nproc-per-node={processes}"]
    launcher = several if processes > 1 else [sys.executable]
    settings = [part for value in SETTINGS for part in ("--set", value)]
    boxes = scenes.parent / "proposals.parquet"
    command = [*launcher, "-m", "labelpenet", "--threads", "1", "train", str(scenes), str(out)]
    command += ["--split", "train", "--until", str(until), *settings]
    command += ["--proposals", str(boxes)] if stored else []
    root = Path(labelpenet.__file__).resolve().parents[1]  # the package that is tested
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=scenes,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(out: Path) -> dict[tuple[str, str, str], float]:
    with (out / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(r["stage"], r["step"], r["name"]): float(r["value"]) for r in rows}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("processes")
    write_scenes(folder / "scenes", 5, seed=1, test_count=0, size=(64, 64))
    scene_data(folder / "scenes", tiny_config())
    outs = (folder / "one", folder / "two")
    for processes, out in enumerate(outs, 1):
        train(out, folder / "scenes", processes, 4)
    return outs


@pytest.fixture(scope="module")
def forward_backward(runs, tmp_path_factory) -> tuple[Path, Path]:
    """Both from one cascade: labels found on the fly leap where a score crosses a threshold."""
    folder = tmp_path_factory.mktemp("forward-backward")
    outs = (folder / "one", folder / "two")
    for processes, out in enumerate(outs, 1):
        shutil.copytree(runs[0], out)
        train(out, runs[0].parent / "scenes", processes, 5)
    return outs


def test_same_losses(runs, forward_backward):
    compare_losses(runs, {"0", "1", "2", "3", "4"})
    compare_losses(forward_backward, {"0", "1", "2", "3", "4", "5"})


def compare_losses(folders, stages):
    one, two = map(losses, folders)
    assert one.keys() == two.keys()
    assert {stage for stage, _, _ in one} == stages
    for key, value in one.items():
        exact = key[0] in ("0", "1")  # later stages learn from labels, which leap
        assert two[key] == pytest.approx(value, rel=1e-5 if exact else 1e-2, abs=1e-4), key


def test_same_labels(runs):
    for number in (1, 2, 3):
        one, two = (TargetStore.open(out / f"targets{number}.parquet") for out in runs)
        assert one.names() == two.names()
        assert not list(runs[1].glob(".targets*"))


def test_same_weights(runs, forward_backward):
    for folders, name in (
        (runs, "module0.pt"),
        (runs, "module1.pt"),
        (forward_backward, "forward_backward.pt"),
    ):
        one, two = (load_checkpoint(out / name)[0].state_dict() for out in folders)
        exact = name in ("module0.pt", "module1.pt")
        for key, value in one.items():
            tolerance = {"rtol": 1e-5, "atol": 1e-6} if exact else {"rtol": 1e-2, "atol": 1e-3}
            assert torch.allclose(value, two[key], **tolerance), (name, key)


def test_the_first_process_computes_proposals(runs, tmp_path):
    scenes = runs[0].parent / "scenes"
    train(tmp_path, scenes, 2, 1, stored=False)
    assert (tmp_path / "module1.pt").exists()
    assert len(ProposalStore.open(tmp_path / "proposals.parquet")) == 5


def test_a_batch_that_cannot_be_shared(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"train\.batch: expected a multiple of the 2 processes"):
        Engine(tiny_config("train.batch=3"))


AVERAGING = """
import torch
from tiny_cascade import tiny_config
from labelpenet.training.engine import Engine

engine = Engine(tiny_config())
both, one, none = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
both.grad = torch.tensor([1.0, 2.0]) * (engine.rank + 1)
if engine.rank == 1:
    one.grad = torch.tensor([4.0, 0.0])
engine.average_gradients([both, one, none])
assert both.grad.tolist() == [1.5, 3.0], both.grad
assert one.grad.tolist() == [2.0, 0.0], one.grad
assert none.grad is None, none.grad
"""


def test_no_gradient_anywhere_stays_none(tmp_path):
    """A zero instead would move a parameter by its momentum and decay, as one process does not."""
    (tmp_path / "averaging.py").write_text(AVERAGING)
    root = Path(labelpenet.__file__).resolve().parents[1]
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [*LAUNCHER, "--nproc-per-node=2", str(tmp_path / "averaging.py")],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}{os.pathsep}{tests}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
