"""The evaluation's figures by their definitions: slow loops that share no code with the package.

Boxes are taken to VOC's own frame (1-based, inclusive corners) and measured there with its +1
areas. An object is (image, class, shape, difficult), a prediction (image, class, score, shape);
`shape` is whatever the overlap function takes. Predictions of equal score rank in list order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class Object(NamedTuple):
    """A true object."""

    image: Any
    label: int
    shape: Any
    difficult: bool = False


class Prediction(NamedTuple):
    """A predicted object."""

    image: Any
    label: int
    score: float
    shape: Any


Overlap = Callable[[Any, Any], float]


def voc_box_iou(box: Sequence[float], other: Sequence[float]) -> float:
    """IoU of (x1, y1, x2, y2), 0-based and exclusive, computed as the VOC development kit does."""
    a = [box[0] + 1, box[1] + 1, box[2], box[3]]
    b = [other[0] + 1, other[1] + 1, other[2], other[3]]
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (union - width * height)


def pixel_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """IoU of two [H, W] bool masks, by counting pixels."""
    union = int(np.logical_or(mask, other).sum())
    return int(np.logical_and(mask, other).sum()) / union if union else 0.0


def outcomes(
    predictions: Sequence[Prediction],
    objects: Sequence[Object],
    label: int,
    threshold: float,
    matching: str,
    overlap: Overlap,
) -> list[str]:
    """How the ranked predictions of a class fare: "true", "false" or "ignored".

    `matching` is "voc" (> threshold, best object), "best" (>= threshold, best object) or "greedy"
    (> threshold, best object that is free).
    """
    ranked = sorted((p for p in predictions if p.label == label), key=lambda p: -p.score)
    taken: set[int] = set()
    results = []
    for prediction in ranked:
        best, best_iou = None, -1.0
        for i, thing in enumerate(objects):
            if thing.image != prediction.image or thing.label != label:
                continue
            if matching == "greedy" and i in taken:
                continue
            iou = overlap(prediction.shape, thing.shape)
            if iou > best_iou:
                best, best_iou = i, iou
        reached = best_iou >= threshold if matching == "best" else best_iou > threshold
        if best is None or not reached:
            results.append("false")
        elif objects[best].difficult:
            results.append("ignored")
        elif best in taken:
            results.append("false")
        else:
            taken.add(best)
            results.append("true")
    return results


def average_precision(ranked: Sequence[str], positives: int, eleven_point: bool = False) -> float:
    """AP of ranked outcomes, in exact fractions: the interpolated precision at recall r is the
    highest precision at any recall >= r.
    """  # noqa: D205
    if positives == 0:
        return float("nan")
    curve: list[tuple[Fraction, Fraction]] = []  # (recall, precision)
    true = false = 0
    for outcome in ranked:
        true += outcome == "true"
        false += outcome == "false"
        if outcome != "ignored":
            curve.append((Fraction(true, positives), Fraction(true, true + false)))

    def interpolated(recall: Fraction) -> Fraction:
        return max((p for r, p in curve if r >= recall), default=Fraction(0))

    if eleven_point:
        return float(sum((interpolated(Fraction(i, 10)) for i in range(11)), Fraction(0)) / 11)
    steps = (interpolated(Fraction(i, positives)) for i in range(1, positives + 1))
    return float(sum(steps, Fraction(0)) / positives)


def class_ap(
    predictions: Sequence[Prediction],
    objects: Sequence[Object],
    label: int,
    *,
    threshold: float = 0.5,
    matching: str = "voc",
    eleven_point: bool = False,
    overlap: Overlap = voc_box_iou,
) -> float:
    """AP of a class, of boxes or of masks; nan without (non-difficult) objects."""
    ranked = outcomes(predictions, objects, label, threshold, matching, overlap)
    positives = sum(thing.label == label and not thing.difficult for thing in objects)
    return average_precision(ranked, positives, eleven_point)


def class_corloc(predictions: Sequence[Prediction], objects: Sequence[Object], label: int) -> float:
    """Share of the images of a class whose top box has IoU > 0.5 with an object of it."""
    images = {thing.image for thing in objects if thing.label == label and not thing.difficult}
    hits = 0
    for image in images:
        here = [p for p in predictions if p.image == image and p.label == label]
        things = [thing for thing in objects if thing.image == image and thing.label == label]
        if here:
            top = max(here, key=lambda p: p.score)
            hits += any(voc_box_iou(top.shape, thing.shape) > 0.5 for thing in things)
    return hits / len(images) if images else float("nan")


def object_overlaps(
    predictions: Sequence[Prediction], objects: Sequence[Object], overlap: Overlap = pixel_iou
) -> list[float]:
    """Per object the best overlap with any prediction of its class in its image; ABO's terms."""
    return [
        max(
            (
                overlap(p.shape, thing.shape)
                for p in predictions
                if p.image == thing.image and p.label == thing.label
            ),
            default=0.0,
        )
        for thing in objects
    ]


def label_iou(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], label: int) -> float:
    """IoU of a value of semantic maps over all images, void (255) left out; nan where not true."""
    both = either = here = 0
    for p, t in zip(predicted, true, strict=True):
        for guess, truth in zip(p.ravel().tolist(), t.ravel().tolist(), strict=True):
            if truth == 255:
                continue
            here += truth == label
            both += truth == label and guess == label
            either += truth == label or guess == label
    return both / either if here else float("nan")
