"""One function that opens a dataset, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from labelpenet.data.coco import find_coco, read_coco
from labelpenet.data.entries import DatasetError, Listing, build, checked_classes
from labelpenet.data.folders import read_folder
from labelpenet.data.images import ImageError, image_size
from labelpenet.data.locations import AnyPath, located
from labelpenet.data.proposals import ProposalStore
from labelpenet.data.tables import read_csv, read_parquet
from labelpenet.data.tars import find_tars, read_tars
from labelpenet.data.truth_coco import CocoTruth
from labelpenet.data.truth_voc import voc_truth
from labelpenet.data.voc import find_voc, read_voc
from labelpenet.types import Dataset, ImageRecord


def load_dataset(
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Reads the images of a dataset and their image-level labels, in the format that it has.

    Recognised are, in this order: a `.csv` or `.parquet` list with the columns image and labels; a
    COCO `.json`; a PASCAL VOC folder (VOCdevkit, or the folder of one year); a COCO folder
    (annotations/instances_<split>.json); a folder per class; a folder of photos without labels.
    Only the files' names are looked at: the images themselves are not opened.

    Args:
        source: The file or folder.
        split: Which part of it, such as `train`; without it, all of it.
        classes: The class names, in order. A CSV file or a folder must have no others; of a VOC or
            COCO dataset they may also be a part. Without them, the names in the dataset: by id
            for COCO, sorted otherwise.

    Returns:
        The dataset; that of VOC and COCO with ground truth, which is read when it is used.

    Raises:
        DatasetError: Nothing of the above, or broken: the message names the file and the line.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "dog").mkdir()
        ...     _ = Path(folder, "dog", "rex.jpg").write_bytes(b"...")
        ...     len(load_dataset(Path(folder)))
        1
    """
    dataset = build(list_dataset(source, split=split, classes=classes))
    names = [record.name for record in dataset.records]
    path = located(source)
    if path.is_dir() and (voc := find_voc(path)) is not None:
        return replace(dataset, truth=voc_truth(voc, names, dataset.classes))
    coco = find_coco(path, split) if path.is_dir() else path
    if coco is not None and coco.suffix.lower() == ".json":
        return replace(dataset, truth=CocoTruth(coco, names, dataset.classes))
    return dataset


def list_dataset(
    source: str | os.PathLike[str],
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    tags: bool = True,
) -> Listing:
    """The images that a source names, whatever its format and wherever it is.

    Args:
        source: As `load_dataset` takes it, and any of it behind a URL that fsspec opens, such as
            `s3://bucket/photos`; or WebDataset archives: a `.tar`, `shards-{000..127}.tar`, or a
            folder of them.
        split: As in `load_dataset`.
        classes: As in `load_dataset`; archives need them.
        tags: Whether the images' labels are wanted. Without, no image has any, whatever the source
            says: they need not be among `classes`, and photos may lie beside folders of photos.

    Returns:
        The listing; that of a list or of archives is read while it is gone through.

    Raises:
        DatasetError: As in `load_dataset`, here or while the images are gone through.
    """
    if classes is not None:
        classes = checked_classes(classes)
    if tags:
        return _listing(source, split, classes, tags)
    listing = _listing(source, split, None, tags)
    entries = (replace(entry, labels=()) for entry in listing.entries)
    return replace(listing, classes=tuple(classes or ()), entries=entries)


def _listing(
    source: str | os.PathLike[str], split: str | None, classes: Sequence[str] | None, tags: bool
) -> Listing:
    if (archives := find_tars(str(source))) is not None:
        if split is not None:
            raise DatasetError(f"{source}: tar archives have no splits, got {split!r}")
        return read_tars(located(source), archives, classes=classes)
    path = located(source)
    if path.is_file():
        return _read_file(path, split, classes)
    if not path.is_dir():
        raise DatasetError(f"{path}: no such file or folder")
    if (voc := find_voc(path)) is not None:
        return read_voc(voc, split=split, classes=classes)
    if (coco := find_coco(path, split)) is not None:
        return read_coco(coco, classes=classes)
    return read_folder(path, split=split, classes=classes, tags=tags)


def _read_file(path: AnyPath, split: str | None, classes: Sequence[str] | None) -> Listing:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path, split=split, classes=classes)
    if suffix == ".parquet":
        return read_parquet(path, split=split, classes=classes)
    if suffix != ".json":
        raise DatasetError(f"{path}: expected a .csv, .parquet, .json or .tar file, or a folder")
    if split is not None:
        raise DatasetError(f"{path}: a COCO file has no splits, got {split!r}")
    return read_coco(path, classes=classes)


def check_for_training(dataset: Dataset, proposals: ProposalStore | None = None) -> list[str]:
    """Looks for what would stop or spoil a training: every image's header, labels and proposals.

    Args:
        dataset: The images.
        proposals: Their boxes, where they are computed already.

    Returns:
        The problems, a sentence each, in the order of the images; empty if there are none. A class
        that no image has is none.
    """
    problems = [] if len(dataset) else ["the dataset has no images"]
    for record in dataset.records:
        try:
            size = image_size(record.path)
        except ImageError as error:
            problems.append(f"{record.name}: {error}")
            continue
        if not record.labels:
            problems.append(f"{record.name}: has no labels")
        if proposals is not None:
            problems += _proposal_problems(record, size, proposals)
    return problems


def _proposal_problems(
    record: ImageRecord, size: tuple[int, int], proposals: ProposalStore
) -> list[str]:
    if record.name not in proposals:
        return [f"{record.name}: has no proposals"]
    if proposals.size(record.name) != size:
        height, width = proposals.size(record.name)
        return [
            f"{record.name}: is {size[0]} x {size[1]} (height x width), "
            f"its proposals are of an image of {height} x {width}"
        ]
    return [] if len(proposals[record.name]) else [f"{record.name}: has 0 proposals"]
