"""Class maps: where in the image the whole-image classifier sees each class.

Class activation maps (Zhou et al., 2016) of module 1's own layers, averaged over the views of an
image. They follow whole objects, where the scores of proposals follow their parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelpenet.calibration import soft_iou
from labelpenet.models.backbones import Grid
from labelpenet.models.boxes import Frame
from labelpenet.ops import RegionMasks, region_sums

CELL = 4  # pixels of the image to a cell of a map, along each side
_LEAST = 1e-4  # probability of a class that competes for places


class ClassMaps(NamedTuple):
    """What the classifier says of one image.

    Attributes:
        probability: [C] that the class is in the image.
        maps: [C, ceil(H / 4), ceil(W / 4)] in [0, 1], the same of each place.
        size: (H, W) of the image.
    """

    probability: Tensor
    maps: Tensor
    size: tuple[int, int]

    def at_full_size(self, label: int) -> Tensor:
        """One class's map [H, W]."""
        height, width = self.size
        one = self.maps[label][None, None]
        laid = F.interpolate(one, scale_factor=CELL, mode="bilinear", align_corners=False)
        return laid[0, 0, :height, :width]

    def fit(self, label: int, boxes: Tensor, gamma: float) -> Tensor:
        """Soft IoU [R] of boxes [R, 4] (image frame) with one class's map, raised to `gamma`."""
        return soft_iou(self.maps[label] ** gamma, boxes / CELL)

    def fit_regions(self, label: int, regions: RegionMasks, gamma: float) -> Tensor:
        """Soft IoU [R] of regions of the image with one class's map, raised to `gamma`."""
        strength = self.at_full_size(label)[None] ** gamma
        inside, areas = region_sums(strength, regions)
        return inside[0] / (areas + strength.sum() - inside[0]).clamp(min=1)


def class_maps(
    logits: Sequence[Tensor],
    frames: Sequence[Frame],
    grid: Grid,
    size: tuple[int, int],
    *,
    places: Sequence[Tensor] | None = None,
    tags: Sequence[int] | None = None,
) -> ClassMaps:
    """Averages the views of one image.

    Args:
        logits: Of each view's cells, [C, h, w].
        frames: Where each view sees the image.
        grid: Frame of the cells.
        size: (height, width) of the image.
        places: What the classifier of places says of the same cells, [C + 1, h, w]: a map is then
            the geometric mean of both classifiers' probabilities.
        tags: The classes that are there; places compete among these and background. None lets
            every class compete: the others as likely as the image is to hold them, and the map's
            own as if it were there.
    """
    shape = tuple(-(-side // CELL) for side in size)
    said = torch.stack([own.float().mean((1, 2)) for own in logits])
    probability = torch.sigmoid(said).mean(0)
    cells = [torch.sigmoid(own.float()) for own in logits]
    if places is not None:
        if tags is None:
            prior = probability.clamp(min=_LEAST)
        else:
            prior = torch.zeros_like(probability)
            prior[list(tags)] = 1
        odds = torch.cat((prior, prior.new_ones(1))).log()[:, None, None]
        shares = [
            _given_presence(torch.softmax(own.float() + odds, 0)[:-1], prior) for own in places
        ]
        cells = [(own * share).sqrt() for own, share in zip(cells, shares, strict=True)]
    maps = [
        _laid(own, frame, grid, (shape[0], shape[1]))
        for own, frame in zip(cells, frames, strict=True)
    ]
    return ClassMaps(probability, torch.stack(maps).mean(0), size)


def _given_presence(share: Tensor, prior: Tensor) -> Tensor:
    """Shares [C, h, w] of classes of these priors [C] -> of each one as if its own were 1.

    Bayes: odds of a share, over the prior's factor; a class that cannot be there has none.
    """
    own = share / prior.clamp(min=torch.finfo(prior.dtype).tiny)[:, None, None]
    return own / (own + 1 - share)


def _laid(cells: Tensor, frame: Frame, grid: Grid, shape: tuple[int, int]) -> Tensor:
    """A view's cells [C, h, w] read off at the places of the maps [C, *shape], bilinearly."""
    if frame.flipped:
        cells = cells.flip(2)
    rows, columns = (
        (torch.arange(count, device=cells.device) + 0.5) * CELL * frame.scale for count in shape
    )
    # mirrored cells lie as far from the right edge as the others from the left
    mirrored = frame.size[1] - grid.offset - grid.stride * cells.shape[2]
    left = mirrored if frame.flipped else grid.offset
    y = (rows - grid.offset) / grid.stride / cells.shape[1] * 2 - 1
    x = (columns - left) / grid.stride / cells.shape[2] * 2 - 1
    places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    return F.grid_sample(cells[None], places[None], padding_mode="border", align_corners=False)[0]
