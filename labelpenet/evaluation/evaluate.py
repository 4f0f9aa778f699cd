"""All figures of a dataset in one pass over its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelpenet.evaluation.boxes import hit_boxes, hit_rate, match_boxes
from labelpenet.evaluation.classification import match_image
from labelpenet.evaluation.inputs import (
    Detections,
    InstancesLike,
    check_names,
    detections,
    ground_truth,
)
from labelpenet.evaluation.masks import (
    MASK_THRESHOLDS,
    best_overlap_means,
    best_overlaps,
    class_mask_iou,
    match_masks,
    objects,
)
from labelpenet.evaluation.matching import ImageMatches, Interpolation, Matches, Matching, PerClass
from labelpenet.evaluation.semantic import class_iou, confusion_matrix, paint
from labelpenet.evaluation.summary import Evaluation
from labelpenet.types import GroundTruth

_MASK_SETTINGS = [(m, t) for m in (Matching.BEST, Matching.GREEDY) for t in MASK_THRESHOLDS]


@dataclass(frozen=True)
class _Image:
    """What remains of an image once it was added: outcomes, no pixels."""

    boxes: ImageMatches
    hits: np.ndarray  # [C] float64
    labels: np.ndarray  # [N] int64, of the true objects, crowds left out
    masks: dict[tuple[Matching, float], ImageMatches] | None
    overlaps: np.ndarray | None  # [N] float64
    classification: ImageMatches | None


class Evaluator:
    """Takes images one at a time, in any order, and keeps no pixels of them.

    Mask figures are taken over the images whose truth has masks, IoU over those whose truth has a
    semantic map; where predictions carry no masks at all, neither is.

    Args:
        classes: Names, without background.
        paint_score: Predictions of a lower score are left out of the semantic maps that IoU
            compares; every other figure counts them.

    Raises:
        ValueError: No classes, repeated ones, or paint_score outside [0, 1].

    Example:
        >>> from labelpenet.types import Instances
        >>> evaluator = Evaluator(["cat"])
        >>> truth = GroundTruth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]))
        >>> evaluator.add("a", Instances.empty(), truth)
        >>> evaluator.result().box_ap.mean
        0.0
    """

    def __init__(self, classes: Sequence[str], paint_score: float = 0.0) -> None:
        if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
            raise ValueError(f"classes: expected different names, at least one, got {classes!r}")
        if not 0 <= paint_score <= 1:
            raise ValueError(f"paint_score: expected a number in [0, 1], got {paint_score}")
        self.classes = tuple(classes)
        self.paint_score = paint_score
        self._images: dict[str, _Image] = {}
        self._with_masks: bool | None = None  # unknown until an image has predictions
        self._confusion = np.zeros((len(classes) + 1,) * 2, np.int64)
        self._semantic_images = 0

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        name: str,
        instances: InstancesLike,
        truth: GroundTruth,
        image_scores: object | None = None,
    ) -> None:
        """Adds an image.

        Args:
            name: Unique.
            instances: What was found in it.
            truth: What is in it.
            image_scores: [C] floats, how sure each class is to be in it: for all images or none.

        Raises:
            TypeError: A field of another dtype.
            ValueError: A name added before, wrong shapes, NaN or infinite numbers, classes out of
                range, masks or image scores for some images only.
        """
        if name in self._images:
            raise ValueError(f"{name}: this image was added before")
        num_classes = len(self.classes)
        found = detections(name, instances, num_classes)
        known = ground_truth(name, truth, num_classes)
        has_masks = self._check_masks(name, found)
        self._check_scores(name, image_scores)
        masks, overlaps = None, None
        if has_masks and known.masks is not None:
            iou = class_mask_iou(name, found, known)
            overlaps = best_overlaps(iou[:, objects(known)])
            masks = {
                (matching, threshold): match_masks(
                    iou, found, known, num_classes, threshold, matching
                )
                for matching, threshold in _MASK_SETTINGS
            }
        classification = None
        if image_scores is not None:
            classification = match_image(name, image_scores, known, num_classes)
        confusion = None
        if has_masks and known.semantic is not None:
            height, width = known.semantic.shape
            painted = paint(name, found, height, width, self.paint_score)
            confusion = confusion_matrix(painted, known.semantic, num_classes)
        # nothing of an image that raised above may count
        if len(found):
            self._with_masks = has_masks
        if confusion is not None:
            self._confusion += confusion
            self._semantic_images += 1
        self._images[name] = _Image(
            boxes=match_boxes(found, known, num_classes),
            hits=hit_boxes(found, known, num_classes),
            labels=known.labels[objects(known)],
            masks=masks,
            overlaps=overlaps,
            classification=classification,
        )

    def merge(self, other: Evaluator) -> None:
        """Adds the images of another one, of the same classes.

        Raises:
            ValueError: Images or settings that do not go together, as in `add`.
        """
        if other.classes != self.classes:
            raise ValueError(f"classes: expected {self.classes}, got {other.classes}")
        if other.paint_score != self.paint_score:
            raise ValueError(f"paint_score: expected {self.paint_score}, got {other.paint_score}")
        twice = next((name for name in other._images if name in self._images), None)
        if twice is not None:
            raise ValueError(f"{twice}: this image was added before")
        if None not in (self._with_masks, other._with_masks) and (
            self._with_masks != other._with_masks
        ):
            raise ValueError("masks: expected them for all predictions or none")
        self._images |= other._images
        self._confusion += other._confusion
        self._semantic_images += other._semantic_images
        if other._with_masks is not None:
            self._with_masks = other._with_masks

    def _check_masks(self, name: str, found: Detections) -> bool:
        """Whether the predictions of this run carry masks."""
        if not len(found):
            return self._with_masks is not False
        has_masks = found.masks is not None
        if self._with_masks is not None and self._with_masks != has_masks:
            given, here = ("with", "without") if self._with_masks else ("without", "with")
            raise ValueError(
                f"{name}: masks: expected predictions {given} masks as before, got {here}"
            )
        return has_masks

    def _check_scores(self, name: str, image_scores: object | None) -> None:
        first = next(iter(self._images.values()), None)
        if first is not None and (first.classification is None) != (image_scores is None):
            raise ValueError(
                f"{name}: image_scores: expected them for all images or none,"
                f" got {'none' if image_scores is None else 'some'}"
            )

    def box_matches(self) -> Matches:
        """Outcomes of the boxes, images in the order of their names, for `paired_bootstrap`."""
        return Matches([image.boxes for image in self._sorted()], len(self.classes))

    def mask_matches(
        self, iou_threshold: float = 0.5, matching: Matching = Matching.BEST
    ) -> Matches:
        """Outcomes of the masks, images in the order of their names, for `paired_bootstrap`.

        Raises:
            ValueError: Masks were not evaluated, or not with this threshold and matching.
        """
        images = self._masked()
        if not images or (matching, iou_threshold) not in _MASK_SETTINGS:
            raise ValueError(
                f"iou_threshold: expected one of {MASK_THRESHOLDS} with BEST or GREEDY matching,"
                f" got {iou_threshold} with {matching.name}; {len(images)} images have masks"
            )
        outcomes = [image.masks[matching, iou_threshold] for image in images if image.masks]
        return Matches(outcomes, len(self.classes))

    def corloc_hits(self) -> np.ndarray:
        """[images, C] CorLoc outcomes, images in the order of their names."""
        rows = [image.hits for image in self._sorted()]
        return np.array(rows).reshape(-1, len(self.classes))

    def result(self) -> Evaluation:
        """The figures of the images so far; more may be added afterwards."""
        boxes = self.box_matches()
        mask_ap, abo, abo_per_object = self._mask_figures()
        semantic_images = 0 if self._with_masks is False else self._semantic_images
        class_ap, class_ap_11point = self._classification_figures()
        return Evaluation(
            classes=self.classes,
            images=len(self),
            mask_images=len(self._masked()),
            semantic_images=semantic_images,
            box_ap=boxes.average_precision(),
            box_ap_11point=boxes.average_precision(Interpolation.ELEVEN_POINT),
            corloc=hit_rate(self.corloc_hits()),
            mask_ap=mask_ap,
            abo=abo,
            abo_per_object=abo_per_object,
            iou=class_iou(self._confusion) if semantic_images else None,
            classification_ap=class_ap,
            classification_ap_11point=class_ap_11point,
        )

    def _sorted(self) -> list[_Image]:
        """By name: the order in which images were added is of no effect."""
        return [self._images[name] for name in sorted(self._images)]

    def _masked(self) -> list[_Image]:
        """The images that mask figures are taken over; none where predictions carry no masks."""
        if self._with_masks is False:  # images without predictions may have come before that
            return []
        return [image for image in self._sorted() if image.masks is not None]

    def _mask_figures(
        self,
    ) -> tuple[dict[Matching, dict[float, PerClass]] | None, PerClass | None, float | None]:
        images = self._masked()
        if not images:
            return None, None, None
        mask_ap: dict[Matching, dict[float, PerClass]] = {}
        for matching, threshold in _MASK_SETTINGS:
            matches = self.mask_matches(threshold, matching)
            mask_ap.setdefault(matching, {})[threshold] = matches.average_precision()
        overlaps = np.concatenate([i.overlaps for i in images if i.overlaps is not None])
        labels = np.concatenate([image.labels for image in images])
        return mask_ap, *best_overlap_means(overlaps, labels, len(self.classes))

    def _classification_figures(self) -> tuple[PerClass | None, PerClass | None]:
        images = [i.classification for i in self._sorted() if i.classification is not None]
        if not images:
            return None, None
        matches = Matches(images, len(self.classes))
        elevenths = matches.average_precision(Interpolation.ELEVEN_POINT)
        return matches.average_precision(), elevenths


def evaluate(
    predictions: Mapping[str, InstancesLike],
    truth: Mapping[str, GroundTruth],
    classes: Sequence[str],
    *,
    image_scores: Mapping[str, object] | None = None,
) -> Evaluation:
    """Every figure that the inputs allow; see `Evaluation` for what each one is.

    Args:
        predictions: By image name, an entry for every image of `truth`.
        truth: By image name.
        classes: Names, without background.
        image_scores: [C] floats by image name, to evaluate image-level classification.

    Raises:
        TypeError: A field of another dtype.
        ValueError: Different names, wrong shapes, NaN or infinite numbers, classes out of range,
            masks for some images only.

    Example:
        >>> import torch
        >>> from labelpenet.types import Instances
        >>> truth = GroundTruth(np.array([[0.0, 0, 9, 9]]), np.array([0]), np.array([False]))
        >>> found = Instances(torch.tensor([[0.0, 0, 9, 8]]), torch.tensor([0]), torch.ones(1))
        >>> figures = evaluate({"a": found}, {"a": truth}, ["cat", "dog"])
        >>> figures.box_ap.mean, figures.corloc.mean, figures.mask_ap
        (1.0, 1.0, None)
    """
    check_names(predictions, truth)
    if image_scores is not None:
        check_names(image_scores, truth)
    evaluator = Evaluator(classes)
    for name in sorted(truth):
        scores = None if image_scores is None else image_scores[name]
        evaluator.add(name, predictions[name], truth[name], scores)
    return evaluator.result()
