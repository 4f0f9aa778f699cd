"""Lists of images with labels: CSV and Parquet files with the columns `image` and `labels`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelpenet.data.entries import (
    DatasetError,
    Entry,
    Listing,
    listed_path,
    read_text,
    stem,
    suggestion,
)
from labelpenet.data.locations import AnyPath

_SEPARATOR = "|"
_ROWS = 4096  # of a Parquet list, in memory at a time


def read_csv(
    path: AnyPath, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Listing:
    r"""Reads a CSV file whose first line names its columns.

    `image` is a path relative to the file. `labels` are separated by `|` if any row of the file
    has one, otherwise by blanks, unless the whole cell is one of `classes`. A column `split` is
    optional; other columns are ignored.

    Args:
        path: The file; UTF-8.
        split: Keeps the rows whose `split` is this.
        classes: The class names, in order; without them, the labels of the whole file, sorted.

    Returns:
        The images; a name is the path without extension.

    Raises:
        DatasetError: The file is unreadable, lacks a column, names no image, or names one that is
            missing, twice there or outside the file's folder, or has a label that is no class.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cat.jpg").write_bytes(b"...")
        ...     _ = Path(folder, "list.csv").write_text("image,labels\ncat.jpg,cat sofa\n")
        ...     listing = read_csv(Path(folder, "list.csv"))
        >>> listing.classes, next(iter(listing.entries)).labels
        (('cat', 'sofa'), ('cat', 'sofa'))
    """
    text = read_text(path)  # gone through twice
    return _table(path, lambda: _csv_rows(path, text, split is not None), split, classes)


def read_parquet(
    path: AnyPath, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Listing:
    """Reads a Parquet file with the columns of `read_csv`; `labels` may be lists of strings.

    `split` may be of any type and is compared as text.

    Args:
        path: The file.
        split: Keeps the rows whose `split` is this.
        classes: The class names, in order; without them, the labels of the whole file, sorted.

    Returns:
        The images; a name is the path without extension.

    Raises:
        DatasetError: As in `read_csv`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cat.jpg").write_bytes(b"...")
        ...     table = pa.table({"image": ["cat.jpg"], "labels": [["cat", "sofa"]]})
        ...     pq.write_table(table, f"{folder}/list.parquet")
        ...     next(iter(read_parquet(Path(folder, "list.parquet")).entries)).labels
        ('cat', 'sofa')
    """
    return _table(path, lambda: _parquet_rows(path, split is not None), split, classes)


# (where, image, labels as one text or as a list, split)
_Row = tuple[str, str, str | list[str], str | None]


def _csv_rows(path: AnyPath, text: str, with_split: bool) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = [cell.strip() for cell in cells]
                _require_columns(where, columns, with_split)
                continue
            if len(cells) != len(columns):
                raise DatasetError(
                    f"{where}: expected {len(columns)} columns, got {len(cells)} "
                    "(several labels are separated by blanks or |)"
                )
            row = dict(zip(columns, cells, strict=True))
            yield where, row["image"].strip(), row["labels"], row.get("split", "").strip()
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: broken CSV: {error}") from error
    if not columns:
        raise DatasetError(f"{path}: the file is empty, expected the columns image,labels")


def _parquet_rows(path: AnyPath, with_split: bool) -> Iterator[_Row]:
    try:
        with path.open("rb") as handle, pq.ParquetFile(handle) as file:
            names = file.schema_arrow.names
            _require_columns(str(path), names, with_split)
            columns = ["image", "labels", "split"] if with_split else ["image", "labels"]
            batches = file.iter_batches(batch_size=_ROWS, columns=columns)
            yield from _checked_rows(path, (row for batch in batches for row in batch.to_pylist()))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet file: {error}") from error


def _checked_rows(path: AnyPath, rows: Iterable[dict[str, Any]]) -> Iterator[_Row]:
    for number, row in enumerate(rows):
        where = f"{path}: row {number}"
        image, labels, part = row["image"], row["labels"], row.get("split")
        labels = [] if labels is None else labels
        if not isinstance(image, str):
            raise DatasetError(f"{where}: image: expected a path, got {image!r}")
        listed = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not listed and not isinstance(labels, str):
            raise DatasetError(f"{where}: labels: expected a string or strings, got {labels!r}")
        yield where, image, labels, None if part is None else str(part)


def _require_columns(where: str, columns: Sequence[str], with_split: bool) -> None:
    for column in ("image", "labels", "split") if with_split else ("image", "labels"):
        if columns.count(column) != 1:
            found = ", ".join(map(repr, columns[:10]))
            raise DatasetError(f"{where}: expected one column {column!r}, got {found}")


def _table(
    path: AnyPath,
    rows: Callable[[], Iterable[_Row]],
    split: str | None,
    classes: Sequence[str] | None,
) -> Listing:
    """The listing of a table; one pass over it finds out what its labels and splits are."""
    piped, found, splits = False, set[str | tuple[str, ...]](), set[str]()
    for _, _, labels, part in rows():
        piped |= isinstance(labels, str) and _SEPARATOR in labels
        found.add(labels if isinstance(labels, str) else tuple(labels))
        if part is not None:
            splits.add(part)
    if split is not None and splits and split not in splits:
        raise DatasetError(f"{path}: has no split {split!r}{suggestion(split, sorted(splits))}")
    vocabulary = set(classes or ())

    def names(labels: str | Sequence[str]) -> tuple[str, ...]:
        if isinstance(labels, str):
            whole = labels.strip()
            if whole in vocabulary:
                return (whole,)
            labels = whole.split(_SEPARATOR) if piped else whole.split()
        return tuple(label.strip() for label in labels if label.strip())

    def entries() -> Iterator[Entry]:
        for where, image, labels, part in rows():
            relative = listed_path(image, where)
            if split is None or part == split:
                yield Entry(stem(relative), path.parent / relative, names(labels), where)

    declared = sorted({name for labels in found for name in names(labels)})
    if classes is None:
        written = {name for labels in found if isinstance(labels, str) for name in names(labels)}
        _check_separated(path, written, piped)
    return Listing(path, tuple(declared if classes is None else classes), entries())


def _check_separated(path: AnyPath, names: set[str], piped: bool) -> None:
    """Refuses what would make a class of a separator, or of two labels.

    Raises:
        DatasetError: Names the label.
    """
    for name in sorted(names):
        if not piped and name.strip(",;") != name:
            raise DatasetError(
                f"{path}: label {name!r}: expected several labels separated by blanks or |"
            )
        words = name.split()
        if piped and len(words) > 1 and names.issuperset(words):
            raise DatasetError(
                f"{path}: label {name!r}: expected labels separated by | throughout, as some are; "
                f"{' and '.join(map(repr, words))} are labels of other images"
            )
