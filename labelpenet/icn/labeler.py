"""A trained ICN as one callable: a photo and its tags in, instance masks out."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
import torch

from labelpenet.copies import copy_of, enlarged
from labelpenet.icn.model import load_icn
from labelpenet.icn.predictor import MODULE, IcnPredictor
from labelpenet.labeler import least_score, usable_device
from labelpenet.models.ranking import sure_enough
from labelpenet.types import Labelling


class IcnLabeler:
    """Labels images with one checkpoint.

    Args:
        checkpoint: Written by `labelpenet train --method icn`.
        use_tags: Whether an image's tags are taken as true: nothing else is found then. Without,
            the classifier guesses them.
        device: Where the networks run.
        overrides: `section.key=value` in place of the checkpoint's settings, such as other steps.
        min_score: As Labeler has it.

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
        min_score: float | None = None,
    ) -> None:
        icn, _ = load_icn(checkpoint, overrides)
        self.classes = icn.classes
        self.config = icn.config
        self.use_tags = use_tags
        self.min_score = least_score(self.config, min_score)
        self.checkpoint = Path(checkpoint)
        self.predictor = IcnPredictor(icn.to(usable_device(device)))

    def with_trace(self, names: Container[str]) -> IcnLabeler:
        """Its pictures come with every image."""
        return self

    def __call__(self, image: np.ndarray, tags: tuple[int, ...], name: str = "") -> Labelling:
        """Labels one image [H, W, 3] uint8."""
        known = tags if self.use_tags and tags else None
        copy = copy_of(image, self.config.longest)
        result = self.predictor(copy, known)
        whole, size = ((one.shape[0], one.shape[1]) for one in (image, copy))
        result = enlarged(result, whole, size)
        found = result.instances
        keep = sure_enough(found.scores, found.labels, self.min_score, known or ())
        return dataclasses.replace(result, instances=found.select(keep.nonzero().flatten()))
