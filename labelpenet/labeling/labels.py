"""Labels of many images, wherever they are kept: what the reader of every format gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from labelpenet.data.locations import is_url
from labelpenet.data.members import source_suffix
from labelpenet.labeling.entries import MAX_COORDINATE, QUALITY_RANGES
from labelpenet.rle import decode_mask, fill_polygons
from labelpenet.types import Instances, Quality

MAX_PIXELS = 2**28
"""The largest height * width of a labelled image."""

MAX_MASK_PIXELS = 2**32
"""The largest sum over the masks of one image of height * width."""

Mask = str | list[int] | list[list[float]]
"""COCO's compressed counts, its plain counts, or polygons."""


@dataclass(frozen=True)
class LabelledObject:
    """One object of an image, its mask still encoded.

    Attributes:
        label: Class index.
        score: In [0, 1].
        box: (x1, y1, x2, y2) in pixels.
        mask: None where only the box is known.
        quality: Figures of `labelpenet.types.Quality` by name, None where unknown; empty where
            nothing is said.
    """

    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: Mask | None
    quality: Mapping[str, float | None]


@dataclass(frozen=True)
class LabelledImage:
    """One image and its objects.

    Attributes:
        name: Unique among the labels; a relative path without extension.
        source: The image file as a path or URL; where the labels come from COCO JSON, its
            `file_name`, which anyone may have written. To open it, ask `Labels.photo`.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        tags: Class indices that the image was said to have; none where they were not looked at.
        module: The module of the cascade that answered, None where that is unknown.
        objects: In the order of the labels, the best score first where labelpenet wrote them.
    """

    name: str
    source: str
    height: int
    width: int
    tags: tuple[int, ...] = ()
    module: int | None = None
    objects: tuple[LabelledObject, ...] = ()

    @property
    def file_name(self) -> str:
        """The name with the extension of the image file."""
        return self.name + source_suffix(self.source)

    def instances(self) -> Instances:
        """The objects with decoded masks; masks is None where only boxes are known."""
        found = self.objects
        if not found:
            return Instances.empty(self.height, self.width)
        masks = None
        if found[0].mask is not None:
            array = np.empty((len(found), self.height, self.width), dtype=bool)
            for target, one in zip(array, found, strict=True):
                target[:] = self._decoded(one.mask)
            masks = torch.from_numpy(array)
        return Instances(
            torch.tensor([one.box for one in found], dtype=torch.float64).float(),
            torch.tensor([one.label for one in found], dtype=torch.int64),
            torch.tensor([one.score for one in found], dtype=torch.float32),
            masks,
            self._quality(),
        )

    def check(self, class_count: int) -> LabelledImage:
        """Itself, after a look at every number but those of the masks, which decoding checks.

        Raises:
            ValueError: Something is out of range.
        """
        if min(self.height, self.width) < 1 or self.height * self.width > MAX_PIXELS:
            came = f"height {self.height}, width {self.width}"
            raise ValueError(f"expected a size of 1 to {MAX_PIXELS} pixels, got {came}")
        for i, one in enumerate(self.objects):
            self._check_object(f"object {i}", one, class_count)
        with_mask = sum(one.mask is not None for one in self.objects)
        if with_mask not in (0, len(self.objects)):
            raise ValueError("expected a mask for all objects or none")
        if with_mask * self.height * self.width > MAX_MASK_PIXELS:
            size = f"{with_mask} masks of {self.height} x {self.width}"
            raise ValueError(f"expected at most {MAX_MASK_PIXELS} mask pixels, got {size}")
        return self

    def _check_object(self, where: str, one: LabelledObject, class_count: int) -> None:
        if not 0 <= one.label < class_count:
            raise ValueError(f"{where}: label: expected one of {class_count}, got {one.label}")
        if not 0 <= one.score <= 1:
            raise ValueError(f"{where}: score: expected a number in [0, 1], got {one.score}")
        x1, y1, x2, y2 = one.box
        if not (x1 <= x2 and y1 <= y2 and max(map(abs, one.box)) <= MAX_COORDINATE):
            raise ValueError(f"{where}: box: expected finite x1 <= x2, y1 <= y2, got {one.box}")
        for name, (low, high) in QUALITY_RANGES.items():
            figure = one.quality.get(name)
            if figure is not None and not low <= figure <= high:
                wanted = f"a number in [{low:g}, {high:g}] or nothing"
                raise ValueError(f"{where}: quality.{name}: expected {wanted}, got {figure}")

    def _decoded(self, mask: Mask | None) -> np.ndarray:
        if isinstance(mask, list) and mask and isinstance(mask[0], list):
            return fill_polygons(mask, self.height, self.width)
        try:
            return decode_mask(mask, self.height, self.width)
        except ValueError as error:
            raise ValueError(f"image {self.name!r}: {error}") from None

    def _quality(self) -> Quality | None:
        """What is said of the labels; None where nothing is."""
        if not any(one.quality for one in self.objects):
            return None
        return Quality(*(_column(self.objects, name) for name in QUALITY_RANGES))


class Labels(ABC):
    """Labels of many images, read as they are asked for.

    Attributes:
        classes: Class names; an object's label is an index into them.
        paint_score: Objects of a lower score are meant to be left out of semantic maps.
        complete: Whether the job that makes them went through all of its images.
    """

    classes: tuple[str, ...]
    paint_score: float = 0.0
    complete: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """How many images are labelled."""

    @abstractmethod
    def __iter__(self) -> Iterator[LabelledImage]:
        """The images in the order of their source, a few in memory at a time."""

    @abstractmethod
    def __contains__(self, name: object) -> bool:
        """Whether an image of this name is labelled."""

    @abstractmethod
    def __getitem__(self, name: str) -> LabelledImage:
        """The image of a name; KeyError where it is not labelled."""

    def names(self) -> Iterator[str]:
        """The images' names, in order."""
        return (image.name for image in self)

    def failed(self) -> Iterator[str]:
        """The names of the images that could not be labelled, where that is known."""
        return iter(())

    def gaps(self) -> list[str]:
        """What the labels lack of what they are to hold, each as a phrase."""
        found = [] if self.complete else ["not complete, its job has not gone through all images"]
        if failed := sum(1 for _ in self.failed()):
            found.append(f"without {failed} images that could not be labelled (errors.jsonl)")
        return found

    def photo(self, image: LabelledImage, folder: Path) -> Path | str:
        """Where the photo of one of the images is.

        Args:
            image: One of these labels.
            folder: Where sources that are no absolute paths lie.

        Returns:
            A path, or a URL as text.

        Raises:
            ValueError: The labels come from a file that anyone may have written, and the photo
                would lie outside of `folder`.
        """
        return image.source if is_url(image.source) else folder / image.source


def _column(objects: Sequence[LabelledObject], name: str) -> torch.Tensor:
    """One figure of every object [K], NaN where it is unknown."""
    values = [one.quality.get(name) for one in objects]
    return torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float32)
