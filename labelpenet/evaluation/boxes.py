"""Box average precision and CorLoc, by PASCAL VOC's rules.

VOC's areas count inclusive corners, (xmax - xmin + 1). A box (x1, y1, x2, y2) of this package is
VOC's (x1 + 1, y1 + 1, x2, y2), 1-based and inclusive, so xmax - xmin + 1 = x2 - x1; the same holds
for an intersection, min(x2) - max(x1 + 1) + 1. VOC's +1 areas are therefore the plain areas here,
for whole and for fractional coordinates: no figure changes with the frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labelpenet.evaluation.inputs import (
    Detections,
    InstancesLike,
    check_classes,
    check_threshold,
    pairs,
)
from labelpenet.evaluation.matching import (
    ImageMatches,
    Interpolation,
    Matches,
    Matching,
    PerClass,
    match,
)
from labelpenet.overlap import box_iou
from labelpenet.types import GroundTruth


def match_boxes(
    found: Detections, truth: GroundTruth, num_classes: int, iou_threshold: float = 0.5
) -> ImageMatches:
    """Matches the checked boxes of one image by VOC's rule."""
    iou = box_iou(found.boxes, truth.boxes)
    outcome = match(iou, found.labels, truth.labels, truth.difficult, iou_threshold, Matching.VOC)
    positives = np.bincount(truth.labels[~truth.difficult], minlength=num_classes)
    return ImageMatches(found.labels, found.scores, outcome, positives)


def box_matches(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
) -> Matches:
    """The outcomes behind `box_ap`, for `paired_bootstrap`; arguments as there."""
    check_classes(num_classes)
    check_threshold(iou_threshold)
    images = [
        match_boxes(found, known, num_classes, iou_threshold)
        for _, found, known in pairs(predictions, truth, num_classes)
    ]
    return Matches(images, num_classes)


def box_ap(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
    interpolation: Interpolation = Interpolation.AREA,
) -> PerClass:
    """VOC's average precision of boxes; `.mean` of the result is mAP.

    A prediction is right when its best object of the class has IoU > threshold and no prediction
    with a higher score took it. Difficult objects are neither counted nor penalised.

    Args:
        predictions: By image name, an entry for every image of `truth`.
        truth: By image name.
        num_classes: C; labels are in [0, C).
        iou_threshold: In (0, 1].
        interpolation: AREA (VOC 2010 on) or ELEVEN_POINT (VOC 2007).

    Returns:
        AP per class in [0, 1]; nan for a class without (non-difficult) objects.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Different names, wrong shapes, NaN or infinite numbers, classes out of range.

    Source:
        Everingham et al., IJCV 2010, section 4.4.

    Example:
        >>> import torch
        >>> from labelpenet.types import Instances
        >>> one, box = np.zeros(1, np.int64), np.array([[0.0, 0, 10, 10]])
        >>> truth = {"a": GroundTruth(box, one, np.zeros(1, bool))}
        >>> found = Instances(torch.tensor([[0.0, 0, 10, 9]]), torch.tensor([0]), torch.ones(1))
        >>> box_ap({"a": found}, truth, num_classes=2)
        PerClass(values=(1.0, nan))
    """
    matches = box_matches(predictions, truth, num_classes, iou_threshold=iou_threshold)
    return matches.average_precision(interpolation)


def hit_boxes(
    found: Detections, truth: GroundTruth, num_classes: int, iou_threshold: float = 0.5
) -> np.ndarray:
    """CorLoc's outcome in one checked image: [C] float64, 1 hit, 0 miss, nan not positive."""
    hits = np.full(num_classes, np.nan)
    iou = box_iou(found.boxes, truth.boxes)
    for c in np.unique(truth.labels[~truth.difficult]):
        of_class = np.flatnonzero(found.labels == c)  # the first one has the best score
        hits[c] = of_class.size > 0 and (iou[of_class[0], truth.labels == c] > iou_threshold).any()
    return hits


def corloc_hits(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
) -> np.ndarray:
    """The outcomes behind `corloc`: [images, C] float64, images in the order of their names.

    1 is a hit, 0 a miss, nan an image without the class. Arguments as for `corloc`.
    """
    check_classes(num_classes)
    check_threshold(iou_threshold)
    rows = [
        hit_boxes(found, known, num_classes, iou_threshold)
        for _, found, known in pairs(predictions, truth, num_classes)
    ]
    return np.array(rows).reshape(-1, num_classes)


def hit_rate(hits: np.ndarray, counts: np.ndarray | None = None) -> PerClass:
    """CorLoc per class from `corloc_hits`.

    Args:
        hits: [images, C] float64.
        counts: [images] int64, how often each image is in the set; all once by default.
    """
    if counts is None:
        counts = np.ones(len(hits), np.int64)
    positive = counts @ ~np.isnan(hits)
    right = counts @ np.nan_to_num(hits)
    with np.errstate(invalid="ignore"):
        return PerClass(tuple((right / positive).tolist()))


def corloc(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
) -> PerClass:
    """Correct localisation: in how many images of a class its top box is on an object of it.

    A positive image of a class holds a non-difficult object of it (image-level labels leave
    difficult ones out). The box may lie on any box of the class, a difficult one too. A positive
    image without a prediction of the class is a miss. Truth needs boxes alone.

    Args:
        predictions: By image name, an entry for every image of `truth`.
        truth: By image name.
        num_classes: C.
        iou_threshold: In (0, 1]; IoU must be above it.

    Returns:
        The rate per class in [0, 1]; nan for a class without positive images.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Different names, wrong shapes, NaN or infinite numbers, classes out of range.

    Source:
        Deselaers et al., "Weakly supervised localization and learning with generic knowledge",
        IJCV 2012.

    Example:
        >>> import torch
        >>> from labelpenet.types import Instances
        >>> one, box = np.zeros(1, np.int64), np.array([[0.0, 0, 10, 10]])
        >>> truth = {name: GroundTruth(box, one, np.zeros(1, bool)) for name in "ab"}
        >>> found = Instances(torch.tensor([[0.0, 0, 10, 9]]), torch.tensor([0]), torch.ones(1))
        >>> corloc({"a": found, "b": Instances.empty()}, truth, num_classes=1).mean
        0.5
    """
    return hit_rate(corloc_hits(predictions, truth, num_classes, iou_threshold=iou_threshold))
