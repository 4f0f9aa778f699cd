"""PASCAL VOC devkit folders: image-level labels from ImageSets/Main, or from the annotations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from labelpenet.data.entries import (
    DatasetError,
    Entry,
    Listing,
    chosen_classes,
    listed_path,
    read_text,
    suggestion,
)
from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.data.locations import AnyPath, listed
from labelpenet.data.safe_xml import child_text, parse_xml

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""The 20 classes of VOC 2007 to 2012, in the order of its palette."""


@dataclass(frozen=True)
class VocObject:
    """An object of an annotation file.

    Attributes:
        label: The class name.
        box: (x1, y1, x2, y2) in pixels, 0-based, x2 and y2 exclusive.
        difficult: Whether VOC's metrics leave it out.
    """

    label: str
    box: tuple[float, float, float, float]
    difficult: bool


def find_voc(source: AnyPath) -> AnyPath | None:
    """The folder with JPEGImages in it: `source`, or its only VOCxxxx, with or without VOCdevkit.

    Returns:
        The folder, or None where `source` is no VOC dataset.

    Raises:
        DatasetError: Several years lie side by side.
    """
    if (source / "JPEGImages").is_dir():
        return source
    for parent in (source, source / "VOCdevkit"):
        years = [year for year in listed(parent, "VOC*") if (year / "JPEGImages").is_dir()]
        if len(years) > 1:
            names = ", ".join(year.name for year in years)
            raise DatasetError(f"{parent}: holds {names}; name the folder of one")
        if years:
            return years[0]
    return None


def read_voc(
    root: AnyPath, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Listing:
    """Reads the images of a VOC folder and their image-level labels.

    A class is a label of an image where ImageSets/Main/<class>_<split>.txt says 1; 0 (only
    difficult objects) and -1 are not. Where the split has no such files, the objects of the
    annotations that are not difficult count.

    Args:
        root: The folder with JPEGImages in it, such as VOCdevkit/VOC2007.
        split: A list of ImageSets/Main, such as `trainval`; without it, the images of all lists,
            or of JPEGImages where there are none.
        classes: A part of the dataset's classes, or a vocabulary that includes them, in order.

    Returns:
        The images; a name is VOC's identifier, such as `2007_000032`.

    Raises:
        DatasetError: A list or an annotation is broken, or names something that is not there.
    """
    lists = _Lists(root / "ImageSets" / "Main")
    declared = voc_classes(root)
    chosen = chosen_classes(root, declared, classes)
    named = lists.images(split)
    if split is None and not named:
        named = _all_images(root)
    flags = lists.labels(split)

    def entries() -> Iterator[Entry]:
        folder = root / "JPEGImages"
        there = {path.name for path in listed(folder)}
        for name, where in named.items():
            if flags is not None:
                labels = flags.get(name, [])
            else:
                labels = [o.label for o in read_annotation(root, name) if not o.difficult]
            files = [name + suffix for suffix in IMAGE_SUFFIXES]
            file = next((file for file in files if file in there), files[0])
            yield Entry(name, folder / file, tuple(labels), where)

    return Listing(root, chosen, entries(), frozenset(declared))


def voc_classes(root: AnyPath) -> tuple[str, ...]:
    """The classes of a VOC folder, sorted, as VOC's palette numbers them from 1.

    They are those with lists in ImageSets/Main, else those of all annotations; if VOC's 20 include
    all of the latter, VOC's 20.

    Raises:
        DatasetError: A list or an annotation is broken.
    """
    named = _Lists(root / "ImageSets" / "Main").classes()
    if named:
        return tuple(sorted(named))
    files = listed(root / "Annotations", "*.xml")
    found = {o.label for file in files for o in read_annotation(root, file.stem)}
    return VOC_CLASSES if found and found <= set(VOC_CLASSES) else tuple(sorted(found))


def read_annotation(root: AnyPath, name: str) -> list[VocObject]:
    """Reads the objects of Annotations/<name>.xml.

    VOC counts pixels from 1 and includes the last one; both ends are turned into this package's
    frame: x1 - 1, y1 - 1, x2, y2.

    Args:
        root: The VOC folder.
        name: VOC's identifier of the image.

    Returns:
        The objects in the file's order; none where there is no file.

    Raises:
        DatasetError: The file is no XML, declares entities, or lacks a field.
    """
    path = root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        return []
    objects = []
    for number, element in enumerate(parse_xml(path).findall("object")):
        where = f"{path}: object {number}"
        # only direct children: a person's <part> elements have names and boxes of their own
        label = child_text(element, "name", where).strip()
        corners = element.find("bndbox")
        if corners is None or not label:
            raise DatasetError(f"{where}: expected a name and a bndbox")
        x1, y1, x2, y2 = (_coordinate(child_text(corners, c, where), where) for c in _CORNERS)
        if x2 < x1 or y2 < y1:
            raise DatasetError(f"{where}: box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is turned around")
        difficult = element.findtext("difficult", "0").strip() == "1"
        objects.append(VocObject(label, (x1 - 1, y1 - 1, x2, y2), difficult))
    return objects


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _coordinate(text: str, where: str) -> float:
    try:
        value = float(text)  # VOC 2011 has fractions
    except ValueError:
        value = np.nan
    if not abs(value) < 1e6:
        raise DatasetError(f"{where}: expected a coordinate, got {text!r}")
    return value


def _all_images(root: AnyPath) -> dict[str, str]:
    files = listed(root / "JPEGImages")
    return {f.stem: str(f) for f in files if f.suffix.lower() in IMAGE_SUFFIXES}


class _Lists:
    """The files of ImageSets/Main: <split>.txt (names) and <class>_<split>.txt (names and flags).

    They are told apart by what is in them: `train_train.txt` is the class train in the split
    train, but a split might be called `small_train` too.
    """

    def __init__(self, folder: AnyPath) -> None:
        self.folder = folder
        self.lists: dict[str, AnyPath] = {}
        flagged: list[AnyPath] = []
        for path in listed(folder, "*.txt"):
            with path.open("rb") as file:
                columns = len(next((line for line in file if line.strip()), b"").split())
            if columns < 2:
                self.lists[path.stem] = path
            else:
                flagged.append(path)
        self.flags: dict[tuple[str, str], AnyPath] = {}  # by class and split
        for path in flagged:
            ends = [split for split in self.lists if path.stem.endswith(f"_{split}")]
            split = max(ends, key=len, default=path.stem.rpartition("_")[2])
            label = path.stem.removesuffix(f"_{split}")
            if label and label != path.stem:
                self.flags[label, split] = path

    def classes(self) -> set[str]:
        return {label for label, _ in self.flags}

    def images(self, split: str | None) -> dict[str, str]:
        """The names of a split, or of all, and where each stands."""
        known = sorted(set(self.lists) | {split for _, split in self.flags})
        if split is not None and split not in known:
            raise DatasetError(f"{self.folder}: has no split {split!r}{suggestion(split, known)}")
        names: dict[str, str] = {}
        for current in known if split is None else (split,):
            paths = [self.lists[current]] if current in self.lists else self._flagged(current)
            for path in paths:
                repeats = current in self.lists and split is not None
                for number, name, _ in _read_list(path):
                    where = f"{path}:{number}"
                    if repeats and name in names:
                        raise DatasetError(f"{where}: {name!r} is there already, in {names[name]}")
                    names.setdefault(name, where)
        if split is not None and not names:
            raise DatasetError(f"{self.lists.get(split, self.folder)}: names no images")
        return names

    def labels(self, split: str | None) -> dict[str, list[str]] | None:
        """The labels by image name, or None where the split has no files that tell them."""
        chosen = [key for key in self.flags if split is None or key[1] == split]
        if not chosen:
            return None
        labels: dict[str, list[str]] = {}
        for label, part in chosen:
            for number, name, flag in _read_list(self.flags[label, part]):
                if flag not in ("-1", "0", "1"):
                    where = f"{self.flags[label, part]}:{number}"
                    raise DatasetError(f"{where}: expected a name and -1, 0 or 1, got {flag!r}")
                if flag == "1":
                    labels.setdefault(name, []).append(label)
        return labels

    def _flagged(self, split: str) -> Iterable[AnyPath]:
        return [path for (_, part), path in self.flags.items() if part == split]


def _read_list(path: AnyPath) -> list[tuple[int, str, str]]:
    """(line number, name, flag or nothing) of every line that is not blank."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = line.split()
        if len(rest) > 1:
            raise DatasetError(f"{path}:{number}: expected a name and a flag, got {line!r}")
        rows.append((number, str(listed_path(name, f"{path}:{number}")), rest[0] if rest else ""))
    return rows
