"""Modules 3 and 4: instance refinement and instance segmentation (Label-PEnet 3.2, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.models.backbones import Grid
from labelpenet.models.classification import pool
from labelpenet.models.detection import DetectionModule, Losses, Samples, Targets

USUAL_FILL = 0.6  # the median on photos of VOC
MASK_SIZE = 28  # of a predicted mask: ROI pooling gives 14 x 14, one transposed convolution doubles


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (DeepLab v3) with dilations 1, 2, 4, 6, summed up by 1 x 1."""

    DILATIONS = (1, 2, 4, 6)

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, width, 3, padding=d, dilation=d) for d in self.DILATIONS
        )
        self.project = nn.Conv2d(width * len(self.DILATIONS), width, 1)
        for module in (*self.branches, self.project):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, width, h, w], >= 0."""
        x = torch.cat([torch.relu(branch(x)) for branch in self.branches], 1)
        return torch.relu(self.project(x))


class SegmentationModule(nn.Module):
    """Mask R-CNN form: a detection part on pool4, a mask part on stage 5 and ASPP.

    Args:
        detection: The detection part.
        stage5: Of the mask part.
        grid: Frame of stage 5's output.
        channels: Of it.
        width: Of ASPP and of the mask head.
        classes: Number of classes C.

    Attributes:
        usual_fill: [C] how well masks of each class fill their boxes, as soft IoU: 0.6 until
            training measures it.
    """

    usual_fill: Tensor

    def __init__(
        self,
        detection: DetectionModule,
        stage5: nn.Module,
        grid: Grid,
        channels: int,
        width: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.detection = detection
        self.stage5 = stage5
        self.grid = grid
        self.register_buffer("usual_fill", torch.full((classes,), USUAL_FILL))
        self.aspp = Aspp(channels, width)
        self.mask_head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )
        for module in self.mask_head:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.mask_head[-1].weight, std=0.001)  # type: ignore[arg-type]

    def mask_features(self, trunk: Tensor) -> Tensor:
        """Trunk features -> the mask part's [1, width, h, w]."""
        features: Tensor = self.aspp(self.stage5(trunk))
        return features

    def mask_logits(self, features: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """Mask logits [R, 28, 28] of ROIs [R, 4] for their classes [R]."""
        pooled = pool(features, boxes, self.grid, 14)
        # the layout in which convolutions run fastest on a CPU, the transposed one above all
        pooled = pooled.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.mask_head(pooled).float()
        return logits[torch.arange(len(boxes), device=logits.device), labels]

    def loss(
        self,
        trunks: Sequence[Tensor],
        targets: Sequence[Targets],
        sizes: Sequence[tuple[int, int]],
        generators: Sequence[torch.Generator],
        searched: Sequence[Tensor] | None = None,
    ) -> Losses:
        """Losses of the detection part and of the masks, weighted by W, means over the images."""
        losses, samples = self.detection.loss_and_samples(
            trunks, targets, sizes, generators, searched
        )
        masks = [self._mask_loss(*one) for one in zip(trunks, targets, samples, strict=True)]
        return losses | {"mask": torch.stack(masks).mean()}

    def _mask_loss(self, trunk: Tensor, targets: Targets, samples: Samples) -> Tensor:
        positives = len(samples.matched)
        features = self.mask_features(trunk)
        if positives == 0 or targets.masks is None:
            return features.sum() * 0.0
        boxes = samples.boxes[:positives]
        logits = self.mask_logits(features, boxes, samples.labels[:positives])
        truth = crop_masks(targets.masks, boxes, samples.matched)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((1, 2))
        return (loss * samples.weights[:positives]).sum() / positives


def crop_masks(masks: Tensor, boxes: Tensor, index: Tensor) -> Tensor:
    """Masks [T, H, W] bool cut to boxes [R, 4] (mask index[r] for box r) -> [R, 28, 28] in [0, 1].

    Each cell is the share of set pixels in a 2 x 2 grid of samples.
    """
    fine = MASK_SIZE * 2
    height, width = masks.shape[-2:]
    step = (torch.arange(fine, device=boxes.device) + 0.5) / fine
    x = boxes[:, None, 0] + step * (boxes[:, None, 2] - boxes[:, None, 0])  # [R, fine]
    y = boxes[:, None, 1] + step * (boxes[:, None, 3] - boxes[:, None, 1])
    x = x.floor().long().clamp(0, width - 1)
    y = y.floor().long().clamp(0, height - 1)
    samples = masks[index[:, None, None], y[:, :, None], x[:, None, :]].float()
    return F.avg_pool2d(samples[:, None], 2)[:, 0]
