"""Backbones behind one small interface: a shared trunk, and the parts that modules build on it.

Feature frames: `Grid(stride, offset)` says which pixels a feature cell stands for. Cell i covers
[offset + stride * i, offset + stride * (i + 1)) of the image's continuous coordinates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelpenet.config import BackboneName, ModelConfig
from labelpenet.models.download import weights_file
from labelpenet.models.fc_head import FcHead
from labelpenet.models.weights import load_into, read_weights, select


@dataclass(frozen=True)
class Grid:
    """Where feature cells lie in the image; see the module's docstring."""

    stride: int
    offset: float = 0.0

    def shift(self, boxes: Tensor) -> Tensor:
        """Boxes [R, 4] moved so that ROI pooling with scale 1 / stride hits the right cells."""
        return boxes - self.offset


class Backbone(nn.Module, ABC):
    """A trunk of feature stride 8, and factories for the parts that each module owns.

    Attributes:
        trunk: [N, 3, H, W] normalised image -> [N, channels, ~H / 8, ~W / 8], shared, >= 0.
        channels: Of the trunk's output.
        stage5_channels: Of a stage 5's output.
        grid: Frame of the trunk's and stage 5's output.
        pool4_channels: Of a pool4's output.
        pool4_grid: Frame of its output.
        smallest: Images are padded (right, bottom) to at least this side.
    """

    channels = 512
    stage5_channels = 512
    pool4_channels = 512
    grid = Grid(8)
    pool4_grid = Grid(16)
    smallest = 32

    trunk: nn.Module
    _state: Mapping[str, Tensor] | None = None

    def forget_weights(self) -> None:
        """Drops the weights file's contents; parts made from here on start at random."""
        self._state = None

    @abstractmethod
    def make_stage5(self) -> nn.Module:
        """A new stage 5, stride 8 kept, ending in a ReLU; ImageNet weights where there are any."""

    def make_pool4(self) -> nn.Module:
        """Trunk features -> stride 16, what the detection part of modules 3 and 4 sees."""
        return nn.MaxPool2d(2)

    def make_fc(self, channels: int, width: int, dropout: float) -> FcHead:
        """New fc6 and fc7 on [channels, 7, 7] pooled features."""
        return FcHead(channels * 49, width, dropout)


class Vgg16(Backbone):
    """VGG-16 (Simonyan and Zisserman, 2015) cut after relu4_3.

    Args:
        state: torchvision's `vgg16` state dict, or None for random weights.
    """

    _PLAN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))

    def __init__(self, state: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for block, widths in enumerate(self._PLAN):
            if block:
                layers.append(nn.MaxPool2d(2))
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
        self.trunk = nn.Sequential(*layers)
        self._state = state
        if state is None:
            _kaiming(self.trunk)
        else:
            load_into(self.trunk, select(state, "features.", range(len(layers))), "vgg16 trunk")

    def make_stage5(self) -> nn.Module:
        """conv5_1 to conv5_3 with dilation 2: pool4 is gone, the receptive field is kept."""
        stage = nn.Sequential()
        for index in (24, 26, 28):  # torchvision's places of conv5_1, conv5_2, conv5_3
            conv = nn.Conv2d(512, 512, 3, padding=2, dilation=2)
            stage.append(conv)
            stage.append(nn.ReLU(inplace=True))
            if self._state is None:
                _kaiming(conv)
            else:
                part = {k: self._state.get(f"features.{index}.{k}") for k in ("weight", "bias")}
                load_into(conv, part, f"vgg16 features.{index}")
        return stage

    def make_fc(self, channels: int, width: int, dropout: float) -> FcHead:
        """fc6 and fc7; ImageNet's where the width is theirs (4096)."""
        head = super().make_fc(channels, width, dropout)
        if self._state is not None and width == 4096:
            for layer, index in ((head.fc6, 0), (head.fc7, 3)):
                part = {k: self._state.get(f"classifier.{index}.{k}") for k in ("weight", "bias")}
                load_into(layer, part, f"vgg16 classifier.{index}")
        return head


class _Fire(nn.Module):
    """SqueezeNet's Fire: 1 x 1 squeeze, then 1 x 1 and 3 x 3 expand side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int, dilation: int = 1) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat((self.expand1x1(x), self.expand3x3(x)), 1))


# ROI-pooled fire9 features average 33, and conv10's logits are in the tens (measured): fresh
# layers on top would start far from zero and learn in leaps. ReLU networks let a factor move from
# one layer to the next, so fire9 gives features near 1 and fc6 starts from a tenth of conv10.
_FIRE9_SCALE = 1 / 32
_CONV10_SCALE = 0.1


class SqueezeNet(Backbone):
    """SqueezeNet v1.0 (Iandola et al., 2016) cut after fire8.

    Its first convolution has no padding, so cell i is centred on pixel 8 i + 9.

    Args:
        state: torchvision's `squeezenet1_0` state dict, or None for random weights.
    """

    grid = Grid(8, 5.5)
    pool4_grid = Grid(16, 9.5)
    smallest = 40

    def __init__(self, state: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2),
            nn.ReLU(inplace=True),
            _pool(),
            _Fire(96, 16, 64),
            _Fire(128, 16, 64),
            _Fire(128, 32, 128),
            _pool(),
            _Fire(256, 32, 128),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
        )
        self._state = state
        if state is None:
            _kaiming(self.trunk)
        else:
            load_into(self.trunk, select(state, "features.", range(11)), "squeezenet1_0 trunk")

    def make_stage5(self) -> nn.Module:
        """pool8 at stride 1, then fire9 dilated by 2.

        Without the pool the frozen trunk's ImageNet classes are scrambled (measured).
        """
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), self._fire9(dilation=2))

    def make_pool4(self) -> nn.Module:
        """pool8 and fire9 as ImageNet knows them: fc6's start speaks fire9's channels."""
        return nn.Sequential(_pool(), self._fire9(dilation=1))

    def _fire9(self, dilation: int) -> _Fire:
        fire = _Fire(512, 64, 256, dilation)
        if self._state is None:
            _kaiming(fire)
        else:
            load_into(fire, select(self._state, "features.12."), "squeezenet1_0 features.12")
            with torch.no_grad():
                for layer in (fire.expand1x1, fire.expand3x3):
                    for parameter in layer.parameters():
                        parameter.mul_(_FIRE9_SCALE)
        return fire

    def make_fc(self, channels: int, width: int, dropout: float) -> FcHead:
        """fc6 from conv10: SqueezeNet has no fully connected layers to inherit.

        This start trains far faster than a Gaussian one (measured).
        """
        head = super().make_fc(channels, width, dropout)
        if self._state is not None:
            conv10 = nn.Conv2d(512, 1000, 1)
            part = {k: self._state.get(f"classifier.1.{k}") for k in ("weight", "bias")}
            load_into(conv10, part, "squeezenet1_0 classifier.1")
            with torch.no_grad():
                conv10.weight.mul_(_CONV10_SCALE / _FIRE9_SCALE)
                conv10.bias.mul_(_CONV10_SCALE)  # type: ignore[union-attr]
            head.start_from(conv10)
        return head


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class Tiny(Backbone):
    """A small trunk for the demo and for tests: learns from scratch in a minute on a CPU."""

    channels = 96
    stage5_channels = 128
    pool4_channels = 96

    def __init__(self, state: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, width in ((3, 32), (32, 64), (64, 96)):
            # an even kernel keeps cell i on pixels 8 i to 8 i + 7, as VGG's pooling does
            layers += [
                nn.Conv2d(inputs, width, 4, stride=2, padding=1),
                nn.GroupNorm(8, width),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.Conv2d(96, 96, 3, padding=1), nn.GroupNorm(8, 96), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*layers)
        _kaiming(self.trunk)
        if state is not None:
            load_into(self.trunk, select(state, "trunk."), "tiny trunk")

    def make_stage5(self) -> nn.Module:
        """One dilated 3 x 3 convolution."""
        stage = nn.Sequential(
            nn.Conv2d(96, 128, 3, padding=2, dilation=2), nn.GroupNorm(8, 128), nn.ReLU()
        )
        _kaiming(stage)
        return stage


_BACKBONES: dict[BackboneName, type[Vgg16 | SqueezeNet | Tiny]] = {
    BackboneName.VGG16: Vgg16,
    BackboneName.SQUEEZENET1_0: SqueezeNet,
    BackboneName.TINY: Tiny,
}


def build_backbone(config: ModelConfig) -> Backbone:
    """The backbone that `config` names, with its weights file read where one is given.

    Raises:
        WeightsError: The file is missing or broken or cannot be downloaded, or keys are missing or
            misshapen (all named).
    """
    file = weights_file(config)
    state = None if file is None else read_weights(file)
    return _BACKBONES[config.backbone](state)


def _kaiming(module: nn.Module) -> None:
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
