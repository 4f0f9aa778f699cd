"""Every setting, as frozen dataclasses: types and bounds, checked by pydantic.

Defaults are the paper's (VGG-16, Label-PEnet 4.2) where it names a value.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from labelpenet.config.bounds import NUMBER, STRICT, Count, Width
from labelpenet.config.calibration import CalibrationConfig, Combine, GroupScore
from labelpenet.config.detection import DetectionConfig
from labelpenet.config.icn import IcnConfig
from labelpenet.config.train import TrainConfig


class BackboneName(str, Enum):
    """The backbones that labelpenet.models.backbones builds."""

    VGG16 = "vgg16"
    SQUEEZENET1_0 = "squeezenet1_0"
    TINY = "tiny"


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """Backbone and heads.

    Attributes:
        backbone: Which trunk and stage 5.
        weights: ImageNet weights (.pth or .safetensors, torchvision's key names), or `torchvision`
            to download those that it publishes; None starts from random ones.
        fc_width: Width of fc6 and fc7.
        dropout: Drop probability after fc6 and fc7 in training.
        rpn_channels: Width of the 3 x 3 convolution of the RPN.
        mask_channels: Width of the ASPP branches and of the mask head.
    """

    backbone: BackboneName = BackboneName.VGG16
    weights: Path | None = None
    fc_width: Width = 4096
    dropout: Annotated[float, Field(ge=0, lt=1), NUMBER] = 0.5
    rpn_channels: Width = 512
    mask_channels: Width = 256


@dataclass(frozen=True, config=STRICT)
class ProposalConfig:
    """Selective search, and how many of its boxes are used.

    Attributes:
        preset: `fast` or `quality`.
        min_side: Smaller boxes are dropped, in pixels.
        limit: At most this many boxes of an image, best ranked first.
        train_limit: As many are drawn at random from those in a training step.
    """

    preset: typing.Literal["fast", "quality"] = "fast"
    min_side: Count = 20
    limit: Count = 1600
    train_limit: Count = 1600


@dataclass(frozen=True, config=STRICT)
class Config:
    """All settings of one run.

    Attributes:
        seed: Every random choice follows from it; in [0, 2**63).
        longest: A photo with a longer side is looked at as a copy of this one: boxes and masks are
            found there and laid over the photo. At least what networks see.
        test_scales: Shorter sides at inference, averaged over; none keeps the image's own size.
        test_flip: Average over the mirrored image, too; labels that teach go without.
        test_longest: Cap on the longer side at inference.
        tag_scales: Shorter sides at which the whole-image classifier tells which classes are
            there, averaged over; small ones are what ImageNet taught. None takes the test scales.
    """

    model: ModelConfig = ModelConfig()
    proposals: ProposalConfig = ProposalConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    detection: DetectionConfig = DetectionConfig()
    train: TrainConfig = TrainConfig()
    icn: IcnConfig = IcnConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63), NUMBER] = 0
    longest: Count = 1200
    test_scales: tuple[Count, ...] = ()
    test_flip: bool = False
    test_longest: Count = 1200
    tag_scales: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        rules, detection = self.calibration, self.detection
        mapped = (GroupScore.CLASS_MAP, GroupScore.REGION)
        wanted = rules.score in mapped or rules.combine is Combine.CLASS_MAP
        if (wanted or detection.image_prior or detection.map_weight) and not self.train.tag_loss:
            raise ValueError("class maps and priors need train.tag_loss above 0")
        if not detection.test_boxes and not detection.search_boxes:
            raise ValueError("detection needs test_boxes or search_boxes above 0")
        if self.longest < max(self.train.longest, self.test_longest):
            raise ValueError("longest is at least train.longest and test_longest")
        if detection.object_weight > detection.map_weight:
            raise ValueError("detection.object_weight is part of map_weight, and not above it")

    def for_teaching(self) -> Config:
        """Of the labels that a next module learns from: what answers alone add is left out.

        That is `test_flip`, which would take training's time, and `detection.box_share`, with which
        masks would grow from module to module.
        """
        detection = dataclasses.replace(self.detection, box_share=0.0)
        return dataclasses.replace(self, detection=detection, test_flip=False)

    @property
    def uses_class_maps(self) -> bool:
        """Whether some rule asks for the whole-image classifier."""
        return self.train.tag_loss > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a settings file would hold them."""
        plain: dict[str, Any] = TypeAdapter(Config).dump_python(self, mode="json")
        return plain

    def fingerprint(self) -> str:
        """A short hash of every setting; results carry it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]
