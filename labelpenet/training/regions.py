"""A start for module 1's class scores of proposals: the best for eq. 2 on its layers as they are.

Scores that start from the whole-image classifier were scaled for whole images; a loss of several
nats would first spend its steps, and the features it goes through, on that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.console import Console
from torch import Tensor

from labelpenet.data.images import load_image
from labelpenet.data.proposals import ProposalStore
from labelpenet.data.transforms import resize_image, scale_boxes, to_tensor
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import pool
from labelpenet.progress import track
from labelpenet.training.convex import fit_linear
from labelpenet.training.examples import evenly
from labelpenet.types import ImageRecord

_STEPS, _DECAY = 80, 5e-4


@torch.no_grad()
def fit_regions(
    cascade: Cascade,
    records: Sequence[ImageRecord],
    proposals: ProposalStore,
    console: Console | None = None,
) -> None:
    """Fits fc8c of module 1 to the tags of some images, evenly spread.

    Every proposal of an image weighs the same: fc8w knows nothing yet.

    Args:
        cascade: Its fc6 and fc7 stay as they are.
        records: The training images; their tags are read.
        proposals: Their boxes.
        console: Where progress goes; None is silent.
    """
    config, module = cascade.config, cascade.classification
    device = module.fc8c.weight.device
    chosen = evenly(records, config.train.region_images)
    scales = config.train.scales
    seeing = cascade.for_inference().eval()
    head = seeing.classification
    rows = []
    for i, record in enumerate(track(chosen, "features of proposals", len(chosen), console)):
        image, scale = resize_image(
            to_tensor(load_image(record.path)), scales[i % len(scales)], config.train.longest
        )
        boxes = torch.from_numpy(proposals[record.name][: config.proposals.train_limit]).to(device)
        stage5 = head.stage5(seeing.trunk(image.to(device)))
        _, last = head.fc(pool(stage5, scale_boxes(boxes, scale), module.grid, 7))
        rows.append(last.float().mean(0))
    features = torch.stack(rows)
    tags = torch.zeros(len(chosen), len(cascade.classes), device=device)
    for own, record in zip(tags, chosen, strict=True):
        own[list(record.labels)] = 1

    def loss(logits: Tensor) -> Tensor:  # eq. 2
        return -(tags * torch.log_softmax(logits, 1)).sum(1).mean()

    size = features.std(0).mean().clamp(min=1e-6)
    weight, bias = fit_linear(
        features / size,
        len(cascade.classes),
        loss,
        steps=_STEPS,
        decay=_DECAY / len(cascade.classes),
    )
    module.fc8c.weight.copy_(weight / size)
    module.fc8c.bias.copy_(bias)
