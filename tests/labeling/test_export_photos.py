"""The photos beside an export: which ones are taken, and what becomes of the originals."""

import numpy as np
import pytest
from labeling.scenes import save_photo
from PIL import Image

from labelpenet.data.images import ImageError
from labelpenet.labeling.coco import write_labels
from labelpenet.labeling.export import export
from labelpenet.types import Instances

CLASSES = ("cat",)


def test_photos_of_another_size_and_missing_ones(tmp_path):
    write_labels(tmp_path / "l.json", CLASSES, {"a": Instances.empty(48, 63)}, {"a": (48, 63)})
    with pytest.raises(ImageError, match=r"a.jpg: no such file"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", images=tmp_path)
    save_photo(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8), 6)
    with pytest.raises(ImageError, match="is 64 x 48, its labels are of 63 x 48"):
        export(tmp_path / "l.json", tmp_path / "out", "coco", images=tmp_path)


def test_photos_behind_a_url(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    upright = np.full((48, 64, 3), 20, np.uint8)
    upright[:16, :24] = 230
    for flag in (1, 6):
        save_photo(tmp_path / f"{flag}.jpg", upright, flag)
        with fsspec.open(f"memory://photos/{flag}.jpg", "wb") as file:
            file.write((tmp_path / f"{flag}.jpg").read_bytes())
    found = {name: Instances.empty(48, 64) for name in ("1", "6", "gone")}
    write_labels(tmp_path / "l.json", CLASSES, found, dict.fromkeys(found, (48, 64)))
    text = (tmp_path / "l.json").read_text()
    for name in found:
        text = text.replace(f'"file_name": "{name}', f'"file_name": "memory://photos/{name}')
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(ImageError, match=r"memory://photos/gone.jpg: no such file"):
        export(tmp_path / "l.json", tmp_path / "out", "coco")
    photos = tmp_path / "out" / "images"
    assert (photos / "1.jpg").read_bytes() == (tmp_path / "1.jpg").read_bytes()
    with Image.open(photos / "6.jpg") as picture:
        assert np.array_equal(np.array(picture) > 128, upright > 128)


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
