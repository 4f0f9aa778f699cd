"""Rows of the tables on real photos: what a module finds, in the paper's figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from labelpenet.config import Config
from labelpenet.data import load_dataset, load_image
from labelpenet.evaluation import Evaluation, Evaluator, Matching
from labelpenet.evaluation.files import dataset_truth
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.labeler import Labeler
from labelpenet.progress import track
from labelpenet.types import Dataset, GroundTruth
from labelpenet.views import autocast

RESULTS = Path(__file__).parent / "results"
ROWS = ("classification", "detection", "refinement", "segmentation")
_FILES = (("model", "weights"), ("icn", "saliency"), ("icn", "attention_checkpoint"))


def known_images(
    source: Path, classes: Sequence[str], split: str | None = None
) -> tuple[Dataset, dict[str, GroundTruth]]:
    """Images and what is in them; the tables have columns of masks.

    Raises:
        ValueError: No such images, or none with true masks.
    """
    dataset = load_dataset(source, split=split, classes=classes)
    truth = dataset_truth(source, dataset)
    if all(known.masks is None for known in truth.values()):
        raise ValueError(f"{source}: expected images with true masks, got {len(truth)} without")
    return dataset, truth


def evaluate_module(
    labeler: Labeler | IcnLabeler, source: Path, console: Console, split: str | None = None
) -> tuple[Evaluation, float]:
    """The figures of one module, or of an ICN, and its seconds per image."""
    dataset, truth = known_images(source, labeler.classes, split)
    evaluator = Evaluator(labeler.classes, labeler.config.detection.paint_score)
    seconds = 0.0
    title = f"module {labeler.module}"
    for record in track(dataset.records, title, len(dataset), console):
        image = load_image(record.path)
        began = time.perf_counter()
        found = labeler(image, (), record.name)
        seconds += time.perf_counter() - began
        evaluator.add(record.name, found.instances, truth[record.name], found.presence)
    return evaluator.result(), seconds / len(dataset)


def evaluate_cascade(
    labeler: Labeler,
    source: Path,
    console: Console,
    split: str | None = None,
    modules: int = len(ROWS),
) -> list[tuple[Evaluator, float]]:
    """What the first modules find, one pass of the trunk for all, and their seconds per image."""
    dataset, truth = known_images(source, labeler.classes, split)
    paint_score = labeler.config.detection.paint_score
    evaluators = [Evaluator(labeler.classes, paint_score) for _ in range(modules)]
    seconds = [0.0] * modules
    predictor = labeler.predictor
    for record in track(dataset.records, str(labeler.checkpoint), len(dataset), console):
        image = load_image(record.path)
        boxes = labeler.propose(image, record.name, traced=True)
        began = time.perf_counter()
        with autocast(labeler.config, predictor.device):
            sample = predictor.sample(image, boxes, None)
            shared = time.perf_counter() - began
            for k, evaluator in enumerate(evaluators):
                began = time.perf_counter()
                found = predictor.answer(sample, k + 1)
                seconds[k] += shared + time.perf_counter() - began
                evaluator.add(record.name, found.instances, truth[record.name], found.presence)
    return [(one, s / len(dataset)) for one, s in zip(evaluators, seconds, strict=True)]


def figures(result: Evaluation) -> dict[str, float]:
    """The columns of the table."""
    means = result.means()
    assert result.mask_ap is not None
    assert result.iou is not None
    row = {
        "mAP": means["box AP"],
        "CorLoc": means["CorLoc"],
        "mIoU": means["IoU"],
    }
    for threshold, figure in result.mask_ap[Matching.BEST].items():
        row[f"mAP^r {100 * threshold:.0f}"] = figure.mean
    row["ABO"] = means["ABO"]
    row["ABO per object"] = means["ABO per object"]
    if result.classification_ap is not None:
        row["image mAP"] = means["class AP"]
    return row


def settings_of(config: Config) -> dict[str, Any]:
    """Settings as a result keeps them: of files their names, not where they lay."""
    values = config.to_dict()
    for section, key in _FILES:
        path = values[section][key]
        values[section][key] = path and Path(path).name
    return values


def mean_rows(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each column."""
    return {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The ladder in percent (seconds as they are)."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [["module", *columns], ["---"] + ["---:"] * len(columns)]
    for title, row in rows.items():
        cells = [
            "–" if c not in row else f"{row[c]:.2f}" if c == "s/image" else f"{100 * row[c]:.1f}"
            for c in columns
        ]
        lines.append([title, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
