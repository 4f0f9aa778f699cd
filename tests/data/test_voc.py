"""VOC folders."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.data import VOC_CLASSES, DatasetError, load_dataset
from labelpenet.data.voc import read_annotation, voc_classes

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotate(root, name, *objects):
    """Writes an annotation; an object is (name, difficult, xmin, ymin, xmax, ymax)."""
    (root / "Annotations").mkdir(exist_ok=True)
    body = "".join(OBJECT.format(*values) for values in objects)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{body}</annotation>")


def labels(dataset):
    return {r.name: [dataset.classes[label] for label in r.labels] for r in dataset.records}


def test_splits(voc):
    dataset = load_dataset(voc, split="train")
    assert dataset.classes == ("cat", "train")
    assert labels(dataset) == {"000001": ["cat"], "000002": ["train"]}  # 0 is no label
    assert labels(load_dataset(voc, split="test")) == {"000003": ["cat"]}
    assert list(labels(load_dataset(voc))) == ["000003", "000001", "000002"]  # list by list


def test_devkit(voc, tmp_path):
    assert len(load_dataset(tmp_path, split="train")) == 2
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "VOCdevkit").mkdir()
    shutil.move(voc, tmp_path / "data" / "VOCdevkit" / "VOC2012")
    for folder in (tmp_path / "data", tmp_path / "data" / "VOCdevkit"):
        assert len(load_dataset(folder, split="train")) == 2
    shutil.copytree(
        tmp_path / "data" / "VOCdevkit" / "VOC2012", tmp_path / "data" / "VOCdevkit" / "VOC2007"
    )
    with pytest.raises(DatasetError, match="holds VOC2007, VOC2012; name the folder of one"):
        load_dataset(tmp_path / "data")


def test_a_part_of_the_classes_and_a_larger_vocabulary(voc):
    assert labels(load_dataset(voc, classes=["train"])) == {
        "000001": [], "000002": ["train"], "000003": []
    }  # fmt: skip
    dataset = load_dataset(voc, split="train", classes=["train", "cow", "cat"])
    assert [r.labels for r in dataset.records] == [(2,), (0,)]
    with pytest.raises(DatasetError, match=r"has no class 'cart' .did you mean 'cat'"):
        load_dataset(voc, classes=["train", "cart"])


def test_labels_from_annotations(voc):
    shutil.rmtree(voc / "ImageSets")
    annotate(voc, "000001", ("cat", 0, 1, 1, 5, 5), ("dog", 1, 1, 1, 5, 5))
    annotate(voc, "000002", ("dog", 0, 1, 1, 5, 5), ("dog", 0, 2, 2, 5, 5))
    dataset = load_dataset(voc)
    assert dataset.classes == VOC_CLASSES  # which include both, and are what the palette counts
    assert labels(dataset) == {"000001": ["cat"], "000002": ["dog"], "000003": []}


def test_other_classes_from_annotations(voc):
    shutil.rmtree(voc / "ImageSets")
    annotate(voc, "000001", ("wombat", 0, 1, 1, 5, 5), ("cat", 0, 1, 1, 5, 5))
    assert voc_classes(voc) == ("cat", "wombat")


def test_list_without_labels_of_its_own(voc):
    (voc / "ImageSets" / "Main" / "val.txt").write_text("000001\n")
    annotate(voc, "000001", ("cat", 0, 1, 1, 5, 5))
    assert labels(load_dataset(voc, split="val")) == {"000001": ["cat"]}


def test_class_names_and_splits_with_underscores(voc):
    main = voc / "ImageSets" / "Main"
    (main / "small_train.txt").write_text("000002\n")
    (main / "cat_small_train.txt").write_text("000002 1\n")
    (main / "potted_plant_train.txt").write_text("000001 1\n000002 -1\n")
    assert labels(load_dataset(voc, split="small_train")) == {"000002": ["cat"]}
    assert labels(load_dataset(voc, split="train"))["000001"] == ["cat", "potted_plant"]


def test_other_extensions(voc, photo):
    (voc / "JPEGImages" / "000002.jpg").unlink()
    photo(voc / "JPEGImages" / "000002.png")
    assert load_dataset(voc, split="train").records[1].path.name == "000002.png"


BAD_LISTS = {
    "no split": ("x.txt", "", "has no split 'val' .known: test, train"),
    "empty": ("val.txt", "\n", r"val\.txt: names no images"),
    "twice": ("val.txt", "000001\n\n000001\n", r"val\.txt:3: .* already, in .*val\.txt:1"),
    "missing": ("val.txt", "000001\n000009\n", r"missing image files: .*val\.txt:2: .*000009"),
    "climbs": ("val.txt", "../000001\n", r"val\.txt:1: .* leaves its folder"),
    "absolute": ("val.txt", "/etc/passwd\n", r"val\.txt:1: .* is absolute"),
    "too many": ("val.txt", "000001\n000001 1 2\n", r"val\.txt:2: expected a name and a flag"),
    "flag": ("cat_val.txt", "000001 2\n", r"cat_val\.txt:1: expected .*-1, 0 or 1, got '2'"),
    "no flag": ("cat_val.txt", "000001 1\n000002\n", r"cat_val\.txt:2: expected .* got ''"),
    "not text": ("val.txt", "\udcff", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_lists(voc, case):
    name, text, message = BAD_LISTS[case]
    path = voc / "ImageSets" / "Main" / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=message):
        load_dataset(voc, split="val")


def test_empty_folder(voc):
    shutil.rmtree(voc / "ImageSets")
    shutil.rmtree(voc / "JPEGImages")
    (voc / "JPEGImages").mkdir()
    with pytest.raises(DatasetError, match="names no images"):
        load_dataset(voc)


def test_annotation_frame(voc):
    annotate(voc, "000001", ("cat", 0, 1, 1, 20, 10), ("dog", 1, 4, 6, 4, 6.5))
    first, second = read_annotation(voc, "000001")
    assert (first.label, first.box, first.difficult) == ("cat", (0, 0, 20, 10), False)
    assert (second.label, second.box, second.difficult) == ("dog", (3, 5, 4, 6.5), True)
    assert read_annotation(voc, "000002") == []


def test_parts_of_an_object_are_not_objects(voc):
    (voc / "Annotations").mkdir()
    part = "<part><name>head</name><bndbox><xmin>7</xmin></bndbox></part>"
    body = OBJECT.format("person", 0, 1, 2, 3, 4)
    body = body.replace("<object>", f"<object>{part}")
    (voc / "Annotations" / "000001.xml").write_text(f"<annotation>{body}</annotation>")
    assert [(o.label, o.box) for o in read_annotation(voc, "000001")] == [("person", (0, 1, 3, 4))]


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;">]>'
    "<annotation><object><name>&m;</name></object></annotation>"
)
OUTSIDE = '<!DOCTYPE a SYSTEM "http://example.org/a.dtd"><annotation/>'
BAD_XML = {
    "empty": (b"", r"\.xml:1: broken XML: no element"),
    "not closed": (b"<annotation>\n<object>", r"\.xml:2: broken XML"),
    "entities": (LAUGHS.encode(), "a document type is not allowed"),
    "external": (OUTSIDE.encode(), "a document type is not allowed"),
    "wide entities": (LAUGHS.encode("utf-16"), "a document type is not allowed"),
    "encoding": (b'<?xml version="1.0" encoding="klingon"?><annotation/>', "klingon|encoding"),
    "nameless": (b"<annotation><object><bndbox/></object></annotation>", "object 0: .*<name>"),
    "boxless": (b"<a><object><name>cat</name></object></a>", "object 0: expected a name and a"),
    "no corner": (b"<a><object><name>cat</name><bndbox/></object></a>", "expected <xmin>"),
    "text": (OBJECT.format("cat", 0, 1, "x", 3, 4).encode(), "expected a coordinate, got 'x'"),
    "nan": (OBJECT.format("cat", 0, 1, "nan", 3, 4).encode(), "expected a coordinate"),
    "infinite": (OBJECT.format("cat", 0, 1, "inf", 3, 4).encode(), "expected a coordinate"),
    "turned": (OBJECT.format("cat", 0, 5, 1, 3, 4).encode(), "is turned around"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_annotations(voc, case):
    data, message = BAD_XML[case]
    (voc / "Annotations").mkdir()
    data = b"<annotation>" + data + b"</annotation>" if data.startswith(b"<object>") else data
    (voc / "Annotations" / "000001.xml").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        read_annotation(voc, "000001")


def test_deep_annotation(voc):
    (voc / "Annotations").mkdir()
    (voc / "Annotations" / "000001.xml").write_text("<a>" * 50_000 + "</a>" * 50_000)
    assert read_annotation(voc, "000001") == []


@settings(max_examples=100)
@given(st.binary(max_size=80) | st.text('<>/!abn&;"= ?[]x', max_size=60).map(str.encode))
def test_any_bytes_as_annotation(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("voc")
    (root / "Annotations").mkdir()
    (root / "Annotations" / "x.xml").write_bytes(data)
    try:
        objects = read_annotation(root, "x")
    except DatasetError:
        return
    assert objects == []  # an object needs more than these letters


def test_real_folder(shared):
    folder = shared / "data/voc12-mini"
    dev = load_dataset(folder, split="dev")
    assert (len(dev), dev.classes) == (300, VOC_CLASSES)
    from_list = load_dataset(folder / "dev.csv", classes=VOC_CLASSES)
    assert [r.labels for r in dev.records] == [r.labels for r in from_list.records]
    assert [r.path for r in dev.records] == [r.path for r in from_list.records]
