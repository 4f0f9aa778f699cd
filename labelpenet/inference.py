"""What each module of a cascade finds in one image: used to label, and to teach the next module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from labelpenet.classify import Classify
from labelpenet.copies import boxes_in, copy_of, enlarged
from labelpenet.detect import Detect
from labelpenet.icn.attention import icn_attention
from labelpenet.models.cascade import Cascade
from labelpenet.sample import Sample
from labelpenet.types import Labelling
from labelpenet.views import View, autocast, see
from labelpenet.whole_image import WholeImage


class Predictor:
    """Runs the modules of one cascade on images.

    Args:
        cascade: Trained up to the modules that will be asked for; put into evaluation mode.
        least: Objects of a lower score are left out, but for the best one of every tag.
        teaching: Whether the objects are for a next module to learn from (`Config.for_teaching`).
    """

    def __init__(self, cascade: Cascade, least: float = 0.0, *, teaching: bool = False) -> None:
        self.cascade = cascade.eval()
        self.config = cascade.config.for_teaching() if teaching else cascade.config
        self.device = next(cascade.parameters()).device
        self.whole = WholeImage(cascade)
        attend = icn_attention(self.config, cascade.classes, self.device)
        self.classify = Classify(cascade, attend, least)
        self.detect = Detect(cascade, self.whole, attend, least, self.config)

    @torch.no_grad()
    def __call__(
        self,
        image: np.ndarray,
        proposals: np.ndarray,
        module: int,
        tags: tuple[int, ...] | None = None,
    ) -> Labelling:
        """The objects that `module` (1 to 4) finds.

        Args:
            image: [H, W, 3] uint8.
            proposals: [R, 4] boxes of selective search; modules 2 to 4 read them where the settings
                say so.
            module: Which module answers.
            tags: The classes that are there; None where that is unknown.
        """
        self.cascade.module(module)  # refuses a number that is no module
        with autocast(self.config, self.device):
            return self.answer(self.sample(image, proposals, tags), module)

    @torch.no_grad()
    def sample(
        self,
        image: np.ndarray,
        proposals: np.ndarray,
        tags: tuple[int, ...] | None,
        views: Sequence[View] | None = None,
    ) -> Sample:
        """The image as every module gets it; see `Sample`.

        Args:
            image: [H, W, 3] uint8.
            proposals: [R, 4].
            tags: The classes that are there; None where that is unknown.
            views: Of the image, where the trunk has seen it already; None lets it look.
        """
        views = self.views([image])[0] if views is None else views
        copy = copy_of(image, self.config.longest)
        whole = (image.shape[0], image.shape[1])
        boxes = boxes_in(proposals, whole, (copy.shape[0], copy.shape[1]))
        return Sample(copy, whole, boxes, tags, views, self.whole.maps(views, copy, tags))

    @torch.no_grad()
    def answer(self, sample: Sample, module: int) -> Labelling:
        """As a call, where the trunk has seen the image: one pass of it for several modules."""
        return enlarged(self.in_copy(sample, module), sample.whole, sample.size)

    @torch.no_grad()
    def in_copy(self, sample: Sample, module: int) -> Labelling:
        """The answer in the frame of the copy that is looked at, where the image is a large one."""
        return self.classify(sample) if module == 1 else self.detect(sample, module)

    @torch.no_grad()
    def views(self, images: Sequence[np.ndarray]) -> list[list[View]]:
        """The views of each image; those of one size go through the trunk together.

        The features of an image do not depend on what else is in the batch but for rounding.
        """
        with autocast(self.config, self.device):
            copies = [copy_of(image, self.config.longest) for image in images]
            return see(self.cascade.trunk, copies, self.config, self.device)
