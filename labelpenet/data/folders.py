"""Plain folders: one per class, or photos without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from upath import UPath

from labelpenet.data.entries import DatasetError, Entry, Listing, listed_path, stem, suggestion
from labelpenet.data.images import IMAGE_SUFFIXES
from labelpenet.data.locations import AnyPath, file_system

STORE_MANIFEST = "manifest.json"
"""The file in a label store's folder that says what it is; see `labelpenet.labeling.manifest`."""

STORE_FORMAT = "labelpenet label store"
"""What stands under `format` in it."""

PICTURES_FORMAT = "labelpenet pictures"
"""What stands there in a file of that name beside the pictures of a report."""


def read_folder(
    source: AnyPath,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    tags: bool = True,
) -> Listing:
    """Reads root/<class>/….jpg, or root/<split>/<class>/….jpg; or photos that lie in root itself.

    A class's folder may have folders of its own. Photos in the root itself are read without labels,
    for labelling; both kinds at once are refused. Hidden files and folders are left out, and so are
    label stores and the pictures of a report.

    Args:
        source: The folder.
        split: A folder in `source` to read instead of it.
        classes: The class names, in order; without them, the folders' names, sorted.
        tags: Whether the folders are classes; where they are not, both kinds at once are read.

    Returns:
        The images; a name is the path below the folder without extension.

    Raises:
        DatasetError: There are no images, or both photos and folders of photos, or a folder that
            is no class, or one that cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "cat").mkdir()
        ...     _ = Path(folder, "cat", "tom.jpg").write_bytes(b"...")
        ...     listing = read_folder(Path(folder))
        >>> listing.classes, next(iter(listing.entries)).name
        (('cat',), 'cat/tom')
    """
    root = source
    if split is not None:
        folders = sorted(path.name for path in source.iterdir() if path.is_dir())
        if split not in folders:
            raise DatasetError(f"{source}: has no split {split!r}{suggestion(split, folders)}")
        root = source / split
    files = _images(root)
    loose = sum("/" not in file for file in files)
    if tags and 0 < loose < len(files):
        raise DatasetError(
            f"{root}: holds {loose} photos beside folders of photos; expected one folder per class"
        )
    found = sorted({file.split("/", 1)[0] for file in files}) if not loose else []
    return Listing(source, tuple(found if classes is None else classes), _entries(root, files))


def _entries(root: AnyPath, files: Sequence[str]) -> Iterator[Entry]:
    for file in files:
        path = root / file
        folder, _, below = file.partition("/")
        name = stem(listed_path(file, str(root)))
        yield Entry(name, path, (folder,) if below else (), str(path))


def _images(root: AnyPath) -> list[str]:
    """The paths of all image files below `root`, sorted.

    A class's folder may be a link; below it links to folders are not followed, as they may loop.
    """
    found = list(_local_files(root) if isinstance(root, Path) else _remote_files(root))
    manifests = (f for f in found if f.endswith(f"/{STORE_MANIFEST}") and _is_ours(root / f))
    ours = tuple(f.removesuffix(STORE_MANIFEST) for f in manifests)
    images = [f for f in found if PurePosixPath(f).suffix.lower() in IMAGE_SUFFIXES]
    return sorted((f for f in images if not f.startswith(ours)), key=lambda f: f.split("/"))


def _is_ours(manifest: AnyPath) -> bool:
    """Whether a file tells of a label store, of any version, or of the pictures of a report."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") in (STORE_FORMAT, PICTURES_FORMAT)


def _local_files(root: Path) -> Iterator[str]:
    try:
        for entry in list(os.scandir(root)):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield entry.name
                continue
            for folder, inner, files in os.walk(entry, onerror=_refuse):
                inner[:] = [name for name in inner if not name.startswith(".")]
                below = Path(folder).relative_to(root).as_posix()
                yield from (f"{below}/{name}" for name in files if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}") from error


def _refuse(error: OSError) -> None:
    """What os.walk shall do about a folder that it cannot read; by itself it leaves it out."""
    raise error


def _remote_files(root: UPath) -> Iterator[str]:
    system, base = file_system(root)
    for file in system.find(base):
        below = str(file)[len(base.rstrip("/")) + 1 :]
        if not any(part.startswith(".") for part in below.split("/")):
            yield below
