"""Training examples: which image comes when, at a random scale and flip, with its labels along.

Every random choice follows from (seed, stage, step, place in the batch) alone, so a run that goes
on from any step, or on several processes, sees what an undisturbed single one does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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
from labelpenet.types import ImageRecord, Instances


@dataclass(frozen=True)
class Example:
    """One image as a step sees it.

    Attributes:
        record: The file and its tags.
        image: [3, H, W] RGB in [0, 255].
        scale: Of it against the file's image.
        flipped: Whether left and right are swapped.
        generator: For every further choice about this image in this step.
    """

    record: ImageRecord
    image: Tensor
    scale: float
    flipped: bool
    generator: torch.Generator

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    @property
    def pixels(self) -> np.ndarray:
        """The image as labelling takes it, [H, W, 3] uint8."""
        return self.image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def to(self, device: torch.device) -> Example:
        """The image on a device; the generator stays, so that every device draws the same."""
        return dataclasses.replace(self, image=self.image.to(device))

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
        masks = None if instances.masks is None else self.masks(instances.masks)
        boxes = self.boxes(instances.boxes)
        return as_targets(dataclasses.replace(instances, boxes=boxes, masks=masks), weighted)


def as_targets(found: Instances, weighted: bool) -> Targets:
    """Instances of an example's frame as targets, their scores as W where that is wanted."""
    weights = found.scores if weighted else torch.ones_like(found.scores)
    return Targets(found.boxes, found.labels, weights, found.masks)


def seed_for(*key: int) -> int:
    """A seed from whole numbers >= 0: the same ones give the same, others an unrelated one.

    Example:
        >>> seed_for(0, 1, 2) == seed_for(0, 1, 3)
        False
    """
    (state,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return int(state) >> 1


def evenly(records: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """At most `count` of the records, evenly spread."""
    count = min(count, len(records))
    return [records[i * len(records) // count] for i in range(count)]


def generator_for(*key: int) -> torch.Generator:
    """A generator with the seed of `key`."""
    return torch.Generator().manual_seed(seed_for(*key))


def load_example(record: ImageRecord, config: Config, generator: torch.Generator) -> Example:
    """Reads an image and draws its scale and flip."""
    train = config.train
    choice = int(torch.randint(len(train.scales), (1,), generator=generator))
    image, scale = resize_image(
        to_tensor(load_image(record.path)), train.scales[choice], train.longest
    )
    flipped = train.flip and bool(torch.rand(1, generator=generator) < 0.5)
    return Example(record, flip_image(image) if flipped else image, scale, flipped, generator)


class Order:
    """The images without end: all of them once, shuffled, then all again in another order.

    Args:
        records: The images.
        key: What the shuffling follows from.
        start: How many images came before the first one.

    Example:
        >>> order = Order([ImageRecord(f"{i}", "a.jpg") for i in range(3)], (0, 1))
        >>> sorted(order[i].name for i in range(3, 6))
        ['0', '1', '2']
    """

    def __init__(
        self, records: Sequence[ImageRecord], key: tuple[int, ...], start: int = 0
    ) -> None:
        self._records = records
        self._start = start
        self._round = functools.lru_cache(maxsize=2)(
            lambda number: torch.randperm(len(records), generator=generator_for(*key, number))
        )

    def __getitem__(self, place: int) -> ImageRecord:
        number, within = divmod(self._start + place, len(self._records))
        return self._records[int(self._round(number)[within])]

    def first(self, count: int) -> list[ImageRecord]:
        """The different images among the first `count`, as they come."""
        different: dict[str, ImageRecord] = {}
        for place in range(count):
            if len(different) == len(self._records):
                break
            record = self[place]
            different.setdefault(record.name, record)
        return list(different.values())
