"""Folders of photos, and what load_dataset makes of a path."""

from __future__ import annotations

import os

import numpy as np
import pytest

from labelpenet.data import DatasetError, load_dataset
from labelpenet.labeling.manifest import Manifest
from labelpenet.report.pictures import save_thumbnail


def labels(dataset):
    return {r.name: [dataset.classes[label] for label in r.labels] for r in dataset.records}


def test_a_folder_per_class(tmp_path, photo):
    for name in ("dog/b.jpg", "cat/a.JPG", "cat/more/a.png", "cat/.hidden.jpg", ".git/x.jpg"):
        photo(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert labels(dataset) == {"cat/a": ["cat"], "cat/more/a": ["cat"], "dog/b": ["dog"]}
    assert labels(load_dataset(str(tmp_path), classes=["dog", "cat", "cow"])) == labels(dataset)
    with pytest.raises(DatasetError, match=r"unknown label 'dog' .did you mean 'dogs'"):
        load_dataset(tmp_path, classes=["cat", "dogs"])


def test_splits(tmp_path, photo):
    for name in ("train/cat/a.jpg", "val/cat/b.jpg"):
        photo(tmp_path / name)
    assert labels(load_dataset(tmp_path, split="val")) == {"cat/b": ["cat"]}
    with pytest.raises(DatasetError, match=r"has no split 'test' .known: train, val"):
        load_dataset(tmp_path, split="test")


def test_photos_without_labels(tmp_path, photo):
    for name in ("b.jpg", "a.png"):
        photo(tmp_path / name)
    assert labels(load_dataset(tmp_path)) == {"a": [], "b": []}
    assert load_dataset(tmp_path, classes=["cat"]).classes == ("cat",)
    photo(tmp_path / "cat" / "c.jpg")
    with pytest.raises(DatasetError, match="holds 2 photos beside folders of photos"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("place", ["", "cat/"])
def test_label_stores_are_no_photos(tmp_path, photo, place):
    """Nor are those in the folder of a training; a manifest of something else is none."""
    photo(tmp_path / f"{place}a.jpg")
    other = Manifest(("cat",), {}, str(tmp_path), images=1, digest="", shard_size=1)
    for store in (tmp_path / place / "labels", tmp_path / "run" / "labels"):
        photo(store / "pictures" / "ab.webp")
        other.write(store)
    assert list(labels(load_dataset(tmp_path))) == [f"{place}a"]
    assert load_dataset(tmp_path).classes == (("cat",) if place else ())
    (tmp_path / "run" / "labels" / "manifest.json").write_text('{"format": "else"}')
    if place:
        assert load_dataset(tmp_path).classes == ("cat", "run")


def test_pictures_of_a_report_are_no_photos(tmp_path, photo):
    photo(tmp_path / "a.jpg")
    save_thumbnail(tmp_path, "a", np.zeros((9, 9, 3), np.uint8))
    assert list(tmp_path.glob("pictures/*/*.webp"))
    assert list(labels(load_dataset(tmp_path))) == ["a"]


def test_links_to_class_folders(tmp_path, photo):
    photo(tmp_path / "elsewhere" / "a.jpg")
    root = tmp_path / "data"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    assert labels(load_dataset(root)) == {"cat/a": ["cat"]}


@pytest.mark.parametrize("folder", ["", "cat", "cat/more"])
def test_a_folder_that_cannot_be_read(tmp_path, photo, monkeypatch, folder):
    """Its photos would be missing without a word. Permissions do not stop an administrator."""
    for name in ("cat/a.jpg", "cat/more/b.jpg", "dog/c.jpg"):
        photo(tmp_path / name)
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path) == str(tmp_path / folder):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetError, match=rf"{tmp_path / folder}: cannot be read: Permission"):
        load_dataset(tmp_path)


def test_same_name_with_two_extensions(tmp_path, photo):
    for name in ("cat/a.jpg", "cat/a.png"):
        photo(tmp_path / name)
    with pytest.raises(DatasetError, match=r"a\.png: 'cat/a' is there already, in .*a\.jpg"):
        load_dataset(tmp_path)


def test_names_that_are_not_utf8(tmp_path, photo):
    (tmp_path / "cat").mkdir()
    source = photo(tmp_path / "a.jpg")
    try:
        os.rename(source, os.fsencode(tmp_path / "cat") + b"/\xff.jpg")
    except OSError:
        pytest.skip("this file system only takes UTF-8")
    with pytest.raises(DatasetError, match="not UTF-8"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "no such file or folder"),
        ("notes.txt", r"expected a \.csv, \.parquet, \.json or \.tar file, or a folder"),
        ("empty", "names no images"),
    ],
)
def test_no_dataset(tmp_path, name, message):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / name)


@pytest.mark.parametrize("classes", ["cat", ["cat", "cat"], [""], [3]])
def test_bad_classes(tmp_path, photo, classes):
    photo(tmp_path / "cat" / "a.jpg")
    with pytest.raises((TypeError, ValueError), match=r"^classes: "):
        load_dataset(tmp_path, classes=classes)
