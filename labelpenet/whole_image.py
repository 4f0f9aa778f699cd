"""What the whole-image classifier of module 1 adds to the modules' answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labelpenet.class_maps import ClassMaps, class_maps
from labelpenet.models.cascade import Cascade
from labelpenet.models.ranking import Prior
from labelpenet.views import View, resized


class WholeImage:
    """The whole-image classifier of one cascade.

    Args:
        cascade: Its module 1 was trained with `train.tag_loss`, or no rule asks for this.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.config = cascade.config
        self._cells: tuple[Tensor, Tensor] | None = None

    def maps(
        self, views: Sequence[View], image: np.ndarray, tags: tuple[int, ...] | None
    ) -> ClassMaps | None:
        """Where it sees each class; None where no rule asks for it."""
        if not self.config.uses_class_maps:
            return None
        module = self.cascade.classification
        if self._cells is None:
            self._cells = module.fc.as_cells()
        features = [module.stage5(view.trunk) for view in views]
        logits = [module.tag_logits(own, self._cells) for own in features]
        places = None
        if self.config.train.place_images:
            places = [module.place_logits(own) for own in features]
        size = (image.shape[0], image.shape[1])
        frames = [view.frame for view in views]
        maps = class_maps(logits, frames, module.grid, size, places=places, tags=tags)
        if tags is not None or not self.config.tag_scales:  # known, or seen in the same views
            return maps
        device = views[0].trunk.device
        small = resized(image, self.config.tag_scales, self.config, device)
        seen = [module.stage5(self.cascade.trunk(view)) for view, _ in small]
        said = torch.stack([module.tag_logits(own, self._cells).mean((1, 2)) for own in seen])
        return maps._replace(probability=torch.sigmoid(said).mean(0))

    def prior(self, maps: ClassMaps | None, tags: tuple[int, ...] | None) -> Prior:
        """What it tells a detection module of an image (see DetectionConfig)."""
        rules = self.config.detection
        gamma = rules.map_gamma if tags is None else rules.tagged_gamma
        if maps is None:
            return Prior()
        seen = maps

        def fit(boxes: Tensor) -> Tensor:
            classes = range(len(seen.maps)) if tags is None else tags
            every = torch.zeros((len(boxes), len(seen.maps)), device=boxes.device)
            for label in classes:
                every[:, label] = seen.fit(label, boxes, gamma)
            return every

        return Prior(fit if rules.map_weight else None, seen.probability)
