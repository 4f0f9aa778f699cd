"""Labelling jobs: nothing that goes wrong loses or changes a label."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from labeling.scenes import each, errors, files, label

from labelpenet.files import OutputError
from labelpenet.labeling import open_labels, shard
from labelpenet.labeling.in_hand import InHand, blamed, end_notes
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


@pytest.fixture
def begun(run, tmp_path):
    """A store of which nothing is labelled, and the note of its second shard."""

    def function(image, tags, name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", each(function)[0])
    identity = Manifest.read(tmp_path / "out").identity
    return tmp_path / "out", lambda: InHand(tmp_path / "out", 1, identity)


def die(hand, *taken):
    """A process that takes images one by one and dies over the last one."""
    hand.__enter__()
    for number in taken:
        hand.take(number)
    os.close(hand._file)


@pytest.mark.parametrize(("deaths", "left_out"), [(1, []), (2, []), (3, ["a/03"])])
def test_what_processes_died_over_is_left_out(run, begun, tmp_path, deaths, left_out):
    """One that did the shard as always, then two that died over the same image."""
    out, hand = begun
    for taken in ([], [2, 3], [2, 3])[:deaths]:
        die(hand(), *taken)
    make, seen = each()
    run(out, make, batch=2)
    assert seen == [f"a/0{i}" for i in range(5) if f"a/0{i}" not in left_out]
    assert [row["image"] for row in errors(out)] == left_out
    for row in errors(out):
        assert row["exception"] == "WorkerDied"
        assert row["reason"].startswith("the process died 2 times over it: killed")
    assert not list((out / "labels").glob(".*"))
    if left_out:  # the deaths are forgotten then
        assert run(out, make, retry_errors=True).errors == 0
    run(tmp_path / "whole")
    assert files(out) == files(tmp_path / "whole")


def test_what_is_in_hand_at_a_good_end_is_not_to_blame(run, begun):
    """Ctrl-C neither adds a death nor forgets one."""
    out, hand = begun
    die(hand(), 3)

    def function(image, tags, name):
        if name == "a/03":
            raise KeyboardInterrupt
        return label(image, tags, name)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(out, each(function)[0])
    with hand() as note:
        assert (note.deaths, note.died_over(3)) == (1, 1)


def test_workers_that_are_ended_are_not_to_blame(begun):
    out, hand = begun
    die(hand(), 2)
    end_notes(out)  # nothing was known before: it goes
    assert not list((out / "labels").glob(".*"))
    die(hand(), 2)
    die(hand(), 2)
    end_notes(out)
    with hand() as note:
        assert (note.deaths, note.died_over(2)) == (1, 1)


def test_blame_grows_with_deaths_that_will_be_avoided_and_not_for_ever(begun):
    out, hand = begun
    identity = Manifest.read(out).identity
    assert blamed(out, 1, identity) == 0
    grown = []
    for taken in ([], [2], [2, 3], [2], [2], [], [3]):
        die(hand(), *taken)
        grown.append(blamed(out, 1, identity))
    assert grown == [0, 1, 2, 3, 3, 3, 4]
    assert blamed(out, 1, "another") == 0


def test_notes_of_another_job_say_nothing(run, begun):
    out, _ = begun
    for _ in range(3):
        die(InHand(out, 1, "another"), 3)
    assert run(out).errors == 0
    assert not list((out / "labels").glob(".*"))


def test_while_images_are_taken_one_by_one_the_row_is_made_before_the_next(run, begun, monkeypatch):
    """A death over a row would be the next image's otherwise."""
    out, hand = begun
    die(hand())
    course, real, take = [], shard.make_row, InHand.take

    def slow(image, *arguments, **options):
        time.sleep(0.05)
        course.append(image.name)
        return real(image, *arguments, **options)

    def noted(self, number):
        course.append(number)
        take(self, number)

    monkeypatch.setattr(shard, "make_row", slow)
    monkeypatch.setattr(InHand, "take", noted)
    run(out)
    assert course[2:6] == [2, "a/02", 3, "a/03"]


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
