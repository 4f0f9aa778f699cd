"""What is made of labels: figures, other formats, a report."""

import json
import shutil

import pytest
from cli.commands import run


def test_evaluate(work, labelled, tmp_path):
    out = tmp_path / "figures.json"
    done = run("evaluate", labelled, work / "scenes", "--split", "test", "--json", out)
    assert done.exit_code == 0, done.output
    assert all(name in done.output for name in ("box", "disk", "star", "mean", "3 images"))
    assert json.loads(out.read_text())
    several = tmp_path / "several.json"
    words = ("--split", "test", "--json", several, "--workers", 2)
    assert run("evaluate", labelled, work / "scenes", *words).exit_code == 0
    assert several.read_text() == out.read_text()


def test_evaluate_other_images(work, labelled, main):
    status, lines = main("evaluate", labelled, work / "scenes", "--split", "train")
    assert status == 2
    assert "such names as 'train_000000', got such names as 'test_000000'" in lines[0]


@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "labelme"])
def test_export(labelled, tmp_path, format):
    done = run("export", labelled, tmp_path / "out", "--format", format)
    assert done.exit_code == 0, done.output
    assert "3 images written" in " ".join(done.output.split())
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    words = ("--format", format, "--photos", "none")
    assert run("export", labelled, tmp_path / "labels", *words).exit_code == 0
    assert list((tmp_path / "labels").rglob("*.jpg")) == []


def test_report_of_labels(labelled, tmp_path):
    folder = tmp_path / "labels"
    shutil.copytree(labelled, folder)
    done = run("report", folder, "--most", 2)
    assert done.exit_code == 0, done.output
    page = (folder / "index.html").read_text("utf-8")
    assert "</span> of 2 images, picked from 3" in " ".join(page.split())
    assert '"s":[["attention","pictures/' in page
