"""Labels as COCO JSON: the writer; `labelpenet.labeling.open_labels` reads it.

Beside COCO's own keys `info` has the labels' `paint_score`, an image its `name` (where a file lacks
it: `file_name` without the extension) and an annotation `score`, `module`, the module of the
cascade (1 to 4), and `quality`: the figures of `labelpenet.types.Quality` and `overall`, which sums
them up; null where unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from labelpenet.files import atomic_write
from labelpenet.labeling.entries import check_classes, make_entry, write_entries
from labelpenet.types import Instances


def write_labels(
    path: Path,
    classes: Sequence[str],
    instances: Mapping[str, Instances],
    sizes: Mapping[str, tuple[int, int]],
    *,
    module: int = 4,
    suffix: str = ".jpg",
) -> None:
    """Writes instances by image name as COCO JSON, atomically; `open_labels` reads it back exactly.

    Boxes come back exactly where 0 <= x1 <= x2 (COCO stores widths).

    Args:
        path: The file to write.
        classes: Class names.
        instances: By image name.
        sizes: (height, width) by image name.
        module: The module of the cascade that the instances come from.
        suffix: Extension of the image files, for COCO's `file_name`.

    Raises:
        ValueError: A name without a size, or instances that do not fit (see `make_entry`).
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.json"
        >>> write_labels(path, ["cat"], {"a/b": Instances.empty(2, 3)}, {"a/b": (2, 3)})
        >>> import json
        >>> json.loads(path.read_text())["images"]
        [{'id': 1, 'name': 'a/b', 'file_name': 'a/b.jpg', 'height': 2, 'width': 3}]
    """
    check_classes(classes)
    if missing := [name for name in instances if name not in sizes]:
        raise ValueError(f"sizes: expected one for every image, got none for {missing[0]!r}")

    entries = [
        make_entry(name, name + suffix, sizes[name], found, len(classes), module)
        for name, found in instances.items()
    ]
    with atomic_write(path) as file:
        write_entries(file, classes, entries, entries)
