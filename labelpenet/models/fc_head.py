"""The fully connected layers fc6 and fc7, which start from what a convolution knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FcHead(nn.Module):
    """fc6 and fc7 with ReLU and dropout; keeps what Excitation BP needs.

    Args:
        inputs: C * 7 * 7.
        width: Of both layers.
        dropout: Drop probability in training.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.fc6 = nn.Linear(inputs, width)
        self.fc7 = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_from(self, cells: nn.Conv2d) -> None:
        """fc6 as the mean of a 1 x 1 convolution over the 7 x 7 cells, fc7 near the identity.

        Units beyond the convolution's stay as they are. With a classifier that was trained on the
        convolution's mean, the head then starts from what that knows of a whole image.
        """
        count = min(self.fc6.out_features, cells.out_channels)
        tiled = cells.weight[:count].reshape(count, -1, 1).expand(-1, -1, 49) / 49
        self.fc6.weight[:count] = tiled.reshape(count, -1)
        assert cells.bias is not None
        self.fc6.bias[:count] = cells.bias[:count]
        nn.init.normal_(self.fc7.weight, std=0.01)
        self.fc7.weight += torch.eye(self.fc7.out_features, device=self.fc7.weight.device)

    @torch.no_grad()
    def cells(self) -> nn.Conv2d:
        """The 1 x 1 convolution that start_from takes: fc6 where all 7 x 7 cells are the same."""
        weight, bias = self.as_cells()
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        layer.weight.copy_(weight)
        assert layer.bias is not None
        layer.bias.copy_(bias)
        return layer

    def as_cells(self) -> tuple[Tensor, Tensor]:
        """Weight [width, C, 1, 1] and bias [width] of that convolution, differentiable."""
        weight = self.fc6.weight.unflatten(1, (-1, 49)).sum(2)
        return weight[:, :, None, None], self.fc6.bias

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """[R, C, 7, 7] -> the inputs of fc7 and of the classifier, each [R, width], >= 0."""
        hidden = self.dropout(torch.relu(self.fc6(pooled.flatten(1))))
        return hidden, self.dropout(torch.relu(self.fc7(hidden)))
