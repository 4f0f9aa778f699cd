"""How far label quality tells good masks from bad ones: precision against the share that is kept.

    python -m benchmarks.quality labels SOURCE --out quality

SOURCE has ground truth (see `labelpenet evaluate`); a label is right where its mask overlaps an
object of its class by an IoU of at least 0.5. Labels are ranked by a figure of their quality, the
best first, and the best share of them is kept: a figure that knows nothing gives a flat line.
Writes <out>.csv with every point and <out>.svg with the plot, and prints the area under each line.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from labelpenet.data import load_dataset
from labelpenet.evaluation.files import dataset_truth
from labelpenet.evaluation.inputs import detections, ground_truth
from labelpenet.evaluation.masks import class_mask_iou
from labelpenet.files import atomic_write
from labelpenet.labeling import open_labels
from labelpenet.types import GroundTruth, Instances

from .tool import one_line_errors

IOU = 0.5
FIGURES = ("overall", "peak_support", "crf_change", "agreement", "score_margin", "score")
Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # share kept, precision, threshold: [P] each


def judged(
    found: Iterable[tuple[str, Instances]], truth: Mapping[str, GroundTruth], classes: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which labels are right [N] bool, and their figures [N], NaN where unknown.

    Images without ground truth are left out.
    """
    right: list[np.ndarray] = [np.zeros(0, bool)]
    figures: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in FIGURES}
    for name, instances in found:
        if name not in truth:
            continue
        known = ground_truth(name, truth[name], classes)
        order = np.argsort(-instances.scores.double().numpy(), kind="stable")  # as detections()
        iou = class_mask_iou(name, detections(name, instances, classes), known)
        right.append(iou.max(axis=1, initial=0.0) >= IOU)
        for figure, values in figures.items():
            values.append(_figure(instances, figure)[order])
    return np.concatenate(right), {k: np.concatenate(v) for k, v in figures.items()}


def curve(right: np.ndarray, figure: np.ndarray) -> Curve:
    """Share kept and precision at every threshold of a figure, the strictest first.

    Labels of equal figures are kept or left together. Those of unknown ones are no part of it.
    """
    known = ~np.isnan(figure)
    right, figure = right[known], figure[known]
    order = np.argsort(-figure, kind="stable")
    right, figure = right[order], figure[order]
    last = np.flatnonzero(np.append(figure[1:] != figure[:-1], True)[: len(figure)])
    kept = last + 1
    return kept / max(len(right), 1), np.cumsum(right)[last] / kept, figure[last]


def area(shares: np.ndarray, precision: np.ndarray) -> float:
    """The mean precision over all shares kept; nan without labels."""
    if not len(shares):
        return float("nan")
    widths = np.diff(shares, prepend=0.0)
    return float(widths @ precision)


def write(out: Path, curves: Mapping[str, Curve]) -> None:
    """Writes <out>.csv and <out>.svg."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out.with_name(f"{out.name}.csv")) as file:
        writer = csv.writer(file)
        writer.writerow(("figure", "threshold", "kept", "precision"))
        for name, (shares, precision, thresholds) in curves.items():
            for row in zip(thresholds, shares, precision, strict=True):
                writer.writerow([name, *(f"{value:.6g}" for value in row)])
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (shares, precision, _) in curves.items():
        width = 2.5 if name == "overall" else 1.2
        axes.plot(shares, precision, label=name.replace("_", " "), linewidth=width)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="share of labels kept", ylabel="share that is right")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(out.with_name(f"{out.name}.svg"), binary=True) as file:
        figure.savefig(file, format="svg")


@one_line_errors
def main(arguments: list[str] | None = None) -> None:
    """Reads, judges, writes and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("labels", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="files to write")
    options = parser.parse_args(arguments)
    labels = open_labels(options.labels)
    dataset = load_dataset(options.source, split=options.split, classes=labels.classes)
    truth = dataset_truth(options.source, dataset)
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("needs the extra: pip install 'labelpenet[bench]'")
    found = ((image.name, image.instances()) for image in labels)
    right, figures = judged(found, truth, len(labels.classes))
    if not len(right):
        raise ValueError(f"{options.labels}: no label is of an image with ground truth")
    curves = {name: curve(right, values) for name, values in figures.items()}
    curves = {name: points for name, points in curves.items() if len(points[0])}
    write(options.out, curves)
    print(f"{len(right)} labels, {right.mean():.3f} of them right; mean over all shares kept:")
    for name, (shares, precision, _) in curves.items():
        print(f"  {name:14} {area(shares, precision):.3f}")


def _figure(instances: Instances, name: str) -> np.ndarray:
    quality = instances.quality
    if name == "score":
        return instances.scores.double().numpy()
    if quality is None:
        return np.full(len(instances), np.nan)
    values = quality.overall() if name == "overall" else getattr(quality, name)
    return values.double().numpy()


if __name__ == "__main__":
    raise SystemExit(main())
