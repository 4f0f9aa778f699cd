"""The command line: the whole way on tiny scenes, and what it says when something is wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labeling.scenes import read_labels
from PIL import Image
from tiny_cascade import OVERRIDES
from typer.testing import CliRunner

import labelpenet
from labelpenet import cli
from labelpenet.data import load_image, write_scenes
from labelpenet.labeling import open_labels

COMMANDS = ("info", "demo", "proposals", "train", "report", "label", "evaluate", "export", "bench")
SET = [word for override in OVERRIDES for word in ("--set", override)]


def run(*arguments: object):
    """The command in this process; what it raises is the test's to see."""
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)


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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def checkpoint(work) -> Path:
    return work / "run" / "module4.pt"


@pytest.fixture(scope="module")
def labelled(work, checkpoint) -> Path:
    done = run(
        "label", work / "scenes", work / "labels", "--checkpoint", checkpoint, "--split", "test"
    )
    assert done.exit_code == 0, done.output
    return work / "labels"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_info():
    done = run("info")
    assert done.exit_code == 0
    for word in ("labelpenet", "torch", "CUDA kernels", "SIMD", "device"):
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


def test_training_leaves_its_files(work):
    names = {path.name for path in (work / "run").iterdir()}
    assert names == {
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


def test_labels_of_the_test_scenes(labelled):
    classes, found, sizes = read_labels(labelled)
    assert classes == ("box", "disk", "star")
    assert sorted(found) == sorted(sizes)
    assert len(found) == 3
    assert any(len(instances) for instances in found.values())
    assert (labelled / "errors.jsonl").read_text() == ""
    assert len(list((labelled / "pictures").rglob("*-photo.webp"))) == 3


def files(out: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    paths = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def objects(out: Path) -> list[dict]:
    """Every object of a store, and the module that found it, as its Parquet files have it."""
    rows = pq.read_table(out / "labels").to_pylist()
    return [one | {"module": row["module"]} for row in rows for one in row["objects"]]


def test_workers_and_batches_change_nothing(work, checkpoint, labelled, tmp_path):
    words = ("--checkpoint", checkpoint, "--split", "test", "--shard-size", 1)
    outs = [tmp_path / name for name in ("one", "two", "batch")]
    for out, more in zip(outs, ((), ("--workers", 2), ("--batch", 3)), strict=True):
        done = run("--threads", 1, "label", work / "scenes", out, *words, *more)
        assert done.exit_code == 0, done.output
    assert len(list((outs[0] / "labels").glob("*.parquet"))) == 3
    assert files(outs[0]) == files(outs[1]) == files(outs[2])
    assert objects(outs[0]) == objects(labelled)


def test_same_labels_again(work, checkpoint, labelled, tmp_path):
    done = run("label", work / "scenes", tmp_path, "--checkpoint", checkpoint, "--split", "test")
    assert done.exit_code == 0
    assert files(tmp_path) == files(labelled)


@pytest.mark.parametrize("module", [1, 2, 3])
def test_every_module_answers(work, checkpoint, tmp_path, module):
    done = run(
        "label", work / "scenes", tmp_path, "--checkpoint", checkpoint, "--split", "test",
        "--module", module, "--pictures", 0, "--no-tags",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {one["module"] for one in objects(tmp_path)} <= {module}


def test_label_quality(work, checkpoint, labelled, tmp_path):
    """Modules 3 and 4 are compared; what is below the quality is left out and counted."""
    rows = objects(labelled)
    assert all(0 <= row["agreement"] <= 1 for row in rows)
    best = max(row["quality"] for row in rows)
    words = ("--checkpoint", checkpoint, "--split", "test")
    done = run("label", work / "scenes", tmp_path / "best", *words, "--min-quality", best)
    assert done.exit_code == 0, done.output
    assert len(open_labels(tmp_path / "best")) == 3
    few = [row for row in rows if row["quality"] >= best]
    assert objects(tmp_path / "best") == few
    shown = " ".join(done.output.split())
    assert f"{len(few)} instances in 3 images, {len(rows) - len(few)} below quality" in shown
    done = run("label", work / "scenes", tmp_path / "alone", *words, "--no-agreement")
    assert done.exit_code == 0, done.output
    assert [row["agreement"] for row in objects(tmp_path / "alone")] == [None] * len(rows)


def test_another_checkpoint_is_refused(work, labelled, main):
    words = ("label", work / "scenes", labelled, "--split", "test", "--checkpoint")
    status, lines = main(*words, work / "run" / "module3.pt")
    assert status == 2
    for part in ("another job", "job.checkpoint: there", "job.module: there 4, asked for 3"):
        assert part in lines[0]
    assert main(*words, work / "run" / "module4.pt", "--no-tags")[0] == 2
    status, lines = main(*words, work / "run" / "module4.pt", "--set", "detection.limit=3")
    assert status == 2
    assert "job.settings.detection.limit: there 20, asked for 3" in lines[0]


def test_settings_of_a_checkpoint_in_labelling(work, checkpoint, tmp_path):
    words = ("label", work / "scenes", tmp_path, "--split", "test", "--checkpoint", checkpoint)
    done = run(*words, "--no-tags", "--set", "detection.limit=1")
    assert done.exit_code == 0, done.output
    assert all(len(objects) <= 1 for objects in read_labels(tmp_path)[1].values())


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


@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "labelme"])
def test_export(labelled, tmp_path, format):
    done = run("export", labelled, tmp_path / "out", "--format", format)
    assert done.exit_code == 0, done.output
    assert "3 images written" in " ".join(done.output.split())
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 3
    words = ("--format", format, "--photos", "none")
    assert run("export", labelled, tmp_path / "labels", *words).exit_code == 0
    assert list((tmp_path / "labels").rglob("*.jpg")) == []


def test_report_of_labels(labelled):
    done = run("report", labelled, "--most", 2)
    assert done.exit_code == 0, done.output
    page = (labelled / "index.html").read_text("utf-8")
    assert "</span> of 2 images, picked from 3" in " ".join(page.split())
    assert '"s":[["attention","pictures/' in page


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


def write_odd_images(folder: Path) -> None:
    """Photos as they come: every kind that must be labelled, and two that cannot be."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    photo.save(folder / "plain.png")
    photo.convert("L").save(folder / "grey.png")
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "rotated.jpg", exif=exif)
    photo.resize((1, 64)).save(folder / "thin.png")
    photo.resize((64, 1)).save(folder / "flat.png")
    photo.resize((1, 1)).save(folder / "point.png")
    photo.resize((10_000, 12)).save(folder / "long.png")
    (folder / "corrupt.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
    (folder / "empty.jpg").write_bytes(b"")


@pytest.mark.parametrize("module", [1, 2, 4])
def test_odd_images(checkpoint, tmp_path, module):
    write_odd_images(tmp_path / "photos")
    out = tmp_path / "out"
    done = run(
        "label", tmp_path / "photos", out, "--checkpoint", checkpoint, "--module", module,
    )  # fmt: skip
    assert done.exit_code == 1
    assert "2 images failed" in done.output
    errors = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert {error["image"] for error in errors} == {"corrupt", "empty"}, errors
    _, found, sizes = read_labels(out)
    assert len(found) == 9
    assert sizes["rotated"] == (64, 48)
    assert sizes["long"] == (12, 10_000)
    for name, instances in found.items():
        height, width = sizes[name]
        assert instances.masks.shape == (len(instances), height, width)
        inside = torch.tensor([width, height, width, height])
        assert (instances.boxes >= 0).all(), name
        assert (instances.boxes <= inside + 1e-3).all(), name


def test_one_bad_image_among_tagged_ones(work, checkpoint, tmp_path):
    pictures = sorted((work / "scenes" / "JPEGImages").iterdir())[:2]
    rows = ["image,labels"]
    for picture in pictures:
        shutil.copy(picture, tmp_path / picture.name)
        rows.append(f"{picture.name},disk star")
    (tmp_path / "torn.jpg").write_bytes(pictures[0].read_bytes()[:200])
    rows.insert(2, "torn.jpg,disk")
    table = tmp_path / "images.csv"
    table.write_text("\n".join(rows) + "\n")
    done = run("label", table, tmp_path / "out", "--checkpoint", checkpoint)
    assert done.exit_code == 1
    (error,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(error)["image"] == "torn"
    _, found, _ = read_labels(tmp_path / "out")
    assert len(found) == 2
    for instances in found.values():  # a tag is taken as true, and no other class is found
        assert set(instances.labels.tolist()) <= {1, 2}


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


def test_an_interruption_tells_how_to_go_on(work, checkpoint, tmp_path, main, monkeypatch):
    from labelpenet.labeling import shard

    calls = []

    def second_one_is_interrupted(path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return load_image(path)

    monkeypatch.setattr(shard, "load_image", second_one_is_interrupted)
    words = (
        "label", work / "scenes", tmp_path, "--split", "test", "--checkpoint", checkpoint,
        "--shard-size", 1,
    )  # fmt: skip
    status, lines = main(*words)
    assert status == 130
    assert "1 of 3 images" in lines[-1]
    assert "run the same command again" in lines[-1]
    monkeypatch.setattr(shard, "load_image", load_image)
    status, _ = main(*words)
    assert status == 0
    assert len(read_labels(tmp_path)[1]) == 3


@pytest.fixture
def toy_suite(monkeypatch):
    """The suite with one case that takes no time."""
    from labelpenet.bench import suite

    command = suite()
    modules = {n: sys.modules[f"{command.__package__}.{n}"] for n in ("cases", "machine")}
    cases = modules["cases"]
    case = cases.Case(
        op="twice",
        name="numbers",
        inputs=lambda: (torch.arange(1000.0),),
        ours=lambda x: 2 * x,
        reference=lambda x: x + x,
        peer=cases.Peer("addition", lambda x: x + x),
        cuda=False,
    )
    monkeypatch.setattr(command, "cases", lambda: [case])
    ceilings = {"copy": 1e9, "float32": 1e9, "bfloat16": 1e9}
    monkeypatch.setattr(modules["machine"], "ceilings", lambda device: ceilings)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_bench(toy_suite, tmp_path):
    """The command, then against figures that it surpasses, then on some that it cannot reach."""
    path = tmp_path / "run.json"
    words = ("bench", "twice", "--seconds", "0.001", "--threads", 1)
    done = run(*words, "--json", path)
    assert done.exit_code == 0, done.output
    assert "numbers" in done.output
    stored = json.loads(path.read_text())
    assert stored["machine"]["threads"] == 1
    columns = stored["cases"][0]["columns"]
    assert columns["ours CPU"]["median_ms"] >= columns["ours CPU"]["best_ms"] > 0
    peer = columns["peer"]["median_ms"]
    for factor, status in ((1e-3, 0), (1e3, 1)):
        columns["peer"]["median_ms"] = factor * peer
        path.write_text(json.dumps(stored))
        done = run(*words, "--against", path)
        assert done.exit_code == status, done.output
        assert ("fell" in done.output) == bool(status)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["thrice"], "no op named thrice; there are "),
        (["--against", "none.json"], "none.json"),
        (["--seconds", "0"], "seconds: expected a number above 0"),
        (["--photo", "none.jpg"], "none.jpg"),
    ],
)
def test_bench_says_what_is_wrong(words, message, main):
    status, lines = main("bench", *words)
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]
