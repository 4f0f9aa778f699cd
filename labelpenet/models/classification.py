"""Module 1: multi-label classification over proposals (Label-PEnet eq. 1, 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from labelpenet.models.backbones import FcHead, Grid
from labelpenet.ops import roi_pool


class HeadOutput(NamedTuple):
    """What a head computes for R proposals; `activations` and the weights feed Excitation BP."""

    activations: tuple[Tensor, Tensor, Tensor]  # [R, C, 7, 7], [R, D], [R, D], all >= 0
    logits: Tensor  # [R, classes], x^c; modules 2 to 4 have a last column for background
    second: Tensor  # [R, classes] proposal weights, or [R, 4] box offsets


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
        for layer in (self.fc8c, self.fc8w):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, boxes: Tensor) -> HeadOutput:
        """Trunk features [1, C, h, w] and proposals [R, 4] (image frame) of one image."""
        pooled = pool(self.stage5(features), boxes, self.grid, 7)
        hidden, last = self.fc(pooled)
        return HeadOutput((pooled, hidden, last), self.fc8c(last).float(), self.fc8w(last).float())


def pool(features: Tensor, boxes: Tensor, grid: Grid, size: int) -> Tensor:
    """ROI max pooling of one image's features [1, C, h, w] -> [R, C, size, size]."""
    return roi_pool(features, [grid.shift(boxes)], size, 1 / grid.stride)


def combined_scores(output: HeadOutput) -> Tensor:
    """X = x^c * softmax over proposals of the weights [R, C] (eq. 1)."""
    return output.logits * torch.softmax(output.second, 0)


def image_log_probabilities(output: HeadOutput) -> Tensor:
    """The logarithm of p^ [C]: softmax over classes of s_c = sum over proposals of x (eq. 1)."""
    return torch.log_softmax(combined_scores(output).sum(0), 0)


def multi_label_loss(output: HeadOutput, tags: tuple[int, ...]) -> Tensor:
    """-sum_k y_k log p^_k (eq. 2)."""
    return -image_log_probabilities(output)[list(tags)].sum()
