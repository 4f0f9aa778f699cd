"""A small labelling job with photos that kill the process, as a decoder's segfault would."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from labeling.scenes import CLASSES, FakePhotoLabeler

from labelpenet.data.entries import Entry, Listing
from labelpenet.engines import Workers
from labelpenet.labeling.runner import Options, label_images

pa.array([{"a": 1}])  # imports what it needs now, once for all jobs

COUNT = 8


@dataclass(frozen=True)
class Deadly(FakePhotoLabeler):
    """Dies over some photos; with `*` among them, when it is made."""

    bad: tuple[str, ...] = ()

    def propose(self, image, name, traced):
        if name in self.bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().propose(image, name, traced)


@dataclass(frozen=True)
class Maker:
    """Makes such labelers; it travels to workers."""

    bad: tuple[str, ...]

    def __call__(self) -> Deadly:
        if "*" in self.bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return Deadly(None, self.bad)


def job(photos: Path, out: Path, bad: tuple[str, ...], workers: int = 1) -> None:
    """Labels COUNT photos, as `scenes.listing` makes them, in shards of four."""
    names = [f"a/{i:02}" for i in range(COUNT)]
    entries = [Entry(name, photos / f"{name}.png", CLASSES, name) for name in names]
    label_images(
        Maker(bad),
        Listing(photos, CLASSES, entries),
        out,
        job={"name": "deadly"},
        options=Options(shard_size=4, workers=Workers(workers, threads=1)),
    )
