"""The log of a training: rows, what a resumed stage drops, TensorBoard's events."""

import csv
import sys

import pytest
from tiny_cascade import scene_data, tiny_config

from labelpenet.data import write_scenes
from labelpenet.training.log import EVERY, TrainingLog
from labelpenet.training.run import train_cascade
from labelpenet.training.trainer import Trainer


def rows(path):
    with path.open(newline="") as file:
        return [row[:4] for row in csv.reader(file)][1:]


def fill(log, first, last):
    """`loss` is the step's number."""
    for step in range(first, last):
        log.add({"loss": float(step)})
        log.write(step + 1, due=step + 1 == last)


def test_rows_are_means(tmp_path):
    fill(TrainingLog(tmp_path / "losses.csv", 2), 0, EVERY + 4)
    expected = [["2", "20", "loss", "9.5"], ["2", "24", "loss", "21.5"]]
    assert rows(tmp_path / "losses.csv") == expected


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda whole: b"", []),
        (lambda whole: b"\0" * 40, []),
        (lambda whole: b"a,b\r\n1,2\r\n", []),
        (lambda whole: whole[: whole.index(b"\r")], []),  # of the header, half a line
        (lambda whole: whole + b"1,40,lo", ["20", "40"]),
        (lambda whole: whole[:-3], ["20"]),  # of its seconds, the first digits
        (lambda whole: whole + b"1,60,loss\r\n", ["20", "40"]),
        (lambda whole: whole + b"1,60,loss,0.3,1\xff\r\n", ["20", "40"]),
        (lambda whole: whole + b"1,60,loss,0.3,1,2,60,loss,1,3\r\n", ["20", "40"]),
    ],
)
def test_rows_that_are_torn_go(tmp_path, damage, left):
    path = tmp_path / "losses.csv"
    fill(TrainingLog(path, 1), 0, 40)
    path.write_bytes(damage(path.read_bytes()))
    fill(TrainingLog(path, 2), 0, 20)
    assert [row[:3] for row in rows(path)] == [["1", step, "loss"] for step in left] + [
        ["2", "20", "loss"]
    ]
    assert path.read_text().startswith("stage,step,name,value,seconds\n")


def test_a_resumed_stage_drops_what_comes_after(tmp_path):
    path = tmp_path / "losses.csv"
    fill(TrainingLog(path, 1), 0, 40)
    fill(TrainingLog(path, 2), 0, 60)
    fill(TrainingLog(path, 2, first=20), 20, 40)
    assert [row[:2] for row in rows(path)] == [["1", "20"], ["1", "40"], ["2", "20"], ["2", "40"]]


def events(folder):
    """{tag: [(step, value)]} of TensorBoard's files."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_events(tmp_path):
    pytest.importorskip("tensorboard")
    log = TrainingLog(tmp_path / "losses.csv", 3, tensorboard=tmp_path / "events")
    fill(log, 0, 2 * EVERY)
    assert events(tmp_path / "events") == {"stage3/loss": [(20, 9.5), (40, 29.5)]}


def test_a_training_writes_what_it_logs(tmp_path):
    pytest.importorskip("tensorboard")
    config = tiny_config("train.tensorboard=true", "train.trunk_steps=0")
    write_scenes(tmp_path / "scenes", 4, seed=1, test_count=0, size=(64, 64))
    run = tmp_path / "run"
    Trainer(config, *scene_data(tmp_path / "scenes", config), run).run(2)
    logged = {f"stage{r[0]}/{r[2]}": [(int(r[1]), float(r[3]))] for r in rows(run / "losses.csv")}
    found = events(run / "tensorboard")
    assert "stage1/multi_label" in found
    assert found.keys() == logged.keys()
    for tag, points in logged.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points]
        assert found[tag][0][1] == pytest.approx(points[0][1], rel=1e-4)


def test_without_the_extra(tmp_path, monkeypatch):
    """Said before anything is read or computed, with the command that helps."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ValueError, match=r"pip install 'labelpenet\[tensorboard\]'"):
        TrainingLog(tmp_path / "losses.csv", 1, tensorboard=tmp_path / "events")
    with pytest.raises(ValueError, match=r"train\.tensorboard: needs the extra"):
        train_cascade(tiny_config("train.tensorboard=true"), tmp_path / "none", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == []
