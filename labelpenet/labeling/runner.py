"""The labelling job: every image of a source through a labeler, into a label store."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from labelpenet.data.entries import Listing
from labelpenet.data.image_list import ImageList
from labelpenet.engines import ONE, Engine, WorkerDied, Workers, run
from labelpenet.files import OutputError, locked, writing
from labelpenet.labeling.entries import check_classes
from labelpenet.labeling.in_hand import end_notes, keep_notes
from labelpenet.labeling.interrupt import interruptible
from labelpenet.labeling.manifest import MANIFEST, Manifest
from labelpenet.labeling.photos import PhotoLabeler
from labelpenet.labeling.shard import LabelWork, ShardResult
from labelpenet.labeling.store import (
    ERRORS,
    Failure,
    Shard,
    remove_strays,
    shard_numbers,
    shard_path,
    write_errors,
)
from labelpenet.labeling.summary import LabelSummary, summarize
from labelpenet.progress import track

IMAGES = "images.arrow"
_MOST_UNWRITTEN = 3  # shards in a row: then the disk is full, and not just for one


@dataclass(frozen=True)
class Options:
    """How a job is run; none of it but `min_quality` changes the labels.

    Attributes:
        engine: Where it runs.
        workers: By how many.
        batch: Photos that go through the network together.
        loaders: Threads of each worker that decode and propose.
        shard_size: Images of a shard: what a kill may cost.
        pictures: Images whose pictures are stored for the report, spread evenly over the source.
        min_quality: Objects of a lower overall quality (see `labelpenet.types.Quality`) are left
            out and counted; one about which nothing is known stays, and so does every image.
        retry_errors: Whether the images that failed are tried again.
    """

    engine: Engine = Engine.LOCAL
    workers: Workers = ONE
    batch: int = 1
    loaders: int = 2
    shard_size: int = 128
    pictures: int = 0
    min_quality: float = 0.0
    retry_errors: bool = False

    def check(self) -> None:
        """Raises ValueError where a number is out of range."""
        for name, least in {"batch": 1, "loaders": 1, "shard_size": 1, "pictures": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 <= self.min_quality <= 1:
            raise ValueError(f"min_quality: expected a number in [0, 1], got {self.min_quality}")


DEFAULTS = Options()


def label_images(
    make: Callable[[], PhotoLabeler],
    listing: Listing,
    out: Path,
    *,
    job: Mapping[str, Any],
    options: Options = DEFAULTS,
    console: Console | None = None,
) -> LabelSummary:
    """Labels every image of a listing into the store `out`.

    The store grows by whole shards. After an interruption, a crash or a kill at any moment the
    same call goes on, and the store comes out as if nothing had happened. An image that cannot be
    read or labelled gets no row but a line of `errors.jsonl`: image, reason, exception. So does one
    that was in hand alone when a process died, twice: in this call or in earlier ones. One for
    which memory does not suffice is tried at half and at a quarter of its size, and its row says
    so. A shard that cannot be written is left out, and done by the next run.

    Args:
        make: Makes a labeler; called once by every worker, to which it travels.
        listing: The images, and the class names.
        out: The folder to write; made where it is missing.
        job: What decides the labels, such as the checkpoint and the settings: JSON values. A store
            of another job is refused.
        options: How to run it.
        console: Where progress goes; None is silent.

    Returns:
        Figures of the store.

    Raises:
        DatasetError: The source cannot be listed.
        ValueError: A bad option, or a store of another job (JobMismatch).
        OutputError: `out` cannot be written, or several shards in a row could not.
        WorkerDied: Workers die again and again, and no image is to blame.
        KeyboardInterrupt: With a message that tells how to go on. SIGINT finishes the shards in
            hand first; a second one does not.

    Example:
        >>> import tempfile, torch
        >>> from labelpenet.data.entries import Entry
        >>> from labelpenet.types import Instances, Labelling
        >>> from PIL import Image
        >>> class Whole:
        ...     def propose(self, image, name, traced):
        ...         return None
        ...     def __call__(self, photos):
        ...         box, label = torch.tensor([[0.0, 0, 3, 2]]), torch.tensor([0])
        ...         one = Labelling(Instances(box, label, torch.ones(1)), module=1)
        ...         return [one for photo in photos]
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (3, 2)).save(folder / "a.png")
        >>> listing = Listing(folder, ("cat",), [Entry("a", folder / "a.png", ("cat",), "here")])
        >>> summary = label_images(Whole, listing, folder / "out", job={})
        >>> summary.images, summary.instances, summary.errors
        (1, 1, 0)
    """
    started = time.monotonic()
    options.check()
    check_classes(listing.classes)
    with locked(out), interruptible(console) as stopped:
        images, manifest = _prepare(listing, out, dict(job), options)
        work = LabelWork(
            make=make,
            images=images,
            out=Path(os.path.abspath(out)),  # workers may be elsewhere
            manifest=manifest,
            pictured=_pictured(len(images), options.pictures),
            batch=options.batch,
            loaders=options.loaders,
            min_quality=options.min_quality,
            retry=options.retry_errors,
        )
        todo = _todo(work)
        keep_notes(work.out, todo, manifest.identity)
        done = len(images) - sum(len(manifest.span(shard)) for shard in todo)
        tally = _Tally(out)
        write_errors(out, shard_numbers(out))  # without what a stopped run noted of shards not done
        results = run(
            work,
            todo,
            engine=options.engine,
            workers=options.workers,
            stopped=stopped,
            blamed=work.blamed,
        )
        try:
            with closing(results):  # ends the workers, whatever happens here
                for _ in track(tally.take(results), "labels", len(images), console, done=done):
                    pass
        except BaseException as error:
            end_notes(work.out)  # the workers were ended here
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(_resume(work)) from None
            if isinstance(error, OutputError):
                raise OutputError(error.errno, f"{error}; {_resume(work)}") from error
            if isinstance(error, WorkerDied):
                raise WorkerDied(f"{error}; {_resume(work)}") from error
            raise
        remove_strays(out)  # of workers that died
        write_errors(out, shard_numbers(out), tally.unwritten)
        missing = manifest.shards - len(shard_numbers(out))
        if missing > len(tally.unwritten):
            end_notes(work.out)
            raise KeyboardInterrupt(_resume(work))
        if not missing:
            replace(manifest, complete=True).write(out)
        return replace(
            summarize(out, len(listing.classes)),
            seconds=time.monotonic() - started,
            resumed=done,
            unwritten=missing,
            stages=tally.stages,
            waits=tally.waits,
        )


def _prepare(
    listing: Listing, out: Path, job: dict[str, Any], options: Options
) -> tuple[ImageList, Manifest]:
    """Lists the source anew and sees whether the store, if there is one, is of this job."""
    remove_strays(out)
    fresh = out / f"{IMAGES}.new"
    images = ImageList.write(fresh, listing)
    manifest = Manifest(
        classes=listing.classes,
        job=job | {"min_quality": options.min_quality},
        source=str(listing.source),
        images=len(images),
        digest=images.digest(),
        shard_size=options.shard_size,
    )
    try:
        if (out / MANIFEST).exists():
            Manifest.read(out).check_same(out, manifest)
        elif shard_numbers(out):
            raise ValueError(f"{out}: holds labels without a {MANIFEST}; choose another folder")
        else:
            manifest.write(out)
    except BaseException:
        fresh.unlink()
        raise
    with writing(out / IMAGES):
        os.replace(fresh, out / IMAGES)
    return ImageList(Path(os.path.abspath(out / IMAGES))), manifest


def _todo(work: LabelWork) -> list[int]:
    """The shards that are not there, or of which something failed if that is to be tried again."""
    there = set(shard_numbers(work.out))
    if not work.retry:
        return [number for number in range(work.manifest.shards) if number not in there]
    todo = []
    for number in range(work.manifest.shards):
        if number in there:
            shard = Shard(shard_path(work.out, number))
            failed = len(shard.errors)
            shard.close()
            if not failed:
                continue
        todo.append(number)
    return todo


class _Tally:
    """Follows the shards as they come."""

    def __init__(self, out: Path) -> None:
        self.unwritten: list[Failure] = []
        self.stages: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._errors = out / ERRORS

    def take(self, results: Iterator[tuple[int, ShardResult]]) -> Iterator[None]:
        """Yields once an image. What failed is in errors.jsonl at once; at the end it is sorted.

        Raises:
            OutputError: Several shards in a row could not be written.
        """
        row = 0
        for shard, result in results:
            self.stages.update(result.timing.stages)
            self.waits.update(result.timing.waits)
            if result.unwritten is None:
                row = 0
                self._note(result.failures)
            else:
                row += 1
                self.unwritten.append({"shard": shard, "reason": result.unwritten})
                self._note(self.unwritten[-1:])
                if row >= _MOST_UNWRITTEN:
                    raise OutputError(result.unwritten)
            for _ in range(result.images):
                yield

    def _note(self, failures: Iterable[Failure]) -> None:
        with suppress(OSError), self._errors.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(failure) + "\n" for failure in failures)


def _pictured(images: int, count: int) -> frozenset[int]:
    """The positions of `count` images, evenly spread."""
    count = min(count, images)
    return frozenset(i * images // count for i in range(count))


def _resume(work: LabelWork) -> str:
    done = sum(len(work.manifest.span(number)) for number in shard_numbers(work.out))
    return (
        f"{done} of {len(work.images)} images are in {work.out}; run the same command again to "
        "resume"
    )
