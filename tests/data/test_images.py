"""Every kind of image file, good and bad."""

from __future__ import annotations

import io
import os
import pickle
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelpenet.data import ImageError, image_size, images, load_image

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
# what EXIF says: how the stored rows and columns become the shown ones
SHOWN = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: PIXELS[::-1].transpose(1, 0, 2),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: PIXELS[:, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.fromarray(PIXELS).save(
        path, exif=exif, **({"lossless": True} if suffix == "webp" else {})
    )
    image = load_image(path)
    np.testing.assert_array_equal(image, SHOWN[orientation])
    assert image_size(path) == image.shape[:2]


def test_jpeg_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright: stored on its side
    Image.new("RGB", (40, 20)).save(tmp_path / "phone.jpg", exif=exif)
    assert load_image(tmp_path / "phone.jpg").shape == (40, 20, 3)
    assert image_size(tmp_path / "phone.jpg") == (40, 20)


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_unknown_orientation_is_ignored(tmp_path, value):
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "photo.png"), PIXELS)
    assert image_size(tmp_path / "photo.png") == PIXELS.shape[:2]


def test_broken_exif_is_ignored(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    np.testing.assert_array_equal(load_image(path), PIXELS)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("L", 77, "png", (77, 77, 77)),
        ("1", 1, "png", (255, 255, 255)),
        ("P", 0, "gif", (0, 0, 0)),
        ("LA", (10, 0), "png", (255, 255, 255)),
        ("LA", (10, 255), "png", (10, 10, 10)),
        ("RGBA", (255, 0, 0, 255), "png", (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), "png", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), "png", (127, 127, 127)),
        ("RGBA", (0, 0, 0, 128), "webp", (127, 127, 127)),
        ("CMYK", (0, 255, 255, 0), "tif", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "jpg", (254, 0, 0)),
        ("I;16", 65535, "png", (255, 255, 255)),
        ("I;16", 257 * 100, "png", (100, 100, 100)),
        ("I;16", 257 * 100, "tif", (100, 100, 100)),
        ("I", 257 * 100, "tif", (100, 100, 100)),
        ("F", 0.2, "tif", (51, 51, 51)),
        ("YCbCr", (255, 128, 128), "tif", (255, 255, 255)),
    ],
)
def test_modes(tmp_path, mode, colour, suffix, expected):
    path = tmp_path / f"image.{suffix}"
    Image.new(mode, (3, 2), colour).save(path)
    image = load_image(path)
    assert (image.shape, image.dtype) == ((2, 3, 3), np.uint8)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), expected, atol=1)
    assert image_size(path) == (2, 3)


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "index.png", transparency=0)
    image.save(tmp_path / "bytes.png", transparency=b"\x00\xff")
    for name in ("index.png", "bytes.png"):
        assert load_image(tmp_path / name).tolist() == [[[255, 255, 255], [200, 0, 0]]]


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (10_000, 8)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_odd_sizes(tmp_path, photo, size, suffix):
    path = photo(tmp_path / f"thin.{suffix}", size)
    assert load_image(path).shape == (size[1], size[0], 3)
    assert image_size(path) == (size[1], size[0])


def test_first_picture_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (3, 2), (value, 0, 0)) for value in (255, 0)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_picture_of_two_cameras(tmp_path):
    frames = [Image.new("RGB", (16, 8), (value, 0, 0)) for value in (255, 0)]
    frames[0].save(tmp_path / "stereo.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "stereo.jpg")[4, 8, 0] > 250
    assert image_size(tmp_path / "stereo.jpg") == (8, 16)


def jpeg(size=(64, 48)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG header that promises 60,000 x 60,000 pixels."""
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD = {
    "empty.jpg": (b"", "the file is empty"),
    "text.jpg": (b"this is no image, whatever its name says", "not an image"),
    "half.jpg": (jpeg()[:1500], "truncated"),
    "header.jpg": (jpeg()[:20], "not an image|truncated"),
    "bomb.png": (bomb(), "more than 89,478,485"),
    "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    data, reason = BAD[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)


def test_float_image_out_of_range(tmp_path):
    for value in (2.0, -0.5, float("nan")):
        Image.new("F", (3, 2), value).save(tmp_path / "depth.tif")
        with pytest.raises(ImageError, match=r"float grey in \[0, 1\]"):
            load_image(tmp_path / "depth.tif")


def test_no_file(tmp_path):
    for read in (load_image, image_size):
        with pytest.raises(ImageError, match="no such file"):
            read(tmp_path / "absent.jpg")
        with pytest.raises(ImageError, match="is not a file"):
            read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is not a file"):
        load_image(tmp_path / "pipe.jpg")


def test_pixel_bound(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 23)
    with pytest.raises(ImageError, match="6 x 4 pixels are more than 23"):
        image_size(photo(tmp_path / "a.png"))


def test_error_is_a_value_error_that_pickles():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is bad")))
    assert isinstance(error, ValueError)
    assert (str(error), error.reason) == ("a.jpg: is bad", "is bad")


def test_size_needs_no_pixels(tmp_path):
    (tmp_path / "half.jpg").write_bytes(jpeg()[:1500])
    assert image_size(tmp_path / "half.jpg") == (48, 64)


@settings(max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_damaged_bytes_never_escape(tmp_path_factory, kind, data):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS.repeat(4, 0).repeat(4, 1)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.mktemp("damaged") / "image"
    path.write_bytes(bytes(content))
    try:
        image = load_image(path)
    except ImageError:
        return
    assert image.ndim == 3
    assert image.shape[:2] == image_size(path)


def test_real_photo(shared):
    path = shared / "data/voc12-mini/VOC2012/JPEGImages/2007_000032.jpg"
    image = load_image(path)
    assert image.shape == (281, 500, 3)
    assert image_size(path) == (281, 500)
    assert image.std() > 20
