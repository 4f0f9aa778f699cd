"""One image as the modules of a cascade get it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from labelpenet.class_maps import ClassMaps
from labelpenet.views import View


class Sample(NamedTuple):
    """What all modules share: made once, whatever number of them answers.

    Attributes:
        image: [H, W, 3] uint8, a copy where it is large (`longest`); its frame is that of the
            proposals and of all that the modules find.
        whole: (height, width) of the image itself, to which answers are enlarged.
        proposals: [R, 4] boxes of selective search.
        tags: The classes that are there; None where that is unknown.
        views: What the trunk made of the image, at one or more scales.
        maps: Where the whole-image classifier sees each class; None where no rule asks for it.
    """

    image: np.ndarray
    whole: tuple[int, int]
    proposals: np.ndarray
    tags: tuple[int, ...] | None
    views: Sequence[View]
    maps: ClassMaps | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the copy."""
        return self.image.shape[0], self.image.shape[1]
