"""Checks at the door of the metrics, and the numpy form that they compute on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from labelpenet.types import GroundTruth


class InstancesLike(Protocol):
    """`labelpenet.types.Instances`, or any record with the same fields as tensors or arrays."""

    @property
    def boxes(self) -> object: ...  # noqa: D102

    @property
    def labels(self) -> object: ...  # noqa: D102

    @property
    def scores(self) -> object: ...  # noqa: D102

    @property
    def masks(self) -> object | None: ...  # noqa: D102


@dataclass(frozen=True)
class Detections:
    """Checked predictions of one image, best score first (equal scores keep the given order).

    Attributes:
        boxes: [K, 4] float64.
        labels: [K] int64.
        scores: [K] float64.
        masks: [K, H, W] bool, or None.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels)


def detections(name: str, instances: InstancesLike, num_classes: int) -> Detections:
    """Checks the predictions of the image `name` and sorts them by score.

    Raises:
        TypeError: A field is missing or has another kind of dtype.
        ValueError: A wrong shape, a NaN or infinity, an inside-out box, a class out of range.
    """
    for field in ("boxes", "labels", "scores", "masks"):
        if not hasattr(instances, field):
            raise TypeError(
                f"{name}: expected Instances, got {type(instances).__name__} without {field}"
            )
    scores = _array(f"{name}: scores", instances.scores, ("K",), "floating")
    count = len(scores)
    boxes = _boxes(f"{name}: boxes", instances.boxes, count)
    labels = _labels(f"{name}: labels", instances.labels, count, num_classes)
    masks = _masks(f"{name}: masks", instances.masks, count)
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"{name}: scores: expected finite numbers, got {bad} NaN or infinite")
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes[order], labels[order], scores[order], None if masks is None else masks[order]
    )


def ground_truth(name: str, truth: GroundTruth, num_classes: int) -> GroundTruth:
    """Checks the truth of the image `name`; boxes come back as float64.

    Raises:
        TypeError: Not a GroundTruth, or a field has another kind of dtype.
        ValueError: A wrong shape, a NaN or infinity, an inside-out box, a class out of range.
    """
    if not isinstance(truth, GroundTruth):
        raise TypeError(f"{name}: expected GroundTruth, got {type(truth).__name__}")
    name = f"{name}: truth"
    count = len(_array(f"{name} labels", truth.labels, ("N",), "integer"))
    semantic = truth.semantic
    if semantic is not None:
        semantic = _array(f"{name} semantic", semantic, ("H", "W"), "integer")
    masks = _masks(f"{name} masks", truth.masks, count)
    if masks is not None and semantic is not None and masks.shape[1:] != semantic.shape:
        raise ValueError(
            f"{name} semantic: expected {list(masks.shape[1:])} as the masks have,"
            f" got {list(semantic.shape)}"
        )
    return GroundTruth(
        boxes=_boxes(f"{name} boxes", truth.boxes, count),
        labels=_labels(f"{name} labels", truth.labels, count, num_classes),
        difficult=_array(f"{name} difficult", truth.difficult, (count,), "bool"),
        masks=masks,
        ignore=truth.ignore,
        semantic=semantic,
        crowd=None
        if truth.crowd is None
        else _array(f"{name} crowd", truth.crowd, (count,), "bool"),
    )


def check_masks(name: str, found: Detections, size: tuple[int, ...]) -> None:
    """Raises ValueError unless every prediction of the image has a mask of `size` (H, W)."""
    if len(found) == 0:
        return
    if found.masks is None:
        raise ValueError(f"{name}: masks: expected [{len(found)}, H, W] bool, got None")
    if found.masks.shape[1:] != size:
        raise ValueError(
            f"{name}: masks: expected {list(size)} pixels as the truth has,"
            f" got {list(found.masks.shape[1:])}"
        )


def pairs(
    predictions: Mapping[str, InstancesLike], truth: Mapping[str, GroundTruth], num_classes: int
) -> Iterator[tuple[str, Detections, GroundTruth]]:
    """The checked images in the order of their names, so that a mapping's order is of no effect.

    Raises:
        ValueError: The two mappings name different images. An image in which nothing was found
            needs an entry too (`Instances.empty()`), so that none is forgotten silently.
    """
    check_names(predictions, truth)
    for name in sorted(truth):
        yield (
            name,
            detections(name, predictions[name], num_classes),
            ground_truth(name, truth[name], num_classes),
        )


def check_names(predictions: Mapping[str, object], truth: Mapping[str, object]) -> None:
    """Raises ValueError unless both mappings name the same images."""
    for title, extra in (
        ("predictions without truth", predictions.keys() - truth.keys()),
        ("truth without predictions", truth.keys() - predictions.keys()),
    ):
        if extra:
            shown = ", ".join(map(repr, sorted(extra)[:3]))
            raise ValueError(f"predictions: {len(extra)} image(s) with {title}: {shown}")


def check_classes(num_classes: int) -> int:
    """Raises ValueError unless `num_classes` is a count of at least 1."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes: expected an int of at least 1, got {num_classes!r}")
    return num_classes


def check_threshold(threshold: float) -> float:
    """Raises ValueError unless `threshold` is an IoU in (0, 1]."""
    if not 0 < threshold <= 1:
        raise ValueError(f"iou_threshold: expected a number in (0, 1], got {threshold}")
    return float(threshold)


_KINDS = {"floating": np.floating, "integer": np.integer, "bool": np.bool_}
_DTYPES = {"floating": np.float64, "integer": np.int64, "bool": np.bool_}


def _array(name: str, value: object, shape: tuple[int | str, ...], kind: str) -> np.ndarray:
    """`value` as a numpy array: float64, int64 or bool by `kind`; a str in shape is a free size."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    wanted = f"[{', '.join(map(str, shape))}] {kind}"
    got = f"{list(array.shape)} {array.dtype}"
    fits = len(shape) == array.ndim and all(
        isinstance(want, str) or size == want
        for size, want in zip(array.shape, shape, strict=False)
    )
    if not fits:
        raise ValueError(f"{name}: expected {wanted}, got {got}")
    if not np.issubdtype(array.dtype, _KINDS[kind]):
        raise TypeError(f"{name}: expected {wanted}, got {got}")
    return array.astype(_DTYPES[kind], copy=False)


def _boxes(name: str, value: object, count: int) -> np.ndarray:
    boxes = _array(name, value, (count, 4), "floating")
    if not np.isfinite(boxes).all():
        bad = int((~np.isfinite(boxes)).sum())
        raise ValueError(f"{name}: expected finite numbers, got {bad} NaN or infinite")
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if inverted.any():
        example = boxes[inverted][0].tolist()
        raise ValueError(f"{name}: expected x1 <= x2 and y1 <= y2, got {example}")
    return boxes


def _labels(name: str, value: object, count: int, num_classes: int) -> np.ndarray:
    labels = _array(name, value, (count,), "integer")
    if count and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"{name}: expected classes in [0, {num_classes}), got [{labels.min()}, {labels.max()}]"
        )
    return labels


def _masks(name: str, value: object, count: int) -> np.ndarray | None:
    return None if value is None else _array(name, value, (count, "H", "W"), "bool")
