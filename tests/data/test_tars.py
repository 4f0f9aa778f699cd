"""WebDataset archives: which of their files are images, and what is wrong with the others."""

import tarfile

import pytest
from data.archives import archive, png

from labelpenet.data import DatasetError, ImageError, ImageList, list_dataset, load_image
from labelpenet.data.members import TarMember
from labelpenet.data.tars import TarIndex, find_tars

CLASSES = ("cat", "dog")
PHOTOS = {f"{name}.png": png(i) for i, name in enumerate("abc")}


@pytest.mark.parametrize("member", ["../x.png", "/x.png", "a.png::file:/etc/x.png"])
def test_members_of_strangers_stay_in_their_archive(tmp_path, member):
    (tmp_path / "x.tar").write_bytes(archive({member: png(0)}))
    with pytest.raises(DatasetError, match=r"leaves its folder|is absolute|without '::'"):
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


@pytest.mark.parametrize("data", [b"", b"no archive" * 100, archive(PHOTOS)[:1500]])
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


def test_files_of_an_archive_are_found_by_one_listing(tmp_path, monkeypatch):
    for name, count in (("x", 3), ("y", 2)):
        content = {f"p/{i}.png": png(i) for i in range(count)}
        (tmp_path / f"{name}.tar").write_bytes(archive(content))
        with tarfile.open(tmp_path / f"{name}.tar", "a") as tar:  # the first of a name counts
            tar.addfile(tarfile.TarInfo("p/0.png"))
    listed = []
    opened = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda **given: listed.append(1) or opened(**given))
    index = TarIndex()
    for name, count in (("x", 3), ("y", 2)):
        for i in range(count):
            member = index.find(f"tar://p/{i}.png::{tmp_path}/{name}.tar")
            assert member is not None
            assert member.read() == png(i)
            assert str(member) == f"tar://p/{i}.png::{tmp_path}/{name}.tar"
        assert index.find(f"tar://p/{count}.png::{tmp_path}/{name}.tar") is None
        assert index.find(f"{tmp_path}/{name}.tar") is None
    assert len(listed) == 2


@pytest.mark.parametrize("damage", ["gone", "text", "unknown"])
def test_an_archive_that_cannot_be_listed_holds_nothing(tmp_path, damage):
    path = tmp_path / "x.tar"
    if damage == "text":
        path.write_bytes(b"no archive" * 100)
    place = f"nothing://{path}" if damage == "unknown" else path
    assert TarIndex().find(f"tar://a.png::{place}") is None


def test_below_a_folder_with_the_separator_of_urls(tmp_path):
    folder = tmp_path / "a::b"
    folder.mkdir()
    (folder / "x.tar").write_bytes(archive(PHOTOS))
    images = ImageList.write(tmp_path / "list", list_dataset(folder / "x.tar", classes=CLASSES))
    for i, one in enumerate(images):
        assert load_image(one.path)[0, 0].tolist() == [i, 0, 0]
        assert TarIndex().find(str(one.path)) == one.path
    assert len(images) == 3
