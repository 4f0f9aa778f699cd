"""Module 1 on one photo, put together from other libraries: what end_to_end.py holds ours against.

OpenCV reads, proposes and projects; torchvision pools and compares boxes; torch multiplies;
pydensecrf refines, one object at a time. The network is ours, with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydensecrf.densecrf
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from labelpenet.data.transforms import IMAGENET_MEAN, IMAGENET_STD, resized_shape
from labelpenet.models.cascade import Cascade

from .stages import (
    BOXES,
    CONVOLUTIONS,
    CRF,
    EXCITATION,
    GROUPING,
    LAYERS,
    MAPS,
    POOLING,
    READ,
    SEARCH,
    Clock,
)


@dataclass(frozen=True)
class Found:
    """What the pipeline found in a photo, one object per class."""

    attention: np.ndarray  # [K, H, W] float32 in [0, 1]
    heat_map: np.ndarray  # [K, H, W] float32 in [0, 1]
    masks: np.ndarray  # [K, H, W] bool
    boxes: np.ndarray  # [K, 4]
    members: int  # proposals in the groups


@dataclass(frozen=True)
class Group:
    """The proposals of one class."""

    heat: np.ndarray  # [H, W] object heat-map in [0, 1]
    members: np.ndarray  # indices of the top proposal and of those that it suppresses


class PeerPipeline:
    """Labels photos with a cascade's trunk and module 1, and other libraries for the rest.

    Args:
        cascade: Whose weights and settings are used.
        tuned: What its users could do themselves, and mostly do not: channels-last images, and
            Excitation BP of the groups' members alone. Plain propagates every proposal.
    """

    def __init__(self, cascade: Cascade, *, tuned: bool = False) -> None:
        self.cascade, self.config, self.tuned = cascade, cascade.config, tuned
        self.dtype = torch.bfloat16 if self.config.train.precision == "bf16" else torch.float32
        module = cascade.classification
        layers = (module.fc.fc6, module.fc.fc7, module.fc8c)
        # made once, as ours are
        self.positive = [x.weight.detach().clamp(min=0).to(self.dtype) for x in layers]

    @torch.no_grad()
    def __call__(
        self, path: Path, proposals: np.ndarray, classes: tuple[int, ...], clock: Clock
    ) -> Found:
        """Selective search is run and timed; `proposals` [R, 4] are used in its place."""
        with clock.stage(READ):
            image, resized, scale = self.read(path)
        size = image.shape[:2]
        with clock.stage(SEARCH):
            self.search(image)
        with clock.stage(CONVOLUTIONS):
            features = self.convolve(resized)
        with clock.stage(POOLING):
            pooled = self.pool(features, torch.from_numpy(proposals) * scale)
        with clock.stage(LAYERS):
            activations, logits, second = self.layers(pooled)
        with clock.stage(GROUPING):
            own, start, heat = self.choose(logits, second, classes)
        groups = []
        for label in classes:
            of_class = np.flatnonzero(own.numpy() == label)
            with clock.stage(MAPS):
                heat_map = self.heat_map(heat[of_class].numpy(), proposals[of_class], size)
            with clock.stage(GROUPING):
                groups.append(Group(heat_map, of_class[self.group(heat_map, proposals[of_class])]))
        members = np.concatenate([group.members for group in groups])
        with clock.stage(EXCITATION):
            rows = torch.from_numpy(members) if self.tuned else torch.arange(len(own))
            found = self.excite([a[rows] for a in activations], own[rows], start[rows])
            maps = np.zeros((len(own), 7, 7), np.float32)
            maps[rows.numpy()] = found.float().numpy()
        with clock.stage(MAPS):
            attention = np.stack(
                [self.project(maps[g.members], proposals[g.members], size) for g in groups]
            )
            heat_maps = np.stack([group.heat for group in groups])
            confidence = _to_one(np.sqrt(attention * heat_maps))
        with clock.stage(CRF):
            masks = np.stack([self.refine(image, one) for one in confidence])
        with clock.stage(BOXES):
            boxes = np.stack([self.box(mask) for mask in masks])
        return Found(attention, heat_maps, masks, boxes, len(members))

    def read(self, path: Path) -> tuple[np.ndarray, Tensor, float]:
        """The photo [H, W, 3], resized and normalised [1, 3, h, w], and the scale between them."""
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        (shorter,) = self.config.test_scales or (min(image.shape[:2]),)
        size, scale = resized_shape(*image.shape[:2], shorter, self.config.test_longest)
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        tensor = F.interpolate(tensor, size, mode="bilinear", antialias=scale < 1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        tensor = (tensor / 255 - mean) / std
        layout = torch.channels_last if self.tuned else torch.contiguous_format
        return image, tensor.contiguous(memory_format=layout), scale

    def search(self, image: np.ndarray) -> np.ndarray:
        """Boxes [R, 4] of OpenCV's selective search."""
        found = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        found.setBaseImage(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if self.config.proposals.preset == "fast":
            found.switchToSelectiveSearchFast()
        else:
            found.switchToSelectiveSearchQuality()
        rectangles = found.process()
        rectangles = rectangles[rectangles[:, 2:].min(1) >= self.config.proposals.min_side]
        corners = np.concatenate((rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]), 1)
        return corners[: self.config.proposals.limit].astype(np.float32)

    def convolve(self, resized: Tensor) -> Tensor:
        """Stage 5's features."""
        with self._autocast():
            features = self.cascade.backbone.trunk(resized)
            return self.cascade.classification.stage5(features).float()

    def pool(self, features: Tensor, boxes: Tensor) -> Tensor:
        """[R, C, 7, 7]."""
        grid = self.cascade.classification.grid
        return torchvision.ops.roi_pool(features, [grid.shift(boxes)], 7, 1 / grid.stride)

    def layers(self, pooled: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The inputs of fc6, fc7 and fc8, x^c and the proposal weights."""
        module = self.cascade.classification
        with self._autocast():
            pooled = pooled.to(self.dtype)
            hidden, last = module.fc(pooled)
            return [pooled, hidden, last], module.fc8c(last).float(), module.fc8w(last).float()

    def choose(
        self, logits: Tensor, second: Tensor, classes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each proposal's most likely class, its probability, and that times its weight."""
        chosen = torch.tensor(classes)
        softmax = logits.softmax(1)
        own = chosen[softmax[:, chosen].argmax(1)]
        start = softmax.gather(1, own[:, None])[:, 0]
        return own, start, start * second.softmax(0).gather(1, own[:, None])[:, 0]

    def heat_map(self, scores: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One slice a box."""
        out = np.zeros(size, np.float32)
        for score, (x1, y1, x2, y2) in zip(scores, boxes.astype(int), strict=True):
            out[y1:y2, x1:x2] += score
        return _to_one(out[None])[0]

    def group(self, heat_map: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The proposal that fits the heat-map best, and those that it suppresses."""
        table = cv2.integral(heat_map)
        x1, y1, x2, y2 = boxes.astype(int).T
        inside = table[y2, x2] - table[y1, x2] - table[y2, x1] + table[y1, x1]
        top = np.argmax(inside / ((x2 - x1) * (y2 - y1) + table[-1, -1] - inside))
        corners = torch.from_numpy(boxes)
        overlap = torchvision.ops.box_iou(corners[top][None], corners)[0].numpy()
        return np.flatnonzero(overlap > self.config.calibration.nms_threshold)

    def excite(self, activations: list[Tensor], classes: Tensor, start: Tensor) -> Tensor:
        """Excitation BP as matrix products over all proposals: [R, 7, 7]."""
        signal = activations[-1].new_zeros(len(start), len(self.positive[-1]))
        signal[torch.arange(len(start)), classes] = start.to(self.dtype)
        for x, weight in zip(reversed(activations), reversed(self.positive), strict=True):
            flat = x.flatten(1)
            below = flat @ weight.T
            signal = flat * (torch.where(below == 0, 0, signal / below) @ weight)
        return signal.view_as(activations[0]).sum(1)

    def project(self, maps: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One cv2.resize a proposal."""
        out = np.zeros(size, np.float32)
        for one, (x1, y1, x2, y2) in zip(maps, boxes.astype(int), strict=True):
            out[y1:y2, x1:x2] += cv2.resize(one, (x2 - x1, y2 - y1))
        return _to_one(out[None])[0]

    def refine(self, image: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """A mask, from a CRF made for it."""
        rule, settings = self.config.calibration, self.config.calibration.crf
        object_ = np.interp(confidence, (0, rule.threshold, 1), (0, 0.5, 1)).astype(np.float32)
        object_ = object_ * (2 * settings.confidence - 1) + (1 - settings.confidence)
        unary = -np.log(np.stack((1 - object_, object_)))
        crf = pydensecrf.densecrf.DenseCRF2D(image.shape[1], image.shape[0], 2)
        crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(2, -1)))
        crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
        crf.addPairwiseBilateral(
            sxy=settings.bilateral_sxy, srgb=settings.bilateral_srgb, rgbim=image,
            compat=settings.bilateral_compat,
        )  # fmt: skip
        background, found = np.array(crf.inference(settings.iterations)).reshape(unary.shape)
        mask = found > background
        return mask if mask.any() else confidence >= rule.threshold

    def box(self, mask: np.ndarray) -> np.ndarray:
        """The box of the largest connected part."""
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        if count == 1:
            return np.zeros(4, np.float32)
        x, y, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
        return np.array((x, y, x + width, y + height), np.float32)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == torch.bfloat16)


def _to_one(maps: np.ndarray) -> np.ndarray:
    top = maps.max((1, 2), keepdims=True)
    return maps / np.where(top > 0, top, 1)
