"""The photos beside an export: which ones are taken, and what becomes of the originals."""

import json
import tarfile

import fsspec
import numpy as np
import pytest
from labeling.scenes import JOB, each, picture, save_photo
from PIL import Image

from labelpenet.data import list_dataset
from labelpenet.data.entries import Entry, Listing
from labelpenet.data.images import ImageError
from labelpenet.data.locations import located
from labelpenet.labeling import open_labels
from labelpenet.labeling.coco import write_labels
from labelpenet.labeling.export import export
from labelpenet.labeling.runner import Options, label_images
from labelpenet.report.gallery import write_report
from labelpenet.types import Instances, Labelling

CLASSES = ("cat",)


def test_photos_of_another_size_and_missing_ones(tmp_path):
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(48, 63)}, {"a": (48, 63)})
    with pytest.raises(ImageError, match=r"a.jpg: no such file"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", images=tmp_path)
    save_photo(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8), 6)
    with pytest.raises(ImageError, match="is 64 x 48, its labels are of 63 x 48"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", images=tmp_path)


def store_of_urls(out, folder, names) -> None:
    """A store of photos in memory://`folder`."""
    entries = [Entry(n, located(f"memory://{folder}/{n}.jpg"), CLASSES, n) for n in names]
    label_images(each()[0], Listing(out, CLASSES, entries), out, job=JOB, options=Options())


def test_photos_behind_a_url(tmp_path):
    upright = np.full((48, 64, 3), 20, np.uint8)
    upright[:16, :24] = 230
    for name, flag in (("1", 1), ("6", 6), ("gone", 1)):
        save_photo(tmp_path / f"{name}.jpg", upright, flag)
        with fsspec.open(f"memory://photos/{name}.jpg", "wb") as file:
            file.write((tmp_path / f"{name}.jpg").read_bytes())
    store_of_urls(tmp_path / "labels", "photos", ("1", "6", "gone"))
    fsspec.filesystem("memory").rm("/photos/gone.jpg")
    with pytest.raises(ImageError, match=r"memory://photos/gone.jpg: no such file"):
        export(tmp_path / "labels", tmp_path / "out", "coco")
    photos = tmp_path / "out" / "images"
    assert (photos / "1.jpg").read_bytes() == (tmp_path / "1.jpg").read_bytes()
    with Image.open(photos / "6.jpg") as shown:
        assert np.array_equal(np.array(shown) > 128, upright > 128)


def test_photos_in_an_archive_keep_their_suffix(tmp_path):
    save_photo(tmp_path / "a.webp", picture(0), 1)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "a.webp", "photos/a.WEBP")
    listing = list_dataset(tmp_path / "x.tar", classes=CLASSES)
    make, _ = each(lambda image, *_: Labelling(Instances.empty(*image.shape[:2]), 4))
    label_images(make, listing, tmp_path / "labels", job=JOB, options=Options())
    (image,) = open_labels(tmp_path / "labels")
    assert image.file_name == "photos/a.WEBP"
    export(tmp_path / "labels", tmp_path / "out", "coco")
    copy = tmp_path / "out" / "images" / "photos" / "a.webp"
    assert copy.read_bytes() == (tmp_path / "a.webp").read_bytes()
    rows = json.loads((tmp_path / "out" / "annotations" / "instances_default.json").read_text())
    assert rows["images"][0]["file_name"] == "photos/a.webp"


@pytest.mark.parametrize("damage", ["text", "truncated", "size"])
def test_what_is_fetched_and_no_photo_is_not_kept(tmp_path, damage):
    save_photo(tmp_path / "a.jpg", picture(0), 1)
    whole = (tmp_path / "a.jpg").read_bytes()
    url = "memory://damaged/a.jpg"
    with fsspec.open(url, "wb") as file:
        file.write(whole)
    store_of_urls(tmp_path / "labels", "damaged", ("a",))
    save_photo(tmp_path / "a.jpg", picture(0).repeat(2, 0), 1)
    found = {
        "text": b"a secret",
        "truncated": whole[: len(whole) // 2],
        "size": (tmp_path / "a.jpg").read_bytes(),
    }[damage]
    with fsspec.open(url, "wb") as file:
        file.write(found)
    with pytest.raises(ImageError, match=f"^{url}: (not an image|cannot be decoded|is 10 x 16)"):
        export(tmp_path / "labels", tmp_path / "out", "coco")
    assert list((tmp_path / "out" / "images").iterdir()) == []


def elsewhere(folder) -> dict[str, str]:
    """Names of a photo outside of the folder `imgs`, as a stranger's file may have them."""
    return {
        "url": f"file://{folder}/secret.jpg",
        "absolute": f"{folder}/secret.jpg",
        "climbing": "../secret.jpg",
        "backslash": "..\\secret.jpg",
        "drive": "C:secret.jpg",
        "control": "a\n.jpg",
    }


@pytest.mark.parametrize("kind", elsewhere(""))
def test_photos_that_a_coco_file_may_not_name(tmp_path, kind):
    save_photo(tmp_path / "secret.jpg", picture(0), 1)
    (tmp_path / "imgs").mkdir()
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(8, 10)}, {"a": (8, 10)})
    data = json.loads((tmp_path / "l.json").read_text())
    data["images"][0]["file_name"] = elsewhere(tmp_path)[kind]
    (tmp_path / "l.json").write_text(json.dumps(data))
    words = "is a URL|is absolute|leaves its folder|holds control characters"
    with pytest.raises(ValueError, match=f"^image 'a': .*({words})"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", images=tmp_path / "imgs")
    assert list((tmp_path / "out" / "images").iterdir()) == []
    page = write_report(tmp_path / "l.json", images=tmp_path / "imgs")
    assert not (page.parent / "pictures").exists()
    assert export(tmp_path / "l.json", tmp_path / "out", "coco", photos="none") == 1


def test_an_export_into_the_folder_of_the_photos_keeps_them(tmp_path):
    save_photo(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8), 1)
    before = (tmp_path / "a.jpg").read_bytes()
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(48, 64)}, {"a": (48, 64)})
    for photos in ("link", "copy"):
        export(tmp_path / "l.json", tmp_path, "labelme", photos=photos, images=tmp_path)
        assert (tmp_path / "a.jpg").read_bytes() == before


@pytest.mark.parametrize("photos", ["link", "copy"])
@pytest.mark.parametrize("linked", [False, True])
def test_an_original_with_an_orientation_is_not_replaced(tmp_path, photos, linked):
    (tmp_path / "photos").mkdir()
    save_photo(tmp_path / "photos" / "a.jpg", np.zeros((48, 64, 3), np.uint8), 6)
    before = (tmp_path / "photos" / "a.jpg").read_bytes()
    out = tmp_path / "photos"
    if linked:
        out = tmp_path / "link"
        out.symlink_to(tmp_path / "photos")
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(48, 64)}, {"a": (48, 64)})
    with pytest.raises(ImageError, match=r"a.jpg: an upright copy would replace the original"):
        export(tmp_path / "l.json", out, "labelme", photos=photos, images=tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == before
    export(tmp_path / "l.json", out, "labelme", photos="none", images=tmp_path / "photos")


def test_a_photo_whose_folder_has_a_link_to_it(tmp_path):
    """The export's own link to an original stands for the original."""
    save_photo(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8), 6)
    before = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.jpg").symlink_to(tmp_path / "a.jpg")
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(48, 64)}, {"a": (48, 64)})
    with pytest.raises(ImageError, match="would replace the original"):
        export(tmp_path / "l.json", tmp_path / "out", "labelme", images=tmp_path)
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert (tmp_path / "out" / "a.jpg").is_symlink()
