"""Average precision of image-level scores."""

from __future__ import annotations

import numpy as np

from labelpenet.evaluation.inputs import check_classes
from labelpenet.evaluation.matching import (
    FALSE,
    IGNORED,
    TRUE,
    ImageMatches,
    Interpolation,
    Matches,
    PerClass,
)
from labelpenet.types import GroundTruth


def match_image(name: str, scores: object, truth: GroundTruth, num_classes: int) -> ImageMatches:
    """One checked image as a prediction of each class.

    An image whose only objects of a class are difficult is ignored for that class, as VOC does.

    Args:
        name: For messages.
        scores: [C] floats, an array or a tensor on the CPU.
        truth: Checked.
        num_classes: C.

    Raises:
        ValueError: Another shape, or NaN or infinite scores.
    """
    values = np.asarray(scores, np.float64)
    if values.shape != (num_classes,) or not np.isfinite(values).all():
        raise ValueError(
            f"{name}: image scores: expected [{num_classes}] finite numbers,"
            f" got {list(values.shape)} with {int((~np.isfinite(values)).sum())} NaN or infinite"
        )
    outcome = np.full(num_classes, FALSE, np.int8)
    outcome[truth.labels[truth.difficult]] = IGNORED
    outcome[truth.labels[~truth.difficult]] = TRUE
    positives = (outcome == TRUE).astype(np.int64)
    return ImageMatches(np.arange(num_classes), values, outcome, positives)


def classification_ap(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    ignore: np.ndarray | None = None,
    interpolation: Interpolation = Interpolation.AREA,
) -> PerClass:
    """VOC's average precision of image-level scores; `.mean` of the result is mAP.

    Args:
        scores: [N, C] floats.
        labels: [N, C] bool, the classes in each image.
        ignore: [N, C] bool, where an image counts neither for nor against a class.
        interpolation: AREA (VOC 2010 on) or ELEVEN_POINT (VOC 2007). With AREA precision is made
            non-increasing first, which a plain mean of precisions is not.

    Returns:
        AP per class in [0, 1]; nan for a class in no image. Equal scores rank in image order.

    Raises:
        ValueError: Different shapes, or NaN or infinite scores.
        TypeError: labels or ignore are not bool.

    Source:
        Everingham et al., IJCV 2010, section 4.2.

    Example:
        >>> scores = np.array([[0.9], [0.8], [0.1]])
        >>> classification_ap(scores, np.array([[True], [False], [True]])).mean
        0.8333333333333333
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    ignore = np.zeros(labels.shape, bool) if ignore is None else np.asarray(ignore)
    for name, value in (("labels", labels), ("ignore", ignore)):
        if scores.ndim != 2 or value.shape != scores.shape:
            raise ValueError(
                f"{name}: expected [N, C] as scores have, {list(scores.shape)},"
                f" got {list(value.shape)}"
            )
        if value.dtype != bool:
            raise TypeError(f"{name}: expected bool, got {value.dtype}")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"scores: expected finite numbers, got {bad} NaN or infinite")
    num_classes = check_classes(scores.shape[1])
    classes = np.arange(num_classes)
    outcome = np.where(ignore, IGNORED, np.where(labels, TRUE, FALSE)).astype(np.int8)
    images = [
        ImageMatches(classes, row, result, (result == TRUE).astype(np.int64))
        for row, result in zip(scores, outcome, strict=True)
    ]
    return Matches(images, num_classes).average_precision(interpolation)
