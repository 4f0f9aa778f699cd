"""Labels as plain COCO JSON, once with RLE and once with polygons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelpenet.files import atomic_write, writing
from labelpenet.labeling.contours import edge_outlines
from labelpenet.labeling.entries import Entry, make_entry, write_entries
from labelpenet.labeling.export_photos import PhotoFolder, photo_name
from labelpenet.labeling.labels import LabelledImage, Labels

RLE = Path("annotations") / "instances_default.json"
"""The exact one, where CVAT and datumaro look for it."""

POLYGONS = Path("polygons.json")
"""Beside it, for tools that know polygons alone; in another folder, or both would be imported."""


def write_coco(labels: Labels, out: Path, photos: PhotoFolder) -> None:
    """Writes annotations/instances_default.json, which is exact, and polygons.json.

    Polygons run along the pixel edges: pycocotools fills them to exactly the mask with its holes
    filled. An empty mask has no polygon and stays RLE. `bbox` is the tight box of the mask, as it
    is in COCO: FiftyOne cuts the mask to it.

    Raises:
        OutputError: A file cannot be written.
    """
    for image in labels:
        photos.add(image)
    for name, with_polygons in ((RLE, False), (POLYGONS, True)):
        path = out / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        entries = (_entry(image, len(labels.classes), with_polygons) for image in labels)
        with atomic_write(path) as file:
            write_entries(file, labels.classes, _images(labels), entries, labels.paint_score)


def _images(labels: Labels) -> Iterator[Entry]:
    for image in labels:
        yield {
            "name": image.name,
            "file_name": photo_name(image),
            "height": image.height,
            "width": image.width,
        }


def _entry(image: LabelledImage, class_count: int, with_polygons: bool) -> Entry:
    instances = image.instances()
    size = (image.height, image.width)
    entry = make_entry(image.name, photo_name(image), size, instances, class_count, image.module)
    if instances.masks is None:
        return entry
    for annotation, mask in zip(entry["annotations"], instances.masks.numpy(), strict=True):
        if not annotation["area"]:
            continue
        annotation["bbox"] = _tight(mask)
        if with_polygons:
            outlines = edge_outlines(mask)
            annotation["segmentation"] = [outline.reshape(-1).tolist() for outline in outlines]
    return entry


def _tight(mask: np.ndarray) -> list[int]:
    """COCO's [x, y, width, height] of a mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(xs[0]), int(ys[0])
    return [left, top, int(xs[-1]) + 1 - left, int(ys[-1]) + 1 - top]
