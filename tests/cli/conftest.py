"""A training and its labels, made by the commands themselves."""

import sys
from pathlib import Path

import pytest
from cli.commands import SET, run

from labelpenet import cli
from labelpenet.data import write_scenes


@pytest.fixture
def main(monkeypatch, capsys):
    """The command as the shell starts it: exit status and what it printed, one string a line."""

    def call(*arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["labelpenet", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        lines = [line for line in (shown.out + shown.err).splitlines() if line.strip()]
        return int(stop.value.code or 0), lines

    return call


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Path:
    """scenes, boxes.parquet and run: made by the commands themselves."""
    folder = tmp_path_factory.mktemp("cli")
    write_scenes(folder / "scenes", 6, seed=1, test_count=3, size=(64, 64))
    boxes = folder / "boxes.parquet"
    done = run("proposals", folder / "scenes", boxes, "--split", "train", *SET)
    assert done.exit_code == 0, done.output
    assert "6 images computed" in " ".join(done.output.split())
    done = run(
        "--threads", 1, "train", folder / "scenes", folder / "run",
        "--split", "train", "--proposals", boxes, *SET,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="session")
def checkpoint(work) -> Path:
    return work / "run" / "module4.pt"


@pytest.fixture(scope="session")
def labelled(work, checkpoint) -> Path:
    done = run(
        "label", work / "scenes", work / "labels", "--checkpoint", checkpoint, "--split", "test"
    )
    assert done.exit_code == 0, done.output
    return work / "labels"
