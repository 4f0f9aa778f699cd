"""Labelling jobs: what they write."""

import dataclasses
from pathlib import Path

import pytest
from labeling.scenes import (
    CLASSES,
    each,
    files,
    label,
    picture,
    read_labels,
    same,
)
from rich.console import Console

from labelpenet.data import DatasetError
from labelpenet.data.entries import Entry, Listing
from labelpenet.files import OutputError
from labelpenet.labeling import open_labels
from labelpenet.labeling.manifest import JobMismatch, Manifest
from labelpenet.labeling.store import shard_numbers
from labelpenet.report.pictures import find_pictures
from labelpenet.types import Instances, Labelling


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
