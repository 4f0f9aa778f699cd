"""From overlaps to average precision: what boxes and masks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

import numpy as np


class Matching(Enum):
    """Which object a prediction of the same class is matched to, best score first.

    All three count a prediction without an object as a false positive.

    VOC: its best object, when IoU > threshold; taken already: false positive; difficult: ignored
        (the VOC development kit's rule for boxes).
    BEST: its best object, when IoU >= threshold; taken already: false positive (chainercv's
        `eval_instance_segmentation_voc`).
    GREEDY: the best of the objects not taken yet, when IoU > threshold (Hariharan et al.,
        "Simultaneous detection and segmentation", ECCV 2014).
    """

    VOC = "voc"
    BEST = "best"
    GREEDY = "greedy"


class Interpolation(Enum):
    """How a precision-recall curve becomes one number.

    AREA: area under the curve with precision made non-increasing (VOC 2010 on).
    ELEVEN_POINT: mean of that precision at recall 0, 0.1, ..., 1 (VOC 2007). "Recall of at least
        0.3" is decided in integers, so that 3 of 10 objects count, whatever 0.1 rounds to.
    """

    AREA = "area"
    ELEVEN_POINT = "11-point"


TRUE, FALSE, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class PerClass:
    """A figure for each class; nan for a class without ground truth, left out of the mean.

    Attributes:
        values: One number per class.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the classes with ground truth; nan when there are none."""
        known = [value for value in self.values if not np.isnan(value)]
        return float(np.mean(known)) if known else float("nan")


@dataclass(frozen=True)
class ImageMatches:
    """How the predictions of one image fared.

    Attributes:
        labels: [K] int64.
        scores: [K] float64.
        outcome: [K] int8, TRUE, FALSE or IGNORED.
        positives: [C] int64, the objects to be found, per class.
    """

    labels: np.ndarray
    scores: np.ndarray
    outcome: np.ndarray
    positives: np.ndarray


def match(
    iou: np.ndarray,
    labels: np.ndarray,
    truth_labels: np.ndarray,
    difficult: np.ndarray,
    threshold: float,
    matching: Matching,
) -> np.ndarray:
    """Matches the predictions of one image to its objects.

    Args:
        iou: [K, N] float64, predictions in the order of their scores, best first.
        labels: [K] int64.
        truth_labels: [N] int64.
        difficult: [N] bool, objects that are neither counted nor penalised.
        threshold: IoU.
        matching: The rule.

    Returns:
        [K] int8: TRUE, FALSE or IGNORED.

    Example:
        >>> iou, label = np.array([[0.9, 0.6], [0.8, 0.6]]), np.zeros(2, np.int64)
        >>> easy = np.zeros(2, bool)
        >>> match(iou, label, label, easy, 0.5, Matching.BEST).tolist()  # object 0 is taken
        [1, 0]
        >>> match(iou, label, label, easy, 0.5, Matching.GREEDY).tolist()  # so object 1 it is
        [1, 1]
    """
    outcome = np.full(len(labels), FALSE, np.int8)
    taken = np.zeros(len(truth_labels), bool)
    same = labels[:, None] == truth_labels[None]
    for k in range(len(labels)):
        candidates = same[k] & ~taken if matching is Matching.GREEDY else same[k]
        if not candidates.any():
            continue
        best = int(np.where(candidates, iou[k], -1.0).argmax())
        inclusive = matching is Matching.BEST
        reached = iou[k, best] >= threshold if inclusive else iou[k, best] > threshold
        if not reached:
            continue
        if difficult[best]:
            outcome[k] = IGNORED
        elif not taken[best]:
            outcome[k] = TRUE
            taken[best] = True
    return outcome


class Matches:
    """Outcomes of a whole dataset, from which average precision follows for any set of images.

    Equal scores rank in the order of the images, then in the order given within an image.

    Args:
        images: One record per image.
        num_classes: C.
    """

    def __init__(self, images: Sequence[ImageMatches], num_classes: int) -> None:
        self.num_classes = num_classes
        # [images, C]; the empty first part keeps concatenation defined for no images
        self.positives = np.stack(
            [m.positives for m in images] or [np.zeros(num_classes, np.int64)]
        )[: len(images)]
        none = [np.zeros(0, np.int64)]
        labels = np.concatenate(none + [m.labels for m in images])
        scores = np.concatenate([np.zeros(0)] + [m.scores for m in images])
        outcome = np.concatenate([np.zeros(0, np.int8)] + [m.outcome for m in images])
        image = np.concatenate(none + [np.full(len(m.labels), i) for i, m in enumerate(images)])
        order = np.lexsort((-scores, labels))  # stable: by class, best score first
        ends = np.searchsorted(labels[order], np.arange(num_classes + 1))
        ranked = [order[a:b] for a, b in pairwise(ends)]
        self._image = [image[r] for r in ranked]
        self._outcome = [outcome[r] for r in ranked]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.positives)

    def average_precision(
        self, interpolation: Interpolation = Interpolation.AREA, counts: np.ndarray | None = None
    ) -> PerClass:
        """Average precision per class.

        Args:
            interpolation: Area under the curve, or 11 points.
            counts: [images] int64, how often each image is in the set (a bootstrap sample); all
                once by default.

        Returns:
            AP per class in [0, 1]; nan where no image of the set has an object of the class.
        """
        if counts is None:
            counts = np.ones(len(self), np.int64)
        positives = counts @ self.positives
        return PerClass(
            tuple(
                average_precision(outcome, int(n), interpolation, counts[image])
                for outcome, image, n in zip(self._outcome, self._image, positives, strict=True)
            )
        )


def average_precision(
    outcome: np.ndarray,
    positives: int,
    interpolation: Interpolation = Interpolation.AREA,
    weights: np.ndarray | None = None,
) -> float:
    """Average precision of ranked predictions.

    Args:
        outcome: [K] int8, best score first: TRUE, FALSE or IGNORED.
        positives: Objects to be found.
        interpolation: Area under the curve, or 11 points.
        weights: [K] int64, how often each prediction stands in the ranking; once by default.

    Returns:
        AP in [0, 1], or nan without positives.

    Source:
        Everingham et al., "The PASCAL Visual Object Classes challenge", IJCV 2010, section 4.2,
        and the VOC 2010 development kit, section 3.4.1 (area).

    Example:
        >>> average_precision(np.array([TRUE, FALSE, TRUE]), positives=2)  # 1/2 * (1 + 2/3)
        0.8333333333333333
    """
    if positives == 0:
        return float("nan")
    if len(outcome) == 0:
        return 0.0
    if weights is None:
        weights = np.ones(len(outcome), np.int64)
    hits = weights * (outcome == TRUE)
    true = np.cumsum(hits)
    seen = true + np.cumsum(weights * (outcome == FALSE))
    precision = true / np.maximum(seen, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation is Interpolation.AREA:
        return float(envelope @ hits / positives)
    first = np.searchsorted(10 * true, np.arange(11) * positives)  # where recall >= i / 10
    return float(np.append(envelope, 0.0)[first].sum() / 11)
