import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from labeling.scenes import dataset, label, load, same
from rich.console import Console

from labelpenet.files import OutputError
from labelpenet.labeling import journal as journal_module
from labelpenet.labeling.coco import read_labels
from labelpenet.labeling.runner import label_images
from labelpenet.types import Instances, Labelling, Quality


def run(out, labeler=label, data=None, **options):
    options = {"load": load, "pictures": 1} | options
    return label_images(labeler, dataset() if data is None else data, out, **options)


def counting(stop_at=None, error=KeyboardInterrupt):
    """A labeler that notes the names and raises when it meets `stop_at`."""
    seen = []

    def labeler(image, tags, name):
        seen.append(name)
        if name == stop_at:
            raise error
        return label(image, tags, name)

    return labeler, seen


def files(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_labels(tmp_path):
    summary = run(tmp_path / "deep" / "out")
    assert (summary.images, summary.instances, summary.errors) == (5, 10, 0)
    assert summary.class_counts == (5, 5)
    assert [(i, n) for i, n in enumerate(summary.score_counts) if n] == [(16, 5), (18, 5)]
    out = tmp_path / "deep" / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "errors.jsonl", "index.html", "labels.json", "pictures"
    ]  # fmt: skip
    classes, found, sizes = read_labels(out / "labels.json")
    data = dataset()
    assert classes == data.classes
    assert list(sizes.items()) == [(f"a/{i}", (8, 10)) for i in range(5)]
    for record in data.records:
        labelling = label(load(record.path), record.labels, record.name)
        assert same(found[record.name], labelling.instances)


def test_bad_images_are_skipped_and_listed(tmp_path):
    def labeler(image, tags, name):
        if name == "a/1":
            raise MemoryError
        if name == "a/2":
            return "nothing"
        if name == "a/3":
            return Labelling(label(load(dataset().records[0].path)[:4], tags, name).instances, 4)
        return label(image, tags, name)

    def broken(path):
        if path.stem == "4":
            raise ValueError("a/4.png: truncated")
        return load(path)

    summary = run(tmp_path, labeler, load=broken)
    assert (summary.images, summary.errors) == (1, 4)
    rows = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["a/1", "a/2", "a/3", "a/4"]
    assert [row["exception"] for row in rows] == [
        "MemoryError", "TypeError", "ValueError", "ValueError"
    ]  # fmt: skip
    assert rows[0]["reason"] == "MemoryError"
    assert rows[1]["reason"] == "labeler: expected a Labelling, got str"
    assert rows[2]["reason"].startswith("masks: expected [2, 8, 10] bool")
    assert rows[3]["reason"] == "a/4.png: truncated"
    assert list(read_labels(tmp_path / "labels.json")[1]) == ["a/0"]


def test_grey_image_is_refused(tmp_path):
    summary = run(tmp_path, load=lambda path: np.zeros((4, 4), np.uint8))
    assert summary.errors == 5
    assert "expected [H, W, 3] uint8, got [4, 4] uint8" in (tmp_path / "errors.jsonl").read_text()


def test_interrupt_says_how_to_resume_and_resuming_gives_the_same_files(tmp_path):
    run(tmp_path / "whole")
    labeler, seen = counting("a/3")
    with pytest.raises(KeyboardInterrupt, match=r"3 of 5 images .*same command again to resume"):
        run(tmp_path / "parts", labeler)
    assert not (tmp_path / "parts" / "labels.json").exists()
    labeler, seen = counting()
    summary = run(tmp_path / "parts", labeler)
    assert seen == ["a/3", "a/4"]
    assert (summary.images, summary.resumed) == (5, 3)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_crash_that_is_no_exception_of_an_image(tmp_path):
    """Such as SystemExit: nothing is swallowed, nothing is lost."""
    labeler, _ = counting("a/2", SystemExit)
    with pytest.raises(SystemExit):
        run(tmp_path, labeler)
    assert run(tmp_path).resumed == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from labeling.scenes import dataset, label, load
from labelpenet.labeling.runner import label_images

def labeler(image, tags, name):
    if name == "a/3":
        os.kill(os.getpid(), signal.SIGKILL)
    return label(image, tags, name)

label_images(labeler, dataset(), Path(sys.argv[1]), load=load, pictures=1)
"""


def test_killed_process(tmp_path):
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "parts")], env=environment)
    assert done.returncode == -signal.SIGKILL
    labeler, seen = counting()
    assert run(tmp_path / "parts", labeler).resumed == 3
    assert seen == ["a/3", "a/4"]
    run(tmp_path / "whole")
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_failed_images_are_tried_again(tmp_path):
    def failing(image, tags, name):
        if name == "a/0":
            raise RuntimeError("for now")
        if name == "a/1":
            raise KeyboardInterrupt
        return label(image, tags, name)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, failing)
    summary = run(tmp_path)
    assert (summary.images, summary.errors, summary.resumed) == (5, 0, 0)
    assert (tmp_path / "errors.jsonl").read_text() == ""


@pytest.mark.parametrize("tail", [b'{"key": "a/2", "val', b"\x00\xff", b'{"key": 3}\n', b"[]\n"])
def test_torn_journal(tmp_path, tail):
    run(tmp_path / "whole")
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        run(out, counting("a/2")[0])
    with open(out / "labels.part.jsonl", "ab") as file:
        file.write(tail)
    with pytest.raises(KeyboardInterrupt):
        run(out, counting("a/3")[0])
    assert run(out).resumed == 3
    assert files(out) == files(tmp_path / "whole")


def test_changed_tags_are_labelled_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, counting("a/3")[0])
    data = dataset()
    first = dataclasses.replace(data.records[0], labels=(1,))
    labeler, seen = counting()
    run(tmp_path, labeler, dataclasses.replace(data, records=(first, *data.records[1:])))
    assert seen == ["a/0", "a/3", "a/4"]
    assert len(read_labels(tmp_path / "labels.json")[1]["a/0"]) == 1


def test_journal_of_another_job(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, counting("a/3")[0])
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"labels.part.jsonl: expected the journal of this job"):
        run(tmp_path, job="another checkpoint")
    with pytest.raises(ValueError, match=r"labels.part.jsonl"):
        run(tmp_path, data=dataset(classes=("cat", "cow")))
    assert files(tmp_path) == before


def test_two_jobs_in_one_folder(tmp_path):
    def nested(image, tags, name):
        with pytest.raises(OutputError, match="another job is writing into this folder"):
            run(tmp_path)
        return label(image, tags, name)

    assert run(tmp_path, nested).images == 5


def test_full_disk_keeps_the_journal(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    out = tmp_path / "parts"
    written = []

    def full(fd, data):
        if written and len(written) == 3:
            written.append(os.fspath("torn"))
            return real(fd, data[:5])
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(real(fd, data))
        return written[-1]

    real = os.write
    monkeypatch.setattr(journal_module.os, "write", full)
    with pytest.raises(OutputError, match=r"parts/labels.part.jsonl: No space left") as error:
        run(out)
    assert error.value.errno == errno.ENOSPC
    assert "run the same command again to resume" in str(error.value)
    monkeypatch.undo()
    assert (out / "labels.part.jsonl").read_bytes().endswith(b"\n")
    assert run(out).resumed == 2
    assert files(out) == files(tmp_path / "whole")


def test_full_disk_at_the_end_keeps_old_labels_and_journal(tmp_path, monkeypatch):
    out = tmp_path
    (out / "labels.json").write_text("old")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labelpenet.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"errors.jsonl: No space left on device"):
        run(out)
    monkeypatch.undo()
    assert (out / "labels.json").read_text() == "old"
    assert not list(out.glob(".*.tmp"))
    labeler, seen = counting()
    assert run(out, labeler).resumed == 5
    assert seen == []


def test_full_disk_at_a_picture(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OutputError, match=r"pictures/.*webp: No space .*to resume") as error:
            run(tmp_path)
    assert "[Errno" not in str(error.value)
    assert run(tmp_path).errors == 0


def test_pictures_are_spread(tmp_path):
    run(tmp_path, pictures=2)
    page = (tmp_path / "index.html").read_text()
    assert [f"a/{i}" in page for i in range(5)] == [True, False, True, False, False]
    assert len(list((tmp_path / "pictures").iterdir())) == 2 * 3
    run(tmp_path / "none", pictures=0)
    assert not (tmp_path / "none" / "pictures").exists()
    with pytest.raises(ValueError, match="pictures: expected at least 0, got -1"):
        run(tmp_path, pictures=-1)


def test_evaluation_goes_to_the_page(tmp_path):
    def evaluate(path):
        return {"images read": len(read_labels(path)[1]), "AP": {"cat": 0.25, "dog": float("nan")}}

    run(tmp_path, evaluate=evaluate)
    page = (tmp_path / "index.html").read_text()
    assert "images read" in page
    assert "<dt><bdi>cat</bdi></dt><dd>0.250</dd>" in page
    assert "<dt><bdi>dog</bdi></dt><dd>–</dd>" in page


def test_failed_evaluation_keeps_labels_and_journal(tmp_path):
    def broken(path):
        raise RuntimeError("no truth")

    with pytest.raises(RuntimeError, match="no truth"):
        run(tmp_path, evaluate=broken)
    assert len(read_labels(tmp_path / "labels.json")[1]) == 5
    assert run(tmp_path).resumed == 5


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file: File exists"):
        run(tmp_path / "file")
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file/out: Not a directory"):
        run(tmp_path / "file" / "out")


def test_no_images_and_no_instances(tmp_path):
    assert run(tmp_path / "a", data=dataset(0)).images == 0
    assert read_labels(tmp_path / "a" / "labels.json")[0] == dataset().classes
    summary = run(tmp_path / "b", lambda image, tags, name: Labelling(Instances.empty(8, 10), 2))
    assert (summary.images, summary.instances) == (5, 0)


def test_names_twice(tmp_path):
    data = dataset()
    data = dataclasses.replace(data, records=data.records * 2)
    with pytest.raises(ValueError, match="distinct image names, got 'a/0' twice"):
        run(tmp_path, data=data)


def test_progress_goes_to_stderr(tmp_path, capsys):
    run(tmp_path, console=Console(stderr=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "5/5" in captured.err


def with_quality(image, tags, name):
    """Two objects: the first is good in even images and unknown in a/3, the second always bad."""
    labelling = label(image, tags, name)
    number = int(name[-1])
    first = float("nan") if number == 3 else 0.9 if number % 2 == 0 else 0.1
    quality = Quality.of(2, crf_change=torch.tensor([first, 0.2]))
    found = dataclasses.replace(labelling.instances, quality=quality)
    return dataclasses.replace(labelling, instances=found)


def test_quality_is_written_and_read_back(tmp_path):
    run(tmp_path, with_quality)
    rows = json.loads((tmp_path / "labels.json").read_text())["annotations"]
    unknown = {"peak_support": None, "agreement": None, "score_margin": None}
    assert rows[0]["quality"] == unknown | {"crf_change": 0.9, "overall": 0.9}
    assert rows[6]["quality"] == unknown | {"crf_change": None, "overall": None}
    _, found, _ = read_labels(tmp_path / "labels.json")
    for record in dataset().records:
        wanted = with_quality(load(record.path), record.labels, record.name).instances.quality
        for field in dataclasses.fields(Quality):
            ours, theirs = (getattr(q, field.name) for q in (wanted, found[record.name].quality))
            assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))
    page = (tmp_path / "index.html").read_text()
    assert "quality 0.90" in page
    assert "crf change 0.90" in page


def test_min_quality_leaves_out_what_is_below_it_and_nothing_else(tmp_path):
    whole = run(tmp_path / "whole", with_quality)
    assert (whole.instances, whole.filtered) == (10, 0)
    summary = run(tmp_path / "good", with_quality, min_quality=0.5)
    assert (summary.images, summary.errors) == (5, 0)
    assert (summary.instances, summary.filtered) == (4, 6)
    assert summary.class_counts == (4, 0)
    everything = read_labels(tmp_path / "whole" / "labels.json")[1]
    kept = read_labels(tmp_path / "good" / "labels.json")[1]
    assert list(kept) == list(everything)  # an image without good objects stays
    for name, instances in kept.items():
        wanted = everything[name].select([] if name == "a/1" else [0])
        assert same(instances, wanted)
    page = (tmp_path / "good" / "index.html").read_text()
    assert "<b>6</b><span>left out below quality 0.5</span>" in page
    assert "left out below" not in (tmp_path / "whole" / "index.html").read_text()


def test_min_quality_keeps_what_says_nothing_of_its_quality(tmp_path):
    assert run(tmp_path, min_quality=1.0).instances == 10


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_min_quality_is_a_share(tmp_path, bad):
    with pytest.raises(ValueError, match=r"min_quality: expected a number in \[0, 1\], got"):
        run(tmp_path, min_quality=bad)


def test_filtered_objects_are_counted_over_a_resumed_job(tmp_path):
    run(tmp_path / "whole", with_quality, min_quality=0.5)
    out = tmp_path / "parts"

    def stopping(image, tags, name):
        if name == "a/3":
            raise KeyboardInterrupt
        return with_quality(image, tags, name)

    with pytest.raises(KeyboardInterrupt):
        run(out, stopping, min_quality=0.5)
    with pytest.raises(ValueError, match="expected the journal of this job"):
        run(out, with_quality, min_quality=0.4)
    summary = run(out, with_quality, min_quality=0.5)
    assert (summary.resumed, summary.filtered) == (3, 6)
    assert files(out) == files(tmp_path / "whole")


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
def test_impossible_quality_is_an_error_of_the_image(tmp_path, figures, message):
    def labeler(image, tags, name):
        labelling = label(image, tags, name)
        found = dataclasses.replace(labelling.instances, quality=Quality.of(2, **figures))
        return dataclasses.replace(labelling, instances=found)

    assert run(tmp_path, labeler).errors == 5
    row = json.loads((tmp_path / "errors.jsonl").read_text().splitlines()[0])
    assert re.search(message, row["reason"]), row
