import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from labeling.scenes import STEADY, from_masks, instances, same, tight_boxes
from PIL import Image

from labelpenet.data import voc_palette
from labelpenet.files import OutputError
from labelpenet.labeling import open_labels
from labelpenet.labeling.coco import write_labels
from labelpenet.labeling.export import export
from labelpenet.labeling.export_coco import POLYGONS, RLE
from labelpenet.types import Instances, Quality

CLASSES = ("cat", "<b>& dog", "père/\nmère")


def exported(folder: Path, format: str, found: dict[str, Instances], classes=CLASSES) -> Path:
    sizes = {
        name: (8, 10) if one.masks is None else tuple(one.masks.shape[1:])
        for name, one in found.items()
    }
    write_labels(folder / "labels.json", classes, found, sizes)
    count = export(folder / "labels.json", folder / "out", format, photos="none")
    assert count == len(found)
    return folder / "out"


def read_voc(out: Path, name: str, classes=CLASSES):
    """Labels, boxes (0-based), scores and masks as a reader of VOC's devkit derives them."""
    root = ElementTree.parse(out / "Annotations" / f"{name}.xml").getroot()
    objects = root.findall("object")
    boxes = [[int(corner.text) for corner in o.find("bndbox")] for o in objects]
    labels = [classes.index(o.findtext("name")) for o in objects]
    scores = [float(o.findtext("score")) for o in objects]
    folders = ("SegmentationClass", "SegmentationObject")
    pictures = [np.array(Image.open(out / folder / f"{name}.png")) for folder in folders]
    boxes = np.array(boxes).reshape(-1, 4) - [1, 1, 0, 0]
    return labels, boxes, scores, *pictures


@STEADY
@given(instances())
def test_voc_round_trip(tmp_path_factory, found):
    out = exported(tmp_path_factory.mktemp("voc"), "voc", {"a/b": found})
    labels, _, scores, class_map, object_map = read_voc(out, "a/b")
    order = torch.argsort(-found.scores, stable=True)
    found = found.select(order)
    assert labels == found.labels.tolist()
    np.testing.assert_allclose(scores, found.scores, atol=5e-5)
    hidden = np.zeros(class_map.shape, bool)
    masks = found.masks.numpy()
    density = [s / max(m.sum(), 1) for s, m in zip(found.scores.tolist(), masks, strict=True)]
    for i in sorted(range(len(masks)), key=lambda i: -density[i]):  # the front one first
        mask = masks[i]
        np.testing.assert_array_equal(object_map == i + 1, mask & ~hidden)
        assert (class_map[mask & ~hidden] == labels[i] + 1).all()
        hidden |= mask
    assert (class_map[~hidden] == 0).all()
    assert (object_map[~hidden] == 0).all()


def test_voc_files(tmp_path):
    masks = np.zeros((2, 8, 10), bool)
    masks[0, 1:4, 2:7] = masks[1, 7, 9] = True
    out = exported(tmp_path, "voc", {"x/y": from_masks(masks, [2, 1])})
    _, boxes, *_ = read_voc(out, "x/y", ("cat", "<b>& dog", "père/\nmère"))
    assert boxes.tolist() == [[2, 1, 7, 4], [9, 7, 10, 8]]
    text = (out / "Annotations" / "x" / "y.xml").read_text("utf-8")
    assert "<xmin>3</xmin>" in text
    assert "<xmax>7</xmax>" in text
    assert "&lt;b&gt;&amp; dog" in text
    with Image.open(out / "SegmentationObject" / "x" / "y.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette() == voc_palette().reshape(-1).tolist()
    assert (out / "classes.txt").read_text("utf-8") == "cat\n<b>& dog\npère/ mère\n"
    for task in ("Main", "Segmentation"):
        assert (out / "ImageSets" / task / "all.txt").read_text() == "x/y\n"
    lines = (out / "labelmap.txt").read_text("utf-8").splitlines()
    assert lines[1:3] == ["background:0,0,0::", "cat:128,0,0::"]


def test_voc_boxes_leave_neither_image_nor_order(tmp_path):
    boxes = torch.tensor([[0.2, 0.9, 30.0, 2.1], [12.0, 3.0, 14.0, 3.0]])
    found = Instances(boxes, torch.tensor([0, 1]), torch.tensor([0.9, 0.8]))
    out = exported(tmp_path, "voc", {"a": found})
    root = ElementTree.parse(out / "Annotations" / "a.xml").getroot()
    rows = [[int(v.text) for v in box] for box in root.iter("bndbox")]
    assert rows == [[1, 1, 10, 3], [10, 4, 10, 4]]
    assert root.findtext("segmented") == "0"
    assert not (out / "SegmentationClass").exists()


def test_voc_many_objects_and_classes(tmp_path):
    found = from_masks(np.eye(300, dtype=bool)[:, None], scores=np.linspace(0, 1, 300))
    out = exported(tmp_path, "voc", {"a": found})
    with Image.open(out / "SegmentationObject" / "a.png") as picture:
        row = np.array(picture)[0]
    assert row[-1] == 1  # the best score
    assert row.max() == 254
    assert (row[:46] == 0).all()
    classes = [f"c{i}" for i in range(255)]
    with pytest.raises(ValueError, match="classes: VOC has room for 254, got 255"):
        exported(tmp_path, "voc", {}, classes)


def test_voc_palette_is_that_of_the_devkit(shared):
    folder = shared / "data" / "voc12-mini" / "VOC2012" / "SegmentationObject"
    with Image.open(next(folder.glob("*.png"))) as picture:
        palette = picture.getpalette()
    assert palette == voc_palette().reshape(-1).tolist()[: len(palette)]


def test_control_characters_in_class_names(tmp_path):
    classes = ("a\x00\x0b\ud800b",)
    found = {"a": from_masks(np.ones((1, 2, 2), bool))}
    for format in ("coco", "voc", "yolo", "labelme"):
        (tmp_path / format).mkdir()
        exported(tmp_path / format, format, found, classes)
    labels = read_voc(tmp_path / "voc" / "out", "a", ("a\ufffd\ufffd\ufffdb",))[0]
    assert labels == [0]
    assert open_labels(tmp_path / "coco" / "out" / RLE).classes == classes


def read_yolo(path: Path, height: int, width: int):
    """Labels and masks as a YOLO trainer derives them: scale, round down, fill."""
    labels, masks = [], []
    for line in path.read_text().splitlines():
        label, *numbers = line.split(" ")
        points = np.array(numbers, np.float64).reshape(-1, 2)
        assert len(points) >= 3
        assert points.min() >= 0
        assert points.max() <= 1
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [(points * [width, height]).astype(np.int32)], 1)
        labels.append(int(label))
        masks.append(mask.astype(bool))
    return labels, masks


@STEADY
@given(instances(max_side=16))
def test_yolo_round_trip(tmp_path_factory, found):
    out = exported(tmp_path_factory.mktemp("yolo"), "yolo", {"a/b": found})
    height, width = found.masks.shape[1:]
    labels, masks = read_yolo(out / "labels" / "a" / "b.txt", height, width)
    kept = [i for i in range(len(found)) if found.masks[i].any()]
    assert labels == [int(found.labels[i]) for i in kept]
    for i, got in zip(kept, masks, strict=True):
        mask = found.masks[i].numpy()
        assert not (mask & ~got).any()
        rings = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
        assert (got & ~mask).sum() <= (len(rings) - 1) * max(height, width)


@STEADY
@given(st.integers(1, 9), st.integers(1, 20_000), st.booleans(), st.data())
def test_yolo_one_ring_is_exact_at_any_size(tmp_path_factory, height, width, turned, data):
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    mask = np.zeros((height, width), bool)
    mask[y1:y2, x1:x2] = True
    mask = mask.T if turned else mask
    out = exported(tmp_path_factory.mktemp("yolo"), "yolo", {"a": from_masks(mask[None])})
    _, (got,) = read_yolo(out / "labels" / "a.txt", *mask.shape)
    np.testing.assert_array_equal(got, mask)


def test_yolo_files(tmp_path):
    boxes = Instances(torch.tensor([[1.0, 2.0, 5.0, 4.0]]), torch.tensor([2]), torch.tensor([0.5]))
    out = exported(tmp_path, "yolo", {"a": boxes, "none": Instances.empty(3, 3)})
    assert (out / "labels" / "a.txt").read_text() == "2 0.1 0.25 0.5 0.25 0.5 0.5 0.1 0.5\n"
    assert (out / "labels" / "none.txt").read_text() == ""
    data = yaml.safe_load((out / "data.yaml").read_text("utf-8"))
    assert data["names"] == dict(enumerate(CLASSES))
    assert (data["train"], data["val"]) == ("images", "images")


@STEADY
@given(instances())
def test_coco_rle_is_an_exact_copy(tmp_path_factory, found):
    folder = tmp_path_factory.mktemp("coco")
    out = exported(folder, "coco", {"a": found})
    boxes = tight_boxes(found.masks)
    boxes[~found.masks.flatten(1).any(1)] = found.boxes[~found.masks.flatten(1).any(1)]
    assert same(open_labels(out / RLE)["a"].instances(), replace(found, boxes=boxes))
    polygons = open_labels(out / POLYGONS)["a"].instances()
    for mask, got in zip(found.masks.numpy(), polygons.masks.numpy(), strict=True):
        filled = np.zeros(mask.shape, np.uint8)
        outer, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(filled, outer, -1, 1, cv2.FILLED)
        np.testing.assert_array_equal(got, filled.astype(bool))


def as_trainers_find(photo: str) -> str:
    """The label file of a photo, as YOLO trainers derive it from the photo's path."""
    return "/labels/".join(photo.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"


@pytest.mark.parametrize("name", ["a", "x/a", "images/a", "x/images/y/a", "images/images/images"])
def test_yolo_labels_lie_where_trainers_look(tmp_path, name):
    found = {one: from_masks(np.ones((1, 8, 10), bool)) for one in (name, "x/b")}
    out = exported(tmp_path, "yolo", found)
    for one in found:
        assert Path(as_trainers_find(f"{out}/images/{one}.jpg")).read_text().startswith("0 ")
    assert len(list(out.rglob("*.txt"))) == 3  # and classes.txt


def test_voc_label_map_names_each_class_once(tmp_path):
    found = {"a": from_masks(np.ones((1, 8, 10), bool))}
    out = exported(tmp_path, "voc", found, ("background", "x: y", "x  y", "cat"))
    names = [line.split(":")[0] for line in (out / "labelmap.txt").read_text().splitlines()[1:]]
    assert names == ["background", "background_", "x  y", "x  y_", "cat"]


@pytest.mark.parametrize("wrong", [2, -0.1, "much", None, [0.1]])
def test_coco_keeps_the_paint_score(tmp_path, wrong):
    found = {"a": from_masks(np.ones((1, 8, 10), bool))}
    out = exported(tmp_path, "coco", found) / RLE
    content = json.loads(out.read_text())
    assert content["info"]["paint_score"] == open_labels(out).paint_score == 0
    content["info"]["paint_score"] = 0.12
    out.write_text(json.dumps(content))
    assert open_labels(out).paint_score == 0.12
    export(out, tmp_path / "again", "coco", photos="none")
    assert open_labels(tmp_path / "again" / RLE).paint_score == 0.12
    content["info"]["paint_score"] = wrong
    out.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"info\.paint_score: expected a number in \[0, 1\]"):
        open_labels(out)


def test_coco_keeps_quality(tmp_path):
    found = from_masks(np.ones((1, 8, 10), bool))
    quality = Quality.of(1, crf_change=torch.tensor([0.7]))
    out = exported(tmp_path, "coco", {"a": replace(found, quality=quality)})
    for name in (RLE, POLYGONS):
        one = open_labels(out / name)["a"].instances()
        assert one.quality.crf_change.tolist() == pytest.approx([0.7])
        assert one.quality.agreement.isnan().all()


def test_coco_of_boxes_and_of_a_foreign_file(tmp_path):
    boxes = Instances(torch.tensor([[1.0, 2.0, 5.0, 4.0]]), torch.tensor([2]), torch.tensor([0.5]))
    out = exported(tmp_path, "coco", {"a": boxes})
    assert same(open_labels(out / POLYGONS)["a"].instances(), boxes)
    data = json.loads((tmp_path / "labels.json").read_text())
    del data["annotations"][0]["module"]
    (tmp_path / "labels.json").write_text(json.dumps(data))
    export(tmp_path / "labels.json", out, "coco", photos="none")
    assert "module" not in json.loads((out / RLE).read_text())["annotations"][0]


BAD_NAMES = ["../x", "a/../../x", "/etc/x", "a//b", "a/", "./a", "..", "C:/x", "C:x", "..\\x",
             "\\\\host\\share\\x", "a\nb", "a\x00"]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "labelme"])
def test_names_that_leave_the_folder(tmp_path, name, format):
    found = {"good": Instances.empty(2, 2), name: Instances.empty(2, 2)}
    with pytest.raises(ValueError, match="image name: expected a relative path inside the folder"):
        exported(tmp_path, format, found)
    assert [p.name for p in tmp_path.iterdir()] == ["labels.json"]


ODD_NAMES = ["a.b/c.d", "...", "..a", "père/ü", "<script>", "a b", "-rf", "$(x)", "labels", "100%"]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("format", ["coco", "voc", "yolo", "labelme"])
def test_odd_names_stay_inside(tmp_path, name, format):
    out = exported(tmp_path, format, {name: from_masks(np.ones((1, 2, 2), bool))})
    suffixes = (".txt", ".png", ".xml", ".json")
    named = [p for p in out.rglob("*") if str(p).endswith(tuple(name + s for s in suffixes))]
    assert len(named) == {"coco": 0, "voc": 3, "yolo": 1, "labelme": 1}[format]


def test_errors(tmp_path):
    found = {"a": from_masks(np.ones((1, 2, 2), bool))}
    write_labels(tmp_path / "l.json", CLASSES, found, {"a": (2, 2)})
    with pytest.raises(
        ValueError, match="format: expected one of coco, voc, yolo, labelme, got 'csv'"
    ):
        export(tmp_path / "l.json", tmp_path / "out", "csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="photos: expected one of copy, link, none, got 'all'"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", photos="all")
    for format in ("coco", "voc", "yolo", "labelme"):
        with pytest.raises(OutputError, match=f"cannot write {tmp_path}/file: File exists"):
            export(tmp_path / "l.json", tmp_path / "file", format, photos="none")
    long = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") + 1)
    write_labels(tmp_path / "l.json", CLASSES, {long: Instances.empty(2, 2)}, {long: (2, 2)})
    with pytest.raises(OutputError, match="File name too long"):
        export(tmp_path / "l.json", tmp_path / "out", "yolo", photos="none")
