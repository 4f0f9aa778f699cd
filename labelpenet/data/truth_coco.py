"""Ground truth of COCO JSON files, to evaluate with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from labelpenet.data.coco import CocoContent, load_coco
from labelpenet.data.entries import DatasetError, checked_classes, stem
from labelpenet.data.images import MAX_PIXELS
from labelpenet.data.locations import AnyPath
from labelpenet.data.segmentation import decode_segmentation
from labelpenet.data.truth import MAX_CLASSES, VOID, LazyTruth
from labelpenet.types import GroundTruth

_Annotation = tuple[int, int, dict[str, Any]]  # its number in the file, its class, its entry
_ByName = dict[str, tuple[int, list[_Annotation]]]  # the image's id and annotations


def coco_truth(path: AnyPath, *, classes: Sequence[str] | None = None) -> Mapping[str, GroundTruth]:
    """The boxes and masks of a COCO JSON file.

    Crowds are objects marked as such and as difficult, and their pixels are in `ignore`, and void
    in `semantic`. Elsewhere `semantic` shows the smaller of two objects that overlap. Masks (and
    with them `semantic`) are None for an image with an object that has no segmentation.

    Args:
        path: The file.
        classes: The class names, in order; other objects are left out. By default the file's
            categories by id.

    Returns:
        The ground truth by the names that `read_coco` gives, for all images. Reading one raises
        DatasetError where an annotation is broken.

    Raises:
        DatasetError: As in `read_coco`.
    """
    content = load_coco(path)
    names = [stem(content.file(image)) for image in content.images]
    chosen = list(content.categories.values()) if classes is None else checked_classes(classes)
    return CocoTruth(path, names, chosen, content)


class CocoTruth(LazyTruth):
    """What `coco_truth` gives; a pickled copy has to parse the file again, at its first use."""

    def __init__(
        self,
        path: AnyPath,
        names: Iterable[str],
        classes: Sequence[str],
        content: CocoContent | None = None,
    ) -> None:
        """See `coco_truth`; without `content`, the file is parsed at the first use."""
        super().__init__(names)
        self.path = path
        self.classes = tuple(classes)
        self._by_name: _ByName = {}
        self._content = content
        if content is not None:
            self._by_name = self._sorted(content)

    def read(self, name: str) -> GroundTruth:
        """The ground truth of an image."""
        if self._content is None:
            self._content = load_coco(self.path)
            self._by_name = self._sorted(self._content)
        image, annotations = self._by_name[name]
        return _read_coco(self._content, image, annotations, len(self.classes))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_content": None, "_by_name": {}}

    def _sorted(self, content: CocoContent) -> _ByName:
        index = {name: number for number, name in enumerate(self.classes)}
        by_image: dict[int, list[_Annotation]] = {image: [] for image in content.images}
        for number, annotation in enumerate(content.annotations):
            label = index.get(content.categories[annotation["category_id"]])
            if label is not None:
                by_image[annotation["image_id"]].append((number, label, annotation))
        return {stem(content.file(image)): (image, found) for image, found in by_image.items()}


def _read_coco(
    content: CocoContent, image: int, annotations: Sequence[_Annotation], classes: int
) -> GroundTruth:
    height, width = _size(content, image)
    boxes, masks = [], []
    for number, _, annotation in annotations:
        where = f"{content.path}: annotations[{number}]"
        boxes.append(_box(annotation.get("bbox"), where))
        if segmentation := annotation.get("segmentation"):
            masks.append(_mask(segmentation, height, width, where))
    labels = np.array([label for _, label, _ in annotations], np.int64)
    crowd = np.array([a.get("iscrowd", 0) == 1 for _, _, a in annotations], bool)
    plain = GroundTruth(np.array(boxes, np.float32).reshape(-1, 4), labels, crowd, crowd=crowd)
    if len(masks) < len(annotations):
        return plain
    stacked = np.array(masks, bool).reshape(-1, height, width)
    ignore = stacked[crowd].any(0)
    if classes > MAX_CLASSES:
        return replace(plain, masks=stacked, ignore=ignore)
    semantic = np.zeros((height, width), np.uint8)
    for largest in sorted(np.flatnonzero(~crowd), key=lambda n: -int(stacked[n].sum())):
        semantic[stacked[largest]] = labels[largest] + 1
    semantic[ignore] = VOID
    return replace(plain, masks=stacked, ignore=ignore, semantic=semantic)


def _size(content: CocoContent, image: int) -> tuple[int, int]:
    height, width = (content.images[image].get(key) for key in ("height", "width"))
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise DatasetError(
            f"{content.path}: image {image}: expected height and width, got {height!r}, {width!r}"
        )
    if height * width > MAX_PIXELS:
        raise DatasetError(f"{content.path}: image {image}: more than {MAX_PIXELS:,} pixels")
    return height, width


def _mask(value: object, height: int, width: int, where: str) -> np.ndarray:
    try:
        return decode_segmentation(value, height, width)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error


def _box(value: object, where: str) -> tuple[float, float, float, float]:
    """[x, y, width, height] as corners."""
    if (
        isinstance(value, list)
        and len(value) == 4
        and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)
        and min(value[2:]) >= 0
    ):
        x, y, width, height = value
        return x, y, x + width, y + height
    raise DatasetError(f"{where}: bbox: expected x, y, width and height, got {value!r:.80}")
