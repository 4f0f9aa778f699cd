"""The classifier whose class activation maps have a peak for every instance it sees."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.config import PeakConfig
from labelpenet.data.transforms import normalize
from labelpenet.icn.response import PeakTracer, Responses
from labelpenet.models.backbones import Backbone
from labelpenet.ops import find_peaks


class ClassScores(NamedTuple):
    """What the classifier says of N images.

    Attributes:
        tags: [N, C] logits, the mean of each class activation map.
        peaks: [N, C] logits, its mean over its peaks; its largest value where it has none.
    """

    tags: Tensor
    peaks: Tensor


class PeakClassifier(nn.Module):
    """Trunk, stage 5, fc6 as a 1 x 1 convolution and a classifier of every cell.

    Args:
        backbone: Trunk and stage 5 are its own.
        classes: C.
        width: Of fc6.
        dropout: Drop probability behind fc6 in training.
        peaks: What counts as a peak.
    """

    def __init__(
        self, backbone: Backbone, classes: int, width: int, dropout: float, peaks: PeakConfig
    ) -> None:
        super().__init__()
        self.trunk = backbone.trunk
        self.stage5 = backbone.make_stage5()
        self.fc6 = backbone.make_fc(backbone.stage5_channels, width, dropout).cells()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.fc6.out_channels, classes)
        self.peaks = peaks
        self._smallest = backbone.smallest
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] of one size, RGB in [0, 255] -> mean of fc6 over the cells [N, D]."""
        return self._cells(images).float().mean((2, 3))

    def maps(self, images: Tensor) -> Tensor:
        """Class activation maps [N, C, h, w]."""
        return self._classified(self.dropout(self._cells(images)))

    def forward(self, images: Tensor) -> ClassScores:
        """Scores of both kinds; their gradient flows through all cells, and through peaks alone."""
        maps = self.maps(images)
        found = self.find(maps.flatten(0, 1)).reshape(maps.shape).to(maps.dtype)
        number = found.sum((2, 3))
        stimulated = (maps * found).sum((2, 3)) / number.clamp(min=1)
        stimulated = torch.where(number > 0, stimulated, maps.amax((2, 3)))
        return ClassScores(maps.mean((2, 3)), stimulated)

    def find(self, maps: Tensor) -> Tensor:
        """Peaks of class activation maps [M, h, w] as a mask; negative evidence is none."""
        window = 2 * self.peaks.reach + 1
        return find_peaks(maps.detach().clamp(min=0), self.peaks.sigma, window)[1]

    def list_peaks(self, maps: Tensor, classes: list[int]) -> tuple[Tensor, Tensor]:
        """The instances of some classes in maps [C, h, w], strongest of each class first.

        Returns:
            [P, 3] int64 (class, row, column), and each one's share of its class's strongest
            response, [P] float32.
        """
        chosen = torch.tensor(classes, dtype=torch.int64, device=maps.device)
        window = 2 * self.peaks.reach + 1
        positive = maps.detach()[chosen].clamp(min=0)
        response, found = find_peaks(positive, self.peaks.sigma, window)
        peaks, shares = [], []
        for i, label in enumerate(classes):
            places = found[i].nonzero()
            strength = response[i][found[i]]
            order = strength.argsort(descending=True, stable=True)[: self.peaks.limit]
            strength = strength[order] / strength.max() if len(order) else strength
            kept = order[strength >= self.peaks.threshold]
            peaks.append(F.pad(places[kept], (1, 0), value=label))
            shares.append(strength[strength >= self.peaks.threshold])
        if not peaks:
            return chosen.new_zeros(0, 3), maps.new_zeros(0)
        return torch.cat(peaks), torch.cat(shares)

    def trace(self, image: Tensor) -> Responses:
        """The maps of one image [3, H, W], and the way back from their peaks to its pixels.

        Response maps have the size of the image, or more where it is smaller than the backbone's
        least: cut them.
        """
        body = nn.Sequential(self.trunk, self.stage5, self.fc6, nn.ReLU())
        tracer = PeakTracer(body, self.classifier, positive=self.peaks.positive)
        return tracer(self._prepared(image[None]))

    def _cells(self, images: Tensor) -> Tensor:
        return torch.relu(self.fc6(self.stage5(self.trunk(self._prepared(images)))))

    def _classified(self, cells: Tensor) -> Tensor:
        weight = self.classifier.weight[:, :, None, None]
        return F.conv2d(cells, weight.to(cells.dtype), self.classifier.bias.to(cells.dtype)).float()

    def _prepared(self, images: Tensor) -> Tensor:
        return prepared(images, self._smallest)


def prepared(images: Tensor, smallest: int) -> Tensor:
    """Images [N, 3, H, W] as a trunk takes them: normalised, and padded to its least side."""
    x = torch.stack([normalize(one) for one in images])
    bottom, right = max(smallest - x.shape[-2], 0), max(smallest - x.shape[-1], 0)
    if bottom or right:
        x = F.pad(x, (0, right, 0, bottom))
    return x.contiguous(memory_format=torch.channels_last)
