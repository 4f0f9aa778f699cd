"""Checkpoints of both methods: a network, its settings and classes, and how far it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from labelpenet.config import Config, config_from_dict, override
from labelpenet.files import atomic_write
from labelpenet.models.weights import load_into, why

_FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; says which file and why."""


class Network(nn.Module):
    """What a checkpoint holds: a network that knows its settings and classes.

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


N = TypeVar("N", bound=Network)


def write_checkpoint(path: Path, network: Network, method: str, trained: int) -> None:
    """Writes a checkpoint whole or not at all.

    Raises:
        OutputError: It cannot be written; a checkpoint that is there stays.
    """
    content = {
        "format": _FORMAT,
        "method": method,
        "config": network.config.to_dict(),
        "classes": list(network.classes),
        "trained": trained,
        "state": network.state_dict(),
    }
    write_tensors(path, content)


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Writes what torch.load reads, whole or not at all.

    Raises:
        OutputError: It cannot be written; a file that is there stays.
    """
    with atomic_write(path, binary=True) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own, which hides the cause: "No space left", Ctrl-C
            hidden = error.__context__
            told = isinstance(hidden, OSError | KeyboardInterrupt)
            raise hidden if told and hidden is not None else error from None


def read_checkpoint(
    path: Path,
    build: Callable[[Config, tuple[str, ...]], N],
    method: str,
    stages: range,
    overrides: Sequence[str] = (),
) -> tuple[N, int]:
    """Reads a checkpoint; nothing in it is executed.

    Args:
        path: Written by write_checkpoint.
        build: Settings and classes -> the network.
        method: The one that is expected.
        stages: How far it can be trained.
        overrides: `section.key=value` in place of its own settings, such as those of inference.

    Returns:
        The network in evaluation mode, and how far it is trained.

    Raises:
        CheckpointError: Missing, truncated, of another method or format, or with keys that do not
            fit.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and I/O errors of many types: all mean the same here
        raise CheckpointError(f"{path}: truncated or not a checkpoint: {why(error)}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: expected a labelpenet checkpoint of format {_FORMAT}")
    if content.get("method") != method:
        got = content.get("method")
        raise CheckpointError(f"{path}: expected a checkpoint of method {method}, got {got!r}")
    try:
        values = dict(content["config"])
        # The checkpoint holds every weight itself; the file it once started from may be gone.
        values["model"] = values["model"] | {"weights": None}
        override(values, overrides)
        classes, trained = content["classes"], content["trained"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes: expected a list of names, got {classes!r}")
        if trained not in stages:
            expected = f"{stages[0]} to {stages[-1]}"
            raise ValueError(f"trained: expected a number from {expected}, got {trained!r}")
        network = build(config_from_dict(values, "config"), tuple(classes))
        load_into(network, content["state"], "state")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return network.eval(), int(trained)


def method_of(path: Path) -> str | None:
    """The method of a checkpoint; None for a file that is none: reading it will tell why."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception:  # as above
        return None
    return content.get("method") if isinstance(content, dict) else None
