"""Training examples: an image at a random scale and flip, with everything else in its frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from labelpenet.config import Config
from labelpenet.data.images import load_image
from labelpenet.data.transforms import (
    flip_boxes,
    flip_image,
    flip_masks,
    resize_image,
    scale_boxes,
    to_tensor,
)
from labelpenet.models.detection import Targets
from labelpenet.types import Dataset, ImageRecord, Instances


@dataclass(frozen=True)
class Example:
    """One image as a step sees it.

    Attributes:
        image: [3, H, W] RGB in [0, 255].
        scale: Of it against the file's image.
        flipped: Whether left and right are swapped.
    """

    image: Tensor
    scale: float
    flipped: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes [R, 4] of the file's frame in this example's."""
        boxes = scale_boxes(boxes, self.scale)
        return flip_boxes(boxes, self.size[1]) if self.flipped else boxes

    def masks(self, masks: Tensor) -> Tensor:
        """Masks [T, H0, W0] bool of the file's frame in this example's."""
        resized = torch.nn.functional.interpolate(
            masks[:, None].to(torch.uint8), self.size, mode="nearest-exact"
        )[:, 0].bool()
        return flip_masks(resized) if self.flipped else resized

    def targets(self, instances: Instances, weighted: bool) -> Targets:
        """Instances of the file's frame as this example's targets."""
        weights = instances.scores if weighted else torch.ones_like(instances.scores)
        masks = None if instances.masks is None else self.masks(instances.masks)
        return Targets(self.boxes(instances.boxes), instances.labels, weights, masks)


def load_example(record: ImageRecord, config: Config, generator: torch.Generator) -> Example:
    """Reads an image and draws its scale and flip."""
    train = config.train
    choice = int(torch.randint(len(train.scales), (1,), generator=generator))
    image, scale = resize_image(
        to_tensor(load_image(record.path)), train.scales[choice], train.longest
    )
    flipped = train.flip and bool(torch.rand(1, generator=generator) < 0.5)
    return Example(flip_image(image) if flipped else image, scale, flipped)


def endless(dataset: Dataset, generator: torch.Generator) -> Iterator[ImageRecord]:
    """The records again and again, shuffled anew each time."""
    while True:
        for i in torch.randperm(len(dataset), generator=generator).tolist():
            yield dataset.records[i]
