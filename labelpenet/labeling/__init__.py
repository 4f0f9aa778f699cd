"""Labelling many images into a store: runs that resume, and readers of what they wrote."""

from __future__ import annotations

import os
from pathlib import Path

from labelpenet.labeling.label_file import load_label_file
from labelpenet.labeling.labels import LabelledImage, LabelledObject, Labels
from labelpenet.labeling.store_reader import StoreLabels

__all__ = ["LabelledImage", "LabelledObject", "Labels", "open_labels"]


def open_labels(path: str | os.PathLike[str]) -> Labels:
    """Opens labels for reading: a label store, or COCO JSON.

    Args:
        path: The folder of a store, finished or under way (what is there can be read), or a COCO
            instance file (RLE or polygons, no crowds), which is read into memory.

    Returns:
        `classes`, `len()`, iteration over `LabelledImage` in the order of the source, and `[name]`.
        Masks are decoded by `LabelledImage.instances()` alone.

    Raises:
        ValueError: Neither, or damaged; the message names the file. What only the rows show is
            found when they are read.

    Example:
        >>> import tempfile, torch
        >>> from labelpenet.labeling.coco import write_labels
        >>> from labelpenet.types import Instances
        >>> path = Path(tempfile.mkdtemp()) / "labels.json"
        >>> mask = torch.tensor([[[False, True, True]]])
        >>> box = torch.tensor([[1.0, 0.0, 3.0, 1.0]])
        >>> found = Instances(box, torch.tensor([0]), torch.tensor([0.9]), mask)
        >>> write_labels(path, ["cat"], {"a": found}, {"a": (1, 3)})
        >>> labels = open_labels(path)
        >>> labels.classes, len(labels), labels["a"].instances().masks.int().tolist()
        (('cat',), 1, [[[0, 1, 1]]])
    """
    path = Path(path)
    return StoreLabels(path) if path.is_dir() else load_label_file(path)
