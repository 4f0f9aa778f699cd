"""The run that fills a store of proposals."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from labelpenet.data import (
    ImageFailure,
    ProposalError,
    ProposalStore,
    check_for_training,
    compute_proposals,
    load_dataset,
    proposal_parts,
    write_proposals,
)
from labelpenet.files import OutputError
from labelpenet.types import Dataset, ImageRecord

SETTINGS = {"sigma": 0.8, "k": (50, 100), "spaces": ["hsv", "lab"]}


def boxes(image: np.ndarray) -> np.ndarray:
    """Some boxes that depend on the image."""
    height, width = image.shape[:2]
    rng = np.random.default_rng(int(image.sum()))
    x, y = rng.integers(0, width, 9), rng.integers(0, height, 9)
    return np.stack([x, y, x + 1, y + 1], 1)


@pytest.fixture
def dataset(tmp_path, photo):
    names = [f"cat/{number}" for number in range(7)]
    for number, name in enumerate(names):
        photo(tmp_path / "images" / f"{name}.png", (5 + number, 4))
    return load_dataset(tmp_path / "images")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "proposals.parquet"


def run(dataset, path, propose=boxes, settings=SETTINGS, **options):
    return compute_proposals(dataset, path, propose=propose, settings=settings, **options)


def content(path):
    store = ProposalStore.open(path)
    return {name: (store.size(name), store[name].tolist()) for name in store}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_computes_all(dataset, path, workers):
    result = run(dataset, path, workers=workers)
    assert (result.computed, result.kept, result.errors) == (7, 0, ())
    store = ProposalStore.open(result.path)
    assert list(store) == [r.name for r in dataset.records]
    assert store.size("cat/6") == (4, 11)
    assert [p.name for p in path.parent.iterdir()] == ["proposals.parquet"]
    assert check_for_training(dataset, store) == []


def test_workers_do_not_change_a_byte(dataset, tmp_path):
    files = [run(dataset, tmp_path / f"{n}.parquet", workers=n).path.read_bytes() for n in (0, 4)]
    assert files[0] == files[1]


def test_a_second_run_keeps_everything(dataset, path):
    run(Dataset(dataset.classes, dataset.records[:3]), path)
    before = content(path)

    def counted(image):
        counted.calls += 1
        return boxes(image)

    counted.calls = 0
    result = run(dataset, path, counted)
    assert (result.computed, result.kept, counted.calls) == (4, 3, 4)
    assert {name: row for name, row in content(path).items() if name in before} == before
    assert run(dataset, path, counted).computed == 0
    # images of another dataset stay
    assert run(Dataset(dataset.classes, dataset.records[:1]), path).kept == 1
    assert len(content(path)) == 7


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_loses_nothing(dataset, path, error, workers):
    done = []

    def until_stopped(image):
        if image.shape[1] == 5 + 4:  # the fifth image
            raise error
        done.append(image.shape[1])
        return boxes(image)

    with pytest.raises(error):
        run(dataset, path, until_stopped, workers=workers)
    assert not path.exists()
    assert len(list(path.with_name("proposals.parquet.parts").iterdir())) == 1
    again = run(dataset, path)
    assert (again.kept, again.computed) == (4, 3)
    fresh = run(dataset, path.with_name("fresh.parquet"))
    assert content(path) == content(fresh.path)


def test_parts_are_written_on_the_way(dataset, path, monkeypatch):
    monkeypatch.setattr(proposal_parts, "ROWS_PER_PART", 2)
    parts = []

    def watched(image):
        folder = path.with_name("proposals.parquet.parts")
        parts.append(len(list(folder.glob("*.parquet"))))
        return boxes(image)

    run(dataset, path, watched)
    assert parts == [0, 0, 1, 1, 2, 2, 3]
    assert len(content(path)) == 7


def test_slow_images_are_written_one_by_one(dataset, path, monkeypatch):
    monkeypatch.setattr(proposal_parts, "SECONDS_PER_PART", -1.0)
    sizes = []

    def watched(image):
        sizes.append(len(list(path.with_name("proposals.parquet.parts").glob("*.parquet"))))
        return boxes(image)

    run(dataset, path, watched)
    assert sizes == list(range(7))


def test_a_crash_between_the_store_and_its_parts(dataset, path):
    """The store is whole, but the parts that went into it are still there, and a torn one."""
    run(dataset, path)
    parts = path.with_name("proposals.parquet.parts")
    parts.mkdir()
    rows = list(ProposalStore.open(path).rows())
    write_proposals(parts / "000000.parquet", rows[:5], SETTINGS)
    (parts / ".000001.parquet.77.tmp").write_bytes(b"torn")
    before = content(path)
    assert run(dataset, path).kept == 7
    assert content(path) == before
    assert not parts.exists()


def test_other_settings_are_refused(dataset, path):
    run(dataset, path)
    asked = {"sigma": 0.8, "k": [50, 150], "min_size": 20, "spaces": ["hsv", "lab"]}
    with pytest.raises(ProposalError) as caught:
        run(dataset, path, settings=asked)
    assert "k is [50, 100], asked for [50, 150], min_size is absent, asked for 20" in str(
        caught.value
    )
    assert "sigma" not in str(caught.value)
    assert len(content(path)) == 7
    assert not path.with_name("proposals.parquet.parts").exists()
    with pytest.raises(ProposalError, match=r"sigma is 0\.8, asked for none"):
        run(dataset, path, settings={k: v for k, v in SETTINGS.items() if k != "sigma"})


@pytest.mark.parametrize("value", [object(), {1, 2}, np.zeros(2)])
def test_settings_are_json(dataset, path, value):
    with pytest.raises(TypeError, match="settings: expected JSON values"):
        run(dataset, path, settings={"x": value})


def test_bad_images_are_recorded(dataset, path, tmp_path):
    (tmp_path / "images/cat/1.png").write_bytes(b"")
    (tmp_path / "images/cat/3.png").unlink()

    def picky(image):
        if image.shape[1] == 5 + 5:
            raise RuntimeError("no segments")
        return boxes(image)

    result = run(dataset, path, picky, workers=2)
    reasons = ["the file is empty", "no such file", "propose failed: RuntimeError: no segments"]
    assert [e.name for e in result.errors] == ["cat/1", "cat/3", "cat/5"]
    assert [e.reason for e in result.errors] == reasons
    assert all(isinstance(e, ImageFailure) for e in result.errors)
    assert (result.computed, len(ProposalStore.open(path))) == (4, 4)
    lines = [json.loads(line) for line in result.errors_path.read_text().splitlines()]
    assert result.errors_path == path.parent / "proposals.parquet.errors.jsonl"
    assert [line["reason"] for line in lines] == reasons
    assert lines[0]["path"] == str(tmp_path / "images/cat/1.png")
    # the next run tries again, and clears what is repaired
    good = ImageRecord("cat/1", tmp_path / "images/cat/0.png")
    assert run(Dataset(("cat",), (good,)), path).computed == 1
    assert not result.errors_path.exists()


def test_stores_of_one_folder_have_their_own_errors(dataset, path, tmp_path):
    (tmp_path / "images/cat/1.png").write_bytes(b"")
    mine = path.parent / "errors.jsonl"  # of something else, such as a label store
    mine.parent.mkdir()
    mine.write_text("mine")
    first = run(dataset, path)
    second = run(Dataset(dataset.classes, dataset.records[:1]), path.with_name("other.parquet"))
    assert (len(first.errors), len(second.errors)) == (1, 0)
    assert json.loads(first.errors_path.read_text())["name"] == "cat/1"
    assert not second.errors_path.exists()
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros(4), r"expected \[R, 4\] numbers, got \[4\] float64"),
        (np.zeros((2, 5)), r"expected \[R, 4\] numbers, got \[2, 5\]"),
        (np.zeros((1, 4), complex), r"expected \[R, 4\] numbers"),
        (None, r"expected \[R, 4\] numbers, got \[\] object"),
        (np.array([[0, 0, 0, 1]]), "expected boxes within 5 x 4 for 'cat/0', got .0, 0, 0, 1."),
        (np.array([[0, 0, 6, 1]]), "expected boxes within 5 x 4"),
        (np.array([[-1.0, 0, 2, 1]]), "expected boxes within 5 x 4"),
        (np.array([[0, np.nan, 2, 1]]), "expected boxes within 5 x 4"),
    ],
)
def test_propose_must_return_boxes(dataset, path, returned, message):
    with pytest.raises(ValueError, match=f"propose: {message}"):
        run(dataset, path, lambda image: returned)


def test_images_without_proposals(dataset, path):
    run(dataset, path, lambda image: np.zeros((0, 4)))
    store = ProposalStore.open(path)
    assert store["cat/0"].shape == (0, 4)
    assert check_for_training(dataset, store)[0] == "cat/0: has 0 proposals"


def test_a_name_that_is_there_twice_is_computed_once(dataset, path):
    doubled = Dataset(dataset.classes, dataset.records[:2] * 2)
    assert run(doubled, path).computed == 2
    assert len(ProposalStore.open(path)) == 2


def test_an_empty_dataset_gives_an_empty_store(path):
    assert run(Dataset((), ()), path).computed == 0
    assert len(ProposalStore.open(path)) == 0


@pytest.mark.parametrize("workers", [-1, 1.5, True])
def test_bad_workers(dataset, path, workers):
    with pytest.raises(ValueError, match="workers: expected a number of threads"):
        run(dataset, path, workers=workers)


def test_two_runs_on_one_store(dataset, path):
    inside, leave = threading.Event(), threading.Event()

    def slow(image):
        inside.set()
        assert leave.wait(30)
        return boxes(image)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run, dataset, path, slow)
        assert inside.wait(30)
        try:
            with pytest.raises(OutputError, match="another job is writing"):
                run(dataset, path)
        finally:
            leave.set()
        assert first.result().computed == 7
    assert len(content(path)) == 7


def test_progress_bar(dataset, path, capsys):
    run(dataset, path, console=Console(stderr=True))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "7/7" in printed.err
    run(dataset, path)
    assert capsys.readouterr() == ("", "")


def test_check_for_training(dataset, path, tmp_path, photo):
    run(Dataset(dataset.classes, dataset.records[1:]), path)
    photo(tmp_path / "images/cat/2.png", (3, 9))
    os.truncate(tmp_path / "images/cat/4.png", 10)
    unlabelled = ImageRecord("x", tmp_path / "images/cat/1.png")
    checked = Dataset(("cat", "dog"), (*dataset.records, unlabelled))
    problems = check_for_training(checked, ProposalStore.open(path))
    assert problems[0] == "cat/0: has no proposals"
    assert problems[1].startswith("cat/2: is 9 x 3 (height x width), its proposals are of an image")
    assert problems[2].startswith(f"cat/4: {tmp_path / 'images/cat/4.png'}: ")
    assert problems[3:] == ["x: has no labels", "x: has no proposals"]
    assert check_for_training(Dataset((), ())) == ["the dataset has no images"]
    assert Path(path).exists()


def test_real_photos(shared, path):
    dataset = load_dataset(shared / "data/voc12-mini", split="dev")
    few = Dataset(dataset.classes, dataset.records[:6])
    assert run(few, path, workers=2).computed == 6
    assert check_for_training(few, ProposalStore.open(path)) == []
