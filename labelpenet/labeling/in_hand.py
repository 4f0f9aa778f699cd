"""Notes of the workers of a shard, on disk: what one died over, its successor can tell."""

from __future__ import annotations

import os
import struct
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from labelpenet.files import writing
from labelpenet.labeling.store import SHARDS

_RECORD = struct.Struct("<q")
_BEGIN = -1


class InHand:
    """The notes of one run about one shard; gone when the block ends, however it does.

    Args:
        out: The store.
        shard: Its number.
        run: A word that no other run has: a whole job that was killed says nothing of its images.
    """

    def __init__(self, out: Path, shard: int, run: str) -> None:
        self._path = out / SHARDS / f".{shard:08d}.{run}.hand"

    def __enter__(self) -> InHand:
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            records = _read(self._path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o644)
            self.take(_BEGIN)
        self._deaths = Counter(last for last, after in pairwise([*records, _BEGIN]) if after < 0)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._file)
            self._path.unlink()

    @property
    def deaths(self) -> int:
        """How many workers of this run died while they did this shard."""
        return self._deaths.total()

    def take(self, number: int) -> None:
        """Says that an image is in hand now, and nothing else."""
        with writing(self._path):
            os.write(self._file, _RECORD.pack(number))

    def died_over(self, number: int) -> int:
        """How many of them had just this image in hand."""
        return self._deaths[number]


def _read(path: Path) -> list[int]:
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % _RECORD.size
    return [number for (number,) in _RECORD.iter_unpack(data[:whole])]
