"""How well masks of each class usually fill their boxes, for scores that ask the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from rich.console import Console

from labelpenet.data.images import load_image
from labelpenet.data.proposals import ProposalStore
from labelpenet.inference import Predictor
from labelpenet.mask_confidence import fill
from labelpenet.models.cascade import Cascade
from labelpenet.models.segmentation import USUAL_FILL, SegmentationModule
from labelpenet.progress import track
from labelpenet.training.examples import evenly
from labelpenet.types import ImageRecord
from labelpenet.views import autocast

_PRIOR = 1.0  # of how many sure objects the usual fill of all classes counts


@torch.no_grad()
def fit_fill(
    cascade: Cascade,
    numbers: Sequence[int],
    records: Sequence[ImageRecord],
    proposals: ProposalStore,
    console: Console | None = None,
) -> None:
    """Sets the usual fill of module 3, 4 or both to the mean over what each finds in some images.

    Each detection counts by its score, and 0.6 as one sure object of every class does.

    Args:
        cascade: Those modules are trained.
        numbers: Which of 3 and 4.
        records: The training images, of which some, evenly spread, are seen; their tags are read.
        proposals: Their boxes.
        console: Where progress goes; None is silent.
    """
    config = cascade.config
    chosen = evenly(records, config.train.fill_images)
    predictor = Predictor(cascade.for_inference(), teaching=True)
    modules = [cast(SegmentationModule, predictor.cascade.module(number)) for number in numbers]
    weights = [torch.full_like(module.usual_fill, _PRIOR) for module in modules]
    totals = [weight * USUAL_FILL for weight in weights]
    for record in track(chosen, "how masks fill their boxes", len(chosen), console):
        with autocast(config, predictor.device):
            image = load_image(record.path)
            sample = predictor.sample(image, proposals[record.name], record.labels)
            for module, weight, total in zip(modules, weights, totals, strict=True):
                found, masks_of = predictor.detect.masked(sample, module)
                scores = found.scores.float()
                weight.index_add_(0, found.labels, scores)
                total.index_add_(0, found.labels, scores * fill(masks_of(found), found.boxes))
    for number, weight, total in zip(numbers, weights, totals, strict=True):
        cast(SegmentationModule, cascade.module(number)).usual_fill.copy_(total / weight)
