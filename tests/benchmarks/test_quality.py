"""Precision against the share kept: by hand, and the files of the command."""

import csv
import dataclasses
import importlib

import numpy as np
import pytest
import torch
from labeling.scenes import from_masks

from labelpenet.data import write_scenes
from labelpenet.data.datasets import load_dataset
from labelpenet.evaluation.files import dataset_truth
from labelpenet.labeling.coco import write_labels
from labelpenet.types import GroundTruth, Quality

quality = importlib.import_module("benchmarks.quality")
NAN = float("nan")


@pytest.mark.parametrize(
    ("right", "figure", "shares", "precision", "thresholds"),
    [
        # best first: right, wrong, right
        ([0, 1, 1], [0.5, 0.2, 0.9], [1 / 3, 2 / 3, 1], [1, 0.5, 2 / 3], [0.9, 0.5, 0.2]),
        ([1, 0, 0, 1], [0.5, 0.5, 0.5, 0.7], [0.25, 1], [1, 0.5], [0.7, 0.5]),  # ties together
        ([1, 0, 1], [NAN, 0.4, 0.3], [0.5, 1], [0, 0.5], [0.4, 0.3]),  # the unknown is left out
        ([1], [NAN], [], [], []),
        ([], [], [], [], []),
    ],
)
def test_curve(right, figure, shares, precision, thresholds):
    found = quality.curve(np.array(right, bool), np.array(figure, float))
    for values, wanted in zip(found, (shares, precision, thresholds), strict=True):
        assert values.tolist() == pytest.approx(wanted)


def test_area():
    assert quality.area(np.array([0.25, 1]), np.array([1, 0.5])) == 0.25 + 0.75 * 0.5
    assert np.isnan(quality.area(np.zeros(0), np.zeros(0)))


def test_judged():
    """An IoU of one half is right, another class is wrong, rows follow their own figures."""
    masks = np.zeros((3, 2, 4), bool)
    masks[0, :, :1] = masks[1, :, :2] = masks[2, :, :] = True
    found = from_masks(masks, labels=[0, 1, 0], scores=[0.1, 0.5, 0.9])
    found = dataclasses.replace(
        found, quality=Quality.of(3, crf_change=torch.tensor([0.3, 0.2, 1]))
    )
    truth = GroundTruth(
        np.array([[0, 0, 2, 2]], np.float32), np.array([0]), np.array([False]), masks[1:2]
    )
    right, figures = quality.judged([("a", found), ("b", found)], {"a": truth}, 2)
    assert figures["score"].tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert right.tolist() == [True, False, True]
    assert figures["crf_change"].tolist() == pytest.approx([1, 0.2, 0.3])
    assert np.isnan(figures["agreement"]).all()


def test_command(tmp_path, capsys):
    """True masks with high quality, a bad one with a low one: filtering lifts precision to 1."""
    pytest.importorskip("matplotlib")
    write_scenes(tmp_path / "scenes", 1, seed=3, test_count=4, size=(48, 48))
    dataset = load_dataset(tmp_path / "scenes", split="test")
    truth = dataset_truth(tmp_path / "scenes", dataset)
    labels, sizes = {}, {}
    for record in dataset.records:
        known = truth[record.name]
        masks = np.concatenate([known.masks, ~known.masks[:1]])
        found = from_masks(masks, labels=[*known.labels, known.labels[0]])
        good = torch.tensor([1.0] * len(known.labels) + [0.25])
        labels[record.name] = dataclasses.replace(
            found, quality=Quality.of(len(good), crf_change=good)
        )
        sizes[record.name] = masks.shape[1:]
    write_labels(tmp_path / "labels.json", dataset.classes, labels, sizes)
    out = tmp_path / "deep" / "curve"
    words = [tmp_path / "labels.json", tmp_path / "scenes", "--split", "test", "--out", out]
    assert quality.main([str(word) for word in words]) == 0
    with (tmp_path / "deep" / "curve.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["figure"] == "overall"]
    assert [float(row["threshold"]) for row in rows] == [1, 0.25]
    assert float(rows[0]["precision"]) == 1
    assert float(rows[1]["kept"]) == 1
    assert float(rows[1]["precision"]) < 1
    svg = (tmp_path / "deep" / "curve.svg").read_text()
    assert svg.startswith("<?xml")
    printed = capsys.readouterr().out
    assert "crf_change" in printed
    assert "agreement" not in printed  # unknown for every label


def test_command_says_what_is_wrong(tmp_path, capsys):
    assert quality.main([str(tmp_path / "none.json"), str(tmp_path)]) == 2
    assert "none.json" in capsys.readouterr().err
