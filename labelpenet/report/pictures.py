"""The pictures of a report: a thumbnail of every image, and the way to the masks of some.

They lie in `pictures/` under names made from a hash of the image's name, so that no name can leave
the folder and a job that resumes writes the same files. A note beside them says what they are, so
that they are not taken for photos to label.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from labelpenet.data.folders import PICTURES_FORMAT, STORE_MANIFEST
from labelpenet.files import atomic_write, writing
from labelpenet.report.overlay import draw_map
from labelpenet.types import Labelling

PICTURES = "pictures"
"""The folder of the pictures, below that of the report."""

THUMBNAIL_SIDE = 320
"""Longer side of a thumbnail and of a stage's picture, in pixels."""

_PHOTO_SIDE = 800
_QUALITY = 82


@dataclass(frozen=True)
class Pictures:
    """What is there to be shown of one image; paths are relative to the report's folder.

    Attributes:
        thumbnail: The photo, small.
        photo: The photo, larger; None where only the thumbnail was stored.
        stages: (title, path) of the way to the masks, in order: attention, heat-map, CRF mask.
    """

    thumbnail: str
    photo: str | None = None
    stages: tuple[tuple[str, str], ...] = ()


def save_pictures(out: Path, name: str, image: np.ndarray, labelling: Labelling) -> None:
    """Stores a thumbnail, a larger photo and the maps of one image for the report in `out`.

    They count once all of them are written; an earlier set of that name is replaced.

    Args:
        out: The folder of the report; made where it is missing.
        name: Of the image.
        image: [H, W, 3] uint8.
        labelling: Its maps are drawn.

    Raises:
        TypeError: The image is not uint8.
        ValueError: The image has another shape, or a map another size than the image.
        OutputError: A picture cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from labelpenet.types import Instances
        >>> out = Path(tempfile.mkdtemp())
        >>> way = Labelling(Instances.empty(3, 4), 1, {"attention": torch.zeros(3, 4)})
        >>> save_pictures(out, "a/b", np.zeros((3, 4, 3), np.uint8), way)
        >>> [title for title, _ in find_pictures(out, "a/b").stages]
        ['attention']
    """
    stem = picture_stem(name)
    small = shrink(image, THUMBNAIL_SIDE)
    drawn = []
    for title, values in labelling.maps.items():
        if tuple(values.shape) != image.shape[:2]:
            wanted, came = list(image.shape[:2]), list(values.shape)
            raise ValueError(f"maps[{title!r}]: expected {wanted}, got {came}")
        resized = cv2.resize(values.detach().cpu().float().numpy(), small.shape[1::-1],
                             interpolation=cv2.INTER_AREA)  # fmt: skip
        drawn.append(draw_map(small, resized))
    index = out / f"{stem}.json"
    with writing(index):
        index.unlink(missing_ok=True)  # what follows is no whole set until it is back
    _write(out / f"{stem}.webp", small)
    _write(out / f"{stem}-photo.webp", shrink(image, _PHOTO_SIDE))
    for i, picture in enumerate(drawn):
        _write(out / f"{stem}-{i}.webp", picture)
    with atomic_write(index) as file:
        json.dump({"stages": list(labelling.maps)}, file)


def save_thumbnail(out: Path, name: str, image: np.ndarray) -> None:
    """Stores a thumbnail alone; arguments and errors as those of `save_pictures`."""
    _write(out / f"{picture_stem(name)}.webp", shrink(image, THUMBNAIL_SIDE))


def find_pictures(out: Path, name: str) -> Pictures | None:
    """What is stored for an image; None without a thumbnail."""
    stem = picture_stem(name)
    if not (out / f"{stem}.webp").is_file():
        return None
    try:
        titles = list(json.loads((out / f"{stem}.json").read_text("utf-8"))["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return Pictures(f"{stem}.webp")
    stages = tuple((str(title), f"{stem}-{i}.webp") for i, title in enumerate(titles))
    return Pictures(f"{stem}.webp", f"{stem}-photo.webp", stages)


def thumbnail_size(height: int, width: int, side: int = THUMBNAIL_SIDE) -> tuple[int, int]:
    """(height, width) of the thumbnail of an image: at most `side`, at least 1, never enlarged.

    Example:
        >>> thumbnail_size(375, 500), thumbnail_size(3, 4), thumbnail_size(1, 4000)
        ((240, 320), (3, 4), (1, 320))
    """
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(image: np.ndarray, side: int) -> np.ndarray:
    """`image`, [H, W, 3] uint8, with a longer side of at most `side`; smaller ones stay.

    Raises:
        TypeError: The image is not uint8.
        ValueError: The image has another shape.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        came = getattr(image, "dtype", type(image).__name__)
        raise TypeError(f"image: expected [H, W, 3] uint8 array, got {came}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image: expected [H, W, 3] uint8, got {list(image.shape)}")
    height, width = thumbnail_size(image.shape[0], image.shape[1], side)
    resized: np.ndarray = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return resized


def picture_stem(name: str) -> str:
    """What the files of an image are called, below the report's folder, up to their suffix."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{PICTURES}/{digest[:2]}/{digest[2:20]}"  # 256 folders: none grows too long to list


def pictured_stems(out: Path) -> frozenset[str]:
    """The stems of all images whose way to the masks `save_pictures` stored."""
    return frozenset(
        path.relative_to(out).with_suffix("").as_posix()
        for path in out.glob(f"{PICTURES}/*/*.json")
    )


def _write(path: Path, picture: np.ndarray) -> None:
    bgr = np.ascontiguousarray(picture[:, :, ::-1])
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    note = path.parent.parent / STORE_MANIFEST
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            note.write_text(json.dumps({"format": PICTURES_FORMAT}), encoding="utf-8")
    with atomic_write(path, binary=True) as file:
        file.write(data.tobytes())
