"""Whether a result is right, and how many bytes it takes at least."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def near(got: Any, want: Any, tolerance: float = 1e-4) -> None:
    """Fails unless all numbers are within `tolerance` of the largest one of `want`."""
    arrays, wanted = _arrays(got), _arrays(want)
    assert len(arrays) == len(wanted), f"{len(arrays)} results, expected {len(wanted)}"
    for a, b in zip(arrays, wanted, strict=True):
        assert a.shape == b.shape, f"shape {list(a.shape)}, expected {list(b.shape)}"
        if not a.size:
            continue
        assert np.isfinite(a).all(), "NaN or infinite"
        scale = max(float(np.abs(b).max()), 1e-30)
        error = float(np.abs(a - b).max()) / scale
        assert error <= tolerance, f"relative error {error:.2e}, allowed {tolerance:.2e}"


def equal(got: Any, want: Any) -> None:
    """Fails unless all numbers are the same."""
    near(got, want, 0.0)


def io_bytes(inputs: Any, output: Any) -> int:
    """Each input read once, each output written once: no implementation moves less."""
    return sum(_sizes(inputs)) + sum(_sizes(output))


def _arrays(value: Any) -> list[np.ndarray]:
    """The numbers of a result: a tensor, an array, a list of numbers, or several of these."""
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu().double().numpy()]
    if isinstance(value, tuple):
        return [a for v in value for a in _arrays(v)]
    return [np.asarray(value, np.float64)]


def _sizes(value: Any) -> list[int]:
    if isinstance(value, torch.Tensor | np.ndarray):
        return [value.nbytes]
    if isinstance(value, list | tuple):
        return [size for v in value for size in _sizes(v)]
    return []
