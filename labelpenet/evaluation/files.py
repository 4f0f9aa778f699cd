"""Evaluation from files: what `labelpenet evaluate` calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labelpenet.data import DatasetError, load_dataset, voc_truth
from labelpenet.engines import ONE, Engine, Workers, run
from labelpenet.evaluation.evaluate import Evaluator
from labelpenet.evaluation.summary import Evaluation
from labelpenet.labeling import Labels, open_labels
from labelpenet.types import Dataset, GroundTruth, Instances

_PART = 64  # images of a task


def evaluate_files(
    labels: Path,
    source: str | os.PathLike[str],
    split: str | None = None,
    *,
    engine: Engine = Engine.LOCAL,
    workers: Workers = ONE,
    paint_score: float | None = None,
) -> Evaluation:
    """Compares labels with the ground truth of a dataset.

    Args:
        labels: A label store, or COCO JSON.
        source: As load_dataset takes it: a VOC folder, a COCO JSON, or a list (CSV, Parquet) of
            images that lie in a VOC folder.
        split: Part of the dataset; its images are the ones that are evaluated.
        engine: Where it is done.
        workers: By how many; the figures are the same.
        paint_score: Objects of a lower score are left out of the semantic maps that IoU compares;
            None takes what the labels were made with.

    Raises:
        DatasetError: There is no ground truth for the images.
        ValueError: Damaged labels, or other classes than the dataset's.
    """
    # workers may be elsewhere
    work = _Evaluation(Path(os.path.abspath(labels)), os.path.abspath(source), split, paint_score)
    found, truth = work.open()
    parts = range(-(-len(truth) // _PART))
    results = dict(run(work, parts, engine=engine, workers=workers))
    evaluator = Evaluator(found.classes, work.painted(found))
    for part in parts:
        evaluator.merge(results[part])
    if len(evaluator) == 0:
        raise DatasetError(f"{source}: no image has ground truth")
    return evaluator.result()


@dataclass(frozen=True)
class _Evaluation:
    """Evaluation as work for an engine, whose tasks are runs of _PART images."""

    labels: Path
    source: str
    split: str | None
    paint_score: float | None

    def painted(self, found: Labels) -> float:
        """What was asked for, or what the labels were made with."""
        return found.paint_score if self.paint_score is None else self.paint_score

    def open(self) -> tuple[Labels, list[tuple[str, Mapping[str, GroundTruth]]]]:
        """The labels, and the images that have ground truth."""
        found = open_labels(self.labels)
        dataset = load_dataset(self.source, split=self.split, classes=found.classes)
        truth = dataset_truth(Path(self.source), dataset)
        return found, [(r.name, truth) for r in dataset.records if r.name in truth]

    def start(self) -> Callable[[int], Evaluator]:
        """The function that evaluates a part."""
        found, images = self.open()

        def evaluate(part: int) -> Evaluator:
            evaluator = Evaluator(found.classes, self.painted(found))
            for name, truth in images[part * _PART : (part + 1) * _PART]:
                known = truth[name]
                if name in found:
                    instances = found[name].instances()
                else:  # it failed: nothing is found in it
                    shape = () if known.masks is None else known.masks.shape[1:]
                    instances = Instances.empty(*shape)
                evaluator.add(name, instances, known)
            return evaluator

        return evaluate


def dataset_truth(source: Path, dataset: Dataset) -> Mapping[str, GroundTruth]:
    """The ground truth of a dataset's images by name, where its files hold any.

    Raises:
        DatasetError: Neither a VOC folder nor a COCO file is behind the images.
    """
    if dataset.truth:
        return dataset.truth
    root = dataset.records[0].path.parent.parent  # <root>/JPEGImages/<image>
    if not (root / "Annotations").is_dir():
        raise DatasetError(
            f"{source}: expected ground truth: a VOC folder, a COCO JSON, or a list of images "
            "that lie in a VOC folder"
        )
    return voc_truth(root, [record.name for record in dataset.records], dataset.classes)
