"""What a module finds on the training images: the labels of the next one (`targets<m>.parquet`).

They are kept in parts as they are found: a run that is stopped goes on with the first one that is
not there. What is in a part does not depend on how many processes share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from rich.console import Console

from labelpenet.data.images import load_image
from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor
from labelpenet.models.cascade import Cascade
from labelpenet.progress import track
from labelpenet.training.engine import Engine
from labelpenet.training.targets import TargetStore, keep_for_training
from labelpenet.types import ImageRecord, Instances

_MOST, _PARTS = 16, 8  # images in a part; parts, if there are images enough


def write_targets(
    path: Path,
    cascade: Cascade,
    number: int,
    records: Sequence[ImageRecord],
    proposals: ProposalStore,
    engine: Engine,
    console: Console | None,
) -> None:
    """Runs a module, tags known, over images; each process takes its share of them.

    Args:
        path: The file to write.
        cascade: Left as it is.
        number: Of the module.
        records: The images.
        proposals: Their boxes.
        engine: The processes.
        console: Where progress goes.

    Raises:
        OutputError: The folder cannot be written.
        TargetsError: A part of a stopped run is damaged.
    """
    score = cascade.config.detection.label_score
    predictor = Predictor(cascade.for_inference(), score, teaching=True)
    size = part_size(len(records))
    parts = [records[first : first + size] for first in range(0, len(records), size)]
    files = [_part(path, k) for k in range(len(parts))]
    own = range(engine.rank, len(parts), engine.processes)
    missing = [k for k in own if not files[k].exists()]

    def found(record: ImageRecord) -> tuple[str, Instances, tuple[int, int]]:
        image = load_image(record.path)
        answer = predictor(image, proposals[record.name], number, record.labels)
        kept = keep_for_training(answer.instances, score, record.labels)
        return record.name, kept, (image.shape[0], image.shape[1])

    total, left = (sum(len(parts[k]) for k in some) for some in (own, missing))
    rest = track(
        chain.from_iterable(parts[k] for k in missing),
        f"labels of module {number}",
        total,
        console,
        done=total - left,
    )
    for k in missing:
        TargetStore.write(files[k], map(found, islice(rest, len(parts[k]))))
    next(rest, None)  # the bar ends behind its last image
    engine.wait()
    if engine.rank == 0:
        TargetStore.merge(path, files)
    engine.wait()


def part_size(images: int) -> int:
    """How many images are labelled between two writes; a few are still shared by processes.

    Example:
        >>> part_size(4), part_size(1895)
        (1, 16)
    """
    return max(min(_MOST, images // _PARTS), 1)


def forget_parts(path: Path) -> None:
    """Removes what a stopped run left of these labels: merged since, or of an earlier module."""
    part = _part(path, "*").name
    for one in chain(path.parent.glob(part), path.parent.glob(f".{part}.tmp")):
        one.unlink()


def _part(path: Path, number: int | str) -> Path:
    return path.with_name(f".{path.stem}.{number}.parquet")
