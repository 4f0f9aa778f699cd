"""Good and bad cases of labelled scenes."""

import importlib

import numpy as np
import pytest
from labeling.scenes import from_masks
from PIL import Image

from labelpenet.data import write_scenes
from labelpenet.data.datasets import load_dataset
from labelpenet.evaluation.files import dataset_truth
from labelpenet.labeling.coco import write_labels

good_and_bad = importlib.import_module("benchmarks.good_and_bad")


@pytest.fixture
def labelled(tmp_path):
    """Three scenes: labelled right, in part, and not at all."""
    write_scenes(tmp_path / "scenes", 1, seed=3, test_count=3, size=(48, 48))
    dataset = load_dataset(tmp_path / "scenes", split="test")
    truth = dataset_truth(tmp_path / "scenes", dataset)
    labels, sizes = {}, {}
    for k, record in enumerate(dataset.records):
        known = truth[record.name]
        masks = known.masks.copy()
        masks[:, :, : 24 * k] = False
        found = from_masks(masks, labels=list(known.labels))
        labels[record.name] = found.select([]) if k == 2 else found
        sizes[record.name] = masks.shape[1:]
    write_labels(tmp_path / "labels.json", dataset.classes, labels, sizes)
    return tmp_path


def test_the_best_comes_first(labelled):
    every = good_and_bad.cases(labelled / "labels.json", labelled / "scenes", "test")
    figures = [case.figure for case in every]
    assert figures[0] == 1
    assert 1 > figures[1] > figures[2] == 0


@pytest.mark.parametrize("count", [1, 1000])
def test_picture(labelled, capsys, count):
    """No photo is among the best and the worst."""
    out = labelled / "cases.png"
    words = [labelled / "labels.json", labelled / "scenes", "--split", "test", "--out", out]
    assert good_and_bad.main([*map(str, words), "--count", str(count)]) == 0
    picture = np.array(Image.open(out))
    assert picture.shape[0] == 204
    first = capsys.readouterr().out.splitlines()
    assert first[0].startswith("best")
    assert "1.00" in first[0]
    assert first[1].startswith("worst")
    assert "0.00" in first[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["none.json", "scenes", "--out", "a.jpg"], "none.json"),
        (["labels.json", "none", "--out", "a.jpg"], "none"),
        (["labels.json", "scenes", "--split", "none", "--out", "a.jpg"], "none"),
    ],
)
def test_what_is_wrong_in_one_line(labelled, monkeypatch, capsys, given, message):
    monkeypatch.chdir(labelled)
    assert good_and_bad.main(given) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("given", [["--out", "a.xyz"], ["--out", "a.jpg", "--count", "0"]])
def test_arguments_are_checked_first(labelled, monkeypatch, capsys, given):
    monkeypatch.chdir(labelled)
    with pytest.raises(SystemExit):
        good_and_bad.main(["none.json", "none", *given])
    assert "expected a" in capsys.readouterr().err
