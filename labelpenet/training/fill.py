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
from labelpenet.types import ImageRecord
from labelpenet.views import autocast

_PRIOR = 1.0  # of how many sure objects the usual fill of all classes counts


@torch.no_grad()
def fit_fill(
    cascade: Cascade,
    number: int,
    records: Sequence[ImageRecord],
    proposals: ProposalStore,
    console: Console | None = None,
) -> None:
    """Sets the usual fill of module 3 or 4 to the mean over what it finds in some images.

    Each detection counts by its score, and 0.6 as one sure object of every class does.

    Args:
        cascade: Its module is trained.
        number: 3 or 4.
        records: The training images, of which some, evenly spread, are seen; their tags are read.
        proposals: Their boxes.
        console: Where progress goes; None is silent.
    """
    config, taught = cascade.config, cast(SegmentationModule, cascade.module(number))
    count = min(config.train.fill_images, len(records))
    chosen = [records[i * len(records) // count] for i in range(count)]
    predictor = Predictor(cascade.for_inference())
    module = cast(SegmentationModule, predictor.cascade.module(number))
    weight = torch.full_like(taught.usual_fill, _PRIOR)
    total = weight * USUAL_FILL
    for record in track(chosen, f"fill of masks of module {number}", count, console):
        with autocast(config, predictor.device):
            image = load_image(record.path)
            sample = predictor.sample(image, proposals[record.name], record.labels)
            found, masks = predictor.detect.masked(sample, module)
        scores = found.scores.float()
        weight.index_add_(0, found.labels, scores)
        total.index_add_(0, found.labels, scores * fill(masks, found.boxes))
    taught.usual_fill.copy_(total / weight)
