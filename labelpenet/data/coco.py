"""COCO instance annotations: image-level labels are the categories present."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from labelpenet.data.entries import (
    DatasetError,
    Entry,
    Listing,
    chosen_classes,
    listed_path,
    read_text,
    stem,
    suggestion,
)
from labelpenet.data.locations import AnyPath, listed


def find_coco(source: AnyPath, split: str | None) -> AnyPath | None:
    """The file annotations/instances_<split>.json of a COCO folder; without a split, the only one.

    Returns:
        The file, or None where `source` is no COCO folder.

    Raises:
        DatasetError: There are several, or none of the split.
    """
    files = listed(source / "annotations", "instances_*.json")
    if not files:
        return None
    splits = {file.stem.removeprefix("instances_"): file for file in files}
    if split is None and len(files) == 1:
        return files[0]
    if split not in splits:
        asked = "several splits" if split is None else f"no split {split!r}"
        raise DatasetError(f"{source}: has {asked}{suggestion(split or '', splits)}")
    return splits[split]


def read_coco(path: AnyPath, *, classes: Sequence[str] | None = None) -> Listing:
    """Reads the images of a COCO JSON file; an image's labels are the categories in it.

    Crowds count as present. The images are looked for beside the file, in a folder beside it, in
    its parent, and if that folder is `annotations`, in the folders beside that.

    Args:
        path: The file.
        classes: A part of its categories, or a vocabulary that includes them, in order; without
            it, all its categories by id.

    Returns:
        The images; a name is the file_name without extension.

    Raises:
        DatasetError: The JSON is broken (at which line), lacks a field (of which entry), refers
            to what is not there, or images are missing.
    """
    content = load_coco(path)
    declared = list(content.categories.values())
    labels: dict[int, set[str]] = {image: set() for image in content.images}
    for annotation in content.annotations:
        labels[annotation["image_id"]].add(content.categories[annotation["category_id"]])
    files = {i: content.file(i) for i in content.images}

    def entries() -> Iterator[Entry]:
        folders = _image_folders(path)
        settled = False
        for number, relative in files.items():
            if not settled:
                found = next((f for f in folders if (f / relative).is_file()), None)
                folders.sort(key=lambda folder: folder != found)  # stable: likely there too
                # elsewhere every look is a request: where the first image is, all are
                settled = found is not None and not isinstance(path, Path)
            where = f"{path}: image {number}"
            yield Entry(stem(relative), folders[0] / relative, tuple(sorted(labels[number])), where)

    chosen = chosen_classes(path, declared, classes)
    return Listing(path, chosen, entries(), frozenset(declared))


class CocoContent:
    """The checked content of a COCO file.

    Attributes:
        path: The file.
        categories: Names by id, in the order of the ids.
        images: The image entries by id, in the file's order.
        annotations: The annotation entries; their image_id and category_id exist.
    """

    def __init__(self, path: AnyPath, content: object) -> None:
        """Checks what every reader needs: ids, names and references."""
        if not isinstance(content, dict):
            raise DatasetError(f"{path}: expected a JSON object, got {type(content).__name__}")
        self.path = path
        categories = self._by_id(content, "categories", "name")
        self.categories: dict[int, str] = {i: categories[i]["name"] for i in sorted(categories)}
        names = list(self.categories.values())
        if len(set(names)) < len(names):
            raise DatasetError(f"{path}: two categories have the same name")
        self.images = self._by_id(content, "images", "file_name")
        self.annotations = self._list(content, "annotations") if "annotations" in content else []
        for number, annotation in enumerate(self.annotations):
            for key, known in (("image_id", self.images), ("category_id", self.categories)):
                value = annotation.get(key)
                if not _is_id(value) or value not in known:
                    raise DatasetError(f"{path}: annotations[{number}]: no such {key}: {value!r}")

    def file(self, image: int) -> PurePosixPath:
        """The relative path of an image."""
        return listed_path(self.images[image]["file_name"], f"{self.path}: image {image}")

    def _by_id(self, content: Mapping[str, Any], key: str, text: str) -> dict[int, dict[str, Any]]:
        result: dict[int, dict[str, Any]] = {}
        for number, item in enumerate(self._list(content, key)):
            where = f"{self.path}: {key}[{number}]"
            if not _is_id(item.get("id")):
                raise DatasetError(f"{where}: id: expected an integer, got {item.get('id')!r}")
            if not isinstance(item.get(text), str) or not item[text].strip():
                raise DatasetError(f"{where}: {text}: expected text, got {item.get(text)!r}")
            if item["id"] in result:
                raise DatasetError(f"{where}: id {item['id']} is there twice")
            result[item["id"]] = item
        return result

    def _list(self, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        items = content.get(key)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DatasetError(f"{self.path}: {key}: expected a list of objects")
        return items


def load_coco(path: AnyPath) -> CocoContent:
    """Parses and checks a COCO file.

    Raises:
        DatasetError: As in `read_coco`.
    """
    try:
        return CocoContent(path, json.loads(read_text(path)))
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}:{error.lineno}: broken JSON: {error}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: broken JSON: nested too deeply") from error
    except DatasetError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise DatasetError(f"{path}: broken JSON: {error}") from error


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _image_folders(path: AnyPath) -> list[AnyPath]:
    """Where the images may be, the likely places first."""
    base = path.absolute().parent
    split = path.stem.removeprefix("instances_")
    parents = [base, base.parent] if base.name == "annotations" else [base]
    likely = [base, base / "images", base.parent / split, base.parent / "images" / split]
    others = [f for parent in parents for f in listed(parent) if f.is_dir()]
    return list(dict.fromkeys([*likely, *others, base.parent]))
