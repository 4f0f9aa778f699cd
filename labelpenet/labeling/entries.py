"""The images of a labelling job as COCO entries: made one at a time, written one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from labelpenet import __version__
from labelpenet.rle import encode_masks
from labelpenet.types import Instances, Quality

# One image as the journal of a job keeps it: name, file_name, height, width, annotations.
Entry = dict[str, Any]

MAX_COORDINATE = 1e6
"""The largest magnitude of a box corner: far outside any image is a mistake."""

QUALITY_RANGES = {
    "peak_support": (0.0, 1.0),
    "crf_change": (0.0, 1.0),
    "agreement": (0.0, 1.0),
    "score_margin": (-1.0, 1.0),
}
"""The least and the largest value of each figure of `labelpenet.types.Quality`."""

_IMAGE_KEYS = ("name", "file_name", "height", "width")


def check_classes(classes: Sequence[str]) -> None:
    """Raises ValueError unless `classes` are distinct, non-empty names."""
    if isinstance(classes, str) or not all(isinstance(name, str) and name for name in classes):
        raise ValueError("classes: expected non-empty names")
    if len(set(classes)) != len(classes):
        twice = next(name for i, name in enumerate(classes) if name in classes[:i])
        raise ValueError(f"classes: expected distinct names, got {twice!r} twice")


def check_instances(instances: Instances, size: tuple[int, int], class_count: int) -> None:
    """Raises where instances are not what an image of this size can have.

    Args:
        instances: The objects.
        size: (height, width) of the image.
        class_count: Labels must be below it.

    Raises:
        TypeError: Not Instances.
        ValueError: Shapes that do not agree, or a number out of range.
    """
    height, width = size
    if not isinstance(instances, Instances):
        raise TypeError(f"instances: expected Instances, got {type(instances).__name__}")
    boxes = instances.boxes.detach().cpu().numpy().astype(np.float64)
    labels = instances.labels.cpu().numpy()
    scores = instances.scores.detach().cpu().numpy()
    count = len(boxes)
    if boxes.shape != (count, 4) or labels.shape != (count,) or scores.shape != (count,):
        shapes = f"{list(boxes.shape)}, {list(labels.shape)}, {list(scores.shape)}"
        raise ValueError(f"instances: expected boxes [K, 4], labels [K], scores [K], got {shapes}")
    if not (np.abs(boxes) <= MAX_COORDINATE).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("boxes: expected finite (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores: expected numbers in [0, 1]")
    if ((labels < 0) | (labels >= class_count)).any():
        raise ValueError(f"labels: expected values in [0, {class_count})")
    masks = instances.masks
    if masks is not None and (masks.dtype != torch.bool or masks.shape != (count, height, width)):
        wanted, came = f"[{count}, {height}, {width}] bool", f"{list(masks.shape)} {masks.dtype}"
        raise ValueError(f"masks: expected {wanted}, got {came}")


def make_entry(
    name: str,
    file_name: str,
    size: tuple[int, int],
    instances: Instances,
    class_count: int,
    module: int | None,
) -> Entry:
    """Checks the instances of one image and turns them into COCO annotations without ids.

    Args:
        name: Of the image.
        file_name: Of the image, with its extension.
        size: (height, width) of the image.
        instances: The objects; a mask decides the area where there is one, else the box.
        class_count: Labels must be below it.
        module: The module of the cascade that they come from; None leaves the key out.

    Raises:
        TypeError: Not Instances.
        ValueError: Shapes that do not agree, or a number out of range.
    """
    height, width = size
    check_instances(instances, size, class_count)
    boxes = instances.boxes.detach().cpu().numpy().astype(np.float64)
    labels = instances.labels.cpu().numpy()
    scores = instances.scores.detach().cpu().numpy()
    count, masks = len(boxes), instances.masks
    figures = None if instances.quality is None else quality_rows(instances.quality, count)
    sides = boxes[:, 2:] - boxes[:, :2]
    rles = None if masks is None else encode_masks(masks.cpu().numpy())
    areas = sides.prod(axis=1).tolist() if masks is None else _pixel_counts(masks)
    annotations = []
    for i in range(count):
        annotation: dict[str, Any] = {
            "category_id": int(labels[i]) + 1,
            "bbox": [*boxes[i, :2].tolist(), *sides[i].tolist()],
            "area": areas[i],
            "iscrowd": 0,
            "score": _shortest(scores[i]),
        }
        if rles is not None:
            annotation["segmentation"] = rles[i]
        if figures is not None:
            annotation["quality"] = figures[i]
        if module is not None:
            annotation["module"] = int(module)
        annotations.append(annotation)
    return {
        "name": name,
        "file_name": file_name,
        "height": height,
        "width": width,
        "annotations": annotations,
    }


def quality_rows(quality: Quality, count: int) -> list[dict[str, float | None]]:
    """The figures of each object by name, and `overall`; None where unknown.

    Raises:
        ValueError: Another number of objects, or a figure out of range.
    """
    columns = {name: getattr(quality, name) for name in QUALITY_RANGES}
    for name, (low, high) in QUALITY_RANGES.items():
        values = columns[name]
        if values.shape != (count,):
            raise ValueError(f"quality.{name}: expected [{count}], got {list(values.shape)}")
        if ((values < low) | (values > high)).any():
            raise ValueError(f"quality.{name}: expected numbers in [{low:g}, {high:g}] or NaN")
    columns["overall"] = quality.overall()
    rows = zip(*(values.numpy() for values in columns.values()), strict=True)
    return [
        {
            name: None if np.isnan(value) else _shortest(value)
            for name, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]


def write_entries(
    file: IO[str],
    classes: Sequence[str],
    images: Iterable[Entry],
    entries: Iterable[Entry],
    paint_score: float = 0.0,
) -> None:
    """Writes the COCO JSON of `entries`, one at a time, so that memory stays bounded.

    Args:
        file: Open for text.
        classes: Class names; category ids are 1-based indices into it.
        images: The images; their annotations are not looked at.
        entries: The same images in the same order; only their annotations are looked at.
        paint_score: As `Labels` has it; it goes into COCO's `info`.
    """
    info = {"description": f"labelpenet {__version__}", "paint_score": paint_score}
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    file.write(f'{{"info": {json.dumps(info)},\n')
    file.write(f'"categories": {json.dumps(categories)},\n"images": [')
    for image_id, entry in enumerate(images, 1):
        image = {"id": image_id, **{key: entry[key] for key in _IMAGE_KEYS}}
        file.write(f"{',' if image_id > 1 else ''}\n{json.dumps(image)}")
    file.write('\n],\n"annotations": [')
    number = 0
    for image_id, entry in enumerate(entries, 1):
        for annotation in entry["annotations"]:
            number += 1
            row = {"id": number, "image_id": image_id, **annotation}
            file.write(f"{',' if number > 1 else ''}\n{json.dumps(row, allow_nan=False)}")
    file.write("\n]}\n")


def _shortest(value: float) -> float:
    """The shortest decimal that is this float32 again."""
    return float(str(np.float32(value)))


def _pixel_counts(masks: Tensor) -> list[int]:
    return [int(np.count_nonzero(mask)) for mask in masks.cpu().numpy()]
