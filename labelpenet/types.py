"""Records that the parts of labelpenet hand to each other. A leaf: imports nothing of the package.

Boxes are float32 (x1, y1, x2, y2) in pixels of the image as it is shown (EXIF rotation applied),
0-based, with exclusive continuous x2 and y2: a box around the single pixel (3, 5) is (3, 5, 4, 6).
Classes are 0-based indices without background; a semantic map uses 0 for background, class + 1 for
an object and 255 for void, as VOC does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageRecord:
    """One image and the classes that its tags name.

    Attributes:
        name: Unique within a dataset; a relative path without extension, such as `2007_000032`.
        path: The image file.
        labels: Class indices, sorted, without repeats. Empty where the tags are unknown.
    """

    name: str
    path: Path
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class GroundTruth:
    """What is known to be in an image; used to evaluate, never to train.

    Attributes:
        boxes: [N, 4] float32.
        labels: [N] int64.
        difficult: [N] bool; such objects are neither counted nor penalised by VOC's metrics.
        masks: [N, H, W] bool, or None where only boxes are known.
        ignore: [H, W] bool, the void pixels, or None.
        semantic: [H, W] uint8 (0 background, class + 1, 255 void), or None.
        crowd: [N] bool, regions of many objects (COCO's `iscrowd`), or None where there are none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    masks: np.ndarray | None = None
    ignore: np.ndarray | None = None
    semantic: np.ndarray | None = None
    crowd: np.ndarray | None = None


@dataclass(frozen=True)
class Dataset:
    """Images with a shared list of class names.

    Attributes:
        classes: Class names; an index into it is a class.
        records: The images, in a fixed order.
        truth: Ground truth by image name, for the images where it is known; may read its files only
            when asked, so keep what is used twice.
    """

    classes: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    truth: Mapping[str, GroundTruth] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Quality:
    """How far each of K labels may be trusted, told without ground truth; NaN where unknown.

    `labelpenet.quality` computes the figures.

    Attributes:
        peak_support: [K] float32 in [0, 1], the share of the attention that lies inside the mask.
        crf_change: [K] float32 in [0, 1], IoU of the mask before and after the dense CRF; 1 is no
            change.
        agreement: [K] float32 in [0, 1], IoU of the masks of modules 3 and 4 for the object.
        score_margin: [K] float32 in [-1, 1], probability of the class less the best other one.
    """

    peak_support: Tensor
    crf_change: Tensor
    agreement: Tensor
    score_margin: Tensor

    def select(self, index: Tensor) -> Quality:
        """The figures at `index` ([M] int64, or [K] bool), in that order."""
        return Quality(*(getattr(self, f.name)[index] for f in fields(self)))

    def overall(self) -> Tensor:
        """[K] in [0, 1]: the mean of the known figures, the margin drawn from [-1, 1] into [0, 1].

        Example:
            >>> one, unknown = torch.ones(1), torch.full((1,), torch.nan)
            >>> Quality(one, 0.5 * one, unknown, -one).overall().tolist()
            [0.5]
        """
        margin = (1 + self.score_margin) / 2
        figures = torch.stack((self.peak_support, self.crf_change, self.agreement, margin))
        return figures.nanmean(0)

    @staticmethod
    def of(count: int, **figures: Tensor) -> Quality:
        """Those figures, [count] each, and NaN for the others."""
        known = {k: v.detach().cpu().float() for k, v in figures.items()}
        unknown = torch.full((count,), torch.nan)
        return Quality(**{f.name: known.pop(f.name, unknown) for f in fields(Quality)}, **known)


@dataclass(frozen=True)
class Instances:
    """The objects that a module found in one image, best score first.

    Attributes:
        boxes: [K, 4] float32.
        labels: [K] int64.
        scores: [K] float32 in [0, 1]; the instance weights W when these are training targets.
        masks: [K, H, W] bool, or None for boxes alone.
        quality: How far to trust each one, or None where nothing is known about it.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor | None = None
    quality: Quality | None = None

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    def select(self, index: Tensor | Sequence[int]) -> Instances:
        """The instances at `index` ([M] int64, or [K] bool), in that order."""
        index = torch.as_tensor(index)
        if index.numel() == 0:
            index = index.to(torch.long)
        masks = None if self.masks is None else self.masks[index]
        quality = None if self.quality is None else self.quality.select(index)
        return Instances(self.boxes[index], self.labels[index], self.scores[index], masks, quality)

    @staticmethod
    def empty(height: int | None = None, width: int | None = None) -> Instances:
        """No instances; with a size, also an empty [0, height, width] mask tensor."""
        masks = None
        if height is not None and width is not None:
            masks = torch.zeros((0, height, width), dtype=torch.bool)
        labels = torch.zeros(0, dtype=torch.int64)
        return Instances(torch.zeros((0, 4)), labels, torch.zeros(0), masks)


@dataclass(frozen=True)
class Labelling:
    """What labelling one image gives.

    Attributes:
        instances: The objects with their masks.
        module: The module of the cascade that they come from, 1 to 4.
        maps: Pictures of the way there, by name in order, such as `attention`, `heat-map` and
            `CRF mask`: each [H, W] float32 in [0, 1].
        presence: How likely each class is in the image, [C] float32; None where tags say that.
    """

    instances: Instances
    module: int
    maps: dict[str, Tensor] = field(default_factory=dict)
    presence: Tensor | None = None
