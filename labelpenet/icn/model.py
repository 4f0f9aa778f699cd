"""Classifier and cue-propagation network together, and the checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelpenet.config import Config
from labelpenet.icn.classifier import PeakClassifier
from labelpenet.icn.network import CueNetwork
from labelpenet.models.backbones import build_backbone
from labelpenet.models.checkpoint import Network, read_checkpoint, write_checkpoint

ICN = "icn"  # the method, as checkpoints and `--method` have it
CLASSIFIER, NETWORK = 1, 2  # how far a checkpoint is trained


class Icn(Network):
    """Both networks, each with a backbone of its own.

    Args:
        config: All settings.
        classes: Class names.
    """

    def __init__(self, config: Config, classes: tuple[str, ...]) -> None:
        super().__init__(config, classes)
        model = config.model
        self.classifier = PeakClassifier(
            build_backbone(model), len(classes), model.fc_width, model.dropout, config.icn.peaks
        )
        self.network = CueNetwork(build_backbone(model), config.icn)


def save_icn(path: Path, icn: Icn, trained: int) -> None:
    """Writes a checkpoint; `trained` is CLASSIFIER or NETWORK. Raises as write_checkpoint."""
    write_checkpoint(path, icn, ICN, trained)


def load_icn(path: Path, overrides: Sequence[str] = ()) -> tuple[Icn, int]:
    """Reads a checkpoint: the networks in evaluation mode, and how far they are trained.

    Arguments and errors as read_checkpoint's.
    """
    return read_checkpoint(path, Icn, ICN, range(CLASSIFIER, NETWORK + 1), overrides)
