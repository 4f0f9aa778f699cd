"""Plain folders: one per class, or photos without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labelpenet.data.entries import DatasetError, Entry, build, listed_path, stem, suggestion
from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.types import Dataset


def read_folder(
    source: Path, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Dataset:
    """Reads root/<class>/….jpg, or root/<split>/<class>/….jpg; or photos that lie in root itself.

    A class's folder may have folders of its own. Photos in the root itself are read without labels,
    for labelling; both kinds at once are refused. Hidden files and folders are left out.

    Args:
        source: The folder.
        split: A folder in `source` to read instead of it.
        classes: The class names, in order; without them, the folders' names, sorted.

    Returns:
        The dataset; an image's name is its path below the folder without extension.

    Raises:
        DatasetError: There are no images, or both photos and folders of photos, or a folder that
            is no class.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "cat").mkdir()
        ...     _ = Path(folder, "cat", "tom.jpg").write_bytes(b"...")
        ...     dataset = read_folder(Path(folder))
        >>> dataset.classes, dataset.records[0].name
        (('cat',), 'cat/tom')
    """
    root = source
    if split is not None:
        folders = sorted(path.name for path in source.iterdir() if path.is_dir())
        if split not in folders:
            raise DatasetError(f"{source}: has no split {split!r}{suggestion(split, folders)}")
        root = source / split
    entries, folders_of_photos, loose = [], set[str](), 0
    for path in _images(root):
        relative = path.relative_to(root)
        name = stem(listed_path(relative.as_posix(), str(root)))
        labels = (relative.parts[0],) if len(relative.parts) > 1 else ()
        folders_of_photos.update(labels)
        loose += not labels
        entries.append(Entry(name, path, labels, str(path)))
    if loose and folders_of_photos:
        raise DatasetError(
            f"{root}: holds {loose} photos beside folders of photos; expected one folder per class"
        )
    return build(root, entries, sorted(folders_of_photos) if classes is None else classes)


def _images(root: Path) -> list[Path]:
    """All image files below `root`, sorted.

    A class's folder may be a link; below it links to folders are not followed, as they may loop.
    """
    found = []
    for entry in root.iterdir():
        if entry.is_dir():
            for folder, inner, files in os.walk(entry):
                inner[:] = [name for name in inner if not name.startswith(".")]
                found += [Path(folder, name) for name in files]
        else:
            found.append(entry)
    visible = [
        p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)
    ]
    return sorted(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)
