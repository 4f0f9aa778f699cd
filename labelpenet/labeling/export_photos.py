"""The photos beside an export, such that every reader sees the pixels that the masks are of."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import IO

import fsspec
import numpy as np
from PIL import Image

from labelpenet.data.images import (
    IMAGE_SUFFIXES,
    ImageError,
    has_orientation,
    image_size,
    load_image,
)
from labelpenet.data.members import TarMember, source_suffix
from labelpenet.data.tars import TarIndex
from labelpenet.files import OutputError, atomic_write, writing
from labelpenet.labeling.labels import LabelledImage, Labels
from labelpenet.safe_path import make_file_path

_JPEG = (".jpg", ".jpeg")


class Photos(str, Enum):
    """What becomes of the photos in an export.

    - `copy`: copies of the files.
    - `link`: hard links, which need no room; copies where the file system cannot. A tool that
      changes a photo in place changes the original then. Symbolic links would be safer, but
      readers take them for paths that leave their folder (datumaro, supervision).
    - `none`: no photos.

    Some readers apply the orientation flag of a photo and others do not. One that carries such a
    flag is therefore written anew either way, upright and without it (JPEG at quality 95).
    An export into the folder of the photos refuses it: the copy would replace the original.
    """

    COPY = "copy"
    LINK = "link"
    NONE = "none"


def photo_name(image: LabelledImage) -> str:
    """The file name of an image's photo in an export: its name and the suffix of its source."""
    suffix = source_suffix(image.source).lower()
    return image.name + (suffix if suffix in IMAGE_SUFFIXES else ".jpg")


class PhotoFolder:
    """Puts photos into the folder of an export.

    Args:
        folder: To be filled.
        how: Whether at all, and how.
        labels: The labels that the images are of.
        images: Where sources that are no absolute paths lie; None is the working directory.
    """

    def __init__(
        self, folder: Path, how: Photos, labels: Labels, images: Path | None = None
    ) -> None:
        self.folder = folder
        self.how = how
        self.labels = labels
        self.images = images or Path()
        self._index = TarIndex()

    def add(self, image: LabelledImage) -> None:
        """Puts the photo of one image there.

        Raises:
            ValueError: The labels may not name such a photo, see `Labels.photo`.
            ImageError: There is no such photo, it has another size than its labels, or it would
                be replaced by an upright copy of itself.
            OutputError: It cannot be written.
        """
        if self.how is Photos.NONE:
            return
        path = make_file_path(self.folder, *os.path.splitext(photo_name(image)))
        source = self.labels.photo(image, self.images)
        if isinstance(source, str):
            _download(source, self._index.find(source), path, image)
            return
        _check_size(source, image_size(source), image)
        in_place = _is_original(path, source.resolve())
        if has_orientation(source) or path.suffix != source.suffix.lower():
            if in_place:
                reason = "an upright copy would replace the original; choose another folder"
                raise ImageError(source, reason)
            with atomic_write(path, binary=True) as file:
                _save(load_image(source), file, path.suffix)
        elif not in_place:
            _place(source.resolve(), path, link=self.how is Photos.LINK)


def _check_size(source: Path | str, size: tuple[int, ...], image: LabelledImage) -> None:
    if size != (image.height, image.width):
        labelled = f"{image.width} x {image.height}"
        raise ImageError(source, f"is {size[1]} x {size[0]}, its labels are of {labelled}")


def _download(url: str, member: TarMember | None, path: Path, image: LabelledImage) -> None:
    """Fetches a photo; what turns out to be none never gets the name of one.

    Args:
        url: Of the photo.
        member: Where in an archive that is, if it is known.
        path: Where it goes.
        image: Its labels.
    """
    try:
        opened = fsspec.open(url, "rb") if member is None else io.BytesIO(member.read())
        with opened as remote, atomic_write(path, binary=True) as file:
            shutil.copyfileobj(remote, file)
            file.flush()
            pixels = load_image(file.name)
            _check_size(url, pixels.shape[:2], image)
            if has_orientation(file.name):
                file.seek(0)
                file.truncate()
                _save(pixels, file, path.suffix)
    except OutputError:
        raise
    except ImageError as error:
        raise ImageError(url, error.reason) from None
    except FileNotFoundError as error:
        raise ImageError(url, "no such file") from error
    except Exception as error:  # of whatever library serves the protocol
        raise ImageError(url, f"cannot be read: {error or type(error).__name__}") from error


def _is_original(path: Path, source: Path) -> bool:
    """Whether `path` is the photo itself; a hard link to it in another folder is not."""
    with writing(path):
        # samefile: for some file systems a.jpg is a.JPG
        return path.exists() and path.resolve().parent == source.parent and path.samefile(source)


def _place(source: Path, path: Path, *, link: bool) -> None:
    with writing(path):
        with suppress(FileNotFoundError):
            path.unlink()
        if link:
            with suppress(OSError):  # another file system, or one without links
                path.hardlink_to(source)
                return
        shutil.copyfile(source, path)


def _save(pixels: np.ndarray, file: IO[bytes], suffix: str) -> None:
    options = {"quality": 95, "subsampling": 0} if suffix in _JPEG else {}
    format = Image.registered_extensions()[suffix]
    Image.fromarray(pixels).save(file, format=format, **options)
