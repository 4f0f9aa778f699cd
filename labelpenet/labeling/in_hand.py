"""Which images a worker has in hand, on disk: what it died over, its successor can tell."""

from __future__ import annotations

import os
import struct
from collections import Counter
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from labelpenet.files import writing
from labelpenet.labeling.store import SHARDS

_RECORD = struct.Struct("<qq")
_BEGIN = (-1, -1)


class InHand:
    """Notes of the workers of one run about one shard; gone when the block ends, however it does.

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
            self._deaths = _deaths(self._path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o644)
            self._note(_BEGIN)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.close(self._file)
            self._path.unlink()

    def take(self, first: int, count: int) -> None:
        """Says that `count` images from `first` on are in hand now."""
        with writing(self._path):
            self._note((first, count))

    def deaths(self, first: int, count: int) -> int:
        """How many workers of this run died with just these in hand."""
        return self._deaths[first, count]

    def _note(self, record: tuple[int, int]) -> None:
        os.write(self._file, _RECORD.pack(*record))


def _deaths(path: Path) -> Counter[tuple[int, int]]:
    """The last note of each worker that is not there any more."""
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % _RECORD.size
    records = [*_RECORD.iter_unpack(data[:whole]), _BEGIN]
    return Counter(last for last, following in pairwise(records) if following == _BEGIN)
