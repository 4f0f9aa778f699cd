"""Teaching the trunk the tags, from whole images, before any module.

A trunk without ImageNet weights needs it to see anything; one that has them learns the classes at
hand, and hands every module a head that knows them already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from labelpenet.config import Config
from labelpenet.data.images import load_image
from labelpenet.data.transforms import IMAGENET_MEAN, flip_image, resize_image, to_tensor
from labelpenet.models.cascade import Cascade
from labelpenet.models.classification import ClassificationModule
from labelpenet.models.detection import DetectionModule, Losses
from labelpenet.models.segmentation import SegmentationModule
from labelpenet.progress import track
from labelpenet.training.convex import fit_linear
from labelpenet.training.examples import Example
from labelpenet.training.loop import Stage, Values
from labelpenet.types import ImageRecord

# Shorter sides are drawn from this share of the crop's side ...
_SMALLEST, _LARGEST = 0.8, 1.5
# ... and brightness is changed by at most this factor.
_BRIGHTNESS = 0.3
# Steps of the convex fit of the classifier, and the weight of its squared norm.
_FIT_STEPS, _FIT_DECAY = 120, 0.01


class TagClassifier(Protocol):
    """What fit_classifier fits: a linear classifier of an image's features [1, D]."""

    classifier: nn.Linear

    def features(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] -> [N, D]."""

    def eval(self) -> object:
        """Turns dropout off."""


class TrunkClassifier(nn.Module):
    """Trunk, stage 5, fc6 as a 1 x 1 convolution, the mean over the image, and a classifier.

    Laid over the 7 x 7 cells of a ROI again, this is the head of a module (see `share`).

    Args:
        cascade: Whose trunk and stage 5 of module 1 are trained.
    """

    def __init__(self, cascade: Cascade) -> None:
        super().__init__()
        self._normalized_trunk = cascade.trunk
        self.trunk = cascade.backbone.trunk
        self.stage5 = cascade.classification.stage5
        self.fc6 = cascade.classification.fc.cells()
        self.dropout = nn.Dropout(cascade.config.model.dropout)
        self.classifier = nn.Linear(self.fc6.out_channels, len(cascade.classes))
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] of one size -> the mean of fc6 over their cells [N, D]."""
        cells = torch.relu(self.fc6(self.stage5(self._normalized_trunk(images))))
        return cells.float().mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] of one size -> logits [N, C]."""
        logits: Tensor = self.classifier(self.dropout(self.features(images)))
        return logits.float()

    @torch.no_grad()
    def share(self, cascade: Cascade) -> None:
        """Starts every module from what was learned: stage 5, fc6 and the classifier."""
        cascade.classification.tags.load_state_dict(self.classifier.state_dict())
        learned = self.stage5.state_dict()
        for number in (1, 2, 3, 4):
            module = cascade.module(number)
            if isinstance(module, SegmentationModule):
                module.stage5.load_state_dict(learned)
                module = module.detection
            assert isinstance(module, ClassificationModule | DetectionModule)
            if module.stage5.state_dict().keys() == learned.keys():  # SqueezeNet's pool4 has fire9
                module.stage5.load_state_dict(learned)
            if module.fc.fc6.in_features == 49 * self.fc6.in_channels:
                module.fc.start_from(self.fc6)
                module.fc8c.weight[: len(cascade.classes)] = self.classifier.weight
                module.fc8c.bias[: len(cascade.classes)] = self.classifier.bias


def trunk_stage(cascade: Cascade, classifier: TrunkClassifier) -> Stage:
    """The stage in which the classifier and all that it stands on learn the tags."""
    train = cascade.config.train
    pretrained = [p for n, p in classifier.named_parameters() if not n.startswith("classifier.")]
    last = list(classifier.classifier.parameters())
    groups = [
        {"params": own, "lr": rate, "weight_decay": decay}
        for parameters, rate in (
            (pretrained, train.trunk_rate),
            (last, train.rate * train.classifier_rate),
        )
        for own, decay in (
            ([p for p in parameters if p.dim() > 1], train.weight_decay),
            ([p for p in parameters if p.dim() == 1], 0.0),
        )
    ]

    def losses(step: int, examples: Sequence[Example]) -> tuple[Losses, Values]:
        logits = classifier(torch.stack([example.image for example in examples]))
        truth = torch.stack([_truth(e.record, logits.shape[1]) for e in examples])
        return {"tags": F.binary_cross_entropy_with_logits(logits, truth.to(logits.device))}, {}

    return Stage(
        0, "trunk", classifier, groups, train.trunk_steps, train.trunk_batch, losses, load_crop
    )


def fit_classifier(
    classifier: TagClassifier,
    records: Sequence[ImageRecord],
    config: Config,
    console: Console | None,
) -> None:
    """The best classifier on the features as they are: a convex problem, solved before any step.

    A classifier that starts from noise would first send its noise into the trunk.
    """
    classifier.eval()
    device = classifier.classifier.weight.device
    rows = []
    with torch.no_grad():
        for record in track(records, "features of the tags", len(records), console):
            image = to_tensor(load_image(record.path))
            image, _ = resize_image(image, config.train.trunk_size, 3 * config.train.trunk_size)
            rows.append(classifier.features(image[None].to(device)))
    features = torch.cat(rows)
    classes = classifier.classifier.out_features
    truth = torch.stack([_truth(record, classes) for record in records]).to(device)
    scale = features.std(0).mean().clamp(min=1e-6)
    weight, bias = fit_linear(
        features / scale,
        classes,
        lambda logits: F.binary_cross_entropy_with_logits(logits, truth) * classes,
        steps=_FIT_STEPS,
        decay=_FIT_DECAY,
    )
    with torch.no_grad():
        classifier.classifier.weight.copy_(weight / scale)
        classifier.classifier.bias.copy_(bias)


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


def _truth(record: ImageRecord, classes: int) -> Tensor:
    """The tags as zeros and ones [C]."""
    truth = torch.zeros(classes)
    truth[list(record.labels)] = 1
    return truth
