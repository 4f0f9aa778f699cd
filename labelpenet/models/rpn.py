"""Region proposal network (Ren et al., 2015; Label-PEnet eq. 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.config import DetectionConfig
from labelpenet.models.backbones import Grid
from labelpenet.models.boxes import RPN_STD, clip, decode, draw, encode, match
from labelpenet.ops import box_iou, nms

# Boxes thinner than this many pixels hold no feature cell worth pooling.
_SMALLEST = 4.0


class RpnOutput(NamedTuple):
    """Raw predictions for one image's A anchors."""

    anchors: Tensor  # [A, 4] image frame
    objectness: Tensor  # [A] logits
    offsets: Tensor  # [A, 4]


class Rpn(nn.Module):
    """3 x 3 convolution, then 1 x 1 for objectness and 1 x 1 for offsets.

    Args:
        channels: Of the features.
        grid: Their frame.
        width: Of the 3 x 3 convolution.
        config: Anchors, sampling and NMS.
    """

    def __init__(self, channels: int, grid: Grid, width: int, config: DetectionConfig) -> None:
        super().__init__()
        self.grid = grid
        self.config = config
        count = len(config.anchor_sizes) * len(config.anchor_ratios)
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.objectness = nn.Conv2d(width, count, 1)
        self.offsets = nn.Conv2d(width, count * 4, 1)
        for layer in (self.conv, self.objectness, self.offsets):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def anchors(self, height: int, width: int) -> Tensor:
        """[height * width * sizes * ratios, 4]: a set centred on every feature cell."""
        shapes = torch.tensor(
            [
                (size / math.sqrt(ratio), size * math.sqrt(ratio))
                for size in self.config.anchor_sizes
                for ratio in self.config.anchor_ratios
            ]
        )
        step, first = self.grid.stride, self.grid.offset + self.grid.stride / 2
        y = torch.arange(height) * step + first
        x = torch.arange(width) * step + first
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        centres = torch.stack((grid_x, grid_y), -1).reshape(-1, 1, 2)
        return torch.cat((centres - shapes / 2, centres + shapes / 2), -1).reshape(-1, 4).float()

    def forward(self, features: Tensor) -> RpnOutput:
        """Features [1, C, h, w] of one image."""
        hidden = torch.relu(self.conv(features))
        objectness = self.objectness(hidden)[0].permute(1, 2, 0).reshape(-1).float()
        offsets = self.offsets(hidden)[0].permute(1, 2, 0).reshape(-1, 4).float()
        anchors = self.anchors(*features.shape[-2:]).to(offsets.device)
        return RpnOutput(anchors, objectness, offsets)

    @torch.no_grad()
    def propose(self, output: RpnOutput, size: tuple[int, int], limit: int) -> Tensor:
        """The best boxes [<= limit, 4] after NMS, clipped to the image of (height, width)."""
        count = min(self.config.rpn_pre_nms, len(output.anchors))
        scores, top = output.objectness.topk(count)
        boxes = clip(decode(output.anchors[top], output.offsets[top], RPN_STD), size)
        wide = (boxes[:, 2:] - boxes[:, :2]).min(1).values >= _SMALLEST
        boxes, scores = boxes[wide], scores[wide]
        return boxes[nms(boxes, scores, self.config.rpn_nms)[:limit]]

    def loss(
        self,
        output: RpnOutput,
        targets: Tensor,
        weights: Tensor,
        size: tuple[int, int],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Objectness unweighted, offsets weighted by the matched target's W (eq. 3).

        Args:
            output: Of forward.
            targets: [T, 4] boxes in the image frame.
            weights: [T] W.
            size: (height, width) of the image.
            generator: For the sampling.
        """
        config = self.config
        anchors = output.anchors
        height, width = size
        # Anchors across the border are left out, as in Faster R-CNN, unless that leaves none.
        inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
        if not bool(inside.any()):
            inside = torch.ones_like(inside)
        overlap, index = match(anchors, targets)
        positive = (overlap >= config.rpn_positive_iou) & inside
        if len(targets):
            iou = box_iou(anchors, targets)
            iou[~inside] = 0
            positive[iou.argmax(0)[iou.max(0).values > 0]] = True
        negative = (overlap < config.rpn_negative_iou) & inside & ~positive
        chosen = draw(positive, config.rpn_batch // 2, generator)
        background = draw(negative, config.rpn_batch - len(chosen), generator)
        sampled = torch.cat((chosen, background))
        truth = torch.zeros(len(sampled), device=sampled.device)
        truth[: len(chosen)] = 1
        objectness = F.binary_cross_entropy_with_logits(output.objectness[sampled], truth)
        matched = index[chosen]
        goal = encode(anchors[chosen], targets[matched], RPN_STD)
        offsets = F.smooth_l1_loss(output.offsets[chosen], goal, beta=1 / 9, reduction="none")
        weighted = (offsets.sum(1) * weights[matched]).sum() / max(len(sampled), 1)
        return {"rpn_objectness": objectness, "rpn_box": weighted}
