"""The proposals of a dataset on disk: computed once, read by image."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelpenet.files import atomic_write

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        # x1, y1, x2, y2 of the first box, then of the next
        pa.field("boxes", pa.list_(pa.field("item", pa.float32(), nullable=False)), nullable=False),
    ]
)
ROWS_PER_GROUP = 16  # images; what reading one of them decodes
_SETTINGS = b"labelpenet.proposals"


class ProposalError(ValueError):
    """A proposal store that cannot be read, or not with these settings."""


class Proposals(NamedTuple):
    """The row of one image.

    Attributes:
        name: As in ImageRecord.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        boxes: [R, 4] float32 in pixels, 0-based, x2 and y2 exclusive.
    """

    name: str
    height: int
    width: int
    boxes: np.ndarray


class ProposalStore(Mapping[str, np.ndarray]):
    """Boxes by image name, read from a Parquet file a few images at a time.

    The file has one row per image: name, height, width, and boxes as a flat list of x1, y1, x2, y2.
    Its metadata hold the settings that the boxes were computed with. A store can be pickled; the
    copy opens the file anew, and so can be used by another process.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "proposals.parquet")
        >>> boxes = np.array([[0, 0, 9, 9], [3, 4, 30, 20]], np.float32)
        >>> write_proposals(path, [Proposals("cat", 20, 30, boxes)], {"k": 50})
        >>> store = ProposalStore.open(path)
        >>> store["cat"].shape, store.size("cat"), "dog" in store, dict(store.settings)
        ((2, 4), (20, 30), False, {'k': 50})
        >>> folder.cleanup()
    """

    def __init__(self, path: Path) -> None:
        """Opens the file; see `open`."""
        self.path = Path(path)
        self.settings: Mapping[str, Any] = {}
        self._rows: dict[str, tuple[int, int, int, int]] = {}  # row group, row in it, height, width
        self._last: tuple[int, Any] | None = None  # the row group read last, for reading in order
        self._reading = threading.Lock()
        self._is_store = False
        if not self.path.is_file():
            raise ProposalError(f"{self.path}: no such file; compute the proposals first")
        try:
            self._file = pq.ParquetFile(self.path, memory_map=True, page_checksum_verification=True)
            self._is_store = _SETTINGS in (self._file.metadata.metadata or {})
            self._index()
        except ProposalError:
            raise
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(str(error)) from error

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ProposalStore:
        """Opens a store for reading.

        Args:
            path: The Parquet file.

        Returns:
            The store.

        Raises:
            ProposalError: The file is missing, damaged, or no proposal store.
        """
        return cls(Path(path))

    def __getitem__(self, name: str) -> np.ndarray:
        """The boxes of an image: [R, 4] float32, a copy.

        Raises:
            KeyError: The image has none in this store.
            ProposalError: The file is damaged there.
        """
        group, row, _, _ = self._row(name)
        try:
            return np.array(self._group(group)[row].values, np.float32).reshape(-1, 4)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(f"the boxes of {name!r}: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"ProposalStore({str(self.path)!r}, {len(self)} images)"

    def __reduce__(self) -> tuple[type[ProposalStore], tuple[Path]]:
        return type(self), (self.path,)

    def size(self, name: str) -> tuple[int, int]:
        """(height, width) of the image that the boxes were computed on.

        Raises:
            KeyError: It is not in this store.
        """
        _, _, height, width = self._row(name)
        return height, width

    def rows(self) -> Iterator[Proposals]:
        """All rows in the file's order, a few in memory at a time."""
        for name in self:
            yield Proposals(name, *self.size(name), self[name])

    def _index(self) -> None:
        if not self._file.schema_arrow.equals(SCHEMA):
            names = ", ".join(self._file.schema_arrow.names)
            raise self._damaged(f"expected the columns {', '.join(SCHEMA.names)}, got {names}")
        if not self._is_store:
            raise self._damaged("has no settings")
        self.settings = json.loads(self._file.metadata.metadata[_SETTINGS])
        columns = ["name", "height", "width"]
        table = self._file.read(columns=columns, use_threads=False)
        values = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
        metadata = self._file.metadata
        for group in range(metadata.num_row_groups):
            count = metadata.row_group(group).num_rows
            for row, (name, height, width) in enumerate(islice(values, count)):
                if name in self._rows:
                    raise self._damaged(f"{name!r} is there twice")
                self._rows[name] = (group, row, height, width)

    def _row(self, name: str) -> tuple[int, int, int, int]:
        try:
            return self._rows[name]
        except KeyError:
            raise KeyError(f"{self.path}: has no proposals of {name!r}") from None

    def _group(self, group: int) -> Any:
        """The boxes of a row group, [images] lists."""
        with self._reading:
            if self._last is None or self._last[0] != group:
                table = self._file.read_row_group(group, columns=["boxes"], use_threads=False)
                self._last = group, table.column("boxes").combine_chunks()
            return self._last[1]

    def _damaged(self, what: str) -> ProposalError:
        if not self._is_store:  # it may be anything: nobody is told to delete it
            return ProposalError(f"{self.path}: is no proposal store: {what}")
        return ProposalError(f"{self.path}: {what}; delete the file to compute it again")


def write_proposals(
    path: str | os.PathLike[str], rows: Iterable[Proposals], settings: Mapping[str, object]
) -> None:
    """Writes a store, whole or not at all.

    Args:
        path: The Parquet file; one that is there is replaced.
        rows: The images' boxes; taken a few at a time.
        settings: How they were computed: names and JSON values.

    Raises:
        TypeError: `settings` are no JSON values.
        ValueError: `boxes` of a row are not [R, 4].
        OutputError: The file cannot be written; one that is there stays.
    """
    metadata = {_SETTINGS: json.dumps(plain_settings(settings))}
    iterator = iter(rows)
    with (
        atomic_write(Path(path), binary=True) as file,
        pq.ParquetWriter(
            file,
            SCHEMA.with_metadata(metadata),
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        ) as writer,
    ):
        while group := list(islice(iterator, ROWS_PER_GROUP)):
            writer.write_batch(_batch(group))


def plain_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings as JSON gives them back (tuples become lists), so that they compare.

    Raises:
        TypeError: A value is no JSON value.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(settings), sort_keys=True))
    except (TypeError, ValueError) as error:
        raise TypeError(f"settings: expected JSON values, got {settings!r}: {error}") from error
    return plain


def _batch(rows: list[Proposals]) -> pa.RecordBatch:
    for row in rows:
        if row.boxes.ndim != 2 or row.boxes.shape[1] != 4:
            raise ValueError(f"boxes of {row.name!r}: expected [R, 4], got {list(row.boxes.shape)}")
    ends = np.cumsum([0] + [row.boxes.size for row in rows], dtype=np.int32)
    values = np.concatenate([row.boxes.ravel() for row in rows]).astype(np.float32)
    boxes = pa.ListArray.from_arrays(
        pa.array(ends), pa.array(values), type=SCHEMA.field("boxes").type
    )
    columns = [
        pa.array([row.name for row in rows], pa.string()),
        pa.array([row.height for row in rows], pa.int32()),
        pa.array([row.width for row in rows], pa.int32()),
        boxes,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
