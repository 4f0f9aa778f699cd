"""Evaluation from files: what `labelpenet evaluate` calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelpenet.data import DatasetError, load_dataset, voc_truth
from labelpenet.evaluation.evaluate import Evaluator
from labelpenet.evaluation.summary import Evaluation
from labelpenet.labeling import open_labels
from labelpenet.types import Dataset, GroundTruth, Instances


def evaluate_files(labels: Path, source: Path, split: str | None = None) -> Evaluation:
    """Compares labels with the ground truth of a dataset.

    Args:
        labels: A label store, or COCO JSON.
        source: As load_dataset takes it: a VOC folder, a COCO JSON, or a list (CSV, Parquet) of
            images that lie in a VOC folder.
        split: Part of the dataset; its images are the ones that are evaluated.

    Raises:
        DatasetError: There is no ground truth for the images.
        ValueError: Damaged labels, or other classes than the dataset's.
    """
    found = open_labels(labels)
    dataset = load_dataset(source, split=split, classes=found.classes)
    truth = dataset_truth(source, dataset)
    evaluator = Evaluator(found.classes)
    for record in dataset.records:
        if record.name in truth:
            known = truth[record.name]
            if record.name in found:
                instances = found[record.name].instances()
            else:  # it failed: nothing is found in it
                shape = () if known.masks is None else known.masks.shape[1:]
                instances = Instances.empty(*shape)
            evaluator.add(record.name, instances, known)
    if len(evaluator) == 0:
        raise DatasetError(f"{source}: no image has ground truth")
    return evaluator.result()


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
