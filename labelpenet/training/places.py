"""Teaching module 1 which places of an image are of no class, from tags alone.

A whole-image classifier spreads over an object's surroundings: nothing ever told it what is
background. Its surest places become examples of their class and its least sure ones of background,
and a linear classifier of cells is fitted to them, as seeds grow in Kolesnikov and Lampert (Seed,
expand and constrain, 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from labelpenet.data.images import load_image
from labelpenet.data.transforms import resize_image, to_tensor
from labelpenet.models.cascade import Cascade
from labelpenet.progress import track
from labelpenet.training.convex import fit_linear
from labelpenet.training.examples import evenly, generator_for
from labelpenet.types import ImageRecord

# Of an image's cells, at most this share can be the seeds of one class, if they reach this share
# of its surest one ...
_OBJECT, _SURE = 0.12, 0.3
# ... and this share is background, where no tag is likelier than this.
_BACKGROUND, _UNLIKELY = 0.3, 0.3
_OBJECT_CELLS, _BACKGROUND_CELLS = 40, 60  # drawn from them
_STEPS, _DECAY = 80, 1e-3
_STAGE = 6  # for its randomness: none of the stages that take steps


@torch.no_grad()
def fit_places(
    cascade: Cascade, records: Sequence[ImageRecord], console: Console | None = None
) -> None:
    """Fits module 1's classifier of places to the seeds of some images, evenly spread.

    Args:
        cascade: Whose whole-image classifier was taught.
        records: The training images; their tags are read.
        console: Where progress goes; None is silent.
    """
    config, module = cascade.config, cascade.classification
    device = module.places.weight.device
    chosen = evenly(records, config.train.place_images)
    seeing = cascade.for_inference()
    layer = seeing.classification.fc.as_cells()
    longest = max(config.train.longest, config.train.trunk_size)
    features, labels = [], []
    for i, record in enumerate(track(chosen, "seeds of places", len(chosen), console)):
        image = to_tensor(load_image(record.path))
        image, _ = resize_image(image, config.train.trunk_size, longest)
        trunk = seeing.trunk(image.to(device))
        stage5 = seeing.classification.stage5(trunk)
        logits = seeing.classification.tag_logits(stage5, layer)[list(record.labels)].flatten(1)
        cells, own = seeds(torch.sigmoid(logits), generator_for(config.seed, _STAGE, i))
        features.append(stage5[0].flatten(1).T[cells].float())
        labels.append(_classes(own, record.labels, len(cascade.classes)).to(device))
    weight, bias = _fit(torch.cat(features), torch.cat(labels), len(cascade.classes) + 1)
    module.places.weight.copy_(weight)
    module.places.bias.copy_(bias)


def seeds(likely: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cells [S] that are surely of a tag or of none, and which [S]: 0 to K - 1, or -1.

    Args:
        likely: [K, cells] how likely each of the K tags is at each cell.
        generator: Draws among the sure cells.

    Example:
        >>> likely = torch.tensor([[0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
        >>> cells, own = seeds(likely, torch.Generator().manual_seed(0))
        >>> own[cells == 0], set(own[cells > 1].tolist())
        (tensor([0]), {-1})
    """
    count = likely.shape[1]
    best, owner = likely.max(0)
    cells, own = [], []
    for k, tag in enumerate(likely):
        exclusive = torch.where(owner == k, tag, torch.zeros_like(tag))
        top = exclusive.topk(max(1, int(_OBJECT * count))).indices
        top = top[(exclusive[top] > _SURE * exclusive.max()) & (exclusive[top] > 0)]
        cells.append(_drawn(top, _OBJECT_CELLS, generator))
        own.append(torch.full_like(cells[-1], k))
    low = (-best).topk(max(1, int(_BACKGROUND * count))).indices
    cells.append(_drawn(low[best[low] < _UNLIKELY], _BACKGROUND_CELLS, generator))
    own.append(torch.full_like(cells[-1], -1))
    return torch.cat(cells), torch.cat(own)


def _drawn(cells: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(cells), generator=generator)[:count]
    return cells[order.to(cells.device)]


def _classes(own: Tensor, tags: Sequence[int], background: int) -> Tensor:
    """Places among the tags as class indices; -1 is background."""
    return torch.tensor([*tags, background], device=own.device)[own]


def _fit(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The best linear classifier [classes, D], [classes]: a convex problem."""
    mean, deviation = features.mean(0), features.std(0).clamp(min=1e-3)
    weight, bias = fit_linear(
        (features - mean) / deviation,
        classes,
        lambda logits: F.cross_entropy(logits, labels),
        steps=_STEPS,
        decay=_DECAY,
    )
    scaled = weight / deviation
    return scaled, bias - scaled @ mean
