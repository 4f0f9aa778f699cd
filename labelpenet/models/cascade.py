"""The four modules on one trunk, and the checkpoints that hold them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.data.transforms import normalize
from labelpenet.models.backbones import build_backbone
from labelpenet.models.checkpoint import Network, read_checkpoint, write_checkpoint
from labelpenet.models.classification import ClassificationModule
from labelpenet.models.detection import DetectionModule
from labelpenet.models.segmentation import SegmentationModule

CASCADE = "cascade"  # the method, as checkpoints and `--method` have it
MODULES = ("classification", "detection", "refinement", "segmentation")


class Cascade(Network):
    """Trunk and modules 1 to 4.

    Args:
        config: All settings.
        classes: Class names.
    """

    def __init__(self, config: Config, classes: tuple[str, ...]) -> None:
        super().__init__(config, classes)
        backbone = build_backbone(config.model)
        self.backbone = backbone
        count, model = len(classes), config.model

        def fc(channels: int) -> Any:
            return backbone.make_fc(channels, model.fc_width, model.dropout)

        def detection(stage: nn.Module, on_pool4: bool) -> DetectionModule:
            channels = backbone.pool4_channels if on_pool4 else backbone.stage5_channels
            grid = backbone.pool4_grid if on_pool4 else backbone.grid
            return DetectionModule(
                stage, grid, channels, fc(channels), count, model.rpn_channels, config.detection
            )

        def segmentation() -> SegmentationModule:
            return SegmentationModule(
                detection(backbone.make_pool4(), on_pool4=True),
                backbone.make_stage5(),
                backbone.grid,
                backbone.stage5_channels,
                model.mask_channels,
                count,
            )

        self.classification = ClassificationModule(
            backbone.make_stage5(), backbone.grid, fc(backbone.stage5_channels), count
        )
        self.detection = detection(backbone.make_stage5(), on_pool4=False)
        self.refinement = segmentation()
        self.segmentation = segmentation()
        backbone.forget_weights()

    def trunk(self, image: Tensor) -> Tensor:
        """Trunk features [N, C, h, w] of images [N, 3, H, W], or of one [3, H, W] (N = 1).

        Images are RGB in [0, 255], uint8 or float32.
        """
        x = torch.stack([normalize(one) for one in (image if image.dim() == 4 else image[None])])
        smallest = self.backbone.smallest
        bottom = max(smallest - x.shape[-2], 0)
        right = max(smallest - x.shape[-1], 0)
        if bottom or right:
            x = nn.functional.pad(x, (0, right, 0, bottom))
        # the layout in which convolutions and pooling run fastest on a CPU
        features: Tensor = self.backbone.trunk(x.contiguous(memory_format=torch.channels_last))
        return features

    @torch.no_grad()
    def round_weights(self) -> Cascade:
        """Brings the weights of convolutions and linear layers to bfloat16, in place.

        Under autocast, the same numbers come out as before, which would round the weights anew for
        every image; and they take half the memory. Class maps alone differ a little:
        their weights are sums of those of fc6 (FcHead.as_cells), rounded before, not after. For
        inference alone: training would lose its small steps.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                layer.to(torch.bfloat16)
        return self

    def for_inference(self) -> Cascade:
        """Itself, or a copy of rounded weights where the settings ask for bfloat16."""
        low = self.config.train.precision == "bf16"
        return copy.deepcopy(self).round_weights() if low else self

    def module(self, number: int) -> nn.Module:
        """Module 1 to 4."""
        if number not in (1, 2, 3, 4):
            raise ValueError(f"module: expected 1, 2, 3 or 4, got {number}")
        module: nn.Module = getattr(self, MODULES[number - 1])
        return module


def save_checkpoint(path: Path, cascade: Cascade, trained: int) -> None:
    """Writes a checkpoint; `trained` is how many of the modules are. Raises as write_checkpoint."""
    write_checkpoint(path, cascade, CASCADE, trained)


def load_checkpoint(path: Path, overrides: Sequence[str] = ()) -> tuple[Cascade, int]:
    """Reads a checkpoint: the cascade in evaluation mode, and how many of its modules are trained.

    Those are 0 to 4. Arguments and errors as read_checkpoint's.
    """
    return read_checkpoint(path, Cascade, CASCADE, range(len(MODULES) + 1), overrides)
