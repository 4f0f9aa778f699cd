"""The files of a label store: Parquet shards of images with their objects, and a manifest.

    OUT/manifest.json       what was labelled, and with which settings
    OUT/labels/*.parquet    one row an image; each file holds the same run of the source's images
    OUT/errors.jsonl        the images that have no row, and why

A shard is a function of the job and of its images alone: the same bytes whoever writes it, and
whenever. It appears by a rename when it is whole. What went wrong with an image is in the footer of
its shard, from which errors.jsonl is made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from labelpenet.files import atomic_write, writing

SHARDS = "labels"
ERRORS = "errors.jsonl"
ROWS_PER_GROUP = 16
"""Images that a reader holds at a time."""

SCORE_BINS = 20
"""Bins of a histogram of scores."""

_ERRORS = "labelpenet.errors"
_COUNTS = "labelpenet.counts"
_CLASSES = b"labelpenet.classes"

Row = dict[str, Any]
Failure = dict[str, Any]
"""A line of errors.jsonl: image, reason, exception."""


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


OBJECT = pa.struct(
    [
        _required("label", pa.int32()),  # index into the manifest's classes
        _required("class", pa.string()),
        _required("score", pa.float32()),
        # pixels, 0-based, x2 and y2 exclusive
        *(_required(corner, pa.float32()) for corner in ("x1", "y1", "x2", "y2")),
        pa.field("mask", pa.string()),  # COCO's compressed run lengths
        pa.field("area", pa.int64()),  # pixels of the mask
        # labelpenet.types.Quality, and its overall(); null where unknown
        *(
            pa.field(figure, pa.float32())
            for figure in ("peak_support", "crf_change", "agreement", "score_margin", "quality")
        ),
    ]
)
SCHEMA = pa.schema(
    [
        _required("image", pa.string()),  # the name
        _required("source", pa.string()),  # path or URL
        _required("height", pa.int32()),
        _required("width", pa.int32()),
        _required("tags", pa.list_(_required("item", pa.int32()))),
        _required("module", pa.int8()),  # that answered
        _required("scale", pa.float32()),  # below 1 where memory forced a smaller copy
        _required("filtered", pa.int32()),  # objects left out, below the quality asked for
        _required("objects", pa.list_(_required("item", OBJECT))),
        _required("config", pa.string()),  # hash of the job's settings
    ]
)


def shard_path(out: Path, number: int) -> Path:
    """Where a shard of a store lies."""
    return out / SHARDS / f"{number:08d}.parquet"


def shard_numbers(out: Path) -> list[int]:
    """The shards that are whole."""
    found = (path.stem for path in (out / SHARDS).glob("*.parquet"))
    return sorted(int(stem) for stem in found if stem.isdecimal())


class Counts(NamedTuple):
    """Sums over the rows of a shard.

    Attributes:
        filtered: Objects left out.
        classes: Objects of each class.
        scores: Objects by score, in SCORE_BINS equal bins over [0, 1].
    """

    filtered: list[int]
    classes: list[int]
    scores: list[int]

    @staticmethod
    def none(class_count: int) -> Counts:
        """Of no rows."""
        return Counts([0], [0] * class_count, [0] * SCORE_BINS)

    def add(self, row: Row) -> None:
        """Counts a row."""
        self.filtered[0] += row["filtered"]
        for one in row["objects"]:
            self.classes[one["label"]] += 1
            place = int(round(one["score"] * SCORE_BINS, 4))  # the float32 of 0.9 is below 0.9
            self.scores[min(place, SCORE_BINS - 1)] += 1


class ShardWriter:
    """Takes the rows of a shard one by one, and holds a row group of them."""

    def __init__(self, file: Any, classes: Sequence[str]) -> None:
        metadata = {_CLASSES: json.dumps(list(classes))}
        self._writer = pq.ParquetWriter(
            file, SCHEMA.with_metadata(metadata), compression="zstd", write_page_checksum=True
        )
        self._rows: list[Row] = []
        self._errors: list[Failure] = []
        self._counts = Counts.none(len(classes))

    def add(self, row: Row | Failure) -> None:
        """The next image: its row, or what went wrong with it."""
        if "reason" in row:
            self._errors.append(row)
            return
        self._rows.append(row)
        self._counts.add(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def close(self, *, whole: bool) -> None:
        """Ends the file; what is not whole is thrown away by who opened it."""
        if whole:
            if self._rows:
                self._flush()
            counts = self._counts._asdict()
            self._writer.add_key_value_metadata(
                {_ERRORS: json.dumps(self._errors), _COUNTS: json.dumps(counts)}
            )
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows = []


@contextmanager
def writing_shard(out: Path, number: int, classes: Sequence[str]) -> Iterator[ShardWriter]:
    """A writer of one shard, which takes its place when the block succeeds.

    Raises:
        OutputError: It cannot be written; nothing of it stays.
    """
    path = shard_path(out, number)
    # the process in the name: a worker whose parent died may still be writing the same shard
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, binary=True, temporary=temporary) as file:
        writer = ShardWriter(file, classes)
        try:
            yield writer
        except BaseException:
            with suppress(Exception):
                writer.close(whole=False)
            raise
        writer.close(whole=True)


def remove_strays(out: Path) -> None:
    """Deletes what killed runs left half written; their notes stay, see `in_hand`."""
    for path in (out / SHARDS).glob(".*.tmp"):
        with suppress(OSError):
            path.unlink()


class Shard:
    """One file of a store, read a row group at a time.

    Raises:
        ValueError: No such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            self._file = pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)
            if not self._file.schema_arrow.remove_metadata().equals(SCHEMA):
                raise ValueError(f"expected the columns {', '.join(SCHEMA.names)}")
            metadata: Mapping[bytes, bytes] = self._file.metadata.metadata or {}
            self.errors: list[Failure] = json.loads(metadata[_ERRORS.encode()])
            self.classes: tuple[str, ...] = tuple(json.loads(metadata[_CLASSES]))
            self.counts = Counts(**json.loads(metadata[_COUNTS.encode()]))
        self.groups: int = self._file.metadata.num_row_groups

    def __len__(self) -> int:
        """Images with a row."""
        return int(self._file.metadata.num_rows)

    def group_rows(self, group: int) -> int:
        """Images in a row group."""
        return int(self._file.metadata.row_group(group).num_rows)

    def rows(self, group: int) -> list[Row]:
        """The rows of a row group."""
        with self._reading():
            rows: list[Row] = self._file.read_row_group(group, use_threads=False).to_pylist()
        return rows

    def names(self) -> list[str]:
        """The images' names, in order."""
        with self._reading():
            table = self._file.read(columns=["image"], use_threads=False)
            names: list[str] = table.column("image").to_pylist()
        return names

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: no readable shard: {error}") from None


def write_errors(out: Path, numbers: Iterable[int], more: Iterable[Failure] = ()) -> None:
    """Makes errors.jsonl of the shards' footers, and of what else went wrong."""
    with atomic_write(out / ERRORS) as file:
        for number in numbers:
            shard = Shard(shard_path(out, number))
            file.writelines(json.dumps(failure) + "\n" for failure in shard.errors)
            shard.close()
        file.writelines(json.dumps(failure) + "\n" for failure in more)
