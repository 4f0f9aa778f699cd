"""What every dataset reader shares: names in lists, and one place that builds a Dataset."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.data.locations import AnyPath
from labelpenet.data.members import TarMember
from labelpenet.safe_path import safe_path
from labelpenet.types import Dataset, ImageRecord

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_SHOWN = 3  # how many of many like problems an error message names


class DatasetError(ValueError):
    """A dataset that cannot be read; the message names the file and the place in it."""


@dataclass(frozen=True)
class Entry:
    """An image as a list names it, not yet checked against the disk and the classes.

    Attributes:
        name: As in ImageRecord.
        path: The image file.
        labels: Class names.
        where: The file and line that name it, for messages.
    """

    name: str
    path: AnyPath | TarMember
    labels: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Listing:
    """The images that a source names, one after another.

    Attributes:
        source: What was read, for messages.
        classes: The class names.
        entries: The images in order; they can be gone through once.
        drop: Labels that are no class and are left out silently.
    """

    source: AnyPath
    classes: tuple[str, ...]
    entries: Iterable[Entry]
    drop: frozenset[str] = frozenset()

    def tags(self, entry: Entry) -> tuple[int, ...]:
        """The class indices of an entry, sorted.

        Raises:
            DatasetError: An unknown label.
        """
        found = set[int]()
        for label in entry.labels:
            if label in self.classes:
                found.add(self.classes.index(label))
            elif label not in self.drop:
                raise DatasetError(
                    f"{entry.where}: unknown label {label!r}{suggestion(label, self.classes)}"
                )
        return tuple(sorted(found))


def listed_path(text: str, where: str) -> PurePosixPath:
    """The path of an image as a list names it: `safe_path`, with the place named in the error.

    Args:
        text: The path.
        where: The file and line it stands in, for the message.

    Raises:
        DatasetError: The path would leave the list's folder, or is none.

    Example:
        >>> listed_path("../secret.jpg", "list.csv:3")
        Traceback (most recent call last):
        labelpenet.data.entries.DatasetError: list.csv:3: '../secret.jpg' leaves its folder
    """
    if _URL.match(text):
        raise DatasetError(f"{where}: {text!r} is a URL, expected a path below the list's folder")
    try:
        return safe_path(text)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from None


def stem(path: PurePosixPath) -> str:
    """The path without an image's extension, which is the name of an ImageRecord."""
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def suggestion(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'dog'?)`, or what there is to choose from."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (known: {', '.join(known[:20])}{', …' if len(known) > 20 else ''})" if known else ""


def read_text(path: AnyPath) -> str:
    """A small UTF-8 file, with or without a byte order mark.

    Raises:
        DatasetError: It is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names as a tuple.

    Raises:
        TypeError: A single string, or a name that is none.
        ValueError: An empty or a repeated name.
    """
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes: expected a sequence of names, got {classes!r}")
    seen = set[str]()
    for position, name in enumerate(classes):
        if not name.strip():
            raise ValueError(f"classes: expected names, got {name!r} at index {position}")
        if name in seen:
            raise ValueError(f"classes: {name!r} is there twice")
        seen.add(name)
    return tuple(classes)


def chosen_classes(
    source: AnyPath, declared: Sequence[str], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes of a dataset that declares its own, when the caller may ask for others.

    `classes` may be a part of `declared` (other labels are dropped) or a vocabulary that includes
    all of it; anything else is probably a misspelling.

    Raises:
        DatasetError: `classes` has a name that is not declared, and lacks one that is.
    """
    if classes is None:
        return tuple(declared)
    unknown = [name for name in classes if name not in declared]
    if unknown and not set(declared) <= set(classes):
        raise DatasetError(
            f"{source}: has no class {unknown[0]!r}{suggestion(unknown[0], declared)}"
        )
    return tuple(classes)


def build(listing: Listing) -> Dataset:
    """The Dataset of a listing on this machine, after the checks that all formats share.

    Raises:
        DatasetError: No images, a name that is there twice, missing files, an unknown label, or
            images that are elsewhere.
    """
    checked_classes(listing.classes)
    seen: dict[str, str] = {}
    missing, records = [], []
    for entry in listing.entries:
        if not isinstance(entry.path, Path):
            raise DatasetError(
                f"{listing.source}: expected a file or folder of this machine, whose images are "
                "read again and again"
            )
        if entry.name in seen:
            first = seen[entry.name]
            raise DatasetError(f"{entry.where}: {entry.name!r} is there already, in {first}")
        seen[entry.name] = entry.where
        if not entry.path.is_file():
            missing.append(f"{entry.where}: {entry.path}")
        records.append((entry, ImageRecord(entry.name, entry.path)))
    if not records:
        raise DatasetError(f"{listing.source}: names no images")
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DatasetError(f"missing image files: {'; '.join(missing[:_SHOWN])}{more}")
    labelled = (replace(record, labels=listing.tags(entry)) for entry, record in records)
    return Dataset(listing.classes, tuple(labelled))
