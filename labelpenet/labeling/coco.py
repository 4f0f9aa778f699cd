"""Labels as COCO JSON: the reader of a file that may come from anywhere, and a writer.

Beside COCO's own keys an image has its `name` (where a file lacks it: `file_name` without the
extension) and an annotation has `score`, `module`, the module of the cascade (1 to 4), and
`quality`: the figures of `labelpenet.types.Quality` and `overall`, which sums them up; null where
unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labelpenet.files import atomic_write
from labelpenet.labeling.entries import check_classes, make_entry, write_entries
from labelpenet.labeling.label_file import LabelledImage, load_label_file
from labelpenet.types import Instances


class _Decoded(Mapping[str, Instances]):
    """Instances by image name, decoded at each access so that memory stays bounded."""

    def __init__(self, images: Sequence[LabelledImage]):
        self._images = {image.name: image for image in images}

    def __getitem__(self, name: str) -> Instances:
        return self._images[name].instances()

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


def read_labels(
    path: Path,
) -> tuple[tuple[str, ...], Mapping[str, Instances], dict[str, tuple[int, int]]]:
    """Reads labels from COCO JSON.

    Args:
        path: A file of a labelling job, or any COCO instance file (RLE or polygons, no crowds).

    Returns:
        The class names in the order of their category ids; the instances by image name, decoded
        at each access; (height, width) by image name. Annotations without a score get 1. An
        image without annotations has empty [0, H, W] masks.

    Raises:
        ValueError: Not such a file; the message names the file, the entry and what was expected.

    Example:
        >>> import tempfile
        >>> import torch
        >>> path = Path(tempfile.mkdtemp()) / "labels.json"
        >>> mask = torch.tensor([[[False, True, True]]])
        >>> found = Instances(
        ...     torch.tensor([[1.0, 0.0, 3.0, 1.0]]), torch.tensor([0]), torch.tensor([0.9]), mask
        ... )
        >>> write_labels(path, ["cat"], {"a": found}, {"a": (1, 3)})
        >>> classes, labels, sizes = read_labels(path)
        >>> classes, sizes, labels["a"].boxes.tolist(), labels["a"].masks.int().tolist()
        (('cat',), {'a': (1, 3)}, [[1.0, 0.0, 3.0, 1.0]], [[[0, 1, 1]]])
    """
    labels = load_label_file(path)
    sizes = {image.name: (image.height, image.width) for image in labels.images}
    return labels.classes, _Decoded(labels.images), sizes


def write_labels(
    path: Path,
    classes: Sequence[str],
    instances: Mapping[str, Instances],
    sizes: Mapping[str, tuple[int, int]],
    *,
    module: int = 4,
    suffix: str = ".jpg",
) -> None:
    """Writes instances by image name as COCO JSON, atomically; `read_labels` reads it back exactly.

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
