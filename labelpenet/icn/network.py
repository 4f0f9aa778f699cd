"""The Instance-aware Cue-propagation Network: image and peak response map in, whole instance out.

Source: Huang et al., Weakly supervised segmentation via instance-aware propagation, 3.2, fig. 3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.config import IcnConfig
from labelpenet.icn.classifier import prepared
from labelpenet.models.backbones import Backbone


class Fusion(nn.Module):
    """E(C(U(f_s), f_l)) of eq. 3: upsample, concatenate, two convolutions.

    Args:
        channels: Of both inputs and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, small: Tensor, large: Tensor) -> Tensor:
        """[N, D, h, w] and [N, D, H, W] -> [N, D, H, W]."""
        x = torch.cat((upsampled(small, large), large), 1)
        return torch.relu(self.second(torch.relu(self.first(x))))


class CueNetwork(nn.Module):
    """Enhances peak response maps.

    Args:
        backbone: Its trunk, whose first convolution gets a fourth input, and a stage 5 are its own.
        config: Width, and what is left out.
    """

    def __init__(self, backbone: Backbone, config: IcnConfig) -> None:
        super().__init__()
        self.trunk = backbone.trunk
        assert isinstance(self.trunk, nn.Sequential)
        self.trunk[0] = _with_cue(self.trunk[0])
        self.stage5 = backbone.make_stage5()
        self.prm_input = config.prm_input
        self._smallest = backbone.smallest
        side = 2 * backbone.smallest
        with torch.no_grad():
            widths = [level.shape[1] for level in self._levels(torch.zeros(1, 4, side, side))]
        channels = config.channels
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, channels, 1), nn.GroupNorm(8, channels), nn.ReLU())
            for width in (widths if config.fusion else widths[-1:])
        )
        steps = len(widths) - 1 if config.fusion else 0
        self.context = nn.ModuleList(Fusion(channels) for _ in range(steps))
        self.detail = nn.ModuleList(Fusion(channels) for _ in range(steps))
        self.mapping = nn.Sequential(
            nn.Conv2d(2 * channels if steps else channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, images: Tensor, cues: Tensor) -> Tensor:
        """Logits of the instance.

        Args:
            images: [N, 3, H, W] RGB in [0, 255].
            cues: [N, H, W] peak response maps in [0, 1].

        Returns:
            [N, H, W] float32.
        """
        height, width = images.shape[2:]
        x = prepared(images, self._smallest)
        seen = cues if self.prm_input else torch.zeros_like(cues)
        seen = F.pad(seen[:, None], (0, x.shape[3] - width, 0, x.shape[2] - height))
        # the layout in which convolutions run fastest on a CPU
        x = torch.cat((x, seen.to(x.dtype)), 1).contiguous(memory_format=torch.channels_last)
        levels = self._levels(x)
        levels = levels[-len(self.laterals) :]
        sides = [lateral(f) for lateral, f in zip(self.laterals, levels, strict=True)]
        if self.context:
            context, detail = sides[-1], sides[0]
            for fuse, shallower in zip(self.context, reversed(sides[:-1]), strict=True):
                context = fuse(context, shallower)  # CFM: deep to shallow
            for fuse, deeper in zip(self.detail, sides[1:], strict=True):
                detail = fuse(deeper, detail)  # DFM: shallow to deep, in the shallow one's detail
            logits = self.mapping(torch.cat((context, detail), 1))
        else:
            logits = self.mapping(sides[-1])
        return upsampled(logits.float(), x)[:, 0, :height, :width]

    def _levels(self, x: Tensor) -> list[Tensor]:
        """The last features of every resolution of the trunk, then stage 5's."""
        levels: list[Tensor] = []
        size = x.shape[2:]
        for layer in self.trunk.children():
            following = layer(x)
            if following.shape[2:] != size and x.shape[1] != 4:
                levels.append(x)
            x, size = following, following.shape[2:]
        return [*levels, x, self.stage5(x)]


def upsampled(maps: Tensor, like: Tensor) -> Tensor:
    """Maps [N, D, h, w] at the size of others, bilinear."""
    if maps.shape[2:] == like.shape[2:]:
        return maps
    return F.interpolate(maps, like.shape[2:], mode="bilinear", align_corners=False)


def scaled(maps: Tensor) -> Tensor:
    """Min-max normalisation of maps [P, H, W]; a constant one becomes 0.

    Example:
        >>> scaled(torch.tensor([[[2.0, 3.0, 4.0]], [[5.0, 5.0, 5.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]],
        <BLANKLINE>
                [[0.0000, 0.0000, 0.0000]]])
    """
    if maps.numel() == 0:
        return maps
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), torch.zeros_like(maps)).clamp(0, 1)


@torch.no_grad()
def enhance(network: CueNetwork, image: Tensor, cues: Tensor, config: IcnConfig) -> Tensor:
    """Enhances cues [P, H, W] in [0, 1] of one image [3, H, W], `config.steps` times.

    Returns:
        [P, H, W] in [0, 1]; 0 and 1 alone where `config.binary`. A map that would be binarised to
        nothing is scaled to [0, 1] first, so that its best pixels stay.
    """
    for _ in range(config.steps if len(cues) else 0):
        cues = torch.sigmoid(network(image.expand(len(cues), -1, -1, -1), scaled(cues)))
        if config.binary:
            empty = cues.amax((1, 2), keepdim=True) < config.threshold
            cues = (torch.where(empty, scaled(cues), cues) >= config.threshold).float()
    return cues


def _with_cue(layer: nn.Module) -> nn.Conv2d:
    """The first convolution with a fourth input; it sees a cue as it does light."""
    assert isinstance(layer, nn.Conv2d)
    wider = nn.Conv2d(4, layer.out_channels, layer.kernel_size)  # type: ignore[arg-type]
    wider.stride, wider.padding = layer.stride, layer.padding
    with torch.no_grad():
        wider.weight[:, :3] = layer.weight
        wider.weight[:, 3] = layer.weight.sum(1)
        assert wider.bias is not None
        assert layer.bias is not None
        wider.bias.copy_(layer.bias)
    return wider
