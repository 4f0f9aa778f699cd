"""A trained ICN as one callable: a photo and its tags in, instance masks out."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import torch

from labelpenet.icn.model import load_icn
from labelpenet.icn.predictor import MODULE, IcnPredictor
from labelpenet.labeler import usable_device
from labelpenet.types import Labelling


class IcnLabeler:
    """Labels images with one checkpoint.

    Args:
        checkpoint: Written by `labelpenet train --method icn`.
        use_tags: Whether an image's tags are taken as true: nothing else is found then. Without,
            the classifier guesses them.
        device: Where the networks run.
        overrides: `section.key=value` in place of the checkpoint's settings, such as other steps.

    Raises:
        CheckpointError: The file cannot be used.
        ValueError: The device is unknown or not there.
    """

    module = MODULE

    def __init__(
        self,
        checkpoint: Path,
        *,
        use_tags: bool = True,
        device: str | torch.device = "cpu",
        overrides: Sequence[str] = (),
    ) -> None:
        icn, _ = load_icn(checkpoint, overrides)
        self.classes = icn.classes
        self.config = icn.config
        self.use_tags = use_tags
        self.checkpoint = Path(checkpoint)
        self.predictor = IcnPredictor(icn.to(usable_device(device)))

    def with_trace(self, names: Container[str]) -> IcnLabeler:
        """Its pictures come with every image."""
        return self

    def __call__(self, image: np.ndarray, tags: tuple[int, ...], name: str = "") -> Labelling:
        """Labels one image [H, W, 3] uint8."""
        return self.predictor(image, tags if self.use_tags and tags else None)
