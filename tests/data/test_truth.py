"""Ground truth of VOC and COCO."""

from __future__ import annotations

import contextlib
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from labelpenet.data import VOC_CLASSES, DatasetError, coco_truth, load_dataset, voc_truth
from labelpenet.data.segmentation import box_of
from labelpenet.overlap import box_iou

CLASSES = ("cat", "train")
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
# two cats side by side and a train below; 255 between them
SEMANTIC = np.array([[1, 1, 255, 1, 1], [1, 1, 255, 1, 1], [255] * 5, [0, 2, 2, 2, 0]], np.uint8)
INSTANCES = np.array([[1, 1, 255, 3, 3], [1, 1, 255, 3, 3], [255] * 5, [0, 2, 2, 2, 0]], np.uint8)


def segment(root, name, semantic=None, instances=None):
    for folder, values in (("SegmentationClass", semantic), ("SegmentationObject", instances)):
        if values is not None:
            (root / folder).mkdir(exist_ok=True)
            image = Image.fromarray(values)
            image.putpalette(list(range(256)) * 3)
            image.save(root / folder / f"{name}.png")


def annotate(root, name, *objects):
    (root / "Annotations").mkdir(exist_ok=True)
    body = "".join(OBJECT.format(*values) for values in objects)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")


LEFT, RIGHT, BELOW = ("cat", 0, 1, 1, 2, 2), ("cat", 1, 4, 1, 5, 2), ("train", 0, 2, 4, 4, 4)


def test_masks_follow_the_boxes(voc):
    annotate(voc, "000001", BELOW, RIGHT, LEFT)
    segment(voc, "000001", SEMANTIC, INSTANCES)
    truth = voc_truth(voc, ["000001"], CLASSES)["000001"]
    assert truth.boxes.tolist() == [[1, 3, 4, 4], [3, 0, 5, 2], [0, 0, 2, 2]]
    assert (truth.boxes.dtype, truth.labels.dtype) == (np.float32, np.int64)
    assert truth.labels.tolist() == [1, 0, 0]
    assert truth.difficult.tolist() == [False, True, False]
    for mask, value in zip(truth.masks, (2, 3, 1), strict=True):
        np.testing.assert_array_equal(mask, value == INSTANCES)
    np.testing.assert_array_equal(truth.ignore, INSTANCES == 255)
    np.testing.assert_array_equal(truth.semantic, SEMANTIC)


@pytest.mark.parametrize(
    "objects",
    [
        [LEFT, BELOW],  # a mask without a box
        [LEFT, RIGHT, BELOW, ("cat", 0, 1, 1, 5, 2)],  # a box without a mask
        [LEFT, ("train", 0, 4, 1, 5, 2), BELOW],  # another class
    ],
)
def test_boxes_of_masks_where_they_do_not_match(voc, objects):
    annotate(voc, "000001", *objects)
    segment(voc, "000001", SEMANTIC, INSTANCES)
    truth = voc_truth(voc, ["000001"], CLASSES)["000001"]
    assert truth.boxes.tolist() == [[0, 0, 2, 2], [1, 3, 4, 4], [3, 0, 5, 2]]
    assert truth.labels.tolist() == [0, 1, 0]
    assert len(truth.masks) == len(truth.difficult) == 3


def test_difficult_survives_where_they_do_not_match(voc):
    annotate(voc, "000001", RIGHT)
    segment(voc, "000001", SEMANTIC, INSTANCES)
    assert voc_truth(voc, ["000001"], CLASSES)["000001"].difficult.tolist() == [False, False, True]


def test_parts_of_the_files(voc):
    annotate(voc, "000001", LEFT)
    segment(voc, "000002", SEMANTIC, INSTANCES)
    annotate(voc, "000003", LEFT)
    segment(voc, "000003", SEMANTIC)
    truth = voc_truth(voc, ["000001", "000002", "000003", "000004"], CLASSES)
    assert list(truth) == ["000001", "000002", "000003"]
    assert truth["000001"].masks is truth["000001"].semantic is None
    assert truth["000002"].labels.tolist() == [0, 1, 0]
    assert truth["000003"].masks is None
    assert truth["000003"].boxes.tolist() == [[0, 0, 2, 2]]
    np.testing.assert_array_equal(truth["000003"].semantic, SEMANTIC)
    with pytest.raises(KeyError, match="000004"):
        truth["000004"]


def test_other_classes_are_background(voc):
    annotate(voc, "000001", LEFT, RIGHT, BELOW)
    segment(voc, "000001", SEMANTIC, INSTANCES)
    truth = voc_truth(voc, ["000001"], ["dog", "train"])["000001"]
    assert truth.labels.tolist() == [1]
    np.testing.assert_array_equal(truth.masks, [INSTANCES == 2])
    assert np.unique(truth.semantic).tolist() == [0, 2, 255]
    nothing = voc_truth(voc, ["000001"], ["dog"])["000001"]
    assert (nothing.boxes.shape, nothing.masks.shape) == ((0, 4), (0, 4, 5))


def test_palette(voc):
    segment(voc, "000001", SEMANTIC, INSTANCES)
    truth = voc_truth(voc, ["000001"], CLASSES, palette=["train", "cat"])["000001"]
    assert truth.labels.tolist() == [1, 0, 1]
    with pytest.raises(DatasetError, match="expected values 0 to 1 and 255"):
        voc_truth(voc, ["000001"], CLASSES, palette=["cat"])["000001"]


def test_names_of_a_list(voc):
    annotate(voc, "000001", LEFT)
    name = "VOC2007/JPEGImages/000001"
    assert list(voc_truth(voc, [name], CLASSES)) == [name]
    with pytest.raises(DatasetError, match="leaves its folder"):
        voc_truth(voc, ["../000001"], CLASSES)


def test_damaged_segmentations(voc):
    segment(voc, "000001", SEMANTIC, INSTANCES[:2])
    with pytest.raises(DatasetError, match="is not of the size of"):
        voc_truth(voc, ["000001"], CLASSES)["000001"]
    path = voc / "SegmentationClass" / "000001.png"
    Image.new("RGB", (5, 4)).save(path)
    with pytest.raises(DatasetError, match="expected a palette image, got mode RGB"):
        voc_truth(voc, ["000001"], CLASSES)["000001"]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DatasetError, match="cannot be read"):
        voc_truth(voc, ["000001"], CLASSES)["000001"]


def test_datasets_bring_their_truth(voc):
    annotate(voc, "000001", LEFT)
    dataset = pickle.loads(pickle.dumps(load_dataset(voc, split="train")))
    assert list(dataset.truth) == ["000001"]
    assert dataset.truth["000001"].labels.tolist() == [0]


def test_real_voc(shared):
    dataset = load_dataset(shared / "data/voc12-mini", split="dev")
    assert len(dataset.truth) == 300
    for record in dataset.records[:25]:
        truth = dataset.truth[record.name]
        assert set(truth.labels.tolist()) == set(record.labels)
        for box, mask in zip(truth.boxes, truth.masks, strict=True):
            assert box_iou(box[None], np.array([box_of(mask)])).item() > 0.6
        numbers = {int(v) for v in np.unique(truth.semantic)} - {0, 255}
        assert numbers == {label + 1 for label in record.labels}


@pytest.fixture
def coco(tmp_path):
    def write(*annotations, **image):
        data = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 6} | image],
            "categories": [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [{"image_id": 1, "category_id": 5} | a for a in annotations],
        }
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(data))
        return path

    return write


SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]
CORNER = {"size": [4, 6], "counts": [0, 2, 22]}


def test_coco(coco):
    path = coco(
        {"bbox": [1, 1, 3, 2], "segmentation": SQUARE, "category_id": 2},
        {"bbox": [0, 0, 6, 4], "segmentation": [[0, 0, 6, 0, 6, 4, 0, 4]]},
        {"bbox": [0, 0, 1, 2], "segmentation": CORNER, "iscrowd": 1},
    )
    truth = coco_truth(path)["a"]
    assert truth.boxes.tolist() == [[1, 1, 4, 3], [0, 0, 6, 4], [0, 0, 1, 2]]
    assert truth.labels.tolist() == [0, 1, 1]  # dog before cat, by id
    assert truth.difficult.tolist() == truth.crowd.tolist() == [False, False, True]
    assert truth.masks.sum((1, 2)).tolist() == [6, 24, 2]
    assert np.argwhere(truth.ignore).tolist() == [[0, 0], [1, 0]]
    assert truth.semantic.tolist() == [
        [255, 2, 2, 2, 2, 2],
        [255, 1, 1, 1, 2, 2],  # the smaller of two on top
        [2, 1, 1, 1, 2, 2],
        [2, 2, 2, 2, 2, 2],
    ]
    assert coco_truth(path, classes=["cat"])["a"].labels.tolist() == [0, 0]


def test_coco_without_objects_or_masks(coco):
    empty = coco_truth(coco())["a"]
    assert (empty.boxes.shape, empty.masks.shape) == ((0, 4), (0, 4, 6))
    assert not empty.semantic.any()
    boxes = coco_truth(coco({"bbox": [0, 0, 2, 2]}, {"bbox": [0, 0, 1, 1], "segmentation": SQUARE}))
    assert len(boxes["a"].boxes) == 2
    assert boxes["a"].masks is boxes["a"].semantic is None


@pytest.mark.parametrize(
    ("annotation", "image", "message"),
    [
        ({"bbox": [0, 0, 2]}, {}, r"annotations\[0\]: bbox: expected x, y, width and height"),
        ({"bbox": [0, 0, -2, 2]}, {}, "bbox: expected"),
        ({"bbox": [0, 0, "2", 2]}, {}, "bbox: expected"),
        ({"bbox": [0, 0, float("nan"), 2]}, {}, "bbox: expected"),
        ({}, {}, "bbox: expected .* got None"),
        ({"bbox": [0, 0, 2, 2], "segmentation": [[1, 2]]}, {}, r"\[0\]: segmentation: expected"),
        ({"bbox": [0, 0, 2, 2]}, {"height": 0}, "expected height and width, got 0, 6"),
        ({"bbox": [0, 0, 2, 2]}, {"width": "6"}, "expected height and width, got 4, '6'"),
        ({"bbox": [0, 0, 2, 2]}, {"width": 10**9}, "more than 89,478,485 pixels"),
    ],
)
def test_bad_coco(coco, annotation, image, message):
    truth = coco_truth(coco(annotation, **image))
    with pytest.raises(DatasetError, match=message):
        truth["a"]


def test_pickled_coco_parses_again(coco):
    truth = coco_truth(coco({"bbox": [1, 1, 3, 2], "segmentation": SQUARE}))
    copy = pickle.loads(pickle.dumps(truth))
    np.testing.assert_array_equal(copy["a"].masks, truth["a"].masks)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools with numpy 2
def test_real_coco_as_pycocotools_reads_it(shared):
    from pycocotools.coco import COCO

    path = shared / "data/coco-eval-oracle/instances_val2014_100.json"
    with contextlib.redirect_stdout(io.StringIO()):
        peer = COCO(str(path))
    truth = coco_truth(path)
    assert len(truth) == 100
    for image in peer.getImgIds()[:20]:
        found = truth[peer.imgs[image]["file_name"].removesuffix(".jpg")]
        annotations = peer.imgToAnns[image]
        for annotation, mask in zip(annotations, found.masks, strict=True):
            np.testing.assert_array_equal(mask, peer.annToMask(annotation))


def test_all_voc_classes_are_known():
    assert len(VOC_CLASSES) == 20
    assert tuple(sorted(VOC_CLASSES)) == VOC_CLASSES
