"""Classifier and cue-propagation network together, and the checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelpenet.config import Config, config_from_dict, override
from labelpenet.files import atomic_write
from labelpenet.icn.classifier import PeakClassifier
from labelpenet.icn.network import CueNetwork
from labelpenet.models.backbones import build_backbone
from labelpenet.models.cascade import CheckpointError
from labelpenet.models.weights import load_into, why

_FORMAT = 1
METHOD = "icn"
CLASSIFIER, NETWORK = 1, 2  # how far a checkpoint is trained


class Icn(nn.Module):
    """Both networks, each with a backbone of its own.

    Args:
        config: All settings.
        classes: Class names.
    """

    def __init__(self, config: Config, classes: tuple[str, ...]) -> None:
        super().__init__()
        if not classes:
            raise ValueError("classes: expected at least one class name, got none")
        self.config = config
        self.classes = classes
        model = config.model
        self.classifier = PeakClassifier(
            build_backbone(model), len(classes), model.fc_width, model.dropout, config.icn.peaks
        )
        self.network = CueNetwork(build_backbone(model), config.icn)


def save_icn(path: Path, icn: Icn, trained: int) -> None:
    """Writes a checkpoint whole or not at all; `trained` is CLASSIFIER or NETWORK.

    Raises:
        OutputError: It cannot be written; a checkpoint that is there stays.
    """
    content = {
        "format": _FORMAT,
        "method": METHOD,
        "config": icn.config.to_dict(),
        "classes": list(icn.classes),
        "trained": trained,
        "state": icn.state_dict(),
    }
    with atomic_write(path, binary=True) as file:
        torch.save(content, file)


def is_icn(path: Path) -> bool:
    """Whether a file is a checkpoint of ICN; False for one that cannot be read at all."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception:  # zip, pickle and I/O errors of many types; loading it will name the reason
        return False
    return isinstance(content, dict) and content.get("method") == METHOD


def load_icn(path: Path, overrides: Sequence[str] = ()) -> tuple[Icn, int]:
    """Reads a checkpoint; nothing in it is executed.

    Args:
        path: Written by training.
        overrides: `section.key=value` in place of its own settings, such as those of inference.

    Returns:
        The networks in evaluation mode, and how far they are trained.

    Raises:
        CheckpointError: Missing, truncated, of another method or format, or with keys that do not
            fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as in models.cascade.load_checkpoint
        raise CheckpointError(f"{path}: truncated or not a checkpoint: {why(error)}") from None
    if not isinstance(content, dict) or content.get("method") != METHOD:
        raise CheckpointError(f"{path}: expected a checkpoint of method {METHOD}")
    if content.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: expected a labelpenet checkpoint of format {_FORMAT}")
    try:
        values: dict[str, Any] = dict(content["config"])
        values["model"] = values["model"] | {"weights": None}
        override(values, overrides)
        classes, trained = content["classes"], content["trained"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes: expected a list of names, got {classes!r}")
        if trained not in (CLASSIFIER, NETWORK):
            raise ValueError(f"trained: expected {CLASSIFIER} or {NETWORK}, got {trained!r}")
        icn = Icn(config_from_dict(values, "config"), tuple(classes))
        load_into(icn, content["state"], "state")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return icn.eval(), int(trained)
