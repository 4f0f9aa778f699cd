"""Ablations on scenes: a row each, started from the full run where module 1 is the same."""

import importlib
import json
import shutil

import pytest
import torch
from tiny_cascade import OVERRIDES, one_thread

from labelpenet.data import write_scenes
from labelpenet.models.cascade import load_checkpoint
from labelpenet.models.checkpoint import CheckpointError

__all__ = ["one_thread"]
ablations = importlib.import_module("benchmarks.ablations")
SETTINGS = [*OVERRIDES, "train.trunk_steps=1", "calibration.crf.iterations=0"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations")
    write_scenes(folder / "scenes", 4, seed=1, test_count=2, size=(64, 64))
    arguments = [str(folder / "scenes")] * 2 + [str(folder / "runs"), "--split", "train"]
    for value in SETTINGS:
        arguments += ["--set", value]
    for name in ("full", "attention only", "half fc width"):
        arguments += ["--only", name]
    arguments += ["--kept", str(folder / "kept"), "--samples", "20"]
    arguments += ["--name", "test", "--results", str(folder)]
    ablations.main(arguments)
    return folder, json.loads((folder / "test.json").read_text()), arguments


def test_rows(table):
    rows = table[1]["rows"]
    assert list(rows) == ["full", "attention only", "half fc width"]
    for row in rows.values():
        assert len(row["ladder"]) == 8  # four modules, before and after forward-backward
        assert all(0 <= module["mAP"] <= 1 for module in row["ladder"].values())


def test_rows_are_compared_with_the_full_run(table):
    content = table[1]
    assert list(content["against the full run"]) == ["attention only", "half fc width"]
    last = {name: list(row["ladder"].values())[-1] for name, row in content["rows"].items()}
    for name, found in content["against the full run"].items():
        for figure in ("mAP", "mAP^r 50"):
            fall = last[name][figure] - last["full"][figure]
            assert found[figure]["difference"] == pytest.approx(fall)


def test_answers_are_kept(table, monkeypatch):
    """The same call again trains and evaluates nothing, and writes the same."""
    folder, content, arguments = table
    assert len(list((folder / "kept").iterdir())) == 6
    checkpoints = importlib.import_module("benchmarks.checkpoints")
    monkeypatch.setattr(checkpoints, "evaluate_cascade", None)
    ablations.main(arguments)
    assert json.loads((folder / "test.json").read_text())["rows"] == content["rows"]


def test_module_1_alone(table):
    """Rows of the runs that are there: nothing is trained."""
    folder = table[0]
    losses = {path: path.read_bytes() for path in folder.rglob("losses.csv")}
    scenes, runs = str(folder / "scenes"), folder / "first"
    shutil.copytree(folder / "runs" / "full", runs / "full")
    for path in runs.rglob("*"):
        if path.name not in ("full", "module0.pt", "module1.pt", "proposals.parquet"):
            path.unlink()
    arguments = [scenes, scenes, str(runs), "--split", "train", "--until", "1"]
    for value in SETTINGS:
        arguments += ["--set", value]
    arguments += ["--only", "full", "--only", "no instance weights", "--name", "first"]
    ablations.main([*arguments, "--results", str(folder)])
    rows = json.loads((folder / "first.json").read_text())["rows"]
    first, same = (row["ladder"]["classification"] for row in rows.values())
    before = table[1]["rows"]["full"]["ladder"]["classification"]
    for row in (first, same):
        assert row | {"s/image": 0} == pytest.approx(before | {"s/image": 0})
    assert not list(runs.rglob("module2.pt"))
    assert not list(runs.rglob("losses.csv"))
    assert all(path.read_bytes() == old for path, old in losses.items())


def test_what_is_shared(table):
    runs = table[0] / "runs"
    full, attention, narrow = (
        load_checkpoint(runs / name / "module1.pt")[0]
        for name in ("full", "attention-only", "half-fc-width")
    )
    assert torch.equal(full.classification.fc8c.weight, attention.classification.fc8c.weight)
    assert attention.config.calibration.combine.value == "attention"
    assert narrow.config.model.fc_width * 2 == full.config.model.fc_width


def test_the_cascade_has_a_row_of_its_own(table):
    rows = ablations.table(table[1]["rows"])
    assert list(rows)[:2] == ["full, cascade only", "full"]
    ladder = table[1]["rows"]["full"]["ladder"]
    assert rows["full, cascade only"] == ladder["segmentation"]
    assert rows["full"] == ladder["segmentation, forward-backward"]


def test_module_1_of_other_settings_is_refused(table, tmp_path):
    config = ablations.settings(None, [*SETTINGS, "seed=7"], "no CRF")
    with pytest.raises(CheckpointError, match=r"module1\.pt: made with other .*\(seed: 0 there, 7"):
        ablations.start_from(table[0] / "runs" / "full", tmp_path / "row", config)
    assert not (tmp_path / "row").exists()


def test_dev_is_read_before_a_training(table, tmp_path, capsys):
    given = [str(table[0] / "scenes"), str(tmp_path / "none"), str(tmp_path / "out")]
    assert ablations.main([*given, "--split", "train", "--name", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", list(ablations.ABLATIONS))
def test_every_row_changes_something(name):
    full = ablations.settings("demo", [], "full")
    assert (ablations.settings("demo", [], name) == full) == (name == "full")
