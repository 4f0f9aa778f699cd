"""Labelling jobs: what they write, and that nothing that goes wrong changes it."""

import dataclasses
import errno
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from labeling.scenes import CLASSES, FakeLabeler, files, label, listing, picture, read_labels, same
from rich.console import Console

from labelpenet.data import DatasetError
from labelpenet.data.entries import Entry, Listing
from labelpenet.files import OutputError
from labelpenet.labeling import open_labels, runner
from labelpenet.labeling.in_hand import InHand
from labelpenet.labeling.manifest import JobMismatch, Manifest
from labelpenet.labeling.runner import Options, label_images
from labelpenet.labeling.store import Shard, shard_numbers, shard_path
from labelpenet.report.pictures import find_pictures
from labelpenet.types import Instances, Labelling, Quality

JOB = {"checkpoint": "abc", "settings": {"crf": {"iterations": 5}, "seed": 0}}


class Each:
    """A maker of labelers that ask a function about each photo, and note its name."""

    def __init__(self, function) -> None:
        self.function, self.seen = function, []

    def propose(self, image, name, traced):
        return np.zeros((0, 4), np.float32)

    def __call__(self, photos=None):
        if photos is None:
            return self
        self.seen.extend(photo.name for photo in photos)
        return [self.function(photo.image, photo.tags, photo.name) for photo in photos]


def each(function=label):
    """Such a maker, and the names that it will have been asked about."""
    make = Each(function)
    return make, make.seen


@pytest.fixture
def photos(tmp_path):
    return listing(tmp_path / "photos")


@pytest.fixture
def run(photos):
    def call(out, make=None, source=None, job=JOB, console=None, **options):
        options = {"shard_size": 2} | options
        make = FakeLabeler() if make is None else make
        return label_images(
            make, source or photos(), out, job=job, options=Options(**options), console=console
        )

    return call


def errors(out) -> list[dict]:
    return [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]


def test_labels(run, tmp_path):
    out = tmp_path / "deep" / "out"
    summary = run(out, pictures=1)
    assert (summary.images, summary.instances, summary.errors) == (5, 10, 0)
    assert summary.class_counts == (5, 5)
    assert [(i, n) for i, n in enumerate(summary.score_counts) if n] == [(16, 5), (18, 5)]
    assert set(summary.stages) == {"decode", "proposals", "network", "encode"}
    assert sorted(path.name for path in out.iterdir()) == [
        "errors.jsonl", "images.arrow", "labels", "manifest.json", "pictures"
    ]  # fmt: skip
    assert shard_numbers(out) == [0, 1, 2]
    assert Manifest.read(out).complete
    classes, found, sizes = read_labels(out)
    assert classes == CLASSES
    assert list(sizes.items()) == [(f"a/0{i}", (8, 10)) for i in range(5)]
    for i, (name, instances) in enumerate(found.items()):
        assert same(instances, label(picture(i), (0, 1), name).instances)
    first = open_labels(out)["a/03"]
    assert (first.tags, first.module, first.file_name) == ((0, 1), 4, "a/03.png")
    assert Path(first.source) == tmp_path / "photos" / "a" / "03.png"
    assert [title for title, _ in find_pictures(out, "a/00").stages] == ["attention"]
    assert find_pictures(out, "a/01") is None


def test_a_finished_job_has_nothing_to_do(run, tmp_path):
    run(tmp_path / "out")
    before = files(tmp_path / "out")
    make, seen = each()
    summary = run(tmp_path / "out", make)
    assert (summary.images, summary.resumed, seen) == (5, 5, [])
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_and_threads_change_nothing(run, tmp_path, batch):
    run(tmp_path / "one", shard_size=5)
    run(tmp_path / "more", shard_size=5, batch=batch, loaders=3)
    assert files(tmp_path / "one") == files(tmp_path / "more")


def test_bad_images_are_left_out_and_listed(run, tmp_path):
    def function(image, tags, name):
        if name == "a/01":
            raise RuntimeError("odd")
        if name == "a/02":
            return "nothing"
        if name == "a/03":
            return Labelling(label(image[:4], tags, name).instances, 4)
        return label(image, tags, name)

    (tmp_path / "photos" / "a" / "04.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "a" / "00.png").unlink()
    summary = run(tmp_path / "out", each(function)[0], batch=2)
    assert (summary.images, summary.errors) == (0, 5)
    rows = errors(tmp_path / "out")
    assert [row["image"] for row in rows] == [f"a/0{i}" for i in range(5)]
    assert [row["exception"] for row in rows] == [
        "ImageError", "RuntimeError", "TypeError", "ValueError", "ImageError"
    ]  # fmt: skip
    assert rows[0]["reason"].endswith("00.png: no such file")
    assert rows[2]["reason"] == "labeler: expected a Labelling, got str"
    assert rows[3]["reason"].startswith("masks: expected [2, 8, 10] bool")


def test_only_what_failed_is_tried_again(run, tmp_path):
    run(tmp_path / "whole")
    broken = {"a/01", "a/04"}

    def function(image, tags, name):
        if name in broken:
            raise RuntimeError("for now")
        return label(image, tags, name)

    out = tmp_path / "out"
    assert run(out, each(function)[0]).errors == 2
    make, seen = each()
    summary = run(out, make)
    assert (summary.errors, seen) == (2, [])
    broken.remove("a/04")
    assert run(out, each(function)[0], retry_errors=True).errors == 1
    make, seen = each()
    summary = run(out, make, retry_errors=True)
    assert (summary.errors, seen) == (0, ["a/01"])
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.parametrize("most", [80, 20])
def test_too_little_memory_is_met_by_a_smaller_copy(run, tmp_path, most):
    """Of 8 x 10: half its size where 20 pixels fit."""

    def function(image, tags, name):
        if name == "a/02" and image.shape[0] * image.shape[1] > most:
            raise MemoryError
        return label(image, tags, name)

    summary = run(tmp_path / "out", each(function)[0], batch=2)
    assert (summary.images, summary.errors) == (5, 0)
    rows = [row for n in range(3) for row in Shard(shard_path(tmp_path / "out", n)).rows(0)]
    assert [row["scale"] for row in rows] == [1, 1, 1 if most == 80 else 0.5, 1, 1]
    found = open_labels(tmp_path / "out")["a/02"].instances()
    assert found.masks.shape == (2, 8, 10)
    if most == 20:
        blocks = found.masks.reshape(2, 4, 2, 5, 2)
        assert torch.equal(blocks, blocks[:, :, :1, :, :1].expand_as(blocks))
        assert (found.boxes % 2 == 0).all()


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_an_image_that_never_fits_is_left_out(run, tmp_path, error):
    def function(image, tags, name):
        if name == "a/02":
            raise error("out of memory")
        return label(image, tags, name)

    make, seen = each(function)
    assert run(tmp_path / "out", make).errors == 1
    assert seen.count("a/02") == 3
    (row,) = errors(tmp_path / "out")
    assert (row["image"], row["exception"]) == ("a/02", error.__name__)


@pytest.mark.parametrize(("deaths", "left_out"), [(1, []), (3, []), (4, ["a/03"])])
def test_what_workers_died_over_is_left_out(run, tmp_path, monkeypatch, deaths, left_out):
    """The engine starts a shard again; here the notes of dead workers are there already.

    Two that did it as always, then two that took images one by one and died over the same one.
    """
    monkeypatch.setattr(runner, "uuid4", lambda: SimpleNamespace(hex="run"))
    monkeypatch.setattr(runner, "remove_strays", lambda out: None)
    out = tmp_path / "out"
    for taken in ([], [], [2, 3], [2, 3])[:deaths]:
        hand = InHand(out, 1, "run").__enter__()
        for number in taken:
            hand.take(number)
        os.close(hand._file)  # as a death does
    make, seen = each()
    run(out, make, batch=2)
    assert seen == [f"a/0{i}" for i in range(5) if f"a/0{i}" not in left_out]
    assert [row["image"] for row in errors(out)] == left_out
    assert all(row["exception"] == "WorkerDied" for row in errors(out))
    assert not list((out / "labels").glob(".*"))
    if not left_out:
        run(tmp_path / "whole")
        assert files(out) == files(tmp_path / "whole")


def test_interruption_says_how_to_go_on(run, tmp_path):
    """A second Ctrl-C, or one that a library turns into an exception: at once."""
    run(tmp_path / "whole")

    def function(image, tags, name):
        if name == "a/03":
            raise KeyboardInterrupt
        return label(image, tags, name)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match=r"2 of 5 images .*same command again to resume"):
        run(out, each(function)[0])
    assert not Manifest.read(out).complete
    assert len(open_labels(out)) == 2  # what is there can be read
    make, seen = each()
    assert run(out, make).resumed == 2
    assert seen == ["a/02", "a/03", "a/04"]
    assert files(out) == files(tmp_path / "whole")


def test_sigint_finishes_the_shard_in_hand(run, tmp_path):
    run(tmp_path / "whole")

    def function(image, tags, name):
        if name == "a/02":
            signal.raise_signal(signal.SIGINT)
        return label(image, tags, name)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="4 of 5 images"):
        run(tmp_path / "out", each(function)[0])
    assert signal.getsignal(signal.SIGINT) is before
    run(tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_changed_job_is_refused_with_what_differs(run, photos, tmp_path):
    out = tmp_path / "out"
    run(out)
    before = files(out)
    other = {"checkpoint": "abc", "settings": {"crf": {"iterations": 7}, "seed": 0}}
    with pytest.raises(JobMismatch, match=r"job\.settings\.crf\.iterations: there 5, asked for 7"):
        run(out, job=other)
    with pytest.raises(JobMismatch, match=r"min_quality: there 0.0, asked for 0.5"):
        run(out, min_quality=0.5)
    with pytest.raises(JobMismatch, match=r"shard_size: there 2, asked for 3"):
        run(out, shard_size=3)
    more = Listing(tmp_path / "photos", CLASSES, [next(iter(photos().entries))])
    with pytest.raises(JobMismatch, match=r"images: there 5, asked for 1; digest: "):
        run(out, source=more)
    classes = dataclasses.replace(photos(), classes=(*CLASSES, "cow"))
    with pytest.raises(JobMismatch, match="classes: there"):
        run(out, source=classes)
    assert files(out) == before


def test_two_jobs_in_one_folder(run, tmp_path):
    def function(image, tags, name):
        with pytest.raises(OutputError, match="another job is writing into this folder"):
            run(tmp_path / "out")
        return label(image, tags, name)

    assert run(tmp_path / "out", each(function)[0]).images == 5


def fill_disk(monkeypatch, *shards):
    """Writing the shards of these numbers finds the disk full."""
    real = os.replace

    def replace(source, target):
        if Path(target).suffix == ".parquet" and int(Path(target).stem) in shards:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_a_full_disk_costs_a_shard_and_the_job_goes_on(run, tmp_path, monkeypatch):
    run(tmp_path / "whole")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fill_disk(patch, 1)
        summary = run(out)
    assert (summary.images, summary.errors, summary.unwritten) == (3, 0, 1)
    (row,) = errors(out)
    assert row["shard"] == 1
    assert "No space left" in row["reason"]
    assert shard_numbers(out) == [0, 2]
    assert not list((out / "labels").glob(".*"))
    make, seen = each()
    assert run(out, make).unwritten == 0
    assert seen == ["a/02", "a/03"]
    assert files(out) == files(tmp_path / "whole")


def test_a_disk_that_stays_full_ends_the_job(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        fill_disk(patch, 1, 2, 3)
        with pytest.raises(OutputError, match=r"No space .*1 of 5 images .*to resume"):
            run(out, shard_size=1)
    assert run(out, shard_size=1).images == 5


def test_pictures_are_spread(run, tmp_path):
    run(tmp_path / "out", pictures=2)
    drawn = [find_pictures(tmp_path / "out", f"a/0{i}") is not None for i in range(5)]
    assert drawn == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pictures": -1}, "pictures: expected at least 0, got -1"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"shard_size": 0}, "shard_size: expected at least 1, got 0"),
        ({"min_quality": 1.1}, r"min_quality: expected a number in \[0, 1\], got 1.1"),
        ({"min_quality": float("nan")}, "min_quality: expected a number"),
    ],
)
def test_bad_options(run, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file: File exists"):
        run(tmp_path / "file")


def test_no_images_and_two_of_one_name(run, tmp_path):
    nothing = Listing(tmp_path, CLASSES, [])
    with pytest.raises(DatasetError, match="names no images"):
        run(tmp_path / "a", source=nothing)
    twice = Listing(tmp_path, CLASSES, 2 * [Entry("x", tmp_path / "x.png", (), "here")])
    with pytest.raises(DatasetError, match="names two images 'x'"):
        run(tmp_path / "b", source=twice)


def test_images_without_objects_have_a_row(run, tmp_path):
    empty = each(lambda image, tags, name: Labelling(Instances.empty(8, 10), 2))[0]
    summary = run(tmp_path / "out", empty)
    assert (summary.images, summary.instances) == (5, 0)
    assert all(len(image.instances()) == 0 for image in open_labels(tmp_path / "out"))


def test_progress_goes_to_stderr(run, tmp_path, capsys):
    run(tmp_path / "out", console=Console(stderr=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/5" in captured.err


def with_quality(image, tags, name):
    """Two objects: the first is good in even images and unknown in a/03, the second always bad."""
    labelling = label(image, tags, name)
    number = int(name[-1])
    first = float("nan") if number == 3 else 0.9 if number % 2 == 0 else 0.1
    quality = Quality.of(2, crf_change=torch.tensor([first, 0.2]))
    found = dataclasses.replace(labelling.instances, quality=quality)
    return dataclasses.replace(labelling, instances=found)


def test_quality_is_written_and_read_back(run, tmp_path):
    run(tmp_path / "out", each(with_quality)[0])
    _, found, _ = read_labels(tmp_path / "out")
    for i, instances in enumerate(found.values()):
        wanted = with_quality(picture(i), (0, 1), f"a/0{i}").instances.quality
        for field in dataclasses.fields(Quality):
            ours, theirs = (getattr(q, field.name) for q in (wanted, instances.quality))
            assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))


def test_min_quality_leaves_out_what_is_below_it_and_nothing_else(run, tmp_path):
    make = each(with_quality)[0]
    whole = run(tmp_path / "whole", make)
    assert (whole.instances, whole.filtered) == (10, 0)
    summary = run(tmp_path / "good", make, min_quality=0.5)
    assert (summary.images, summary.errors) == (5, 0)
    assert (summary.instances, summary.filtered) == (4, 6)
    assert summary.class_counts == (4, 0)
    everything = read_labels(tmp_path / "whole")[1]
    kept = read_labels(tmp_path / "good")[1]
    assert list(kept) == list(everything)  # an image without good objects stays
    for name, instances in kept.items():
        assert same(instances, everything[name].select([] if name == "a/01" else [0]))
    # nothing is left out of what says nothing of its quality
    assert run(tmp_path / "unknown", min_quality=1.0).instances == 10


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        (
            {"crf_change": torch.tensor([1.5, 0])},
            r"quality.crf_change: expected numbers in \[0, 1\]",
        ),
        ({"score_margin": torch.tensor([-2.0, 0])}, r"quality.score_margin: expected .*\[-1, 1\]"),
        ({"agreement": torch.ones(3)}, r"quality.agreement: expected \[2\], got \[3\]"),
    ],
)
def test_impossible_quality_is_an_error_of_the_image(run, tmp_path, figures, message):
    def function(image, tags, name):
        labelling = label(image, tags, name)
        found = dataclasses.replace(labelling.instances, quality=Quality.of(2, **figures))
        return dataclasses.replace(labelling, instances=found)

    assert run(tmp_path / "out", each(function)[0]).errors == 5
    assert re.search(message, errors(tmp_path / "out")[0]["reason"])
