"""Algorithm 1: peaks, response maps, enhancement, the segment that fits each, mask NMS."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelpenet.config import Attention
from labelpenet.data.transforms import resize_image, to_tensor
from labelpenet.icn.cues import Cues, at_size, find_cues, match, overlaps, propose_segments
from labelpenet.icn.model import Icn
from labelpenet.icn.network import enhance
from labelpenet.mask_nms import mask_nms
from labelpenet.quality import peak_support
from labelpenet.types import Instances, Labelling, Quality
from labelpenet.views import autocast

MODULE = 0  # in a Labelling, where the cascade has its modules 1 to 4


class Enhanced(NamedTuple):
    """The cues of an image, before and after the network.

    Attributes:
        cues: The classifier's.
        maps: [P, H, W] enhanced, in [0, 1], at the image's size.
    """

    cues: Cues
    maps: Tensor


class IcnPredictor:
    """Runs Algorithm 1 on images.

    Args:
        icn: Trained; put into evaluation mode.
    """

    def __init__(self, icn: Icn) -> None:
        self.icn = icn.eval()
        self.config = icn.config
        self.device = icn.classifier.classifier.weight.device

    @torch.no_grad()
    def enhanced(self, image: np.ndarray, tags: tuple[int, ...] | None) -> Enhanced:
        """An image's cues and what the network makes of them; `tags` None guesses the classes."""
        settings = self.config.icn
        cues = find_cues(self.icn.classifier, image, self.config, tags)
        size = image.shape[0], image.shape[1]
        if settings.steps == 0:
            return Enhanced(cues, at_size(cues.maps, size))
        shown, _ = resize_image(to_tensor(image).to(self.device), settings.size, 3 * settings.size)
        small = at_size(cues.maps, (shown.shape[1], shown.shape[2]))
        with autocast(self.config, self.device):
            maps = enhance(self.icn.network, shown, small, settings)
        return Enhanced(cues, at_size(maps, size))

    @torch.no_grad()
    def __call__(self, image: np.ndarray, tags: tuple[int, ...] | None = None) -> Labelling:
        """The instances of an image [H, W, 3] uint8; `tags` None guesses the classes.

        Each is a segment of selective search; its score is the probability of its class times the
        soft IoU of segment and enhanced map.
        """
        height, width = image.shape[:2]
        boxes, regions = propose_segments(image, self.config)
        cues, maps = self.enhanced(image, tags)
        maps = maps.cpu()
        if len(maps) == 0 or len(regions) == 0:
            return Labelling(Instances.empty(height, width), MODULE)
        best = match(maps, regions, self.config.icn.matching).argmax(1)
        fit = overlaps(maps, regions).gather(1, best[:, None])[:, 0]
        masks = torch.stack([regions.mask(int(i)) for i in best])
        scores = (cues.probabilities.cpu() * fit).clamp(0, 1)
        naive = at_size(cues.maps, (height, width)).cpu()
        quality = Quality.of(len(maps), peak_support=peak_support(naive, masks))
        found = Instances(boxes[best], cues.labels.cpu(), scores, masks, quality)
        kept = mask_nms(found, self.config.icn.matching.nms)
        pictures = {
            "peak response": naive.amax(0),
            "enhanced": maps.amax(0),
            "segments": masks[kept].any(0).float(),
        }
        return Labelling(found.select(kept), MODULE, pictures)

    @torch.no_grad()
    def attention(
        self, image: np.ndarray, labels: list[int], boxes: Tensor, kind: Attention
    ) -> Tensor:
        """Attention maps [K, H, W] in [0, 1] of candidates: their class's cues in their box.

        A candidate that no peak of its class falls to, by the mass of its response map inside the
        box, gets all of its class's.

        Args:
            image: [H, W, 3] uint8.
            labels: Class of each candidate.
            boxes: [K, 4].
            kind: `prm` takes the response maps as they are, `icn` the enhanced ones.
        """
        size = image.shape[0], image.shape[1]
        tags = tuple(sorted(set(labels)))
        if kind is Attention.ICN:
            cues, maps = self.enhanced(image, tags)
        else:
            cues = find_cues(self.icn.classifier, image, self.config, tags)
            maps = at_size(cues.maps, size)
        naive = at_size(cues.maps, size)
        out = maps.new_zeros(len(labels), *size)
        for k, (label, box) in enumerate(zip(labels, boxes.round().int().tolist(), strict=True)):
            own = (cues.labels == label).nonzero().flatten()
            x1, y1, x2, y2 = (max(v, 0) for v in box)
            mass = naive[own].sum((1, 2)).clamp(min=1e-12)
            near = naive[own][:, y1:y2, x1:x2].sum((1, 2)) / mass >= 0.5
            chosen = own[near] if bool(near.any()) else own
            if len(chosen):
                out[k] = maps[chosen].amax(0)
        return out.to(boxes.device)
