"""What one module found, kept on disk as the next one's labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from labelpenet.files import atomic_write
from labelpenet.rle import decode_mask, encode_masks
from labelpenet.types import Instances

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("boxes", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.int32())),
        ("scores", pa.list_(pa.float32())),
        ("masks", pa.list_(pa.binary())),
    ]
)


class TargetsError(ValueError):
    """A targets file that cannot be used."""


class TargetStore:
    """Instances by image name, with masks kept as run-lengths until they are asked for."""

    def __init__(self, path: Path, rows: dict[str, dict[str, Any]]) -> None:
        self._path = path
        self._rows = rows

    @staticmethod
    def write(path: Path, items: Iterable[tuple[str, Instances, tuple[int, int]]]) -> int:
        """Writes (name, instances with masks, (height, width)) and returns how many; whole or not.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
        """
        count = 0
        with (
            atomic_write(path, binary=True) as file,
            pq.ParquetWriter(file, _SCHEMA, write_page_checksum=True) as writer,
        ):
            for name, instances, size in items:
                writer.write_table(pa.Table.from_pylist([_row(name, instances, size)], _SCHEMA))
                count += 1
        return count

    @staticmethod
    def merge(path: Path, parts: Sequence[Path]) -> None:
        """Puts several files into one, one behind the other, and removes them.

        Raises:
            OutputError: The folder cannot be written, or the disk is full.
            TargetsError: A part is missing or damaged.
        """
        with (
            atomic_write(path, binary=True) as file,
            pq.ParquetWriter(file, _SCHEMA, write_page_checksum=True) as writer,
        ):
            for part in parts:
                writer.write_table(read_rows(part, _SCHEMA, "targets"))
        for part in parts:
            part.unlink()

    @staticmethod
    def open(path: Path) -> TargetStore:
        """Reads what write() wrote.

        Masks are decoded, and checked, when an image is asked for: a TargetsError then too.

        Raises:
            TargetsError: Missing or damaged.
        """
        table = read_rows(path, _SCHEMA, "targets")
        return TargetStore(path, {row["name"]: row for row in table.to_pylist()})

    def names(self) -> list[str]:
        """Names of all images, in the order they were written."""
        return list(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> Instances:
        row = self._rows[name]
        height, width = row["height"], row["width"]
        counts = row["masks"]
        try:
            masks = np.zeros((len(counts), height, width), dtype=bool)
            for mask, code in zip(masks, counts, strict=True):  # latin-1 takes any byte
                mask[:] = decode_mask(code.decode("latin-1"), height, width)
        except ValueError as error:
            raise TargetsError(f"{self._path}: masks of {name}: {error}") from None
        return Instances(
            torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4),
            torch.tensor(row["labels"], dtype=torch.int64),
            torch.tensor(row["scores"], dtype=torch.float32),
            torch.from_numpy(masks),
        )


def keep_for_training(instances: Instances, score: float, tags: tuple[int, ...]) -> Instances:
    """The instances at or above `score`, and the best one of every tag, empty masks left out."""
    keep = instances.scores >= score
    for tag in tags:
        own = (instances.labels == tag).nonzero().flatten()
        if len(own):
            keep[own[instances.scores[own].argmax()]] = True
    if instances.masks is not None:
        keep &= instances.masks.flatten(1).any(1)
    side = (instances.boxes[:, 2:] - instances.boxes[:, :2]).amin(1)
    return instances.select(keep & (side >= 1))


def read_rows(path: Path, schema: pa.Schema, what: str) -> pa.Table:
    """A Parquet file of a run, its checksums verified.

    Args:
        path: The file.
        schema: Its columns.
        what: What it holds, for the error.

    Raises:
        TargetsError: Missing, damaged, or with other columns.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise TargetsError(f"{path}: cannot be read as {what}: {error}") from None
    if not table.schema.equals(schema):
        names = ", ".join(table.schema.names)
        raise TargetsError(f"{path}: cannot be read as {what}: has the columns {names}")
    return table


def _row(name: str, instances: Instances, size: tuple[int, int]) -> dict[str, object]:
    if instances.masks is None:
        raise ValueError(f"{name}: expected instances with masks")
    return {
        "name": name,
        "height": size[0],
        "width": size[1],
        "boxes": instances.boxes.flatten().tolist(),
        "labels": instances.labels.tolist(),
        "scores": instances.scores.tolist(),
        "masks": [rle["counts"].encode("ascii") for rle in encode_masks(instances.masks.numpy())],
    }
