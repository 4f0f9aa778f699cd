"""The labelling job: every image of a dataset through a labeler, into one COCO file."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from labelpenet.files import OutputError, atomic_write, writing
from labelpenet.labeling.entries import Entry, check_classes, make_entry, write_entries
from labelpenet.labeling.journal import Journal
from labelpenet.labeling.summary import SCORE_BINS, LabelSummary
from labelpenet.progress import track
from labelpenet.report.page import ReportBuilder
from labelpenet.types import Dataset, ImageRecord, Labelling

LABELS = "labels.json"
ERRORS = "errors.jsonl"
JOURNAL = "labels.part.jsonl"

Labeler = Callable[[np.ndarray, tuple[int, ...], str], Labelling]
"""Labels one image: (image [H, W, 3] uint8, its tags, its name) -> Labelling."""


def label_images(
    labeler: Labeler,
    dataset: Dataset,
    out: Path,
    *,
    load: Callable[[Path], np.ndarray],
    console: Console | None = None,
    pictures: int = 60,
    job: str = "",
    min_quality: float = 0.0,
    evaluate: Callable[[Path], Mapping[str, Any]] | None = None,
) -> LabelSummary:
    """Labels every image of `dataset` into `out`: `labels.json`, `errors.jsonl`, `index.html`.

    An image that cannot be read or labelled is skipped and gets a line of `errors.jsonl`: image,
    reason, exception. That includes MemoryError: one picture that is far too large is the usual
    cause, and the others still fit.

    What is finished is kept in `labels.part.jsonl` until the job ends: after an interruption, a
    crash or a full disk the same call goes on from there (images that failed are tried again), and
    the files come out as if nothing had happened.

    Args:
        labeler: Labels one image.
        dataset: The images.
        out: The folder to write; made where it is missing.
        load: Reads an image file, [H, W, 3] uint8.
        console: Where progress goes; None is silent.
        pictures: How many images the report shows, spread evenly over the dataset.
        job: What else decides the result, such as the checkpoint and the settings. A journal
            that another job left in `out` is refused.
        min_quality: Objects of a lower overall quality (see `labelpenet.types.Quality`) are left
            out and counted; one about which nothing is known stays, and so does every image.
        evaluate: Called with the path of `labels.json` when it is written; its figures go to the
            report (see `ReportBuilder.finish`).

    Returns:
        Figures of the job.

    Raises:
        ValueError: Two images of one name, a negative `pictures`, a `min_quality` that is no
            quality, or a journal of another job.
        OutputError: `out` cannot be written or the disk is full; the journal stays.
        KeyboardInterrupt: With a message that tells how to go on; the journal stays.

    Example:
        >>> import tempfile, torch
        >>> from labelpenet.types import Instances
        >>> def labeler(image, labels, name):
        ...     mask = torch.from_numpy(image[:, :, 0] > 9)[None]
        ...     box = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
        ...     found = Instances(box, torch.tensor(labels), torch.ones(1), mask)
        ...     return Labelling(found, module=1)
        >>> dataset = Dataset(("cat",), (ImageRecord("a", Path("a.jpg"), (0,)),))
        >>> out = Path(tempfile.mkdtemp())
        >>> load = lambda path: np.full((1, 2, 3), 255, np.uint8)
        >>> summary = label_images(labeler, dataset, out, load=load)
        >>> summary.images, summary.instances, summary.errors
        (1, 1, 0)
    """
    started = time.monotonic()
    check_classes(dataset.classes)
    twice = [name for name, n in Counter(r.name for r in dataset.records).items() if n > 1]
    if twice:
        raise ValueError(f"dataset: expected distinct image names, got {twice[0]!r} twice")
    if pictures < 0:
        raise ValueError(f"pictures: expected at least 0, got {pictures}")
    if not 0 <= min_quality <= 1:
        raise ValueError(f"min_quality: expected a number in [0, 1], got {min_quality}")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    report = ReportBuilder(out, dataset.classes)
    pictured = pictured_names(dataset, pictures)
    header = {"version": 2, "classes": list(dataset.classes), "job": job}
    if min_quality > 0:
        header["min_quality"] = min_quality
    journal = Journal(out / JOURNAL, header)

    def resume() -> str:
        done = f"{len(journal)} of {len(dataset)} images are in {journal.path}"
        return f"{done}; run the same command again to resume"

    try:
        todo = [record for record in dataset.records if not _is_done(journal, record)]
        resumed = len(dataset) - len(todo)
        for record in track(todo, "labels", len(dataset), console, done=resumed):
            drawn = report if record.name in pictured else None
            value = _label_one(labeler, load, record, len(dataset.classes), drawn, min_quality)
            journal.append(record.name, value)
        summary = _write_labels(dataset, journal, out)
        seconds = time.monotonic() - started
        summary = replace(summary, seconds=seconds, resumed=resumed, min_quality=min_quality)
        figures = evaluate(out / LABELS) if evaluate else None
        for record in dataset.records:
            if record.name in pictured and "row" in (value := journal.read(record.name)):
                report.add_row(value["row"])
        report.finish(summary, figures)
        journal.remove()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(resume()) from None
    except OutputError as error:
        raise OutputError(error.errno, f"{error}; {resume()}") from error
    finally:
        journal.close()
    return summary


def _label_one(
    labeler: Labeler,
    load: Callable[[Path], np.ndarray],
    record: ImageRecord,
    class_count: int,
    report: ReportBuilder | None,
    min_quality: float,
) -> dict[str, Any]:
    """The journal's value for one image: its entry and the report's row, or the error it met."""
    try:
        image = load(record.path)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            came = f"{list(image.shape)} {image.dtype}"
            raise ValueError(f"image: expected [H, W, 3] uint8, got {came}")
        labelling: object = labeler(image, record.labels, record.name)
        if not isinstance(labelling, Labelling):
            raise TypeError(f"labeler: expected a Labelling, got {type(labelling).__name__}")
        labelling, filtered = _good_enough(labelling, min_quality)
        entry = make_entry(
            record.name,
            _file_name(record),
            (int(image.shape[0]), int(image.shape[1])),
            labelling.instances,
            class_count,
            labelling.module,
        )
        value = {"tags": list(record.labels), "entry": entry, "filtered": filtered}
        if report is not None:
            value["row"] = report.make_row(record.name, image, labelling)
        return value
    except OutputError:  # a full disk is no fault of the image
        raise
    except Exception as error:  # a bad image must not stop the job
        reason = str(error) or type(error).__name__
        return {
            "error": {"image": record.name, "reason": reason, "exception": type(error).__name__}
        }


def _good_enough(labelling: Labelling, min_quality: float) -> tuple[Labelling, int]:
    """The objects that reach the quality, or of which nothing is known; how many do not."""
    quality = labelling.instances.quality
    if quality is None or min_quality == 0:
        return labelling, 0
    kept = ~(quality.overall() < min_quality)  # true for NaN
    instances = labelling.instances.select(kept)
    return replace(labelling, instances=instances), len(kept) - len(instances)


def pictured_names(dataset: Dataset, count: int) -> set[str]:
    """The names of `count` images, evenly spread over the dataset."""
    count = min(count, len(dataset))
    return {dataset.records[i * len(dataset) // count].name for i in range(count)}


def _is_done(journal: Journal, record: ImageRecord) -> bool:
    """Whether the journal has the labels of this very image: same file name, same tags."""
    if record.name not in journal:
        return False
    value = journal.read(record.name)
    return (
        "entry" in value
        and value["entry"]["file_name"] == _file_name(record)
        and value["tags"] == list(record.labels)
    )


def _write_labels(dataset: Dataset, journal: Journal, out: Path) -> LabelSummary:
    """Writes the label file and the errors from the journal, in the order of the dataset."""

    def values() -> Iterator[dict[str, Any]]:
        return (journal.read(record.name) for record in dataset.records)

    def entries() -> Iterator[Entry]:
        return (value["entry"] for value in values() if "entry" in value)

    errors = images = filtered = 0
    class_counts = [0] * len(dataset.classes)
    score_counts = [0] * SCORE_BINS
    with atomic_write(out / ERRORS) as file:
        for value in values():
            if "error" in value:
                errors += 1
                file.write(json.dumps(value["error"]) + "\n")
                continue
            images += 1
            filtered += value.get("filtered", 0)
            for annotation in value["entry"]["annotations"]:
                class_counts[annotation["category_id"] - 1] += 1
                score_counts[min(int(annotation["score"] * SCORE_BINS), SCORE_BINS - 1)] += 1
    with atomic_write(out / LABELS) as file:
        write_entries(file, dataset.classes, entries(), entries())
    return LabelSummary(
        images=images,
        instances=sum(class_counts),
        errors=errors,
        seconds=0.0,
        class_counts=tuple(class_counts),
        score_counts=tuple(score_counts),
        filtered=filtered,
    )


def _file_name(record: ImageRecord) -> str:
    return record.name + record.path.suffix
