"""`label` on scenes and on photos as they come."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cli.commands import run
from labeling.scenes import read_labels
from PIL import Image

from labelpenet.data import load_image
from labelpenet.engines import WorkerDied
from labelpenet.labeling import open_labels, runner


def files(out: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    paths = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def objects(out: Path) -> list[dict]:
    """Every object of a store, and the module that found it, as its Parquet files have it."""
    rows = pq.read_table(out / "labels").to_pylist()
    return [one | {"module": row["module"]} for row in rows for one in row["objects"]]


def test_labels_of_the_test_scenes(labelled):
    classes, found, sizes = read_labels(labelled)
    assert classes == ("box", "disk", "star")
    assert sorted(found) == sorted(sizes)
    assert len(found) == 3
    assert any(len(instances) for instances in found.values())
    assert (labelled / "errors.jsonl").read_text() == ""
    assert len(list((labelled / "pictures").rglob("*-photo.webp"))) == 3


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


def test_low_scores_are_left_out(work, checkpoint, labelled, tmp_path):
    words = ("label", work / "scenes", tmp_path, "--split", "test", "--checkpoint", checkpoint)
    done = run(*words, "--min-score", 1)
    assert done.exit_code == 0, done.output
    every, best = (
        [
            (name, label)
            for name, instances in read_labels(out)[1].items()
            for label in instances.labels.tolist()
        ]
        for out in (labelled, tmp_path)
    )
    assert len(every) > len(set(every))
    assert sorted(best) == sorted(set(every))  # one of each tag


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


def test_proposals_of_another_photo_of_that_name(work, checkpoint, tmp_path):
    """That photo fails alone; module 1 reads the boxes."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for picture in sorted((work / "scenes" / "JPEGImages").glob("train_*"))[:2]:
        shutil.copy(picture, photos)
    first, second = sorted(photos.iterdir())
    with Image.open(first) as picture:
        picture.resize((80, 48)).save(first)
    done = run(
        "label", photos, tmp_path / "out", "--checkpoint", checkpoint, "--module", 1,
        "--proposals", work / "boxes.parquet",
    )  # fmt: skip
    assert done.exit_code == 1
    (error,) = (tmp_path / "out" / "errors.jsonl").read_text().splitlines()
    assert json.loads(error)["image"] == first.stem
    assert "48 x 80 (height x width), got 64 x 64" in json.loads(error)["reason"]
    assert list(read_labels(tmp_path / "out")[1]) == [second.stem]


@pytest.mark.parametrize("place", ["", "disk"])
def test_a_store_among_its_photos_goes_on(work, checkpoint, tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    for picture in sorted((work / "scenes" / "JPEGImages").iterdir())[:2]:
        shutil.copy(picture, tmp_path / place)
    for _ in range(2):
        done = run("label", tmp_path, tmp_path / "labels", "--checkpoint", checkpoint)
        assert done.exit_code == 0, done.output
    assert "in 2 images" in " ".join(done.output.split())


@pytest.mark.parametrize("split", [None, "some"])
def test_a_store_is_not_the_folder_of_its_photos(checkpoint, tmp_path, main, split):
    """It could not go on: its pictures would be photos to label."""
    photos = tmp_path / (split or "")
    photos.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48)).save(photos / "a.png")
    (tmp_path / "link").symlink_to(photos)
    more = () if split is None else ("--split", split)
    for out in (photos, tmp_path / "link"):
        status, lines = main("label", tmp_path, out, "--checkpoint", checkpoint, *more)
        assert status == 2
        assert "expected another folder than that of the photos" in lines[-1]
    assert [path.name for path in photos.iterdir() if path.name != "link"] == ["a.png"]


def test_folders_that_are_no_classes(work, checkpoint, tmp_path, main):
    picture = next((work / "scenes" / "JPEGImages").iterdir())
    (tmp_path / "photos" / "2020").mkdir(parents=True)
    shutil.copy(picture, tmp_path / "photos" / "2020")
    words = ("label", tmp_path / "photos", tmp_path / "out", "--checkpoint", checkpoint)
    status, lines = main(*words)
    assert status == 2
    assert "unknown label '2020'" in lines[-1]
    assert main(*words, "--no-tags")[0] == 0
    (image,) = open_labels(tmp_path / "out")
    assert (image.name, image.tags) == (f"2020/{picture.stem}", ())
    assert main(*words, "--no-tags")[0] == 0  # goes on


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


def test_workers_that_die_are_one_line(work, checkpoint, tmp_path, main, monkeypatch):
    def workers_die(*arguments, **options):
        yield from ()
        raise WorkerDied("task 0: 17 workers died over it, the last one by SIGKILL")

    monkeypatch.setattr(runner, "run", workers_die)
    out = tmp_path / "out"
    words = ("label", work / "scenes", out, "--checkpoint", checkpoint, "--split", "test")
    status, lines = main(*words, "--workers", 2)
    assert status == 2
    assert lines[-1] == (
        "error: task 0: 17 workers died over it, the last one by SIGKILL; 0 of 3 images are in "
        f"{out}; run the same command again to resume"
    )
    assert not any("Traceback" in line for line in lines)
