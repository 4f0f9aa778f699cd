"""Every kind of source, on this machine and behind URLs: the same images in the same order."""

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.archives import archive, png
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.data import (
    DatasetError,
    ImageError,
    ImageList,
    list_dataset,
    list_images,
    load_image,
)
from labelpenet.data.entries import Entry, Listing

CLASSES = ("cat", "dog")
TAGS = {"a": ("cat",), "b": ("cat", "dog"), "c": ()}


PHOTOS = {f"{name}.png": png(i) for i, name in enumerate(TAGS)}


def table() -> dict:
    return {"image": list(PHOTOS), "labels": [" ".join(tags) for tags in TAGS.values()]}


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(table() | {"labels": [list(tags) for tags in TAGS.values()]}), file)
    return file.getvalue()


def csv() -> bytes:
    rows = zip(*table().values(), strict=True)
    return "\n".join(["image,labels", *(",".join(row) for row in rows)]).encode()


def coco() -> bytes:
    images = [{"id": i, "file_name": name} for i, name in enumerate(PHOTOS)]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    pairs = [(i, CLASSES.index(t)) for i, tags in enumerate(TAGS.values()) for t in tags]
    found = [{"image_id": i, "category_id": c} for i, c in pairs]
    return json.dumps({"images": images, "categories": categories, "annotations": found}).encode()


def voc() -> dict[str, bytes]:
    files = {f"VOC9/JPEGImages/{name}": data for name, data in PHOTOS.items()}
    main = "VOC9/ImageSets/Main"
    for label in CLASSES:
        lines = [f"{name} {1 if label in tags else -1}" for name, tags in TAGS.items()]
        files[f"{main}/{label}_all.txt"] = "\n".join(lines).encode()
    return files | {f"{main}/all.txt": "\n".join(TAGS).encode()}


SAMPLES = {
    "a.cls": b"0",
    "a.png": PHOTOS["a.png"],
    "b.png": PHOTOS["b.png"],
    "b.json": b'{"labels": ["cat", "dog"], "more": 1}',
    "b.seg.png": b"a mask, which is no photo of this sample",
    "c.png": PHOTOS["c.png"],
}
FOLDERS = {f"cat/{name}": data for name, data in PHOTOS.items()}
STORE = {
    "labels/manifest.json": b'{"format": "labelpenet label store"}',
    "labels/pictures/ab.png": b"",
}

KINDS: dict[str, tuple[dict[str, bytes], str, dict[str, tuple[str, ...]]]] = {
    "csv": (PHOTOS | {"list.csv": csv()}, "list.csv", TAGS),
    "parquet": (PHOTOS | {"list.parquet": parquet()}, "list.parquet", TAGS),
    "coco": ({f"photos/{k}": v for k, v in PHOTOS.items()} | {"x.json": coco()}, "x.json", TAGS),
    "voc": (voc(), "", TAGS),
    "photos": (PHOTOS | STORE | {".hidden.png": b""}, "", dict.fromkeys(TAGS, ())),
    "folders": (FOLDERS, "", {f"cat/{name}": ("cat",) for name in TAGS}),
    "archive": ({"x.tar": archive(SAMPLES)}, "x.tar", TAGS),
    "archives": (
        {
            "s-08.tar": archive({"a.cls": b"cat", "a.png": PHOTOS["a.png"]}),
            "s-09.tar": archive(dict(list(SAMPLES.items())[2:5])),
            "s-10.tar": archive({"c.png": PHOTOS["c.png"]}),
        },
        "s-{08..10}.tar",
        TAGS,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_sources(place, tmp_path, kind):
    files, name, tags = KINDS[kind]
    root = place(files)
    source = f"{root}/{name}" if name else root
    images = ImageList.write(tmp_path / "list", list_dataset(source, classes=CLASSES))
    assert [(one.name, tuple(CLASSES[i] for i in one.labels)) for one in images] == list(
        tags.items()
    )
    for number, one in enumerate(images):
        image = load_image(one.path)
        assert image.shape == (3, 4, 3)
        assert image[0, 0].tolist() == [number, 0, 0]
        assert (load_image(str(one.path)) == image).all()  # as a label store names it
    again = ImageList.write(tmp_path / "again", list_dataset(source, classes=CLASSES))
    assert again.digest() == images.digest()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_are_not_wanted_do_not_matter(place, tmp_path, kind):
    files, name, tags = KINDS[kind]
    root = place(files)
    source = f"{root}/{name}" if name else root
    listing = list_dataset(source, classes=["zebra"], tags=False)
    assert listing.classes == ("zebra",)
    images = ImageList.write(tmp_path / "list", listing)
    assert {one.name: one.labels for one in images} == dict.fromkeys(tags, ())


def test_the_digest_of_a_list_without_labels(place, tmp_path):
    """Tags that are not wanted may change between two runs of a job."""
    digests = set()
    for label in (b"cat", b"2020", b""):
        root = place({"list.csv": b"image,labels\na.png," + label + b"\n"})
        listing = list_dataset(f"{root}/list.csv", classes=CLASSES, tags=False)
        digests.add(ImageList.write(tmp_path / "list", listing).digest())
    assert len(digests) == 1


def test_photos_beside_folders_of_photos(place):
    root = place({"a.png": png(0), "2020/b.png": png(1)})
    with pytest.raises(DatasetError, match="beside folders of photos"):
        list_dataset(root, classes=CLASSES)
    listing = list_dataset(root, classes=CLASSES, tags=False)
    assert [entry.name for entry in listing.entries] == ["2020/b", "a"]
    with list_images(root) as images:
        assert len(images) == 2


def test_images_that_are_not_there_are_noticed_when_they_are_loaded(place, tmp_path):
    root = place({"list.csv": csv(), "a.png": b""})
    images = ImageList.write(tmp_path / "list", list_dataset(f"{root}/list.csv", classes=CLASSES))
    assert len(images) == 3
    with pytest.raises(ImageError, match="empty"):
        load_image(images[0].path)
    with pytest.raises(ImageError, match=r"b\.png: (no such file|cannot be)"):
        load_image(images[1].path)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "memory://x/y.png", "s3:/x/y.png", "a\x00.png"]
)
def test_names_of_strangers_stay_in_their_folder(place, tmp_path, name):
    content = {"images": [{"id": 1, "file_name": name}], "categories": [], "annotations": []}
    files = {
        "list.csv": f"image,labels\n{name},cat\n".encode(),
        "x.json": json.dumps(content).encode(),
    }
    root = place(files | {"photos/x.png": b""})
    for file in files:
        with pytest.raises(DatasetError, match=r"leaves|absolute|is a URL|control characters"):
            ImageList.write(tmp_path / "list", list_dataset(f"{root}/{file}", classes=CLASSES))
        assert not (tmp_path / "list").exists()


def test_no_such_protocol():
    with pytest.raises(ValueError, match="nowhere://x: cannot be opened"):
        list_dataset("nowhere://x")


@pytest.mark.parametrize(
    ("source", "package", "says"),
    [
        ("s3://bucket/x", "s3fs", r"Install s3fs .*pip install 'labelpenet\[s3\]'"),
        ("s3://bucket/{0..1}.tar", "s3fs", r"Install s3fs .*pip install 'labelpenet\[s3\]'"),
        ("gs://bucket/x", "gcsfs", "install gcsfs"),
    ],
)
def test_a_protocol_whose_package_is_not_installed(monkeypatch, source, package, says):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{source[:5]}.*: cannot be opened: .*{says}"):
        list_dataset(source)


names = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=6)
tags = st.sets(st.sampled_from(CLASSES)).map(tuple)


@settings(max_examples=30)
@given(st.dictionaries(names, tags, min_size=1, max_size=5), st.sampled_from([1, 700]))
def test_lists_come_back(tmp_path_factory, images, times):
    """Also those of several record batches."""
    folder = tmp_path_factory.mktemp("list")
    entries = [
        Entry(f"{name}/{i}", folder / name, labels, "here")
        for i in range(times)
        for name, labels in images.items()
    ]
    found = ImageList.write(folder / "list", Listing(folder, CLASSES, entries))
    assert len(found) == len(entries)
    for position in {0, len(entries) - 1, len(entries) // 2}:
        one, entry = found[position], entries[position]
        assert (one.name, one.path) == (entry.name, str(entry.path))
        assert {CLASSES[i] for i in one.labels} == set(entry.labels)
    assert [one.name for one in found[-2:]] == [entry.name for entry in entries[-2:]]
    with pytest.raises(IndexError):
        found[len(entries)]


def test_digests_tell_lists_apart(tmp_path):
    def digest(name, labels):
        entry = Entry(name, tmp_path / "x.png", labels, "here")
        return ImageList.write(tmp_path / "l", Listing(tmp_path, CLASSES, [entry])).digest()

    found = {digest("a", ("cat",)), digest("b", ("cat",)), digest("a", ("dog",)), digest("a", ())}
    assert len(found) == 4
    assert np.unique(list(found)).size == 4
