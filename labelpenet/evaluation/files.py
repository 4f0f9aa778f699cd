"""Evaluation from files: what `labelpenet evaluate` calls."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

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
    console: Console | None = None,
) -> Evaluation:
    """Compares labels with the ground truth of a dataset.

    Images are told by their names. Where labels and dataset share not one, folders in front of a
    name may differ: `JPEGImages/a` is `a`, if no other image on its side has the last part `a`. In
    an image without labels nothing counts as found, and a warning says how many there are.

    Args:
        labels: A label store, or COCO JSON.
        source: As load_dataset takes it: a VOC folder, a COCO JSON, or a list (CSV, Parquet) of
            images that lie in a VOC folder.
        split: Part of the dataset; its images are the ones that are evaluated.
        engine: Where it is done.
        workers: By how many; the figures are the same.
        paint_score: Objects of a lower score are left out of the semantic maps that IoU compares;
            None takes what the labels were made with.
        console: Where warnings go; None is silent.

    Raises:
        DatasetError: There is no ground truth for the images.
        ValueError: Damaged labels, other classes than the dataset's, or labels of none of its
            images.
    """
    # workers may be elsewhere
    work = _Evaluation(Path(os.path.abspath(labels)), os.path.abspath(source), split, paint_score)
    opened = work.open()
    found = opened.labels
    if not opened.names:
        raise DatasetError(f"{source}: no image has ground truth")
    for warning in _warnings(work, opened):
        if console is not None:
            console.print(warning, style="yellow", markup=False, highlight=False, soft_wrap=True)
    parts = range(-(-len(opened.names) // _PART))
    results = dict(run(work, parts, engine=engine, workers=workers))
    evaluator = Evaluator(found.classes, work.painted(found))
    for part in parts:
        evaluator.merge(results[part])
    return evaluator.result()


class _Opened(NamedTuple):
    """What is compared.

    Attributes:
        labels: The labels.
        truth: By the dataset's names.
        names: The dataset's images that have ground truth, in order.
        labelled: What the labels call those of them that they hold.
        failed: Those that are known to have failed.
    """

    labels: Labels
    truth: Mapping[str, GroundTruth]
    names: Sequence[str]
    labelled: Mapping[str, str]
    failed: Collection[str]


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

    def open(self) -> _Opened:
        """Labels and truth, and which belong together."""
        found = open_labels(self.labels)
        dataset = load_dataset(self.source, split=self.split, classes=found.classes)
        truth = dataset_truth(Path(self.source), dataset)
        names = [record.name for record in dataset.records if record.name in truth]
        there, failures = set(found.names()), set(found.failed())
        known = _paired(names, there | failures)
        labelled = {name: label for name, label in known.items() if label in there}
        return _Opened(found, truth, names, labelled, known.keys() - labelled.keys())

    def start(self) -> Callable[[int], Evaluator]:
        """The function that evaluates a part."""
        found, truth, names, labelled, _ = self.open()

        def evaluate(part: int) -> Evaluator:
            evaluator = Evaluator(found.classes, self.painted(found))
            for name in names[part * _PART : (part + 1) * _PART]:
                known = truth[name]
                if name in labelled:
                    instances = found[labelled[name]].instances()
                else:  # nothing is found in it
                    shape = () if known.masks is None else known.masks.shape[1:]
                    instances = Instances.empty(*shape)
                evaluator.add(name, instances, known)
            return evaluator

        return evaluate


def _paired(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """What `known` calls the images `names`, of those that it has; see evaluate_files."""
    same = {name: name for name in names if name in known}
    if same:
        return same
    ours, theirs = _by_last_part(names), _by_last_part(known)
    pairs = ((ours[last], theirs[last]) for last in ours if last in theirs)
    return {a: b for a, b in pairs if f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")}


def _by_last_part(names: Iterable[str]) -> dict[str, str]:
    """The names by their last part, without those that share it."""
    names = list(names)
    lasts = [name.rpartition("/")[2] for name in names]
    count = Counter(lasts)
    return {last: name for last, name in zip(lasts, names, strict=True) if count[last] == 1}


def _warnings(work: _Evaluation, opened: _Opened) -> list[str]:
    """What the figures do not show.

    Raises:
        ValueError: The labels know none of the images: the figures would say nothing.
    """
    labels, names = opened.labels, opened.names
    if not opened.labelled and not opened.failed:
        example = next(labels.names(), None)
        got = "no labels at all" if example is None else f"such names as {example!r}"
        part = "" if work.split is None else f", split {work.split}"
        raise ValueError(
            f"{work.labels}: expected labels of images of {work.source}{part}, which have such "
            f"names as {names[0]!r}, got {got}"
        )
    warnings = []
    if not labels.complete:
        warnings.append(f"{work.labels}: not complete, its job has not gone through all images")
    if missing := len(names) - len(opened.labelled):
        failed = f" ({len(opened.failed)} of them failed)" if opened.failed else ""
        warnings.append(f"{missing} of {len(names)} images have no labels{failed}")
    return warnings


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
