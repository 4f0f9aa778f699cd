"""Photos that kill the process: the job gets past them."""

import signal

import pytest
from labeling.deadly_job import job
from labeling.scenes import errors, files, listing

from labelpenet.engines import WorkerDied, local
from labelpenet.labeling import open_labels

BAD = ("a/01", "a/02", "a/06")
ONE_BY_ONE = 2  # shards in which a process died: the first time over several images at once


@pytest.fixture
def photos(tmp_path):
    listing(tmp_path / "photos", 8)
    return tmp_path / "photos"


def check(out):
    assert [image.name for image in open_labels(out)] == [
        f"a/{i:02}" for i in range(8) if f"a/{i:02}" not in BAD
    ]
    assert [(row["image"], row["exception"]) for row in errors(out)] == [
        (name, "WorkerDied") for name in BAD
    ]
    assert not list((out / "labels").glob(".*"))


@pytest.mark.timeout(300)
def test_the_same_command_gets_past_a_photo_that_kills_it(start, photos, tmp_path):
    out = tmp_path / "out"
    for _ in range(2 * len(BAD) + ONE_BY_ONE):
        assert start(job, photos, out, BAD) == -signal.SIGKILL
    assert start(job, photos, out, BAD) == 0
    check(out)


@pytest.mark.timeout(300)
def test_a_kill_or_two_blame_no_photo(start, photos, tmp_path):
    """As by the user, or by a scheduler: one more than tells which image it was."""
    for _ in range(2):
        assert start(job, photos, tmp_path / "out", ("a/01",)) == -signal.SIGKILL
    for out in ("out", "whole"):
        assert start(job, photos, tmp_path / out, ()) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.timeout(300)
def test_bad_photos_alone_do_not_end_a_job_of_several_workers(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MOST_DEATHS", 1)  # and each of them kills two
    job(photos, tmp_path / "out", BAD, 2)
    check(tmp_path / "out")


@pytest.mark.timeout(300)
def test_workers_that_die_at_their_start_end_the_job(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_MOST_DEATHS", 2)
    with pytest.raises(WorkerDied, match=r"task [01]: 3 workers died over it, .*SIGKILL"):
        job(photos, tmp_path / "out", ("*",), 2)
