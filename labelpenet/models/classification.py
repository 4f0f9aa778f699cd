"""Module 1: multi-label classification over proposals (Label-PEnet eq. 1, 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.models.backbones import Grid
from labelpenet.models.fc_head import FcHead
from labelpenet.ops.roi_pool import roi_pool


class HeadOutput(NamedTuple):
    """What a head computes for R proposals; `activations` and the weights feed Excitation BP."""

    activations: tuple[Tensor, Tensor, Tensor]  # [R, C, 7, 7], [R, D], [R, D], all >= 0
    logits: Tensor  # [R, classes], x^c; modules 2 to 4 have a last column for background
    second: Tensor  # [R, classes] proposal weights, or [R, 4] box offsets
    rows: Tensor | None = None  # [R] the proposal's row of the activations; None is one each


class ClassificationModule(nn.Module):
    """Stage 5, ROI pooling, fc6, fc7, and two classifiers side by side.

    Args:
        stage5: Of the backbone.
        grid: Frame of its output.
        fc: fc6 and fc7.
        classes: Number of classes C.
    """

    def __init__(self, stage5: nn.Module, grid: Grid, fc: FcHead, classes: int) -> None:
        super().__init__()
        self.stage5 = stage5
        self.grid = grid
        self.fc = fc
        width = fc.fc7.out_features
        self.fc8c = nn.Linear(width, classes)
        self.fc8w = nn.Linear(width, classes)
        # the whole-image classifier: fc6 over every cell, their mean, this layer
        self.tags = nn.Linear(fc.fc6.out_features, classes)
        # the classifier of places: a cell of stage 5 is of a class or, last, of none
        self.places = nn.Linear(fc.fc6.in_features // 49, classes + 1)
        for layer in (self.fc8c, self.fc8w, self.tags, self.places):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def tag_logits(self, features: Tensor, layer: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """What the whole-image classifier says of every cell [C, h, w]; their mean, of the image.

        Args:
            features: Of stage5 [1, C, h, w].
            layer: What fc.as_cells() gives, where it is known already.
        """
        weight, bias = self.fc.as_cells() if layer is None else layer
        cells = torch.relu(F.conv2d(features, weight, bias))
        return F.conv2d(cells, self.tags.weight[:, :, None, None], self.tags.bias)[0].float()

    def place_logits(self, features: Tensor) -> Tensor:
        """What the classifier of places says of every cell [C + 1, h, w]; the last is background.

        Args:
            features: Of stage5 [1, C, h, w].
        """
        weight = self.places.weight[:, :, None, None]
        return F.conv2d(features, weight, self.places.bias)[0].float()

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[HeadOutput]:
        """Trunk features [1, C, h, w] and proposals [R, 4] (image frame) of each image."""
        stage5 = [self.stage5(one) for one in features]
        # Proposals on the same cells are the same to the head; how many holds up a device.
        if torch.is_grad_enabled() or any(own.is_cuda for own in boxes):
            return run_head(self.fc, self.fc8c, self.fc8w, stage5, boxes, self.grid)
        kinds = [distinct(self.grid.shift(own) / self.grid.stride) for own in boxes]
        few = [own[first] for own, (first, _) in zip(boxes, kinds, strict=True)]
        outputs = run_head(self.fc, self.fc8c, self.fc8w, stage5, few, self.grid)
        return [
            HeadOutput(one.activations, one.logits[rows], one.second[rows], rows)
            for one, (_, rows) in zip(outputs, kinds, strict=True)
        ]


def run_head(
    fc: FcHead,
    classifier: nn.Linear,
    second: nn.Linear,
    features: Sequence[Tensor],
    boxes: Sequence[Tensor],
    grid: Grid,
) -> list[HeadOutput]:
    """ROI pooling, fc6, fc7 and two last layers; the ROIs of all images go through as one batch.

    Images keep their own size up to the pooling: padded to a common one, an image's features would
    depend on which others are beside it.
    """
    pooled = torch.cat([pool(f, b, grid, 7) for f, b in zip(features, boxes, strict=True)])
    hidden, last = fc(pooled)
    parts = (pooled, hidden, last, classifier(last).float(), second(last).float())
    counts = [len(b) for b in boxes]
    split = zip(*(part.split(counts) for part in parts), strict=True)
    return [HeadOutput((a, b, c), logits, other) for a, b, c, logits, other in split]


def distinct(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [R, 4] that ROI pooling tells apart: it rounds corners to cells, half away from zero.

    Args:
        boxes: In cells.

    Returns:
        The indices [U] of the first box of each kind, and the kind [R] of every box.
    """
    twice = (2 * boxes.abs()).floor()  # unlike boxes + 0.5, not rounded itself
    cells = (torch.div(twice + 1, 2, rounding_mode="floor") * boxes.sign()).long()
    kinds, kind = torch.unique(cells, dim=0, return_inverse=True)
    index = torch.arange(len(boxes), device=boxes.device)
    first = index.new_full((len(kinds),), len(boxes)).scatter_reduce(0, kind, index, "amin")
    return first, kind


def pool(features: Tensor, boxes: Tensor, grid: Grid, size: int) -> Tensor:
    """ROI max pooling of one image's features [1, C, h, w] -> [R, C, size, size]."""
    return roi_pool(features, [grid.shift(boxes)], size, 1 / grid.stride)


def combined_scores(output: HeadOutput) -> Tensor:
    """X = x^c * softmax over proposals of the weights [R, C] (eq. 1)."""
    return output.logits * torch.softmax(output.second, 0)


def image_log_probabilities(output: HeadOutput) -> Tensor:
    """The logarithm of p^ [C]: softmax over classes of s_c = sum over proposals of x (eq. 1)."""
    return torch.log_softmax(combined_scores(output).sum(0), 0)


def tag_loss(logits: Tensor, tags: tuple[int, ...]) -> Tensor:
    """Binary cross-entropy of the whole-image classifier's logits [C], the mean over classes."""
    truth = torch.zeros_like(logits)
    truth[list(tags)] = 1
    return F.binary_cross_entropy_with_logits(logits, truth)


def multi_label_loss(output: HeadOutput, tags: tuple[int, ...]) -> Tensor:
    """-sum_k y_k log p^_k (eq. 2)."""
    return -image_log_probabilities(output)[list(tags)].sum()
