"""Mask average precision (mAP^r) and average best overlap.

Every object with a mask counts, marked difficult or not: the protocols below know no such flag.
COCO's crowds alone are no objects: nobody has to find them, and predictions on them do no harm.
Void pixels belong to no object, so a prediction that covers them pays for it in its union.
Overlaps are taken between run-length codes; a dataset's masks never stand in memory together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask

from labelpenet.evaluation.inputs import (
    Detections,
    InstancesLike,
    check_classes,
    check_masks,
    check_threshold,
    pairs,
)
from labelpenet.evaluation.matching import (
    FALSE,
    IGNORED,
    ImageMatches,
    Interpolation,
    Matches,
    Matching,
    PerClass,
    match,
)
from labelpenet.rle import encode_masks
from labelpenet.types import GroundTruth

MASK_THRESHOLDS = (0.25, 0.5, 0.75)


def mask_iou(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every mask with every other one; 0 where both are empty.

    Args:
        masks: [K, H, W] bool.
        others: [N, H, W] bool.

    Returns:
        [K, N] float64.

    Example:
        >>> masks = np.zeros((2, 4, 4), bool)
        >>> masks[0, :2], masks[1, :3] = True, True
        >>> mask_iou(masks[:1], masks)
        array([[1.        , 0.66666667]])
    """
    if masks.dtype != bool or others.dtype != bool or masks.ndim != 3 or others.ndim != 3:
        raise ValueError(
            "masks: expected [K, H, W] and [N, H, W] bool, got"
            f" {list(masks.shape)} {masks.dtype} and {list(others.shape)} {others.dtype}"
        )
    if not len(masks) or not len(others):
        return np.zeros((len(masks), len(others)))
    if masks.shape[1:] != others.shape[1:]:
        raise ValueError(
            f"masks: expected one size, got {list(masks.shape[1:])} and {list(others.shape[1:])}"
        )
    return _overlaps(masks, others, np.zeros(len(others), bool))


def _overlaps(masks: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """[K, N] float64: IoU; with a crowd, the share of the mask that lies in it."""
    return np.asarray(coco_mask.iou(encode_masks(masks), encode_masks(others), crowd.tolist()))


def objects(truth: GroundTruth) -> np.ndarray:
    """[N] bool: what is to be found, which crowds are not."""
    return np.ones(len(truth.labels), bool) if truth.crowd is None else ~truth.crowd


def class_mask_iou(name: str, found: Detections, truth: GroundTruth) -> np.ndarray:
    """[K, N] float64 mask IoU in one checked image, 0 between different classes.

    A crowd's is the share of the prediction that lies in it, as in pycocotools.

    Raises:
        ValueError: Masks are missing, or of another size than the truth.
    """
    if truth.masks is None:
        raise ValueError(f"{name}: truth masks: expected [N, H, W] bool, got None")
    iou = np.zeros((len(found), len(truth.labels)))
    if not len(truth.labels):
        return iou
    check_masks(name, found, truth.masks.shape[1:])
    crowd = ~objects(truth)
    for c in np.intersect1d(found.labels, truth.labels):
        rows, columns = np.flatnonzero(found.labels == c), np.flatnonzero(truth.labels == c)
        assert found.masks is not None
        own = _overlaps(found.masks[rows], truth.masks[columns], crowd[columns])
        iou[np.ix_(rows, columns)] = own
    return iou


def match_masks(
    iou: np.ndarray,
    found: Detections,
    truth: GroundTruth,
    num_classes: int,
    iou_threshold: float,
    matching: Matching,
) -> ImageMatches:
    """Matches the masks of one image, given `class_mask_iou`."""
    real = objects(truth)
    labels = truth.labels[real]
    none_ignored = np.zeros(len(labels), bool)
    outcome = match(iou[:, real], found.labels, labels, none_ignored, iou_threshold, matching)
    in_crowd = iou[:, ~real].max(axis=1, initial=0.0) >= iou_threshold
    outcome[(outcome == FALSE) & in_crowd] = IGNORED
    positives = np.bincount(labels, minlength=num_classes)
    return ImageMatches(found.labels, found.scores, outcome, positives)


def mask_matches(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
    matching: Matching = Matching.BEST,
) -> Matches:
    """The outcomes behind `mask_ap`, for `paired_bootstrap`; arguments as there."""
    check_classes(num_classes)
    check_threshold(iou_threshold)
    images = [
        match_masks(
            class_mask_iou(name, found, known), found, known, num_classes, iou_threshold, matching
        )
        for name, found, known in pairs(predictions, truth, num_classes)
    ]
    return Matches(images, num_classes)


def mask_ap(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
    *,
    iou_threshold: float = 0.5,
    matching: Matching = Matching.BEST,
    interpolation: Interpolation = Interpolation.AREA,
) -> PerClass:
    """Average precision of masks; `.mean` of the result is mAP^r.

    Args:
        predictions: With masks, by image name, an entry for every image of `truth`.
        truth: With masks, by image name.
        num_classes: C.
        iou_threshold: In (0, 1]; published figures use 0.25, 0.5 and 0.75.
        matching: BEST (chainercv) or GREEDY (SDS).
        interpolation: AREA is what both protocols use.

    Returns:
        AP per class in [0, 1]; nan for a class without objects.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Missing masks, different names, wrong shapes, NaN or infinite numbers.

    Source:
        Hariharan et al., "Simultaneous detection and segmentation", ECCV 2014, section 6.

    Example:
        >>> import torch
        >>> from labelpenet.types import Instances
        >>> masks = np.zeros((1, 4, 4), bool)
        >>> masks[0, :2] = True
        >>> box, one = np.array([[0.0, 0, 4, 2]]), np.zeros(1, np.int64)
        >>> truth = {"a": GroundTruth(box, one, np.zeros(1, bool), masks)}
        >>> found = Instances(*map(torch.from_numpy, (box, one, np.ones(1), masks)))
        >>> mask_ap({"a": found}, truth, num_classes=1, iou_threshold=0.75).mean
        1.0
    """
    matches = mask_matches(
        predictions, truth, num_classes, iou_threshold=iou_threshold, matching=matching
    )
    return matches.average_precision(interpolation)


def best_overlaps(iou: np.ndarray) -> np.ndarray:
    """[N] float64: per object the best of its IoUs [K, N]; 0 without a prediction."""
    best: np.ndarray = iou.max(axis=0, initial=0.0)
    return best


def best_overlap_means(
    overlaps: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[PerClass, float]:
    """ABO per class and per object, from all objects' best overlaps [N] and labels [N]."""
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=overlaps, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        per_class = PerClass(tuple((sums / counts).tolist()))
    return per_class, float(overlaps.mean()) if len(overlaps) else float("nan")


def average_best_overlap(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    num_classes: int,
) -> tuple[PerClass, float]:
    """Average best overlap: how well the best mask of the class fits each object, on average.

    Scores are of no effect. Papers report either mean without saying which; both are given.

    Args:
        predictions: With masks, by image name, an entry for every image of `truth`.
        truth: With masks, by image name.
        num_classes: C.

    Returns:
        The mean over the objects of each class (`.mean` of it: the mean of classes), and the mean
        over all objects; nan for a class, or a dataset, without objects.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Missing masks, different names, wrong shapes, NaN or infinite numbers.

    Source:
        Pont-Tuset and Van Gool, "Boosting object proposals", ICCV 2015; used with predicted
        instances by Zhou et al., "Weakly supervised instance segmentation using class peak
        response", CVPR 2018.

    Example:
        >>> from labelpenet.types import Instances
        >>> masks, one = np.ones((1, 4, 4), bool), np.zeros(1, np.int64)
        >>> truth = {"a": GroundTruth(np.array([[0.0, 0, 4, 4]]), one, np.zeros(1, bool), masks)}
        >>> average_best_overlap({"a": Instances.empty()}, truth, num_classes=1)
        (PerClass(values=(0.0,)), 0.0)
    """
    check_classes(num_classes)
    overlaps, labels = [np.zeros(0)], [np.zeros(0, np.int64)]
    for name, found, known in pairs(predictions, truth, num_classes):
        real = objects(known)
        overlaps.append(best_overlaps(class_mask_iou(name, found, known)[:, real]))
        labels.append(known.labels[real])
    return best_overlap_means(np.concatenate(overlaps), np.concatenate(labels), num_classes)
