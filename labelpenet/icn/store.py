"""Cues with their pseudo labels, kept on disk: what the cue-propagation network learns from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from labelpenet.files import atomic_write
from labelpenet.rle import decode_mask, encode_masks
from labelpenet.training.targets import TargetsError, read_rows

_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("label", pa.int32()),
        ("cue", pa.binary()),
        ("mask", pa.binary()),
    ]
)


@dataclass(frozen=True)
class Lesson:
    """One instance to learn.

    Attributes:
        label: Its class; -1 where only the mask is known.
        cue: [h, w] float32 in [0, 1], its peak response map.
        mask: [h, w] bool.
    """

    label: int
    cue: Tensor
    mask: Tensor


class LessonStore:
    """Lessons by image name, decoded when an image is asked for.

    Args:
        path: Written by `write`.

    Raises:
        TargetsError: Missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        table = read_rows(path, _SCHEMA, "lessons")
        self._table = table
        self._rows: dict[str, list[int]] = {}
        for i, name in enumerate(table["name"].to_pylist()):
            self._rows.setdefault(name, []).append(i)

    @staticmethod
    def write(path: Path, items: Iterable[tuple[str, list[Lesson]]]) -> int:
        """Writes the lessons of images and returns how many; whole or not at all.

        Cues are kept in 256 steps.
        """
        count = 0
        with (
            atomic_write(path, binary=True) as file,
            pq.ParquetWriter(file, _SCHEMA, compression="zstd", write_page_checksum=True) as writer,
        ):
            for name, lessons in items:
                rows = [_row(name, lesson) for lesson in lessons]
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                    count += len(rows)
        return count

    def names(self) -> list[str]:
        """Names of the images that have a lesson."""
        return list(self._rows)

    def count(self, name: str) -> int:
        """How many lessons an image has."""
        return len(self._rows.get(name, ()))

    def lesson(self, name: str, index: int) -> Lesson:
        """An image's lesson."""
        row = self._table.slice(self._rows[name][index], 1).to_pylist()[0]
        height, width = row["height"], row["width"]
        try:
            if height < 1 or width < 1:
                raise ValueError(f"expected a size of at least 1 x 1, got {height} x {width}")
            cue = np.frombuffer(row["cue"], np.uint8).reshape(height, width)
            mask = decode_mask(row["mask"].decode("latin-1"), height, width)
        except ValueError as error:
            raise TargetsError(f"{self._path}: a lesson of {name}: {error}") from None
        return Lesson(
            row["label"],
            torch.from_numpy(cue.astype(np.float32) / 255),
            torch.from_numpy(np.ascontiguousarray(mask)),
        )


def _row(name: str, lesson: Lesson) -> dict[str, Any]:
    height, width = lesson.mask.shape
    cue = (lesson.cue * 255).round().to(torch.uint8)
    return {
        "name": name,
        "height": height,
        "width": width,
        "label": lesson.label,
        "cue": cue.cpu().numpy().tobytes(),
        "mask": encode_masks(lesson.mask.cpu().numpy()[None])[0]["counts"].encode("ascii"),
    }
