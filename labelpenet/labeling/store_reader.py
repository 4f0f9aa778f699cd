"""Reading a label store: image after image, or one by its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from labelpenet.labeling.entries import QUALITY_RANGES, check_classes
from labelpenet.labeling.labels import LabelledImage, LabelledObject, Labels
from labelpenet.labeling.manifest import Manifest
from labelpenet.labeling.store import Row, Shard, shard_numbers, shard_path


class StoreLabels(Labels):
    """The labels of a store, finished or under way: the shards that are whole.

    Memory stays bounded: a row group of images, and 16 bytes an image once one is asked for by
    name. A copy by pickle opens the store anew.

    Args:
        path: The folder.

    Raises:
        ValueError: No store, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = Manifest.read(path)
        self.classes = self.manifest.classes
        self.paint_score = self.manifest.paint_score
        try:
            check_classes(self.classes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self._numbers = shard_numbers(path)
        # a shard may be gone since: of a copy that was cut short
        self.complete = self.manifest.complete and len(self._numbers) == self.manifest.shards
        self._last: tuple[int, int, list[Row]] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[LabelledImage]:
        for number in self._numbers:
            shard = self._open(number)
            for group in range(shard.groups):
                for row in shard.rows(group):
                    yield self._image(number, row)
            shard.close()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __getitem__(self, name: str) -> LabelledImage:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def names(self) -> Iterator[str]:
        """The images' names, in order; nothing else is read."""
        for number in self._numbers:
            shard = self._open(number)
            yield from shard.names()
            shard.close()

    def failed(self) -> Iterator[str]:
        """The names of the images that could not be labelled."""
        for number in self._numbers:
            shard = self._open(number)
            yield from (failure["image"] for failure in shard.errors)
            shard.close()

    def __reduce__(self) -> tuple[type[StoreLabels], tuple[Path]]:
        return type(self), (self.path,)

    @cached_property
    def _count(self) -> int:
        total = 0
        for number in self._numbers:
            shard = self._open(number)
            total += len(shard)
            shard.close()
        return total

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Digests of the names, sorted, and the shard and the row group of each."""
        digests: list[np.ndarray] = [np.zeros(0, np.uint64)]
        places: list[np.ndarray] = [np.zeros((0, 2), np.uint32)]
        for number in self._numbers:
            shard = self._open(number)
            digests.append(np.array([_digest(name) for name in shard.names()], np.uint64))
            sizes = [shard.group_rows(group) for group in range(shard.groups)]
            groups = np.repeat(np.arange(shard.groups, dtype=np.uint32), sizes)
            places.append(np.stack((np.full_like(groups, number), groups), 1))
            shard.close()
        every = np.concatenate(digests)
        order = np.argsort(every, kind="stable")
        return every[order], np.concatenate(places)[order]

    def _find(self, name: str) -> LabelledImage | None:
        digests, places = self._index
        digest = np.uint64(_digest(name))
        at = int(np.searchsorted(digests, digest))
        while at < len(digests) and digests[at] == digest:
            number, group = (int(v) for v in places[at])
            for row in self._group(number, group):
                if row["image"] == name:
                    return self._image(number, row)
            at += 1
        return None

    def _group(self, number: int, group: int) -> list[Row]:
        """The rows of a row group; the last one is kept, for names that come in order."""
        if self._last is None or self._last[:2] != (number, group):
            shard = self._open(number)
            self._last = number, group, shard.rows(group)
            shard.close()
        return self._last[2]

    def _open(self, number: int) -> Shard:
        shard = Shard(shard_path(self.path, number))
        if shard.classes != self.classes:
            raise ValueError(f"{shard.path}: has other classes than {self.path}'s manifest")
        return shard

    def _image(self, number: int, row: Row) -> LabelledImage:
        try:
            return LabelledImage(
                name=row["image"],
                source=row["source"],
                height=row["height"],
                width=row["width"],
                tags=tuple(row["tags"]),
                module=row["module"],
                objects=tuple(
                    LabelledObject(
                        label=one["label"],
                        score=one["score"],
                        box=(one["x1"], one["y1"], one["x2"], one["y2"]),
                        mask=one["mask"],
                        quality={name: one[name] for name in QUALITY_RANGES},
                    )
                    for one in row["objects"]
                ),
            ).check(len(self.classes))
        except ValueError as error:
            path = shard_path(self.path, number)
            raise ValueError(f"{path}: image {row['image']!r}: {error}") from None


def _digest(name: str) -> int:
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
