"""The command itself: its help, its start, one line for whatever is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli.commands import SET, run
from PIL import Image

import labelpenet

COMMANDS = ("info", "demo", "proposals", "train", "report", "label", "evaluate", "export", "bench")


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_info():
    done = run("info")
    assert done.exit_code == 0
    for word in ("labelpenet", "torch", "CUDA kernels", "SIMD", "device", "CPU precision"):
        assert word in done.output


def test_started_by_the_shell(tmp_path):
    start = [sys.executable, "-c", "from labelpenet.cli import main; main()"]
    # from elsewhere: in a checkout, `-c` would find the sources before the installed package
    package = str(Path(labelpenet.__file__).parents[1])
    how = {
        "capture_output": True,
        "text": True,
        "cwd": tmp_path,
        "env": os.environ | {"COLUMNS": "40", "PYTHONPATH": package},
    }
    done = subprocess.run([*start, "--help"], **how)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    missing = tmp_path / "nothing here"
    done = subprocess.run([*start, "train", str(missing), str(tmp_path / "out")], **how)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {missing}: no such file or folder"]
    assert not (tmp_path / "out").exists()


def bad_call(name: str, work: Path, tmp: Path, checkpoint: Path) -> tuple[list[object], str]:
    """Arguments that cannot work, and what the message must say."""
    scenes, taken = work / "scenes", tmp / "taken"
    taken.write_text("a file where a folder is wanted")
    label = ["label", scenes, tmp / "out", "--split", "test", "--checkpoint"]
    torn = tmp / "torn.pt"
    torn.write_bytes(checkpoint.read_bytes()[:3000])
    noise = tmp / "noise.pt"
    noise.write_bytes(b"no checkpoint at all")
    table = tmp / "images.csv"
    Image.new("RGB", (40, 40)).save(tmp / "a.png")
    table.write_text("image,labels\na.png,zebra\n")
    half = tmp / "labels.json"
    half.write_text('{"images": [')
    calls: dict[str, tuple[list[object], str]] = {
        "unknown setting": (
            ["train", scenes, tmp / "o", "--set", "train.rte=1"],
            "did you mean train.rate",
        ),
        "bad value": (["train", scenes, tmp / "o", "--set", "seed=x"], "seed"),
        "no such config": (["train", scenes, tmp / "o", "-c", "none.toml"], "none.toml"),
        "no such preset": (["train", scenes, tmp / "o", "-c", "demmo"], "preset (demo"),
        "no such weights": (
            ["train", scenes, tmp / "o", "--split", "train", *SET, "--set", "model.weights=w.pth"],
            "w.pth: no such weights file",
        ),
        "no weights of that network": (
            ["train", scenes, tmp / "o", "--split", "train", *SET, "--weights", "torchvision"],
            "torchvision has none of tiny, only of vgg16, squeezenet1_0",
        ),
        "odd weights": (
            ["train", scenes, tmp / "o", "--split", "train", *SET, "--weights", "1: [x"],
            "1: [x: no such weights file",
        ),
        "weights of an odd name": (
            ["train", scenes, tmp / "o", "--split", "train", *SET, "--weights", "w😀.pth"],
            "w😀.pth: no such weights file",
        ),
        "train on no such device": (
            ["train", scenes, tmp / "o", "--split", "train", *SET, "--device", "cpu:x"],
            "device: expected cpu, cuda or cuda:N, got cpu:x",
        ),
        "proposals for icn": (
            ["train", scenes, tmp / "o", "--method", "icn", "--proposals", tmp / "b", *SET],
            "--proposals, --until: expected none",
        ),
        "no such split": (["train", scenes, tmp / "o", "--split", "night", *SET], "night"),
        "no source": (["train", tmp / "none", tmp / "o"], "none: no such file or folder"),
        "train into a file": (["train", scenes, taken, "--split", "train", *SET], "taken"),
        "proposals of nothing": (["proposals", tmp / "none", tmp / "b.parquet"], "none: no such"),
        "proposals into a file": (["proposals", scenes, taken / "b.parquet"], "taken"),
        "no store": (
            ["train", scenes, tmp / "o", "--split", "train", "--proposals", tmp / "b", *SET],
            "no such file; compute the proposals first",
        ),
        "no checkpoint": ([*label, tmp / "none.pt"], "none.pt: no such checkpoint"),
        "truncated checkpoint": ([*label, torn], "torn.pt: truncated or not a checkpoint"),
        "noise for a checkpoint": ([*label, noise], "noise.pt: truncated or not a checkpoint"),
        "untrained module": (
            [*label, work / "run" / "module1.pt", "--module", 3],
            "module1.pt: has modules 1 to 1, asked for module 3",
        ),
        "nothing trained": ([*label, work / "run" / "module0.pt"], "has no trained module"),
        "no such device": ([*label, checkpoint, "--device", "toaster"], "toaster"),
        "label into a file": (
            ["label", scenes, taken, "--split", "test", "--checkpoint", checkpoint],
            "taken",
        ),
        "label nothing": (["label", tmp / "no", tmp / "o", "--checkpoint", checkpoint], "no such"),
        "unknown label": (["label", table, tmp / "o", "--checkpoint", checkpoint], "zebra"),
        "report of nothing": (["report", tmp / "none"], "none: "),
        "no labels": (["evaluate", tmp / "none.json", scenes], "none.json"),
        "torn labels": (["evaluate", half, scenes, "--split", "test"], "labels.json"),
        "export nothing": (["export", tmp / "none.json", tmp / "o"], "none.json"),
    }  # fmt: skip
    return calls[name]


@pytest.mark.parametrize(
    "name",
    [
        "unknown setting", "bad value", "no such config", "no such preset", "no such weights",
        "no such split", "no source", "train into a file", "proposals of nothing",
        "proposals into a file", "no store", "no checkpoint", "truncated checkpoint",
        "noise for a checkpoint", "untrained module", "nothing trained", "no such device",
        "label into a file", "label nothing", "unknown label", "no labels", "torn labels",
        "export nothing", "report of nothing", "no weights of that network", "odd weights",
        "weights of an odd name", "train on no such device", "proposals for icn",
    ],
)  # fmt: skip
def test_one_clear_line(name, work, checkpoint, tmp_path, main):
    arguments, message = bad_call(name, work, tmp_path, checkpoint)
    status, lines = main(*arguments)
    assert status == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(work, checkpoint, tmp_path, main):
    status, lines = main(
        "label", work / "scenes", tmp_path, "--checkpoint", checkpoint, "--device", "cuda"
    )
    assert status == 2
    assert len(lines) == 1
    assert "cuda" in lines[0].lower()


def test_brackets_in_a_message_are_text(tmp_path, main):
    status, lines = main("train", tmp_path / "[bold]x[/]", tmp_path / "out")
    assert status == 2
    assert "[bold]x[/]: no such file or folder" in lines[0]
