"""Photos as arrays: whatever a camera or the web made of them, as [H, W, 3] uint8 RGB."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
from PIL import Image, UnidentifiedImageError
from upath import UPath

from labelpenet.data.locations import is_url
from labelpenet.data.members import TarMember

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2",
)  # fmt: skip

MAX_PIXELS = 89_478_485
"""Larger images are refused: Pillow's own bound against decompression bombs (256 MiB as RGB)."""

_MAX_BYTES = 2**30  # of a remote file: more than MAX_PIXELS need, uncompressed

# Only formats that decode within the process: Pillow would hand an EPS to Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")

ImagePath = str | os.PathLike[str] | UPath | TarMember
"""Where an image may be: a local path, a URL as text or UPath, or a place in a tar archive."""

_ORIENTATION = 0x0112  # the EXIF tag; values 1 to 8, 5 to 8 swap width and height
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image file that cannot be read.

    Attributes:
        path: The file.
        reason: What is wrong with it, as a phrase.
    """

    def __init__(self, path: ImagePath, reason: str) -> None:
        super().__init__(path, reason)  # both, so that it survives pickling
        self.path = Path(path) if isinstance(path, os.PathLike) else path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def load_image(path: ImagePath) -> np.ndarray:
    """Reads an image file as it is meant to be shown.

    EXIF rotation is applied. Transparency is laid on white. Grey, palette and CMYK images become
    RGB; 16-bit grey is scaled by 255 / 65535 and a float image is expected in [0, 1]. Colour
    profiles are ignored. Of an animation or a multi-picture file the first picture is taken.

    Args:
        path: The file: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM or JPEG 2000; or its URL.

    Returns:
        [H, W, 3] uint8 RGB, contiguous and writable.

    Raises:
        ImageError: The file is missing, empty, truncated, corrupt, no image, or larger than
            `MAX_PIXELS`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (3, 2), 200).save(f"{folder}/grey.png")
        ...     image = load_image(f"{folder}/grey.png")
        >>> image.shape, image.dtype, int(image[0, 0, 2])
        ((2, 3, 3), dtype('uint8'), 200)
    """
    with _opened(path) as picture:
        orientation = _orientation(picture)
        picture.load()
        if picture.format == "TIFF":  # whose load() rotates, in recent Pillow versions
            orientation = _orientation(picture)
        rgb = _rgb(picture)
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        return np.array(rgb)


def image_size(path: ImagePath) -> tuple[int, int]:
    """Reads the size that `load_image` would give, from the file's header alone.

    Args:
        path: The file.

    Returns:
        (height, width) in pixels, after EXIF rotation.

    Raises:
        ImageError: As in `load_image`, as far as the header tells.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (3, 2)).save(f"{folder}/photo.jpg")
        ...     image_size(f"{folder}/photo.jpg")
        (2, 3)
    """
    with _opened(path) as picture:
        width, height = picture.size
        if picture.format == "TIFF":  # whose size is swapped already, in recent Pillow versions
            width, height = picture.tag_v2[256], picture.tag_v2[257]  # type: ignore[attr-defined]
        return (width, height) if _orientation(picture) >= 5 else (height, width)


def as_image(photo: np.ndarray | Image.Image | ImagePath) -> np.ndarray:
    """A photo in any form as it is meant to be shown.

    Args:
        photo: [H, W, 3] uint8 RGB, a picture of Pillow, or what `load_image` takes.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        TypeError: Nothing of these, or an array that is not uint8.
        ValueError: An array of another shape, or pixel values out of range.
        ImageError: A file that cannot be read.

    Example:
        >>> as_image(Image.new("L", (3, 2), 200)).shape
        (2, 3, 3)
    """
    if isinstance(photo, Image.Image):
        orientation = _orientation(photo)
        rgb = _rgb(photo)
        return np.array(
            rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb
        )
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8:
            raise TypeError(f"photo: expected [H, W, 3] uint8, got {photo.dtype}")
        if photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise ValueError(f"photo: expected [H, W, 3] uint8, got {list(photo.shape)}")
        return photo
    if isinstance(photo, (str, os.PathLike, TarMember)):
        return load_image(photo)
    raise TypeError(f"photo: expected an array, picture or path, got {type(photo).__name__}")


def has_orientation(path: ImagePath) -> bool:
    """Whether the file has an EXIF flag that turns or mirrors it.

    Raises:
        ImageError: As in `image_size`.
    """
    with _opened(path) as picture:
        return _orientation(picture) in _TRANSPOSE


@contextmanager
def _opened(path: ImagePath) -> Iterator[Image.Image]:
    """Opens the header and turns whatever goes wrong until the end into an ImageError."""
    try:
        remote = isinstance(path, TarMember) or is_url(str(path))
        file = _fetch(path) if remote else _local(path)
        with Image.open(file, formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise ImageError(path, f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
            yield picture
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"more than {MAX_PIXELS:,} pixels") from error
    except FileNotFoundError as error:
        raise ImageError(path, "no such file") from error
    except PermissionError as error:
        raise ImageError(path, "no permission to read it") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            path, "not an image of a known format, or its header is damaged"
        ) from error
    except Exception as error:  # decoders meet damaged bytes with any exception there is
        raise ImageError(path, f"cannot be decoded: {error or type(error).__name__}") from error


def _local(path: ImagePath) -> str:
    """The file's path, after a look at what it is."""
    assert isinstance(path, (str, os.PathLike))
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
        raise ImageError(path, "is not a file")
    if status.st_size == 0:
        raise ImageError(path, "the file is empty")
    return os.fspath(path)


def _fetch(path: ImagePath) -> io.BytesIO:
    """The bytes of an image that is no file of this machine; the decoder seeks in them."""
    if isinstance(path, TarMember):
        data = path.read()
    else:
        with fsspec.open(str(path), "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    if not data:
        raise ImageError(path, "the file is empty")
    if len(data) > _MAX_BYTES:
        raise ImageError(path, f"is larger than {_MAX_BYTES:,} bytes")
    return io.BytesIO(data)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is absent, unreadable or another number."""
    if picture.format == "PNG" and not {"exif", "Raw profile type exif"} & set(picture.info):
        return 1  # getexif() would decode the whole file to look behind its pixels
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make the pixels unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_grey(np.asarray(picture).astype(np.float64) / 65535, "16-bit grey")
    if picture.mode == "F":
        return _from_grey(np.asarray(picture), "float grey in [0, 1]")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _from_grey(values: np.ndarray, expected: str) -> Image.Image:
    """Pixels in [0, 1] as RGB."""
    if not (values.min() >= 0 and values.max() <= 1):  # also false where there is a NaN
        raise ValueError(f"pixel values beyond {expected}")
    return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
