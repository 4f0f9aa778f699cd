"""The ladder on scenes: two trainings, their means, and the steps between the modules."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
from tiny_cascade import one_thread, scene_data, tiny_config

from labelpenet.config import load_config
from labelpenet.data import write_scenes
from labelpenet.training.trainer import Trainer

__all__ = ["one_thread"]
ladder = importlib.import_module("benchmarks.ladder")
checkpoints = importlib.import_module("benchmarks.checkpoints")
rows = importlib.import_module("benchmarks.rows")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    for seed in (0, 1):  # the same scenes, with proposals of their own
        scenes = folder / str(seed) / "scenes"
        write_scenes(scenes, 4, seed=1, test_count=2, size=(64, 64))
        config = tiny_config(f"seed={seed}", "train.forward_backward_steps=1")
        data = scene_data(scenes, config)
        Trainer(config, *data, folder / f"run{seed}").run()
    return folder


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """Lets worker processes find the package too, without the sources of labelpenet beside it."""
    (tmp_path / "benchmarks").symlink_to(Path(ladder.__file__).parent)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("workers", [1, 2])
def test_means_and_steps(runs, workers, capsys):
    scenes = str(runs / "0" / "scenes")
    arguments = [scenes, str(runs / "run0"), str(runs / "run1"), "--split", "test"]
    arguments += ["--train", scenes, "--train-split", "train", "--samples", "20"]
    name = f"with{workers}"
    ladder.main([*arguments, "--workers", str(workers), "--name", name, "--results", str(runs)])
    content = json.loads((runs / f"{name}.json").read_text())
    assert len(content["ladder"]) == 8
    for title, row in content["ladder"].items():
        both = content["runs"][title]
        assert len(both) == 2
        assert row["mAP"] == pytest.approx((both[0]["mAP"] + both[1]["mAP"]) / 2)
    assert list(content["steps"]) == [
        "classification -> detection",
        "detection -> refinement",
        "refinement -> segmentation",
        "segmentation -> segmentation, forward-backward",
    ]
    step = content["steps"]["classification -> detection"]["mAP"]
    rows = content["ladder"]
    rise = rows["detection"]["mAP"] - rows["classification"]["mAP"]
    assert step["difference"] == pytest.approx(rise)
    assert [set(one) for one in content["CorLoc of labels handed on"]] == [{"1", "2", "3"}] * 2
    assert "| classification |" in capsys.readouterr().out


def test_a_stopped_run_goes_on(runs, monkeypatch, capsys):
    arguments = [str(runs / "0" / "scenes"), str(runs / "run0"), "--split", "test", "--name", "x"]
    arguments += ["--results", str(runs), "--samples", "20", "--kept", str(runs / "kept")]
    ladder.main(arguments)
    assert len(list((runs / "kept").iterdir())) == 2
    once = capsys.readouterr().out
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "evaluate_cascade", None)  # nothing is left to evaluate
        ladder.main(arguments)
    assert capsys.readouterr().out == once
    asked = []
    whole = checkpoints.evaluate_cascade
    monkeypatch.setattr(
        checkpoints, "evaluate_cascade", lambda labeler, *a: asked.append(1) or whole(labeler, *a)
    )
    ladder.main([*arguments, "--set", "detection.contrast=1"])  # other settings, other answers
    assert len(asked) == 2


def test_a_store_for_each_run_is_asked_for(runs, capsys):
    with pytest.raises(SystemExit):
        ladder.main(
            [str(runs / "0" / "scenes"), str(runs / "run0"), "--proposals", "a", "b", "--name", "x"]
        )
    assert "--proposals: expected one for each of 1 runs" in capsys.readouterr().err


def test_rows_that_a_run_lacks_are_told(runs, tmp_path, capsys):
    shutil.copy(runs / "run1" / "module4.pt", tmp_path)
    arguments = [str(runs / "0" / "scenes"), str(runs / "run0"), str(tmp_path), "--split", "test"]
    name = ["--name", "x", "--results", str(tmp_path), "--samples", "2"]
    assert ladder.main([*arguments, *name]) == 0
    assert f"no rows of forward_backward.pt, which is not in {tmp_path}" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "x.json").read_text())["ladder"]) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "none"}, "expected module4.pt or forward_backward.pt in each of"),
        ({"dev": "none"}, "none: no such"),
        ({"dev": "unmasked"}, "unmasked: expected images with true masks, got 2 without"),
        ({"set": "detection.nop=1"}, "unknown key detection.nop"),
        ({"device": "cuda:99"}, "device: expected cpu, cuda or cuda:N, got cuda:99"),
        ({"proposals": "none.parquet"}, "none.parquet"),
        ({"train": "unmasked", "train-split": "test"}, "which is not in unmasked"),
    ],
)
def test_what_is_wrong_is_told_before_the_work(
    runs, tmp_path, monkeypatch, capsys, change, message
):
    unmasked = shutil.ignore_patterns("Segmentation?*")
    shutil.copytree(runs / "0" / "scenes", tmp_path / "unmasked", ignore=unmasked)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoints, "evaluate_cascade", None)
    dev, run = change.pop("dev", runs / "0" / "scenes"), change.pop("run", runs / "run0")
    arguments = [str(dev), str(run), "--split", "test"]
    for name, value in change.items():
        arguments += [f"--{name}", value]
    assert ladder.main([*arguments, "--name", "x", "--results", "."]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1


def test_settings_keep_no_paths():
    named = ["model.weights=/a/b.pth", "icn.saliency=/a/c", "icn.attention_checkpoint=/a/d.pt"]
    kept = rows.settings_of(load_config(None, named))
    assert kept["model"]["weights"] == "b.pth"
    assert kept["icn"]["saliency"] == "c"
    assert kept["icn"]["attention_checkpoint"] == "d.pt"
    assert "/a/" not in json.dumps(kept)
