"""A label file, COCO JSON, read and checked without trust: it may come from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from labelpenet.data.entries import listed_path
from labelpenet.labeling.entries import MAX_COORDINATE, QUALITY_RANGES, check_classes
from labelpenet.labeling.labels import LabelledImage, LabelledObject, Labels, Mask
from labelpenet.rle import runs_of


class CocoLabels(Labels):
    """The labels of a COCO file, in memory: class names in the order of their category ids."""

    def __init__(
        self, classes: tuple[str, ...], images: Iterable[LabelledImage], paint_score: float = 0.0
    ) -> None:
        self.classes = classes
        self.paint_score = paint_score
        self._images = {image.name: image for image in images}

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[LabelledImage]:
        return iter(self._images.values())

    def __contains__(self, name: object) -> bool:
        return name in self._images

    def __getitem__(self, name: str) -> LabelledImage:
        return self._images[name]

    def photo(self, image: LabelledImage, folder: Path) -> Path:
        """Below `folder`: whoever wrote the file does not choose what is read."""
        return folder / listed_path(image.source, f"image {image.name!r}")


def load_label_file(path: Path) -> CocoLabels:
    """Reads and checks COCO JSON without decoding a mask.

    Raises:
        ValueError: Not such a file; the message names the file, the entry and what was expected.
    """
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file, parse_constant=_no_constant)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected COCO JSON: {error}") from None
    try:
        return _parse(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parse(data: object) -> CocoLabels:
    if not isinstance(data, dict):
        raise ValueError(f"expected a JSON object, got {type(data).__name__}")
    categories: dict[int, str] = {}
    for where, row in _rows(data, "categories"):
        categories[_new_id(where, row, categories)] = _string(where, row, "name")
    classes = tuple(categories[key] for key in sorted(categories))
    check_classes(classes)
    label_of = {key: label for label, key in enumerate(sorted(categories))}

    images: dict[int, LabelledImage] = {}
    names: set[str] = set()
    for where, row in _rows(data, "images"):
        height, width = _integer(where, row, "height"), _integer(where, row, "width")
        file_name = _string(where, row, "file_name")
        name = _string(where, row, "name") if "name" in row else _name_of(file_name)
        if name in names:
            raise ValueError(f"{where}: expected distinct names, got {name!r} twice")
        names.add(name)
        image = LabelledImage(name, file_name, height, width)
        images[_new_id(where, row, images)] = _checked(where, image, len(classes))

    found: dict[int, list[dict[str, Any]]] = {key: [] for key in images}
    for where, row in _rows(data, "annotations"):
        image_id, category_id = (_integer(where, row, k) for k in ("image_id", "category_id"))
        if image_id not in images or category_id not in categories:
            key, value = (
                ("category_id", category_id) if image_id in images else ("image_id", image_id)
            )
            raise ValueError(f"{where}.{key}: expected an id of the file, got {value}")
        _check_annotation(where, row, images[image_id])
        found[image_id].append(row | {"label": label_of[category_id]})
    count = len(classes)
    info = data.get("info")
    paint = info.get("paint_score", 0.0) if isinstance(info, dict) else 0.0
    if not _numbers([paint]) or not 0 <= paint <= 1:
        raise ValueError(f"info.paint_score: expected a number in [0, 1], got {_shown(paint)}")
    every = (_with(images[i], rows, count) for i, rows in found.items())
    return CocoLabels(classes, every, float(paint))


def _with(image: LabelledImage, rows: list[dict[str, Any]], class_count: int) -> LabelledImage:
    modules = {row.get("module") for row in rows}
    full = replace(
        image,
        module=modules.pop() if len(modules) == 1 else None,
        objects=tuple(_object(row) for row in rows),
    )
    return _checked(f"image {image.name!r}", full, class_count)


def _object(row: dict[str, Any]) -> LabelledObject:
    x, y, width, height = row["bbox"]
    segmentation = row.get("segmentation")
    mask: Mask | None = segmentation["counts"] if isinstance(segmentation, dict) else segmentation
    return LabelledObject(
        row["label"], row.get("score", 1.0), (x, y, x + width, y + height), mask,
        {name: row["quality"].get(name) for name in QUALITY_RANGES} if "quality" in row else {},
    )  # fmt: skip


def _checked(where: str, image: LabelledImage, class_count: int) -> LabelledImage:
    try:
        return image.check(class_count)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_annotation(where: str, row: dict[str, Any], image: LabelledImage) -> None:
    box = row.get("bbox")
    if (
        not _numbers(box)
        or len(box) != 4
        or min(box[2:]) < 0
        or max(map(abs, box)) > MAX_COORDINATE
    ):
        raise ValueError(
            f"{where}.bbox: expected [x, y, width, height] in pixels, got {_shown(box)}"
        )
    score = row.get("score", 1.0)
    if not _numbers([score]) or not 0 <= score <= 1:
        raise ValueError(f"{where}.score: expected a number in [0, 1], got {_shown(score)}")
    if row.get("iscrowd", 0) != 0:
        raise ValueError(f"{where}.iscrowd: expected 0, got {_shown(row['iscrowd'])}")
    if "module" in row:
        _integer(where, row, "module")
    if "quality" in row:
        _check_quality(f"{where}.quality", row["quality"])
    if "segmentation" in row:
        _check_segmentation(f"{where}.segmentation", row["segmentation"], image)


def _check_quality(where: str, value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {_shown(value)}")
    for name, (low, high) in QUALITY_RANGES.items():
        figure = value.get(name)
        if figure is not None and not (_numbers([figure]) and low <= figure <= high):
            wanted = f"a number in [{low:g}, {high:g}] or null"
            raise ValueError(f"{where}.{name}: expected {wanted}, got {_shown(figure)}")


def _check_segmentation(where: str, value: object, image: LabelledImage) -> None:
    size = [image.height, image.width]
    if isinstance(value, dict):
        if value.get("size") != size:
            raise ValueError(f"{where}.size: expected {size}, got {_shown(value.get('size'))}")
        try:
            runs_of(value.get("counts"), *size)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
        return
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: expected an RLE object or polygons, got {_shown(value)}")
    # near the image, as fill_polygons wants them
    low, high = -1.0, float(max(size) + 1)
    for polygon in value:
        if not _numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"{where}: expected polygons [x1, y1, x2, y2, x3, y3, ...]")
        if min(polygon) < low or max(polygon) > high:
            raise ValueError(f"{where}: expected polygons inside the {size[1]} x {size[0]} image")


def _rows(data: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = data.get(key)
    if not isinstance(rows, list):
        raise ValueError(f"{key}: expected a list, got {_shown(rows)}")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{key}[{i}]: expected an object, got {_shown(row)}")
        yield f"{key}[{i}]", row


def _integer(where: str, row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    if type(value) is not int:
        raise ValueError(f"{where}.{key}: expected an integer, got {_shown(value)}")
    return value


def _string(where: str, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}.{key}: expected a non-empty string, got {_shown(value)}")
    return value


def _new_id(where: str, row: dict[str, Any], taken: Container[int]) -> int:
    value = _integer(where, row, "id")
    if value in taken:
        raise ValueError(f"{where}.id: expected distinct ids, got {value} twice")
    return value


def _numbers(value: object) -> TypeGuard[list[float]]:
    """Whether `value` is a list of finite numbers."""
    return isinstance(value, list) and all(
        type(v) in (int, float) and abs(v) < math.inf for v in value
    )


def _name_of(file_name: str) -> str:
    return (
        str(PurePosixPath(file_name).with_suffix(""))
        if PurePosixPath(file_name).name
        else file_name
    )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, list, bool)) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}..."
