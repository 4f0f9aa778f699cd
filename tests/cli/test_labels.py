"""What is made of labels: figures, other formats, a report."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import run

import labelpenet


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


def test_what_labels_lack_is_told(labelled, tmp_path):
    """A shard that got lost, or an image that could not be labelled, shows in no other way."""
    for command in (
        ("export", tmp_path / "labels", tmp_path / "out"),
        ("report", tmp_path / "labels"),
    ):
        shutil.copytree(labelled, tmp_path / "labels", dirs_exist_ok=True)
        assert "warning" not in run(*command).output
        next((tmp_path / "labels" / "labels").glob("*.parquet")).unlink()
        done = run(*command)
        assert done.exit_code == 0
        assert "not complete, its job has not gone through all images" in " ".join(
            done.output.split()
        )


def test_figures_are_written_where_none_can_be_shown(work, labelled, tmp_path):
    """A terminal that knows ASCII alone, and a reader that has gone."""
    out = tmp_path / "figures.json"
    words = [str(w) for w in (labelled, work / "scenes", "--split", "test", "--json", out)]
    command = [sys.executable, "-m", "labelpenet", "evaluate", *words]
    root = str(Path(labelpenet.__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": root}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "box" in done.stdout
    assert out.exists()
    out.unlink()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as gone:
        gone.stdout.close()
        gone.wait(120)
    assert json.loads(out.read_text())


def test_report_of_labels(labelled, tmp_path):
    folder = tmp_path / "labels"
    shutil.copytree(labelled, folder)
    done = run("report", folder, "--most", 2)
    assert done.exit_code == 0, done.output
    page = (folder / "index.html").read_text("utf-8")
    assert "</span> of 2 images, picked from 3" in " ".join(page.split())
    assert '"s":[["attention","pictures/' in page
