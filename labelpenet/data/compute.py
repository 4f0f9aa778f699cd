"""Computes the proposals of a dataset: resumes, survives bad images, never starts over."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from labelpenet.ahead import ahead
from labelpenet.data.image_list import ListedImage
from labelpenet.data.images import ImageError, load_image
from labelpenet.data.proposal_parts import ImageFailure, PartWriter, merge, parts_folder, stores
from labelpenet.data.proposals import Proposals, plain_settings
from labelpenet.engines import Engine, Workers, run
from labelpenet.progress import track
from labelpenet.types import Dataset, ImageRecord

Propose = Callable[[np.ndarray], np.ndarray]
Record = ImageRecord | ListedImage
_RECORDS_PER_TASK = 16


@dataclass(frozen=True)
class ComputeResult:
    """What a run of `compute_proposals` did.

    Attributes:
        path: The store.
        computed: Images whose proposals were computed.
        kept: Images of the dataset that the store had already.
        errors: Images that failed; a later run tries them again.
        errors_path: The same as JSON lines; a file that is there only if there are errors.
    """

    path: Path
    computed: int
    kept: int
    errors: tuple[ImageFailure, ...]
    errors_path: Path


def compute_proposals(
    images: Dataset | Sequence[ListedImage],
    path: str | os.PathLike[str],
    *,
    propose: Propose,
    settings: Mapping[str, object],
    engine: Engine = Engine.LOCAL,
    workers: int = 0,
    console: Console | None = None,
) -> ComputeResult:
    """Computes the proposals of every image that a store does not have yet.

    What is computed is kept in part files in `<path>.parts` at least every 64 images or 20 seconds,
    whether the run ends well or not, and put into one file at the end. A run that was stopped is
    resumed by the same call. An image that cannot be read, or that `propose` fails on, is recorded
    in `<path>.errors.jsonl` and does not stop the others.

    Args:
        images: The images.
        path: The store, a Parquet file. It may have other images already; they are kept.
        propose: Turns an image ([H, W, 3] uint8 RGB) into boxes ([R, 4], pixels, 0-based, exclusive
            x2 and y2). Called by `workers` threads at once.
        settings: What the boxes depend on, as JSON values; those of the store must be equal.
        engine: Where it is done.
        workers: Threads that decode and propose; 0 does so in the calling one. They help where
            `propose` releases the GIL, as the kernels do. On Ray, actors.
        console: Where progress goes; None is silent.

    Returns:
        What was done. The store's content does not depend on `workers`.

    Raises:
        ProposalError: The store has other settings (which, is said), is damaged, or another run
            is writing it.
        OutputError: The store cannot be written; what was computed before stays.
        ValueError: `propose` returned no [R, 4] boxes within the image, or `workers` is negative.
        TypeError: `settings` are no JSON values.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from labelpenet.data import ProposalStore
        >>> folder = tempfile.TemporaryDirectory()
        >>> Image.new("RGB", (30, 20)).save(f"{folder.name}/a.png")
        >>> data = Dataset((), (ImageRecord("a", Path(folder.name, "a.png")),))
        >>> whole = lambda image: np.array([[0, 0, image.shape[1], image.shape[0]]])
        >>> result = compute_proposals(
        ...     data, f"{folder.name}/boxes.parquet", propose=whole, settings={})
        >>> result.computed, ProposalStore.open(result.path)["a"].tolist()
        (1, [[0.0, 0.0, 30.0, 20.0]])
        >>> folder.cleanup()
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers: expected a number of threads, at least 0, got {workers!r}")
    path, settings = Path(path), plain_settings(settings)
    parts = path.with_name(f"{path.name}.parts")
    errors_path = path.with_name(f"{path.name}.errors.jsonl")
    with parts_folder(parts):
        done = {name for store in stores(path, parts, settings) for name in store}
        records = images.records if isinstance(images, Dataset) else images
        todo = list({r.name: r for r in records if r.name not in done}.values())
        sink = PartWriter(parts, errors_path, settings)
        ray = engine is Engine.RAY
        found = _on_ray(todo, propose, workers) if ray else _outcomes(todo, propose, workers)
        with closing(found) as outcomes, sink:
            for outcome in track(outcomes, "proposals", len(todo), console):
                sink.add(outcome)
        merge(path, parts, settings)
    kept = len(images) - len(todo)
    return ComputeResult(path, sink.computed, kept, tuple(sink.errors), errors_path)


def _outcomes(
    records: Sequence[Record], propose: Propose, workers: int
) -> Generator[Proposals | ImageFailure, None, None]:
    """The outcomes in the records' order, a few of them under way at a time."""
    work = partial(_outcome, propose)
    if workers == 0:
        yield from map(work, records)
        return
    with (
        ThreadPoolExecutor(workers) as pool,
        closing(ahead(pool, work, records, 2 * workers)) as done,
    ):
        yield from done


def _on_ray(
    records: Sequence[Record], propose: Propose, workers: int
) -> Generator[Proposals | ImageFailure, None, None]:
    """The outcomes in the records' order; those that come early wait for their turn."""
    early: dict[int, list[Proposals | ImageFailure]] = {}
    parts = range(-(-len(records) // _RECORDS_PER_TASK))
    due = iter(parts)
    wanted = next(due, None)
    work = _Work(records, propose)
    for part, outcomes in run(work, parts, engine=Engine.RAY, workers=Workers(max(workers, 1))):
        early[part] = outcomes
        while wanted in early:
            yield from early.pop(wanted)
            wanted = next(due, None)


@dataclass(frozen=True)
class _Work:
    """Proposals as work for an engine."""

    records: Sequence[Record]
    propose: Propose

    def start(self) -> Callable[[int], list[Proposals | ImageFailure]]:
        """The function that does a run of images."""
        size = _RECORDS_PER_TASK
        return lambda part: [
            _outcome(self.propose, record)
            for record in self.records[part * size : (part + 1) * size]
        ]


def _outcome(propose: Propose, record: Record) -> Proposals | ImageFailure:
    try:
        image = load_image(record.path)
    except ImageError as error:
        return ImageFailure(record.name, str(record.path), error.reason)
    try:
        returned = propose(image)
    except Exception as error:  # one odd image must not stop a night's run
        reason = f"propose failed: {type(error).__name__}: {error}"
        return ImageFailure(record.name, str(record.path), reason)
    height, width = image.shape[:2]
    return Proposals(record.name, height, width, _checked(returned, record.name, height, width))


def _checked(returned: object, name: str, height: int, width: int) -> np.ndarray:
    boxes = np.asarray(returned)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
        raise ValueError(f"propose: expected [R, 4] numbers, got {list(boxes.shape)} {boxes.dtype}")
    x1, y1, x2, y2 = boxes.T
    inside = (x1 >= 0) & (y1 >= 0) & (x1 < x2) & (y1 < y2) & (x2 <= width) & (y2 <= height)
    if not inside.all():  # also where there is a NaN
        bad = boxes[~inside][0].tolist()
        raise ValueError(
            f"propose: expected boxes within {width} x {height} for {name!r}, got {bad}"
        )
    return boxes.astype(np.float32)
