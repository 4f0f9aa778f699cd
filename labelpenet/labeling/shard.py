"""Labelling one shard: decoding and proposals ahead of the network, encoding behind it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from labelpenet.ahead import ahead
from labelpenet.data.image_list import ImageList, ListedImage
from labelpenet.data.images import load_image
from labelpenet.engines import WorkerDied
from labelpenet.files import OutputError
from labelpenet.labeling.in_hand import DEATHS, InHand, blamed
from labelpenet.labeling.manifest import Manifest
from labelpenet.labeling.photos import (
    SCALES,
    Photo,
    PhotoLabeler,
    label_photos,
    label_smaller,
    lacks_memory,
)
from labelpenet.labeling.rows import make_row
from labelpenet.labeling.store import Failure, Row, Shard, shard_path, writing_shard
from labelpenet.report.pictures import save_pictures
from labelpenet.types import Labelling

T = TypeVar("T")
_ADDING = threading.Lock()  # one for all: a Timing is pickled


@dataclass
class Timing:
    """Seconds of a worker by stage; stages overlap, so that they add up to more than the time.

    Attributes:
        stages: Time spent: `decode` and `proposals` over all threads, `network`, and `encode`.
        waits: Time the network waited: for `photos` to come, and for `rows` to be encoded.
    """

    stages: dict[str, float] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The time within is spent; in any thread."""
        began = time.perf_counter()
        try:
            yield
        finally:
            with _ADDING:
                self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - began

    def waiting(self, name: str, function: Callable[[], T]) -> T:
        """What `function` gives; its time is waited."""
        began = time.perf_counter()
        try:
            return function()
        finally:
            self.waits[name] = self.waits.get(name, 0.0) + time.perf_counter() - began


@dataclass(frozen=True)
class ShardResult:
    """What a worker tells of a shard.

    Attributes:
        images: In the shard, with those that failed.
        failures: Lines of errors.jsonl.
        unwritten: Why the shard is not there, where it could not be written.
        timing: See Timing.
    """

    images: int
    failures: tuple[Failure, ...]
    unwritten: str | None
    timing: Timing


@dataclass(frozen=True)
class LabelWork:
    """Labelling as work for an engine, whose tasks are shards.

    Attributes:
        make: Makes the labeler, once a worker.
        images: The source.
        out: The store.
        manifest: Of the job.
        pictured: Positions of the images whose pictures are stored.
        batch: Photos that go through the network together.
        loaders: Threads that decode and propose.
        min_quality: Objects of a lower overall quality are left out.
        retry: Whether finished shards are gone through for the images that failed.
    """

    make: Callable[[], PhotoLabeler]
    images: ImageList
    out: Path
    manifest: Manifest
    pictured: frozenset[int]
    batch: int
    loaders: int
    min_quality: float
    retry: bool = False

    def start(self) -> Callable[[int], ShardResult]:
        """The function that labels a shard."""
        return _Worker(self, self.make()).label

    def blamed(self, shard: int) -> int:
        """See `in_hand.blamed`."""
        return blamed(self.out, shard, self.manifest.identity)


class _Worker:
    """One worker: its labeler and its threads."""

    def __init__(self, work: LabelWork, labeler: PhotoLabeler) -> None:
        self.work, self.labeler = work, labeler
        self.loaders = ThreadPoolExecutor(work.loaders, "load")
        self.writer = ThreadPoolExecutor(1, "write")

    def label(self, shard: int) -> ShardResult:
        """Labels and writes a shard."""
        timing, failures = Timing(), list[Failure]()
        span = self.work.manifest.span(shard)
        unwritten = None
        try:
            with (
                InHand(self.work.out, shard, self.work.manifest.identity) as hand,
                writing_shard(self.work.out, shard, self.work.manifest.classes) as writer,
            ):
                rows = self._rows(span, self._kept(shard), hand, timing)
                for row in rows:
                    if "reason" in row:
                        failures.append(row)
                    writer.add(row)
        except OutputError as error:  # a full disk: others may fit, and this one is not done
            unwritten = str(error)
        return ShardResult(len(span), tuple(failures), unwritten, timing)

    def _kept(self, shard: int) -> dict[str, Row]:
        """The rows that stay, by name, where only what failed is done again."""
        path = shard_path(self.work.out, shard)
        if not self.work.retry or not path.exists():
            return {}
        old = Shard(path)
        rows = {row["image"]: row for group in range(old.groups) for row in old.rows(group)}
        old.close()
        return rows

    def _rows(
        self, span: range, kept: dict[str, Row], hand: InHand, timing: Timing
    ) -> Iterator[Row]:
        """The rows of a shard in order; a few images are under way at any time.

        Only one is where a process died over this shard: the next death tells which image it was.
        """
        careful = hand.deaths > 0
        batch = 1 if careful else self.work.batch
        load = partial(self._load, kept=kept, timing=timing, hand=hand if careful else None)
        encode = partial(self._encode, timing=timing)
        rows: deque[Future[Row]] = deque()
        with closing(ahead(self.loaders, load, span, 0 if careful else 2 * batch)) as loaded:
            while group := timing.waiting("photos", lambda: list(islice(loaded, batch))):
                with timing.stage("network"):
                    self._network(group)
                rows += [self.writer.submit(encode, one) for one in group]
                while len(rows) > (0 if careful else 2 * batch):
                    row = timing.waiting("rows", rows.popleft().result)
                    if careful:
                        hand.put_down()
                    yield row
        while rows:
            yield timing.waiting("rows", rows.popleft().result)

    def _load(
        self, number: int, kept: dict[str, Row], timing: Timing, hand: InHand | None
    ) -> _Under:
        """Decodes and proposes; in a loading thread.

        With `hand`, processes died over this shard: every image is noted, and what they died over
        is left out.
        """
        one = _Under(number, self.work.images[number])
        if one.image.name in kept:
            one.row = kept[one.image.name]
            return one
        if hand is not None:
            deaths = hand.died_over(number)
            if deaths >= DEATHS:
                why = "killed, as where memory does not suffice, or crashed"
                one.error = WorkerDied(f"the process died {deaths} times over it: {why}")
                return one
            hand.take(number)
        try:
            with timing.stage("decode"):
                image = load_image(one.image.path)
            traced = number in self.work.pictured
            with timing.stage("proposals"):
                boxes = self.labeler.propose(image, one.image.name, traced)
            one.photo = Photo(one.image.name, image, one.image.labels, traced, boxes)
        except Exception as error:  # a bad image must not stop the job
            one.error = error
        return one

    def _network(self, group: Sequence[_Under]) -> None:
        """Labels those of a batch that are photos."""
        todo = [one for one in group if one.photo is not None]
        found = label_photos(self.labeler, [one.photo for one in todo if one.photo is not None])
        for one, outcome in zip(todo, found, strict=True):
            if isinstance(outcome, Exception):
                one.error = outcome
                if lacks_memory(outcome):
                    self._smaller(one)
            else:
                one.found = outcome

    def _smaller(self, one: _Under) -> None:
        """Labels smaller copies of a photo until memory suffices."""
        assert one.photo is not None
        for scale in SCALES:
            found = label_smaller(self.labeler, one.photo, scale)
            if isinstance(found, Labelling):
                one.found, one.error, one.scale = found, None, scale
                return
            one.error = found
            if not lacks_memory(found):
                return

    def _encode(self, one: _Under, timing: Timing) -> Row:
        """The row of an image, or what went wrong with it; in the writing thread."""
        if one.row is not None:
            return one.row
        with timing.stage("encode"):
            name = one.image.name
            try:
                if one.photo is None or one.found is None:
                    raise one.error or RuntimeError("no labels")
                if one.photo.traced:
                    save_pictures(self.work.out, name, one.photo.image, one.found)
                return make_row(
                    one.image,
                    one.photo.image.shape[:2],
                    one.found,
                    self.work.manifest.classes,
                    scale=one.scale,
                    min_quality=self.work.min_quality,
                    config=self.work.manifest.config,
                )
            except OutputError:  # a full disk is no fault of the image
                raise
            except Exception as error:
                reason = str(error) or type(error).__name__
                return {"image": name, "reason": reason, "exception": type(error).__name__}


@dataclass
class _Under:
    """An image under way: it gets a photo and then labels, or an error, or had a row already."""

    number: int
    image: ListedImage
    photo: Photo | None = None
    found: Labelling | None = None
    scale: float = 1.0
    error: Exception | None = None
    row: Row | None = None
