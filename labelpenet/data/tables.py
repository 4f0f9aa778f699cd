"""Lists of images with labels: CSV and Parquet files with the columns `image` and `labels`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelpenet.data.entries import (
    DatasetError,
    Entry,
    build,
    listed_path,
    read_text,
    stem,
    suggestion,
)
from labelpenet.types import Dataset

_SEPARATOR = "|"


def read_csv(
    path: Path, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Dataset:
    r"""Reads a CSV file whose first line names its columns.

    `image` is a path relative to the file. `labels` are separated by `|` if any row of the file
    has one, otherwise by blanks, unless the whole cell is one of `classes`. A column `split` is
    optional; other columns are ignored.

    Args:
        path: The file; UTF-8.
        split: Keeps the rows whose `split` is this.
        classes: The class names, in order; without them, the labels of the whole file, sorted.

    Returns:
        The dataset; an image's name is its path without extension.

    Raises:
        DatasetError: The file is unreadable, lacks a column, names no image, or names one that is
            missing, twice there or outside the file's folder, or has a label that is no class.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cat.jpg").write_bytes(b"...")
        ...     _ = Path(folder, "list.csv").write_text("image,labels\ncat.jpg,cat sofa\n")
        ...     dataset = read_csv(Path(folder, "list.csv"))
        >>> dataset.classes, dataset.records[0].name, dataset.records[0].labels
        (('cat', 'sofa'), 'cat', (0, 1))
    """
    return _table(path, list(_csv_rows(path, split is not None)), split, classes)


def read_parquet(
    path: Path, *, split: str | None = None, classes: Sequence[str] | None = None
) -> Dataset:
    """Reads a Parquet file with the columns of `read_csv`; `labels` may be lists of strings.

    Args:
        path: The file.
        split: Keeps the rows whose `split` is this.
        classes: The class names, in order; without them, the labels of the whole file, sorted.

    Returns:
        The dataset; an image's name is its path without extension.

    Raises:
        DatasetError: As in `read_csv`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cat.jpg").write_bytes(b"...")
        ...     table = pa.table({"image": ["cat.jpg"], "labels": [["cat", "sofa"]]})
        ...     pq.write_table(table, f"{folder}/list.parquet")
        ...     read_parquet(Path(folder, "list.parquet")).records[0].labels
        (0, 1)
    """
    return _table(path, list(_parquet_rows(path, split is not None)), split, classes)


# (where, image, labels as one text or as a list, split)
_Row = tuple[str, str, str | list[str], str | None]


def _csv_rows(path: Path, with_split: bool) -> Iterator[_Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
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


def _parquet_rows(path: Path, with_split: bool) -> Iterator[_Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _require_columns(str(path), names, with_split)
            columns = ["image", "labels", "split"] if with_split else ["image", "labels"]
            table = file.read(columns=columns).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet file: {error}") from error
    for number, row in enumerate(table):
        where = f"{path}: row {number}"
        image, labels, part = row["image"], row["labels"], row.get("split")
        labels = [] if labels is None else labels
        if not isinstance(image, str):
            raise DatasetError(f"{where}: image: expected a path, got {image!r}")
        listed = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not listed and not isinstance(labels, str):
            raise DatasetError(f"{where}: labels: expected a string or strings, got {labels!r}")
        yield where, image, labels, part


def _require_columns(where: str, columns: Sequence[str], with_split: bool) -> None:
    for column in ("image", "labels", "split") if with_split else ("image", "labels"):
        if columns.count(column) != 1:
            found = ", ".join(map(repr, columns[:10]))
            raise DatasetError(f"{where}: expected one column {column!r}, got {found}")


def _table(
    path: Path, rows: Sequence[_Row], split: str | None, classes: Sequence[str] | None
) -> Dataset:
    piped = any(isinstance(labels, str) and _SEPARATOR in labels for _, _, labels, _ in rows)
    vocabulary = set(classes or ())

    def names(labels: str | list[str]) -> tuple[str, ...]:
        if isinstance(labels, str):
            whole = labels.strip()
            if whole in vocabulary:
                return (whole,)
            labels = whole.split(_SEPARATOR) if piped else whole.split()
        return tuple(label.strip() for label in labels if label.strip())

    entries, found, splits = [], set[str](), set[str]()
    for where, image, labels, part in rows:
        relative = listed_path(image, where)
        found.update(names(labels))
        splits.add(str(part))
        if split is None or part == split:
            entries.append(Entry(stem(relative), path.parent / relative, names(labels), where))
    if split is not None and rows and split not in splits:
        raise DatasetError(f"{path}: has no split {split!r}{suggestion(split, sorted(splits))}")
    return build(path, entries, sorted(found) if classes is None else classes)
