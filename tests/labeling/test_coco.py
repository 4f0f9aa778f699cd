import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labeling.scenes import STEADY, from_masks, instances, read_labels, same
from pycocotools.coco import COCO

from labelpenet.files import OutputError
from labelpenet.labeling.coco import write_labels
from labelpenet.types import Instances

CLASSES = ("cat", "<script>", "père/mère")


@STEADY
@given(st.dictionaries(st.text(min_size=1, max_size=8), instances(), max_size=3))
def test_round_trip(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("coco") / "labels.json"
    sizes = {name: tuple(one.masks.shape[1:]) for name, one in found.items()}
    write_labels(path, CLASSES, found, sizes)
    classes, back, sizes_back = read_labels(path)
    assert classes == CLASSES
    assert sizes_back == sizes
    assert list(back) == list(found)
    assert all(same(back[name], found[name]) for name in found)


def test_boxes_without_masks(tmp_path):
    found = Instances(torch.tensor([[0.1, 0.2, 0.7, 0.3]]), torch.tensor([1]), torch.tensor([0.3]))
    write_labels(tmp_path / "l.json", CLASSES, {"a": found}, {"a": (2, 2)})
    assert same(read_labels(tmp_path / "l.json")[1]["a"], found)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_it(tmp_path, capsys):
    masks = np.zeros((2, 6, 5), bool)
    masks[0, 1:4, 2:5] = masks[1, 5, 0] = True
    write_labels(tmp_path / "l.json", CLASSES, {"a/b": from_masks(masks, [2, 0])}, {"a/b": (6, 5)})
    coco = COCO(str(tmp_path / "l.json"))
    first, second = coco.loadAnns(coco.getAnnIds())
    assert (first["category_id"], first["bbox"], first["area"]) == (3, [2, 1, 3, 3], 9)
    assert (second["id"], second["image_id"], second["iscrowd"], second["module"]) == (2, 1, 0, 4)
    np.testing.assert_array_equal(coco.annToMask(first).astype(bool), masks[0])
    assert coco.loadCats(3)[0]["name"] == "père/mère"


def minimal(**changes) -> dict:
    """A foreign COCO file: sparse category ids, polygons, no name, no score."""
    annotation = {"id": 7, "image_id": 5, "category_id": 90, "bbox": [0, 0, 2, 2], "iscrowd": 0}
    annotation["segmentation"] = [[0, 0, 2, 0, 2, 2, 0, 2]]
    return {
        "images": [{"id": 5, "file_name": "x/y.tar.jpg", "height": 3, "width": 4}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [annotation],
    } | changes


def test_foreign_file(tmp_path):
    (tmp_path / "l.json").write_text(json.dumps(minimal()))
    classes, found, sizes = read_labels(tmp_path / "l.json")
    assert classes == ("cat", "dog")
    assert sizes == {"x/y.tar": (3, 4)}
    one = found["x/y.tar"]
    assert one.labels.tolist() == [1]
    assert one.scores.tolist() == [1]
    assert one.masks.int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]]
    assert one.quality is None


def test_quality_of_a_foreign_file(tmp_path):
    """Figures that another program adds are let through, those that it leaves out are unknown."""
    quality = {"crf_change": 0.5, "sharpness": "good", "agreement": None}
    (tmp_path / "l.json").write_text(json.dumps(changed("annotations", quality=quality)))
    one = read_labels(tmp_path / "l.json")[1]["x/y.tar"]
    assert one.quality.crf_change.tolist() == [0.5]
    assert one.quality.agreement.isnan().all()
    assert one.quality.peak_support.isnan().all()


def changed(part: str, **values) -> dict:
    data = minimal()
    data[part][0].update(values)
    return data


BARE = {"id": 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 1, 1]}
MIXED = minimal(annotations=[*minimal()["annotations"], BARE])

BAD = {
    "not JSON": ("{", "expected COCO JSON"),
    "deep": ("[" * 100_000, "expected COCO JSON"),
    "NaN": (json.dumps(changed("annotations", score=float("nan"))), "NaN is no JSON number"),
    "list": ([], "expected a JSON object, got list"),
    "no images": (minimal(images=None), "images: expected a list"),
    "image row": (minimal(images=[3]), r"images\[0\]: expected an object, got 3"),
    "huge": (changed("images", height=2**40, width=2**40), "expected a size of 1 to"),
    "size": (changed("images", width=0), "expected a size"),
    "bool id": (changed("images", id=True), r"images\[0\].id: expected an integer, got True"),
    "id twice": (minimal(categories=[{"id": 1, "name": "a"}] * 2), "distinct ids, got 1 twice"),
    "name twice": (minimal(images=minimal()["images"] * 2), "distinct names, got 'x/y.tar' twice"),
    "class twice": (changed("categories", name="cat"), "distinct names, got 'cat' twice"),
    "class name": (changed("categories", name=""), "name: expected a non-empty string"),
    "file name": (changed("images", file_name=3), "file_name: expected a non-empty string"),
    "image id": (changed("annotations", image_id=6), "image_id: expected an id of the file, got 6"),
    "category": (changed("annotations", category_id=1), "category_id: expected an id of the file"),
    "bbox": (changed("annotations", bbox=[0, 0, -1, 1]), "bbox: expected"),
    "bbox huge": (changed("annotations", bbox=[0, 0, 1e300, 1]), "bbox: expected"),
    "bbox text": (changed("annotations", bbox="0123"), "bbox: expected"),
    "score": (changed("annotations", score=2), r"annotations\[0\].score: expected a number"),
    "quality": (changed("annotations", quality=3), "quality: expected an object, got 3"),
    "quality figure": (
        changed("annotations", quality={"score_margin": -1, "crf_change": 1.1}),
        r"quality.crf_change: expected a number in \[0, 1\] or null, got 1.1",
    ),
    "crowd": (changed("annotations", iscrowd=1), "iscrowd: expected 0"),
    "mask": (changed("annotations", segmentation=[]), "segmentation: expected an RLE"),
    "far polygon": (changed("annotations", segmentation=[[0, 0, 1e9, 0, 1, 1]]), "inside the 4"),
    "short polygon": (changed("annotations", segmentation=[[0, 0, 1, 1]]), "expected polygons"),
    "rle size": (
        changed("annotations", segmentation={"size": [4, 3], "counts": "<"}),
        r"segmentation.size: expected \[3, 4\], got \[4, 3\]",
    ),
    "rle": (
        changed("annotations", segmentation={"size": [3, 4], "counts": [10**12]}),
        "segmentation.counts: expected runs",
    ),
    "mixed": (
        MIXED,
        "a mask for all objects or none",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_bad_file(tmp_path, data, message):
    path = tmp_path / "l.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(ValueError, match=message) as error:
        read_labels(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 400 + len(str(path))


def test_too_many_mask_pixels(tmp_path):
    data = minimal()
    data["images"][0] |= {"height": 16384, "width": 16384}
    data["annotations"] = [
        data["annotations"][0] | {"id": i, "segmentation": {"size": [2**14] * 2, "counts": [2**28]}}
        for i in range(17)
    ]
    (tmp_path / "l.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="at most 4294967296 mask pixels"):
        read_labels(tmp_path / "l.json")


def test_not_utf8(tmp_path):
    (tmp_path / "l.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match="expected COCO JSON"):
        read_labels(tmp_path / "l.json")


BAD_INSTANCES = {
    "box": ({"boxes": torch.tensor([[2.0, 0.0, 1.0, 1.0]])}, "boxes: expected finite"),
    "far": ({"boxes": torch.tensor([[0.0, 0.0, 1e7, 1.0]])}, "boxes: expected finite"),
    "nan": ({"boxes": torch.full((1, 4), float("nan"))}, "boxes: expected finite"),
    "label": ({"labels": torch.tensor([3])}, r"labels: expected values in \[0, 3\)"),
    "score": ({"scores": torch.tensor([float("nan")])}, "scores: expected numbers"),
    "count": ({"scores": torch.ones(2)}, "expected boxes"),
    "size": ({"masks": torch.zeros((1, 2, 3), dtype=torch.bool)}, r"masks: expected \[1, 2, 2\]"),
    "dtype": ({"masks": torch.zeros((1, 2, 2))}, "masks: expected"),
}


@pytest.mark.parametrize(("change", "message"), BAD_INSTANCES.values(), ids=BAD_INSTANCES)
def test_bad_instances_leave_the_old_file(tmp_path, change, message):
    path = tmp_path / "l.json"
    path.write_text("old")
    good = from_masks(np.ones((1, 2, 2), bool))
    with pytest.raises(ValueError, match=message):
        write_labels(path, CLASSES, {"a": dataclasses.replace(good, **change)}, {"a": (2, 2)})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_size_and_folder(tmp_path):
    with pytest.raises(ValueError, match="sizes: expected one for every image, got none for 'a'"):
        write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(2, 2)}, {})
    with pytest.raises(OutputError, match=r"cannot write .*no/l.json: No such file"):
        write_labels(tmp_path / "no" / "l.json", CLASSES, {}, {})
