"""COCO JSON files and their masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from labelpenet.data import DatasetError, load_dataset
from labelpenet.data.segmentation import box_of, decode_segmentation, match_boxes


def content(**changes):
    """Two images, categories whose ids are neither sorted nor dense."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 4, "width": 6},
            {"id": 3, "file_name": "b.jpg", "height": 4, "width": 6},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [0, 0, 2, 2], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 1},
        ],
    } | changes


@pytest.fixture
def coco_file(tmp_path, photo):
    def write(data, path="instances_val.json", images="."):
        for name in ("a.jpg", "b.jpg"):
            photo(tmp_path / images / name)
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            file.write_bytes(data)
        else:
            file.write_text(data if isinstance(data, str) else json.dumps(data))
        return file

    return write


def labels(dataset):
    return {r.name: [dataset.classes[label] for label in r.labels] for r in dataset.records}


@pytest.mark.parametrize(
    ("path", "images"),
    [
        ("x.json", "."),
        ("x.json", "images"),
        ("x.json", "photos"),
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_val.json", "images/val"),
        ("annotations/instances_val.json", "whatever"),
        ("annotations/instances_val.json", "."),
    ],
)
def test_where_images_may_be(coco_file, path, images):
    dataset = load_dataset(coco_file(content(), path, images))
    assert dataset.classes == ("person", "toothbrush")  # by id
    assert labels(dataset) == {"a": [], "b": ["person", "toothbrush"]}


def test_folder(coco_file, tmp_path):
    coco_file(content(), "annotations/instances_val.json", "val")
    assert len(load_dataset(tmp_path)) == 2
    assert len(load_dataset(tmp_path, split="val")) == 2
    coco_file(content(), "annotations/instances_train.json", "train")
    with pytest.raises(DatasetError, match=r"several splits .known: train, val"):
        load_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"no split 'vall' .did you mean 'val'"):
        load_dataset(tmp_path, split="vall")


def test_chosen_classes(coco_file):
    path = coco_file(content())
    assert labels(load_dataset(path, classes=["toothbrush"])) == {"a": [], "b": ["toothbrush"]}
    more = ["car", "toothbrush", "person"]
    assert load_dataset(path, classes=more).records[1].labels == (1, 2)
    with pytest.raises(DatasetError, match="has no class 'persons'"):
        load_dataset(path, classes=["persons"])


def test_a_file_has_no_splits(coco_file):
    with pytest.raises(DatasetError, match="a COCO file has no splits, got 'val'"):
        load_dataset(coco_file(content()), split="val")


IMAGE = {"id": 1, "file_name": "a.jpg"}
BAD = {
    "empty": ("", r"\.json:1: broken JSON"),
    "not UTF-8": (b'{"images": "\xff"}', "not UTF-8"),
    "cut off": ('{"images": [\n{"id": 1,\n', r"\.json:3: broken JSON"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "digits": ('{"images": ' + "9" * 5000 + "}", "broken JSON"),
    "list": ([], "expected a JSON object, got list"),
    "no images": ({"categories": []}, "images: expected a list"),
    "no categories": ({"images": []}, "categories: expected a list"),
    "image is text": (content(images=["a.jpg"]), "images: expected a list of objects"),
    "empty list": (content(images=[], annotations=[]), "names no images"),
    "no id": (content(images=[{"file_name": "a.jpg"}]), r"images\[0\]: id: expected an integer"),
    "true id": (content(images=[IMAGE | {"id": True}]), r"images\[0\]: id: expected an integer"),
    "no file": (content(images=[{"id": 1}]), r"images\[0\]: file_name: expected text, got None"),
    "same id": (content(images=[IMAGE, IMAGE | {"file_name": "b.jpg"}]), "id 1 is there twice"),
    "same file": (content(images=[IMAGE, IMAGE | {"id": 2}], annotations=[]), "'a' is there alr"),
    "climbs": (content(images=[IMAGE | {"file_name": "../a.jpg"}], annotations=[]), "leaves its"),
    "absolute": (content(images=[IMAGE | {"file_name": "/a.jpg"}], annotations=[]), "is absolute"),
    "missing": (content(images=[IMAGE | {"file_name": "z.jpg"}], annotations=[]), "missing image"),
    "same name": (content(categories=[{"id": i, "name": "x"} for i in (1, 2)]), "the same name"),
    "category": (
        content(annotations=[{"image_id": 3, "category_id": 4}]),
        "no such category_id: 4",
    ),
    "image": (content(annotations=[{"image_id": 9, "category_id": 1}]), "no such image_id: 9"),
    "list id": (content(annotations=[{"image_id": [3]}]), r"annotations\[0\]: no such image_id"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(coco_file, case):
    data, message = BAD[case]
    with pytest.raises(DatasetError, match=message):
        load_dataset(coco_file(data))


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_run_lengths_round_trip(height, width, random):
    mask = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)])
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = {"size": [height, width], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(compressed, height, width), mask)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    plain = {"size": [height, width], "counts": counts}
    np.testing.assert_array_equal(decode_segmentation(plain, height, width), mask)


def test_long_runs():
    mask = np.zeros((2000, 1500), bool)
    mask[5:1990, 100:1400] = True
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    value = {"size": [2000, 1500], "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(decode_segmentation(value, 2000, 1500), mask)


def test_polygons():
    square = decode_segmentation([[1, 1, 4, 1, 4, 3, 1, 3], [5, 0, 6, 0, 6, 1, 5, 1]], 4, 6)
    assert square.dtype == bool
    assert np.argwhere(square).tolist() == [
        [0, 5], [1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]
    ]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        [],
        [[]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a"] * 6],
        [[True] * 6],
        [[0, 0, 1, 1, 2, float("nan")]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [1, 2, 3, 4, 5, 6],
        {},
        {"size": [6, 4], "counts": [24]},
        {"size": [4, 6], "counts": [23]},
        {"size": [4, 6], "counts": [25]},
        {"size": [4, 6], "counts": [3, -3, 24]},
        {"size": [4, 6], "counts": [24.0]},
        {"size": [4, 6], "counts": [True, 23]},
        {"size": [4, 6], "counts": ""},
        {"size": [4, 6], "counts": "\x7f\x7f"},
        {"size": [4, 6], "counts": "oooooooooooooooooooo"},
        {"size": [4, 6], "counts": "P"},
        {"size": [4, 6], "counts": "é"},
        {"size": [4, 6]},
    ],
    ids=repr,
)
def test_bad_segmentations(value):
    with pytest.raises(ValueError, match=r"^segmentation: "):
        decode_segmentation(value, 4, 6)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=115), max_size=12))
def test_any_counts(text):
    try:
        mask = decode_segmentation({"size": [4, 6], "counts": text}, 4, 6)
    except ValueError:
        return
    assert (mask.shape, mask.dtype) == ((4, 6), bool)


def test_box_of():
    mask = np.zeros((5, 7), bool)
    mask[2, 3] = True
    assert box_of(mask) == (3, 2, 4, 3)
    assert box_of(np.ones((5, 7), bool)) == (0, 0, 7, 5)


def test_match_boxes_takes_the_best_pair_first():
    first = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    second = np.array([[1, 0, 11, 10], [2, 0, 12, 10]])
    every = np.ones((3, 2), bool)
    assert match_boxes(first, second, every) == [(1, 0), (0, 1)]
    assert match_boxes(first, second, ~every) == []
    assert match_boxes(first[2:], second, every[2:]) == []  # no overlap, no pair
    assert match_boxes(first[:0], second, every[:0]) == []
