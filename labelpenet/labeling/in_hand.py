"""Notes on disk of which image is in hand: what a process died over, the next one can tell.

The next one is a worker that the engine put in its place, or the same command, called again.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from labelpenet.files import writing
from labelpenet.labeling.store import SHARDS

DEATHS = 2
"""Over an image, before it is left out: a single one may be a kill of the whole job."""

_RECORD = struct.Struct("<q")  # the number of an image, or one of these
_BEGIN, _NOTHING, _END = -1, -2, -3


class InHand:
    """The notes of a job about one shard.

    They go when the block ends well. Where it raises, they stay if there were deaths before.

    Args:
        out: The store.
        shard: Its number.
        job: `Manifest.identity`: the numbers of another job are other images.
    """

    def __init__(self, out: Path, shard: int, job: str) -> None:
        self._path = _note(out, shard, job)

    def __enter__(self) -> InHand:
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._deaths = _deaths([*_read(self._path), _BEGIN])
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o644)
            self._add(_BEGIN)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError):
            os.close(self._file)
            if kind is None:
                self._path.unlink()
            else:
                _end(self._path)

    @property
    def deaths(self) -> int:
        """How many processes died while they did this shard."""
        return self._deaths.total()

    def take(self, number: int) -> None:
        """Says that an image is in hand now, and nothing else."""
        self._add(number)

    def put_down(self) -> None:
        """Says that no image is in hand now."""
        self._add(_NOTHING)

    def died_over(self, number: int) -> int:
        """How many of them had just this image in hand."""
        return self._deaths[number]

    def _add(self, record: int) -> None:
        with writing(self._path):
            os.write(self._file, _RECORD.pack(record))


def blamed(out: Path, shard: int, job: str) -> int:
    """Deaths over images of a shard, of which each counts DEATHS times at most.

    It grows with a death over an image that will be left out for it, and not for ever.
    """
    with suppress(OSError):
        deaths = _deaths([*_read(_note(out, shard, job)), _BEGIN])
        return sum(min(count, DEATHS) for number, count in deaths.items() if number >= 0)
    return 0


def end_notes(out: Path) -> None:
    """After workers were ended on purpose: what they had in hand is not to blame."""
    for path in (out / SHARDS).glob(".*.hand"):
        with suppress(OSError):
            _end(path)


def keep_notes(out: Path, shards: Iterable[int], job: str) -> None:
    """Deletes all notes but those of the job about these shards."""
    kept = {_note(out, shard, job) for shard in shards}
    for path in (out / SHARDS).glob(".*.hand"):
        if path not in kept:
            with suppress(OSError):
                path.unlink()


def _note(out: Path, shard: int, job: str) -> Path:
    return out / SHARDS / f".{shard:08d}.{job}.hand"


def _deaths(records: Sequence[int]) -> Counter[int]:
    """What was in hand whenever one began where another had not ended."""
    return Counter(last for last, after in pairwise(records) if after == _BEGIN and last != _END)


def _end(path: Path) -> None:
    """Notes that this was no death; without any, there is nothing to remember."""
    if _deaths(_read(path)):
        with path.open("ab") as file:
            file.write(_RECORD.pack(_END))
    else:
        path.unlink()


def _read(path: Path) -> list[int]:
    data = path.read_bytes() if path.exists() else b""
    whole = len(data) - len(data) % _RECORD.size
    return [number for (number,) in _RECORD.iter_unpack(data[:whole])]
