"""Exports through the readers of the tools they are for, those that are installed."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from labeling.scenes import from_masks, save_photo
from PIL import Image
from pycocotools.coco import COCO

from labelpenet.labeling.coco import write_labels
from labelpenet.labeling.export import export
from labelpenet.labeling.export_coco import POLYGONS, RLE
from labelpenet.overlap import front_first
from labelpenet.types import Instances

# other people's code may warn of what it likes
pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = ("cat", "père & dog")


def scene(flag: int) -> np.ndarray:
    """Masks [3, 48, 64]: one part; two parts and a hole, over the first; the bright pixels."""
    masks = np.zeros((3, 48, 64), bool)
    masks[0, 8:40, 8:32] = True
    masks[1, 16:48, 24:56] = True
    masks[1, 24:32, 32:40] = masks[1, :, 48:51] = False
    masks[2, :16, : 8 * flag] = True
    return masks


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A label file and photos of every orientation flag; bright where the third mask is."""
    folder = tmp_path_factory.mktemp("readers")
    found = {}
    for flag in range(1, 9):
        for suffix in (".jpg", ".png", ".webp") if flag in (1, 6) else (".jpg",):
            masks = scene(flag)
            upright = np.where(masks[2][:, :, None], np.uint8(230), np.uint8(20)).repeat(3, 2)
            name = f"deep/{flag}{suffix[1:]}"
            (folder / "photos" / "deep").mkdir(parents=True, exist_ok=True)
            save_photo(folder / "photos" / f"{name}{suffix}", upright, flag)
            one = from_masks(masks, [1, 0, 1], [0.5, 0.75, 0.25])
            found[name + suffix] = Instances(one.boxes + 1.25, one.labels, one.scores, one.masks)
    names = {name: Path(name).with_suffix("").as_posix() for name in found}
    sizes = {names[key]: (48, 64) for key in found}
    by_name = {names[key]: one for key, one in found.items()}
    write_labels(folder / "labels.json", CLASSES, by_name, sizes)
    text = (folder / "labels.json").read_text("utf-8")
    for key, name in names.items():
        text = text.replace(f'"file_name": "{name}.jpg"', f'"file_name": "{key}"')
    (folder / "labels.json").write_text(text, "utf-8")
    return folder, by_name


@pytest.fixture(scope="module")
def exported(labelled, tmp_path_factory):
    made = {}

    def make(format: str) -> Path:
        if format not in made:
            folder, found = labelled
            made[format] = tmp_path_factory.mktemp(format)
            count = export(folder / "labels.json", made[format], format, images=folder / "photos")
            assert count == len(found)
        return made[format]

    return make


PHOTOS = {"coco": "images", "voc": "JPEGImages", "yolo": "images", "labelme": "."}


@pytest.mark.parametrize("format", PHOTOS)
@pytest.mark.parametrize("photos", ["link", "copy"])
def test_every_reader_sees_the_pixels_of_the_masks(labelled, tmp_path, format, photos):
    folder, found = labelled
    for _ in range(2):  # a second export replaces the first
        export(folder / "labels.json", tmp_path, format, photos=photos, images=folder / "photos")
    for path in (folder / "photos" / "deep").iterdir():
        copied = tmp_path / PHOTOS[format] / "deep" / path.name
        bright = found[f"deep/{path.stem}"].masks[2].numpy()
        with Image.open(copied) as picture:  # knows no flags
            assert np.array_equal(np.array(picture.convert("L")) > 128, bright)
        assert np.array_equal(cv2.imread(str(copied), cv2.IMREAD_GRAYSCALE) > 128, bright)
        upright = path.stem.startswith("1")
        assert copied.samefile(path) == (upright and photos == "link")
        assert not copied.is_symlink()
        if upright:
            assert copied.read_bytes() == path.read_bytes()


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask without its holes."""
    outer, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), outer, -1, 1, cv2.FILLED) > 0


def test_pycocotools(labelled, exported, capsys):
    _, found = labelled
    for file in (RLE, POLYGONS):
        coco = COCO(str(exported("coco") / file))
        assert {c["id"]: c["name"] for c in coco.cats.values()} == {1: "cat", 2: "père & dog"}
        assert sorted(coco.imgs) == list(range(1, len(found) + 1))
        assert sorted(coco.anns) == list(range(1, 3 * len(found) + 1))
        for row in coco.imgs.values():
            assert (exported("coco") / "images" / row["file_name"]).is_file()
            one = found[row["name"]]
            annotations = coco.loadAnns(coco.getAnnIds(row["id"]))
            assert [a["category_id"] - 1 for a in annotations] == one.labels.tolist()
            for annotation, mask in zip(annotations, one.masks.numpy(), strict=True):
                wanted = mask if file == RLE else filled(mask)
                assert np.array_equal(coco.annToMask(annotation).astype(bool), wanted)


def test_supervision_coco(labelled, exported):
    supervision = pytest.importorskip("supervision")
    out = exported("coco")
    dataset = supervision.DetectionDataset.from_coco(
        str(out / "images"), str(out / RLE), force_masks=True
    )
    same_masks(labelled[1], dataset, lambda mask: mask)


def test_supervision_yolo(labelled, exported):
    supervision = pytest.importorskip("supervision")
    out = exported("yolo")
    dataset = supervision.DetectionDataset.from_yolo(
        str(out / "images" / "deep"), str(out / "labels" / "deep"), str(out / "data.yaml"), True
    )
    assert dataset.classes == list(CLASSES)
    assert len(dataset) == len(labelled[1])


def same_masks(found, dataset, wanted):
    assert dataset.classes == list(CLASSES)
    assert len(dataset) == len(found)
    for path, _, detections in dataset:
        one = found[f"deep/{Path(path).stem}"]
        assert detections.class_id.tolist() == one.labels.tolist()
        for got, mask in zip(detections.mask, one.masks.numpy(), strict=True):
            assert np.array_equal(got, wanted(mask))


def test_datumaro_coco_as_cvat_imports_it(labelled, exported):
    """CVAT reads COCO with datumaro."""
    datumaro = pytest.importorskip("datumaro")
    dataset = datumaro.Dataset.import_from(str(exported("coco")), "coco_instances")
    names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    for item in dataset:
        one = labelled[1][item.id]
        assert item.media.data.shape[:2] == (48, 64)
        assert item.subset == "default"
        masks = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
        assert len(masks) == 3
        for got in masks:
            (k,) = (i for i, s in enumerate(one.scores.tolist()) if s == got.attributes["score"])
            assert names[got.label] == CLASSES[int(one.labels[k])]
            assert np.array_equal(got.image.astype(bool), one.masks[k].numpy())
    assert {item.id for item in dataset} == set(labelled[1])


def test_datumaro_voc(labelled, exported):
    datumaro = pytest.importorskip("datumaro")
    dataset = datumaro.Dataset.import_from(str(exported("voc")), "voc_instance_segmentation")
    names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    assert names == ["background", *CLASSES]
    assert {item.id for item in dataset} == set(labelled[1])
    for item in dataset:
        one = labelled[1][item.id]
        order = front_first(one.scores.numpy(), one.masks.numpy()).tolist()
        hidden = np.zeros((48, 64), bool)
        masks = {}
        for k in order:
            masks[k] = one.masks[k].numpy() & ~hidden
            hidden |= one.masks[k].numpy()
        got = [a for a in item.annotations if a.type == datumaro.AnnotationType.mask]
        assert len(got) == 3
        for k in order:
            assert any(
                np.array_equal(a.image.astype(bool), masks[k])
                and names[a.label] == CLASSES[int(one.labels[k])]
                for a in got
            )


def test_ultralytics(labelled, exported):
    utils = pytest.importorskip("ultralytics.data.utils")
    out = exported("yolo")
    for name, one in labelled[1].items():
        (photo,) = (out / "images" / "deep").glob(f"{Path(name).name}.*")
        (label,) = utils.img2label_paths([str(photo)])
        _, boxes, shape, segments, _, missing, found, _, corrupt, message = (
            utils.verify_image_label((str(photo), label, "", False, 2, 0, 0, False))
        )
        assert (missing, found, corrupt, message) == (0, 1, 0, "")
        assert tuple(shape) == (48, 64)
        assert boxes[:, 0].tolist() == one.labels.tolist()
        for segment, mask in zip(segments, one.masks.numpy(), strict=True):
            got = utils.polygon2mask((48, 64), [segment * [64, 48]], color=1).astype(bool)
            if np.array_equal(filled(mask), mask) and name[5] != "0" and not mask[16, 24]:
                assert np.array_equal(got, mask)  # one part without holes
            assert not (mask & ~got).any()
            assert (got & ~mask).sum() <= 16  # the bridges
    data = utils.check_det_dataset(str(out / "data.yaml"), autodownload=False)
    assert data["names"] == dict(enumerate(CLASSES))


def test_labelme(labelled, exported):
    label_file = pytest.importorskip("labelme._label_file")
    out = exported("labelme")
    for name, one in labelled[1].items():
        read = label_file.read_label_file(str(out / f"{name}.json"))
        assert read.image_path.startswith(Path(name).name)
        assert [shape["label"] for shape in read.shapes] == [CLASSES[i] for i in one.labels]
        for shape, mask in zip(read.shapes, one.masks.numpy(), strict=True):
            (x1, y1), (x2, y2) = shape["points"]
            got = np.zeros((48, 64), bool)
            got[y1 : y2 + 1, x1 : x2 + 1] = shape["mask"]
            assert shape["shape_type"] == "mask"
            assert np.array_equal(got, mask)


def test_labelme_of_boxes_and_empty_masks(tmp_path):
    label_file = pytest.importorskip("labelme._label_file")
    save_photo(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8), 1)
    box = torch.tensor([[1.0, 2.0, 5.5, 4.0]])
    for masks, types in ((None, ["rectangle"]), (torch.zeros((1, 48, 64)).bool(), [])):
        found = {"a": Instances(box, torch.tensor([0]), torch.tensor([0.5]), masks)}
        write_labels(tmp_path / "l.json", CLASSES, found, {"a": (48, 64)})
        export(tmp_path / "l.json", tmp_path / "out", "labelme", images=tmp_path)
        read = label_file.read_label_file(str(tmp_path / "out" / "a.json"))
        assert [shape["shape_type"] for shape in read.shapes] == types


def test_fiftyone(labelled, exported):
    """Its dataset needs a database server; the reader of COCO files does not."""
    coco = pytest.importorskip("fiftyone.utils.coco")
    out = exported("coco")
    _, classes_map, _, images, annotations = coco.load_coco_detection_annotations(
        str(out / RLE), extra_attrs=True
    )
    assert classes_map == {1: CLASSES[0], 2: CLASSES[1]}
    for image_id, row in images.items():
        one = labelled[1][row["name"]]
        for got, label, mask in zip(annotations[image_id], one.labels, one.masks, strict=True):
            detection = got.to_detection((64, 48), classes_map=classes_map, load_segmentation=True)
            left, top, *_ = detection.bounding_box
            x, y = round(64 * left), round(48 * top)
            placed = np.zeros((48, 64), bool)
            placed[y : y + detection.mask.shape[0], x : x + detection.mask.shape[1]] = (
                detection.mask
            )
            assert detection.label == CLASSES[int(label)]
            assert np.array_equal(placed, mask.numpy())
