"""What `train` leaves behind, its report, and going on."""

import shutil

import pytest
from cli.commands import SET, run

from labelpenet.files import locked
from labelpenet.training.optimization import Stepper


def test_training_leaves_its_files(work):
    names = {path.name for path in (work / "run").iterdir()}
    assert names == {
        "cascade.json",
        "losses.csv",
        "training.html",
        "forward_backward.pt",
        *(f"module{m}.pt" for m in range(5)),
        *(f"targets{m}.parquet" for m in (1, 2, 3)),
    }


def test_report_of_a_training(work, tmp_path):
    shutil.copy(work / "run" / "losses.csv", tmp_path)
    done = run("report", tmp_path)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "training.html").read_text().replace(tmp_path.name, "run")
    assert page == (work / "run" / "training.html").read_text()
    for title in (
        "Trunk",
        "Module 1: classification",
        "Module 4: segmentation",
        "Forward-backward",
    ):
        assert f"<h2>{title}<small>" in page


def test_training_goes_on(work, tmp_path, main):
    folder = tmp_path / "run"
    shutil.copytree(work / "run", folder)
    boxes = work / "boxes.parquet"
    same = ("train", work / "scenes", folder, "--split", "train", "--proposals", boxes, *SET)
    status, lines = main(*same)
    assert status == 0
    assert "going on behind" in " ".join(lines)
    assert "forward_backward.pt" in " ".join(lines)
    status, lines = main(*same, "--set", "train.rate=0.5")
    assert status == 2
    (line,) = lines
    assert line.startswith("error: ")
    assert "train.rate: 0.001 there, 0.5 here" in line


def test_stopping_says_how_to_go_on(work, tmp_path, main, monkeypatch):
    def stopped(stepper):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "step", stopped)
    boxes = work / "boxes.parquet"
    status, lines = main(
        "train", work / "scenes", tmp_path / "r", "--split", "train", "--proposals", boxes, *SET
    )
    assert status == 130
    assert "stopped run the same command again to go on in" in " ".join(lines)


def line_of(main, *arguments):
    """What a command that is refused says."""
    status, lines = main(*arguments)
    assert status == 2, lines
    (line,) = lines
    return line


@pytest.mark.parametrize("method", ["cascade", "icn"])
def test_a_trunk_that_would_stay_random_is_refused(work, tmp_path, main, method):
    steps = "train.trunk_steps" if method == "cascade" else "icn.classifier_steps"
    line = line_of(
        main, "train", work / "scenes", tmp_path, "--method", method, *SET, "--set", f"{steps}=0"
    )
    assert "model.weights: expected ImageNet weights" in line
    assert steps in line


def test_one_process_at_a_time(work, tmp_path, main):
    with locked(tmp_path / "run"):
        line = line_of(main, "train", work / "scenes", tmp_path / "run", *SET)
    assert "run: another job is writing into this folder" in line
    line = line_of(main, "train", work / "scenes", work / "boxes.parquet", *SET)
    assert "cannot write" in line


def test_the_other_method_takes_another_folder(work, tmp_path, main):
    folder = shutil.copytree(work / "run", tmp_path / "run")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    line = line_of(main, "train", work / "scenes", folder, "--method", "icn", *SET)
    assert "holds a run of the other method" in line
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_training_reads_this_machine(tmp_path, main):
    line = line_of(main, "train", "https://host/photos.csv", tmp_path / "run")
    assert "https://host/photos.csv: training reads files of this machine" in line
    assert not (tmp_path / "run").exists()
