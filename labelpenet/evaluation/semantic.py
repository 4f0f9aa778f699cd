"""Mean IoU of semantic maps: 0 is background, class + 1 an object, 255 void."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labelpenet.evaluation.inputs import (
    Detections,
    InstancesLike,
    check_classes,
    check_masks,
    detections,
    pairs,
)
from labelpenet.evaluation.matching import PerClass
from labelpenet.overlap import front_first
from labelpenet.types import GroundTruth

VOID = 255


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts pixels by true and predicted class; void pixels of the truth are left out.

    Args:
        prediction: [H, W] integers in [0, num_classes].
        truth: [H, W] integers in [0, num_classes], or 255 for void.
        num_classes: C, without background.

    Returns:
        [C + 1, C + 1] int64: row = true class, column = predicted class. Add those of several
        images.

    Raises:
        ValueError: Different shapes, or a value out of range.

    Example:
        >>> truth = np.array([[0, 1], [1, 255]])
        >>> confusion_matrix(np.array([[0, 1], [0, 1]]), truth, num_classes=1)
        array([[1, 0],
               [1, 1]])
    """
    check_classes(num_classes)
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f"prediction: expected [H, W] as the truth has, {list(truth.shape)},"
            f" got {list(prediction.shape)}"
        )
    counted = truth != VOID
    size = num_classes + 1
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and (values.min() < 0 or values.max() >= size):
            raise ValueError(
                f"{name}: expected classes in [0, {num_classes}],"
                f" got [{values.min()}, {values.max()}]"
            )
    return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)


def class_iou(confusion: np.ndarray) -> PerClass:
    """IoU per class from a summed confusion matrix; `.mean` of the result is mIoU.

    A class without a true pixel is nan: pixels wrongly given to it still count against the classes
    that they belong to.

    Args:
        confusion: [C + 1, C + 1] int64.

    Returns:
        C + 1 figures, background first.

    Source:
        Everingham et al., IJCV 2010, section 4.3.

    Example:
        >>> class_iou(np.array([[1, 0], [1, 1]])).mean
        0.5
    """
    right = np.diag(confusion)
    true = confusion.sum(axis=1)
    union = true + confusion.sum(axis=0) - right
    iou = np.where(true > 0, right / np.maximum(union, 1), np.nan)
    return PerClass(tuple(iou.tolist()))


def semantic_map(instances: InstancesLike, height: int, width: int) -> np.ndarray:
    """Paints instances into a semantic map, those with more score to a pixel of theirs on top.

    Args:
        instances: With [K, height, width] masks; none is needed when there are no instances.
        height: Pixels.
        width: Pixels.

    Returns:
        [height, width] uint8: 0 background, class + 1 an object; where they overlap, the class of
        the object that is in front (see `labelpenet.overlap.front_first`).

    Raises:
        ValueError: Missing masks, or of another size; a class above 253, which uint8 cannot hold
            beside void.

    Example:
        >>> import torch
        >>> from labelpenet.types import Instances
        >>> masks = torch.ones(2, 1, 3, dtype=torch.bool)
        >>> masks[0, 0, 1:] = False
        >>> labels, scores = torch.tensor([4, 7]), torch.tensor([0.9, 0.5])
        >>> found = Instances(torch.zeros(2, 4), labels, scores, masks)
        >>> semantic_map(found, 1, 3)
        array([[5, 8, 8]], dtype=uint8)
    """
    return paint("instances", detections("instances", instances, VOID - 1), height, width)


def paint(name: str, found: Detections, height: int, width: int, least: float = 0.0) -> np.ndarray:
    """`semantic_map` for the checked predictions of the image `name` that score `least` or more."""
    check_masks(name, found, (height, width))
    result = np.zeros((height, width), np.uint8)
    if found.masks is None:  # nothing was found
        return result
    for k in reversed(front_first(found.scores, found.masks)):
        if found.scores[k] >= least:
            result[found.masks[k]] = found.labels[k] + 1
    return result


def mean_iou(
    predictions: Mapping[str, InstancesLike], truth: Mapping[str, GroundTruth], num_classes: int
) -> PerClass:
    """IoU per class (background first) of painted instances, over all pixels of all images.

    Args:
        predictions: With masks, by image name, an entry for every image of `truth`.
        truth: With semantic maps, by image name.
        num_classes: C, without background.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Missing masks or maps, different names, wrong shapes, NaN or infinite numbers.

    Example:
        >>> from labelpenet.types import Instances
        >>> none = np.zeros(0)
        >>> known = GroundTruth(
        ...     np.zeros((0, 4)), none.astype(np.int64), none.astype(bool),
        ...     semantic=np.zeros((2, 2), np.uint8))
        >>> mean_iou({"a": Instances.empty()}, {"a": known}, num_classes=1)
        PerClass(values=(1.0, nan))
    """
    check_classes(num_classes)
    total = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for name, found, known in pairs(predictions, truth, num_classes):
        if known.semantic is None:
            raise ValueError(f"{name}: truth semantic: expected [H, W] integer, got None")
        painted = paint(name, found, *known.semantic.shape)
        total += confusion_matrix(painted, known.semantic, num_classes)
    return class_iou(total)
