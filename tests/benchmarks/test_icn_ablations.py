"""ICN's ablations on scenes: rows kept, the classifier shared, sources of attention."""

import importlib
import json

import pytest
import torch
import yaml
from icn_scenes import icn_config
from tiny_cascade import one_thread, random_cascade

from labelpenet.data import write_scenes
from labelpenet.icn.model import load_icn
from labelpenet.models.cascade import save_checkpoint

__all__ = ["one_thread"]
ablations = importlib.import_module("benchmarks.icn_ablations")
NAMES = ("full", "without CFM and DFM", "equation 5 without rebalance", "PRM baseline", "2 steps")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablations")
    write_scenes(folder / "scenes", 4, seed=1, test_count=2, size=(64, 64))
    (folder / "config.yaml").write_text(yaml.safe_dump(icn_config().to_dict()))
    save_checkpoint(folder / "cascade.pt", random_cascade(), 1)
    arguments = [str(folder / "scenes")] * 2 + [str(folder / "runs"), "--split", "train"]
    arguments += ["-c", str(folder / "config.yaml"), "--cascade", str(folder / "cascade.pt")]
    arguments += ["--dev-split", "test", "--name", "test", "--results", str(folder)]
    for name in NAMES:
        arguments += ["--only", name]
    ablations.main(arguments)
    return folder, arguments, json.loads((folder / "test.json").read_text())


def test_rows(table):
    folder, _, content = table
    attention = [f"module 1, masks from {kind}" for kind in ("excitation", "prm", "icn")]
    assert list(content["ladder"]) == [*NAMES, *attention]
    assert all("mIoU" in row["0"] for row in content["rows"].values())
    assert (folder / "runs" / "pictures.jpg").exists()


def test_the_classifier_is_shared(table):
    folder = table[0] / "runs" / "seed0"
    full, _ = load_icn(folder / "full" / "icn.pt")
    for name in ("without-CFM-and-DFM", "equation-5-without-rebalance"):
        other, _ = load_icn(folder / name / "icn.pt")
        ours, theirs = full.classifier.state_dict(), other.classifier.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    same = (folder / "full" / "lessons.parquet").read_bytes()
    assert (folder / "without-CFM-and-DFM" / "lessons.parquet").read_bytes() == same


def test_finished_rows_are_read(table, monkeypatch):
    folder, arguments, content = table

    def never(*_, **__):
        raise AssertionError("evaluated again")

    monkeypatch.setattr(ablations, "evaluate_module", never)
    ablations.main([*arguments, "--seed", "0"])
    assert json.loads((folder / "test.json").read_text())["ladder"] == content["ladder"]


def test_masks_that_are_given(table, capsys):
    """They teach every network but that of one row, and equation 5 trains nothing."""
    folder, arguments, _ = table
    out = folder / "taught"
    arguments = [*arguments[:2], str(out), *arguments[3 : arguments.index("--cascade")]]
    arguments += ["--dev-split", "test", "--name", "taught", "--results", str(folder)]
    arguments += ["--set", f"icn.saliency={json.dumps(str(folder / 'scenes'))}"]
    for name in ("full", "own pseudo labels", "equation 5", "without CFM and DFM"):
        arguments += ["--only", name]
    ablations.main(arguments)
    lessons = {path.parent.name: path.read_bytes() for path in out.glob("seed0/*/lessons.parquet")}
    assert lessons["without-CFM-and-DFM"] == lessons["full"] != lessons["own-pseudo-labels"]
    assert not (out / "seed0" / "equation-5").exists()
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_nothing_is_given(table):
    """Then the row without given masks is the full one."""
    folder, arguments, content = table
    only = arguments.index("--only")
    ablations.main([*arguments[:only], "--only", "full", "--only", "own pseudo labels"])
    rows = json.loads((folder / "test.json").read_text())["ladder"]
    assert rows["own pseudo labels"] == rows["full"] == content["ladder"]["full"]
