"""Good and bad cases: the photos whose labels agree best and worst with the truth.

    python -m benchmarks.good_and_bad labels SOURCE --out cases.jpg [--count 8]

SOURCE has ground truth with masks (see `labelpenet evaluate`). A photo's figure is the mean, over
its true objects, of the best mask IoU with a label of their class at or above the store's paint
score. Writes a picture with two photos' rows side by side, best on the left, worst on the right:
each row is the photo under the truth, and under its labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image

from labelpenet.data import load_dataset, load_image
from labelpenet.evaluation.files import dataset_truth
from labelpenet.evaluation.inputs import detections, ground_truth
from labelpenet.evaluation.masks import best_overlaps, class_mask_iou
from labelpenet.labeling import open_labels
from labelpenet.report.overlay import draw_instances
from labelpenet.types import GroundTruth, Instances

from .tool import one_line_errors, positive

_HEIGHT = 200  # of a photo in the picture


class Case(NamedTuple):
    """One photo, what was found in it, what is there, and how well they agree in [0, 1]."""

    path: Path | str
    found: Instances
    truth: GroundTruth
    figure: float


def cases(labels: Path, source: Path, split: str | None = None) -> list[Case]:
    """The photos that have true masks, the best labelled first."""
    store = open_labels(labels)
    dataset = load_dataset(source, split=split, classes=store.classes)
    truth = dataset_truth(source, dataset)
    every = []
    for record in dataset.records:
        known = truth.get(record.name)
        if record.name not in store or known is None or known.masks is None:
            continue
        if len(known.labels) == 0:
            continue
        found = store[record.name].instances()
        found = found.select(found.scores >= store.paint_score)
        count = len(store.classes)
        iou = class_mask_iou(
            record.name,
            detections(record.name, found, count),
            ground_truth(record.name, known, count),
        )
        every.append(Case(record.path, found, known, float(best_overlaps(iou).mean())))
    return sorted(every, key=lambda case: -case.figure)


def row(case: Case, classes: Sequence[str]) -> np.ndarray:
    """The photo under the truth, and under its labels [h, w, 3] uint8."""
    image, truth = load_image(case.path), case.truth
    assert truth.masks is not None
    there = Instances(
        torch.from_numpy(np.asarray(truth.boxes)).float(),
        torch.from_numpy(np.asarray(truth.labels)),
        torch.ones(len(truth.labels)),
        torch.from_numpy(np.asarray(truth.masks)),
    )
    both = np.concatenate([draw_instances(image, one, classes) for one in (there, case.found)], 1)
    width = round(both.shape[1] * _HEIGHT / both.shape[0])
    small: np.ndarray = cv2.resize(both, (width, _HEIGHT), interpolation=cv2.INTER_AREA)
    return small


def page(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Columns of rows as one picture, filled up with white."""
    drawn = []
    for column in columns:
        width = max(one.shape[1] for one in column)
        rows = [
            np.pad(one, ((0, 4), (0, width + 8 - one.shape[1]), (0, 0)), constant_values=255)
            for one in column
        ]
        drawn.append(np.concatenate(rows))
    return np.concatenate(drawn, 1)


@one_line_errors
def main(arguments: list[str] | None = None) -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--split", help="part of SOURCE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=positive, default=8, help="cases of each kind")
    options = parser.parse_args(arguments)
    if options.out.suffix.lower() not in (".jpg", ".png"):
        parser.error(f"--out: expected a .jpg or .png file, got {options.out}")
    every = cases(options.labels, options.source, options.split)
    if not every:
        parser.error(f"{options.source}: expected photos with true masks that are labelled")
    classes = open_labels(options.labels).classes
    count = min(options.count, max(len(every) // 2, 1))  # no photo is both
    best, worst = every[:count], every[: -count - 1 : -1]
    drawn = page([[row(case, classes) for case in column] for column in (best, worst)])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn).save(options.out, quality=85)
    for title, column in (("best", best), ("worst", worst)):
        print(title, *(f"{Path(str(c.path)).stem} {c.figure:.2f}" for c in column))


if __name__ == "__main__":
    raise SystemExit(main())
