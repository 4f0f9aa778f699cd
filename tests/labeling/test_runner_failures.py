"""Labelling jobs: nothing that goes wrong loses or changes a label."""

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from labeling.scenes import each, errors, files, label

from labelpenet.files import OutputError
from labelpenet.labeling import open_labels, runner
from labelpenet.labeling.in_hand import InHand
from labelpenet.labeling.manifest import Manifest
from labelpenet.labeling.store import Shard, shard_numbers, shard_path
from labelpenet.types import Labelling


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


def test_out_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file: File exists"):
        run(tmp_path / "file")
