"""The four modules on one trunk, and the checkpoints that hold them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelpenet.config import Config, config_from_dict, override
from labelpenet.data.transforms import normalize
from labelpenet.files import atomic_write
from labelpenet.models.backbones import build_backbone
from labelpenet.models.classification import ClassificationModule
from labelpenet.models.detection import DetectionModule
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.models.weights import load_into, why

_FORMAT = 1
MODULES = ("classification", "detection", "refinement", "segmentation")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; says which file and why."""


class Cascade(nn.Module):
    """Trunk and modules 1 to 4.

    Args:
        config: All settings.
        classes: Class names.
    """

    def __init__(self, config: Config, classes: tuple[str, ...]) -> None:
        super().__init__()
        if not classes:
            raise ValueError("classes: expected at least one class name, got none")
        self.config = config
        self.classes = classes
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
        every image; and they take half the memory. For inference alone: training would lose its
        small steps.
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
    """Writes a checkpoint whole or not at all.

    Raises:
        OutputError: It cannot be written; a checkpoint that is there stays.
    """
    content = {
        "format": _FORMAT,
        "config": cascade.config.to_dict(),
        "classes": list(cascade.classes),
        "trained": trained,
        "state": cascade.state_dict(),
    }
    with atomic_write(path, binary=True) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own, which hides the file's: "No space left"
            hidden = error.__context__
            raise hidden if isinstance(hidden, OSError) else error from None


def load_checkpoint(path: Path, overrides: Sequence[str] = ()) -> tuple[Cascade, int]:
    """Reads a checkpoint; nothing in it is executed.

    Args:
        path: Written by training.
        overrides: `section.key=value` in place of its own settings, such as those of inference.

    Returns:
        The cascade in evaluation mode, and how many of its modules are trained (0 to 4).

    Raises:
        CheckpointError: Missing, truncated, of another format, or with keys that do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and I/O errors of many types: all mean the same here
        raise CheckpointError(f"{path}: truncated or not a checkpoint: {why(error)}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: expected a labelpenet checkpoint of format {_FORMAT}")
    try:
        values = dict(content["config"])
        # The checkpoint holds every weight itself; the file it once started from may be gone.
        values["model"] = values["model"] | {"weights": None}
        override(values, overrides)
        classes, trained = content["classes"], content["trained"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes: expected a list of names, got {classes!r}")
        if trained not in range(len(MODULES) + 1):
            raise ValueError(f"trained: expected a number of modules, 0 to 4, got {trained!r}")
        cascade = Cascade(config_from_dict(values, "config"), tuple(classes))
        load_into(cascade, content["state"], "state")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return cascade.eval(), int(trained)
