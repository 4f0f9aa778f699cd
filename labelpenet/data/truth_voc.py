"""Ground truth of PASCAL VOC folders, to evaluate with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from labelpenet.data.entries import DatasetError, checked_classes, listed_path
from labelpenet.data.locations import AnyPath
from labelpenet.data.segmentation import box_of, match_boxes
from labelpenet.data.truth import MAX_CLASSES, VOID, LazyTruth
from labelpenet.data.voc import read_annotation, voc_classes
from labelpenet.types import GroundTruth


def voc_truth(
    root: AnyPath,
    names: Iterable[str],
    classes: Sequence[str],
    *,
    palette: Sequence[str] | None = None,
) -> Mapping[str, GroundTruth]:
    """The boxes and masks of a VOC folder.

    Boxes come from Annotations, with x1 - 1 and y1 - 1 (VOC counts from 1). Where an image has
    SegmentationObject, its masks come from there, an object's class is the commonest one of
    SegmentationClass within it, and boxes are paired with the masks' tight boxes by class and best
    IoU, so that one list of labels serves both. If objects remain without a partner, the boxes are
    the masks' tight ones, and only matched objects can be difficult. Where there is only
    SegmentationClass, masks are None and `semantic` is set.

    Objects of classes that are not asked for are left out; their pixels count as background.

    Args:
        root: The folder with Annotations in it, such as VOCdevkit/VOC2012.
        names: The images; of a longer name, such as `VOC2012/JPEGImages/2007_000032` from a list,
            the last part is VOC's identifier.
        classes: The class names, in order.
        palette: The classes behind the values 1, 2, … of the segmentations; by default the
            folder's classes, see `voc_classes`.

    Returns:
        The ground truth of those images that have any. Reading one raises DatasetError where a
        file is damaged.

    Raises:
        DatasetError: A name leaves the folder, or the folder's lists are broken.
    """
    return VocTruth(root, names, classes, palette)


class VocTruth(LazyTruth):
    """What `voc_truth` gives."""

    def __init__(
        self,
        root: AnyPath,
        names: Iterable[str],
        classes: Sequence[str],
        palette: Sequence[str] | None = None,
    ) -> None:
        """Looks which of the images have files; see `voc_truth`."""
        self.root = root
        self.classes = checked_classes(classes)
        self.palette = voc_classes(root) if palette is None else checked_classes(palette)
        self._identifiers = {name: listed_path(name, f"{root}: names").name for name in names}
        folders = {"Annotations": "xml", "SegmentationClass": "png", "SegmentationObject": "png"}
        known = {
            file.stem
            for folder, suffix in folders.items()
            for file in (root / folder).glob(f"*.{suffix}")
        }
        super().__init__(name for name, short in self._identifiers.items() if short in known)

    def read(self, name: str) -> GroundTruth:
        """The ground truth of an image."""
        return _read_voc(self.root, self._identifiers[name], self.classes, self.palette)


def _read_voc(
    root: AnyPath, name: str, classes: Sequence[str], palette: Sequence[str]
) -> GroundTruth:
    index = {label: number for number, label in enumerate(classes)}
    objects = [o for o in read_annotation(root, name) if o.label in index]
    boxes = np.array([o.box for o in objects], np.float32).reshape(-1, 4)
    labels = np.array([index[o.label] for o in objects], np.int64)
    difficult = np.array([o.difficult for o in objects], bool)
    file = f"{name}.png"
    categories = _index_map(root / "SegmentationClass" / file)
    if categories is None:
        return GroundTruth(boxes, labels, difficult)
    if categories[categories != VOID].max(initial=0) > len(palette):
        where = root / "SegmentationClass" / file
        raise DatasetError(f"{where}: expected values 0 to {len(palette)} and 255")
    if max(len(classes), len(palette)) > MAX_CLASSES:
        raise DatasetError(f"{root}: segmentations hold at most {MAX_CLASSES} classes")
    # palette value -> class + 1; classes that are not asked for become background
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for value, label in enumerate(palette, 1):
        table[value] = index.get(label, -1) + 1
    semantic, ignore = table[categories], categories == VOID
    instances = _index_map(root / "SegmentationObject" / file)
    if instances is None:
        return GroundTruth(boxes, labels, difficult, None, ignore, semantic)
    if instances.shape != categories.shape:
        where = root / "SegmentationObject" / file
        raise DatasetError(f"{where}: is not of the size of SegmentationClass/{file}")
    masks, mask_labels = _instances(instances, semantic)
    mask_boxes = np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4)
    pairs = match_boxes(boxes, mask_boxes, labels[:, None] == mask_labels[None])
    if len(pairs) == len(boxes) == len(masks):
        order = [mask for _, mask in sorted(pairs)]  # the annotation's order
        return GroundTruth(boxes, labels, difficult, masks[order], ignore, semantic)
    mask_difficult = np.zeros(len(masks), bool)
    for box, mask in pairs:
        mask_difficult[mask] = difficult[box]
    return GroundTruth(mask_boxes, mask_labels, mask_difficult, masks, ignore, semantic)


def _instances(instances: np.ndarray, semantic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks [N, H, W] bool and classes [N] of the objects of the classes that are asked for."""
    masks, labels = [], []
    for value in np.unique(instances):
        if value in (0, VOID):
            continue
        mask = instances == value
        inside = semantic[mask]
        votes = np.bincount(inside[inside != VOID], minlength=1)
        if votes.any() and votes.argmax() > 0:
            masks.append(mask)
            labels.append(int(votes.argmax()) - 1)
    stacked = np.array(masks, bool).reshape(-1, *instances.shape)
    return stacked, np.array(labels, np.int64)


def _index_map(path: AnyPath) -> np.ndarray | None:
    """A palette or grey PNG as its numbers, [H, W] uint8; None where there is no file."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, Image.open(file, formats=("PNG",)) as picture:
            if picture.mode not in ("P", "L"):
                raise DatasetError(f"{path}: expected a palette image, got mode {picture.mode}")
            return np.array(picture)
    except DatasetError:
        raise
    except Exception as error:  # as in load_image
        raise DatasetError(f"{path}: cannot be read: {error}") from error
