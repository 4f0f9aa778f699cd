"""Every kind of source, on this machine and behind URLs: the same images in the same order."""

import io
import json
import sys
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelpenet.data import DatasetError, ImageError, ImageList, list_dataset, load_image
from labelpenet.data.entries import Entry, Listing
from labelpenet.data.members import TarMember
from labelpenet.data.tars import find_tars

CLASSES = ("cat", "dog")
TAGS = {"a": ("cat",), "b": ("cat", "dog"), "c": ()}


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


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


def archive(samples: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


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


@pytest.fixture(params=["path", "file", "memory"])
def place(request, tmp_path):
    """Puts files somewhere, and gives where that is."""

    def put(files: dict[str, bytes]) -> str:
        if request.param == "memory":
            root = f"memory://{tmp_path.name}"
            system = fsspec.filesystem("memory")
            for name, data in files.items():
                system.pipe(f"{root}/{name}", data)
            return root
        root = tmp_path / "my photos"
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root.as_uri() if request.param == "file" else str(root)

    return put


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


@pytest.mark.parametrize("member", ["../x.png", "/x.png"])
def test_members_of_strangers_stay_in_their_archive(tmp_path, member):
    (tmp_path / "x.tar").write_bytes(archive({member: png(0)}))
    with pytest.raises(DatasetError, match=r"leaves its folder|is absolute"):
        ImageList.write(tmp_path / "list", list_dataset(tmp_path / "x.tar", classes=CLASSES))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (
            ["holiday 2020.05.01.png", "holiday 2020.05.02.png", "x/b.v2.JPG"],
            {"holiday 2020.05.01": (), "holiday 2020.05.02": (), "x/b.v2": ()},
        ),
        (["a.1.cls", "a.1.png", "a.2.png", "a.json"], {"a.1": (0,), "a.2": (1,)}),
        (["a.1.jpg", "a.1.png"], {"a.1": ()}),
        # the image of the sample comes last, or is the last of the archive
        (["a.depth.png", "a.meta.json", "a.png", "b.seg.png", "b.jpg"], {"a": (), "b": ()}),
        (["._a.png", "a.png", "._a.cls", "a.cls", ".b.png", "x/._2.v.png"], {"a": (0,)}),
    ],
)
def test_names_of_members_with_more_dots(tmp_path, samples, expected):
    """They belong to the sample before the first dot, if that has an image of its own."""
    data = {".cls": b"cat", ".json": b'{"labels": ["dog"]}'}
    content = {name: data.get(name[name.rindex(".") :], b"") for name in samples}
    if "a.meta.json" in content:
        content["a.meta.json"] = b"[1]"  # no labels of ours
    (tmp_path / "x.tar").write_bytes(archive(content))
    listing = list_dataset(tmp_path / "x.tar", classes=CLASSES)
    images = ImageList.write(tmp_path / "list", listing)
    assert {one.name: one.labels for one in images} == expected
    assert len(images) == len(expected)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ({"a.png": b"", "a.json": b"{"}, "a.json: expected labels"),
        ({"a.png": b"", "a.json": b"[1]"}, "a.json: expected labels"),
        ({"a.png": b"", "a.json": b'{"labels": [3]}'}, "expected a list of names"),
        ({"a.png": b"", "a.cls": b"\xff"}, "a.cls: expected labels"),
        ({"a.png": b"", "a.cls": b"zebra"}, "unknown label 'zebra'"),
        ({"a.png": b"", "b.png": b"", "a.jpg": b""}, "names two images 'a'"),
        ({"a.txt": b"no photo"}, "names no images"),
    ],
)
def test_bad_archives(tmp_path, samples, message):
    (tmp_path / "x.tar").write_bytes(archive(samples))
    with pytest.raises(DatasetError, match=message):
        ImageList.write(tmp_path / "list", list_dataset(tmp_path / "x.tar", classes=CLASSES))
    assert not (tmp_path / "list").exists()


@pytest.mark.parametrize("data", [b"", b"no archive" * 100, archive(SAMPLES)[:1500]])
def test_an_archive_that_cannot_be_read_is_an_image_that_cannot(tmp_path, data):
    (tmp_path / "s-0.tar").write_bytes(archive({"x.png": png(0)}))
    (tmp_path / "s-1.tar").write_bytes(data)
    listing = list_dataset(tmp_path, classes=CLASSES)
    images = ImageList.write(tmp_path / "list", listing)
    names = [one.name for one in images]
    assert (names[0], names[-1]) == ("x", "s-1.broken")
    with pytest.raises(ImageError, match=r"s-1\.tar"):
        load_image(images[-1].path)


LONG = f"{'c' * 120}.png"  # its name has a header of its own


@pytest.mark.parametrize(
    ("files", "keep", "whole"),
    [
        (("a.png", "b.png"), 1024 + 512 + 20, ["a"]),  # in b.png
        (("a.png", "b.png"), 2 * 1024 - 1, ["a", "b"]),  # behind b.png, before its block is full
        (("a.png", "b.png", LONG), 2 * 1024 + 600, ["a", "b"]),
        (("a.png", "b.png", "b.cls"), 3 * 1024 - 1, ["a", "b"]),
    ],
)
def test_photos_before_the_cut_of_an_archive_are_there(tmp_path, files, keep, whole):
    data = archive({name: PHOTOS.get(name, b"0") for name in files})
    (tmp_path / "x.tar").write_bytes(data[:keep])
    listing = list_dataset(tmp_path / "x.tar", classes=CLASSES)
    images = ImageList.write(tmp_path / "list", listing)
    assert [one.name for one in images] == [*whole, "x.broken"]
    assert all(load_image(one.path).shape == (3, 4, 3) for one in images[:-1])


def test_a_damaged_header_is_not_the_end_of_an_archive(tmp_path):
    data = bytearray(archive(dict.fromkeys(PHOTOS, png(0))))
    data[1024 + 150] ^= 1  # the checksum of b.png
    (tmp_path / "x.tar").write_bytes(data)
    images = ImageList.write(tmp_path / "list", list_dataset(tmp_path / "x.tar", classes=CLASSES))
    assert [one.name for one in images] == ["a", "x.broken"]
    with pytest.raises(ImageError, match="damaged header at byte 1024"):
        load_image(images[1].path)


@pytest.mark.parametrize("name", ["nofile.tar", "s-{0..2}.tar"])
def test_archives_that_are_not_there(place, tmp_path, name):
    root = place({f"s-{i}.tar": archive({f"{i}.png": png(i)}) for i in range(2)})
    with pytest.raises(DatasetError, match=r"(nofile|s-2)\.tar: no such file"):
        ImageList.write(tmp_path / "list", list_dataset(f"{root}/{name}", classes=CLASSES))
    assert not (tmp_path / "list").exists()
    if "://" not in root:
        with pytest.raises(DatasetError, match="no such file"):
            list_dataset(f"{root}/{name}", classes=CLASSES)  # before a job makes its folder


def test_a_member_beyond_the_end(tmp_path):
    (tmp_path / "x.tar").write_bytes(png(0))
    with pytest.raises(ImageError, match="ends within"):
        load_image(TarMember(str(tmp_path / "x.tar"), "a.png", 10, 10_000))


def test_ranges():
    assert [p.name for p in find_tars("x/{0..1}-{09..10}.tar")] == [
        "0-09.tar", "0-10.tar", "1-09.tar", "1-10.tar"
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="first <= last"):
        find_tars("{2..1}.tar")
    with pytest.raises(DatasetError, match="first <= last"):
        find_tars("{0..99999999}.tar")


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


@settings(deadline=None, max_examples=30)
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
