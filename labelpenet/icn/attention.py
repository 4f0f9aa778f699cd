"""An ICN as the source of calibration's attention maps (`calibration.attention`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from labelpenet.calibration import Candidate
from labelpenet.config import Attention, Config
from labelpenet.icn.model import load_icn
from labelpenet.icn.predictor import IcnPredictor
from labelpenet.models.checkpoint import CheckpointError

Attend = Callable[[np.ndarray, Sequence[Candidate]], Tensor]
"""(image [H, W, 3] uint8, K candidates) -> attention maps [K, H, W] in [0, 1]."""


def icn_attention(config: Config, classes: tuple[str, ...], device: torch.device) -> Attend | None:
    """What `calibration.attention` asks for; None is Excitation Backprop.

    Raises:
        ValueError: No `icn.attention_checkpoint`.
        CheckpointError: It cannot be used, or has other classes.
    """
    kind, path = config.calibration.attention, config.icn.attention_checkpoint
    if kind is Attention.EXCITATION:
        return None
    if path is None:
        raise ValueError(f"icn.attention_checkpoint: calibration.attention {kind.value} needs one")
    icn, _ = load_icn(path)
    if icn.classes != classes:
        raise CheckpointError(f"{path}: expected the classes {classes}, got {icn.classes}")
    predictor = IcnPredictor(icn.to(device))

    def attend(image: np.ndarray, candidates: Sequence[Candidate]) -> Tensor:
        if not candidates:
            return torch.zeros((0, *image.shape[:2]))
        boxes = torch.stack([candidate.box for candidate in candidates])
        # an ICN's precision is its own, whatever the cascade runs in
        with torch.autocast(device.type, enabled=False):
            return predictor.attention(image, [c.label for c in candidates], boxes, kind)

    return attend
