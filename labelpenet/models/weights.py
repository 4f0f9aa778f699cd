"""Reading weights files from users: untrusted, checked, and every problem named at once."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class WeightsError(ValueError):
    """A weights file or checkpoint that cannot be used."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a .safetensors, .pth or .pt state dict; nothing in it is executed.

    Raises:
        WeightsError: Missing, truncated or not a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and I/O errors of many types: all mean the same here
        raise WeightsError(f"{path}: cannot be read as weights: {why(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: expected a state dict of tensors, got {type(state).__name__}")
    return state


def why(error: Exception) -> str:
    """One line on why a file could not be read.

    torch's own words on a refused pickle are a page long and advise to run it.
    """
    if isinstance(error, pickle.UnpicklingError):
        return "not a file of tensors alone, or damaged"
    if isinstance(error, KeyError):  # its text is the key alone
        return f"no entry {error}"
    return (str(error) or type(error).__name__).splitlines()[0]


def select(
    state: Mapping[str, Tensor], prefix: str, indices: Iterable[int] | None = None
) -> dict[str, Tensor]:
    """The entries under `prefix`, without it; with indices, only those whose first part is one."""
    wanted = None if indices is None else {str(i) for i in indices}
    part = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    return {k: v for k, v in part.items() if wanted is None or k.partition(".")[0] in wanted}


def load_into(module: nn.Module, state: Mapping[str, Tensor | None], what: str) -> None:
    """Copies `state` into `module`, all of it and nothing else.

    Raises:
        WeightsError: Names every key that is missing, unknown or of another shape.
    """
    own = module.state_dict()
    problems = [f"{k}: missing" for k in own if state.get(k) is None]
    problems += [f"{k}: unknown" for k in state if k not in own]
    for key, value in state.items():
        if value is not None and key in own and value.shape != own[key].shape:
            expected, got = list(own[key].shape), list(value.shape)
            problems.append(f"{key}: expected {expected}, got {got}")
    if problems:
        raise WeightsError(f"{what}: " + "; ".join(problems))
    module.load_state_dict({k: v for k, v in state.items() if v is not None})
