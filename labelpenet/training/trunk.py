"""Teaching the trunk the tags, from whole images, before any module.

A trunk without ImageNet weights needs it to see anything; one that has them learns the classes at
hand, which sharpens every map that is made from it later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.data.images import load_image
from labelpenet.data.transforms import IMAGENET_MEAN, flip_image, resize_image, to_tensor
from labelpenet.models.cascade import Cascade
from labelpenet.models.detection import Losses
from labelpenet.training.examples import Example
from labelpenet.training.loop import Stage, Values
from labelpenet.types import ImageRecord

# Sharpness of the pooling: 0 would be the mean, infinity the maximum.
_SHARPNESS = 4.0
# The new classifier learns faster than what ImageNet taught.
_CLASSIFIER_RATE = 10.0
# Shorter sides are drawn from this share of the crop's side ...
_SMALLEST, _LARGEST = 0.8, 1.5
# ... and brightness is changed by at most this factor.
_BRIGHTNESS = 0.3


class TrunkClassifier(nn.Module):
    """Trunk, stage 5 and a 1 x 1 classifier, pooled by log-mean-exp.

    The mean would drown an object that fills a few cells, the maximum teach one cell alone
    (Pinheiro and Collobert, 2015).

    Args:
        cascade: Whose trunk and stage 5 of module 1 are trained.
    """

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self._normalized_trunk = cascade.trunk
        self.trunk = cascade.backbone.trunk
        self.stage5 = cascade.classification.stage5
        self.cells = nn.Conv2d(cascade.backbone.stage5_channels, len(cascade.classes), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] of one size -> logits [N, C]."""
        cells = self.cells(self.stage5(self._normalized_trunk(images))).flatten(2).float()
        pooled = torch.logsumexp(_SHARPNESS * cells, 2) - math.log(cells.shape[2])
        return pooled / _SHARPNESS


def trunk_stage(cascade: Cascade) -> Stage:
    """The stage that teaches trunk and module 1's stage 5 the tags."""
    train = cascade.config.train
    classifier = TrunkClassifier(cascade)
    pretrained = [*classifier.trunk.parameters(), *classifier.stage5.parameters()]
    for parameter in pretrained:
        parameter.requires_grad_(True)
    groups = [
        {"params": own, "lr": rate, "weight_decay": decay}
        for parameters, rate in (
            (pretrained, train.trunk_rate),
            (list(classifier.cells.parameters()), train.trunk_rate * _CLASSIFIER_RATE),
        )
        for own, decay in (
            ([p for p in parameters if p.dim() > 1], train.weight_decay),
            ([p for p in parameters if p.dim() == 1], 0.0),
        )
    ]

    def losses(step: int, examples: Sequence[Example]) -> tuple[Losses, Values]:
        logits = classifier(torch.stack([example.image for example in examples]))
        truth = torch.zeros_like(logits)
        for row, example in zip(truth, examples, strict=True):
            row[list(example.record.labels)] = 1
        return {"tags": F.binary_cross_entropy_with_logits(logits, truth)}, {}

    return Stage(
        0, "trunk", classifier, groups, train.trunk_steps, train.trunk_batch, losses, load_crop
    )


def share_stage5(cascade: Cascade) -> None:
    """Gives what module 1's stage 5 has learned to the other modules' stages of the same form."""
    learned = cascade.classification.stage5.state_dict()
    for module in (cascade.detection, cascade.refinement, cascade.segmentation):
        module.stage5.load_state_dict(learned)


def load_crop(record: ImageRecord, config: Config, generator: torch.Generator) -> Example:
    """A square of an image at a random scale, flip and brightness; the mean colour around it."""
    side = config.train.trunk_size
    draw = torch.rand(5, generator=generator).tolist()
    shorter = round(side * (_SMALLEST + (_LARGEST - _SMALLEST) * draw[0]))
    image, scale = resize_image(to_tensor(load_image(record.path)), shorter, 3 * shorter)
    flipped = config.train.flip and draw[1] < 0.5
    image = flip_image(image) if flipped else image
    image = (image * (1 + _BRIGHTNESS * (2 * draw[2] - 1))).clamp(0, 255)
    height, width = image.shape[-2:]
    top, left = round(draw[3] * (height - side)), round(draw[4] * (width - side))
    crop = torch.tensor(IMAGENET_MEAN)[:, None, None] * 255 + torch.zeros(3, side, side)
    # where the image is the smaller one, top and left are where it lies in the crop, negated
    source = image[:, max(top, 0) : max(top, 0) + side, max(left, 0) : max(left, 0) + side]
    rows, columns = source.shape[-2:]
    crop[:, max(-top, 0) : max(-top, 0) + rows, max(-left, 0) : max(-left, 0) + columns] = source
    return Example(record, crop, scale, flipped, generator)
