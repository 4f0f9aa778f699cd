"""Checks at the door: every public op names the argument, what it expected and what came."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def describe(value: object) -> str:
    """`[4] float64` for a tensor, the type's name for anything else."""
    if isinstance(value, Tensor):
        return f"{list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__


def tensor(
    name: str,
    value: object,
    shape: Sequence[int | str],
    dtypes: Sequence[torch.dtype] = _FLOATS,
    *,
    like: Tensor | None = None,
) -> dict[str, int]:
    """Checks that `value` is a strided tensor of the given shape and dtype.

    Args:
        name: The argument's name, for the message.
        value: What the caller passed.
        shape: Sizes; an int must match, a str names a free size (the same name, the same size).
        dtypes: The accepted dtypes.
        like: A tensor whose device `value` must share.

    Returns:
        The sizes of the named dimensions.

    Raises:
        TypeError: Not a tensor, or another dtype or layout.
        ValueError: Another shape or device.
    """
    wanted = f"[{', '.join(map(str, shape))}] {' or '.join(_name(d) for d in dtypes)}"
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        raise TypeError(f"{name}: expected {wanted} tensor, got {describe(value)}")
    sizes: dict[str, int] = {}
    ok = value.dim() == len(shape)
    if ok:
        for size, want in zip(value.shape, shape, strict=True):
            ok &= size == (sizes.setdefault(want, size) if isinstance(want, str) else want)
    if not ok:
        raise ValueError(f"{name}: expected {wanted}, got {describe(value)}")
    if value.dtype not in dtypes:
        raise TypeError(f"{name}: expected {wanted}, got {describe(value)}")
    if like is not None and value.device != like.device:
        raise ValueError(f"{name}: expected a tensor on {like.device}, got one on {value.device}")
    return sizes


def readable(value: Tensor) -> bool:
    """Whether a check may read the numbers in `value`.

    On the CPU always. On a device it would hold up the host until the device is done, and cannot be
    captured in a graph: there kernels stay inside their memory whatever the numbers are, each op
    documents what it makes of bad ones, and nobody looks. `LABELPENET_CHECK_DEVICE=1` looks all the
    same, to find where a bad number comes from.
    """
    if not value.is_cuda:
        return True
    wanted = os.environ.get("LABELPENET_CHECK_DEVICE", "") not in ("", "0")
    return wanted and not torch.cuda.is_current_stream_capturing()


def finite(name: str, value: Tensor) -> None:
    """Raises ValueError where `value` is readable and holds a NaN or an infinity."""
    if readable(value) and not bool(torch.isfinite(value).all()):
        bad = int((~torch.isfinite(value)).sum())
        raise ValueError(f"{name}: expected finite numbers, got {bad} NaN or infinite")


def index_range(name: str, value: Tensor, size: int) -> None:
    """Raises ValueError where an integer tensor is readable and leaves [0, size)."""
    if value.numel() == 0 or not readable(value):
        return
    low, high = (int(v) for v in value.aminmax())
    if low < 0 or high >= size:
        raise ValueError(f"{name}: expected values in [0, {size}), got [{low}, {high}]")


def bounded(
    name: str, value: Tensor, minimum: float = -torch.inf, maximum: float = torch.inf
) -> None:
    """Raises ValueError where `value` is readable and not finite or outside [minimum, maximum]."""
    if value.numel() == 0 or not readable(value):
        return
    low, high = (float(v) for v in value.aminmax())  # one pass; a NaN anywhere comes out as NaN
    if minimum <= low and high <= maximum and -torch.inf < low and high < torch.inf:
        return
    wanted = f"finite numbers in [{minimum:g}, {maximum:g}]"
    if maximum == torch.inf:
        wanted = "finite numbers" + ("" if minimum == -torch.inf else f" >= {minimum:g}")
    raise ValueError(f"{name}: expected {wanted}, got values in [{low}, {high}]")


def number(
    name: str, value: object, *, minimum: float | None = None, maximum: float | None = None
) -> float:
    """Checks a finite number in [minimum, maximum]; bools are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    low = "-inf" if minimum is None else minimum
    high = "inf" if maximum is None else maximum
    inside = (minimum is None or value >= minimum) and (maximum is None or value <= maximum)
    if value != value or abs(value) == float("inf") or not inside:
        raise ValueError(f"{name}: expected a number in [{low}, {high}], got {value}")
    return float(value)


def size_pair(name: str, value: object) -> tuple[int, int]:
    """Checks an int or a pair of ints, each at least 1: (height, width)."""
    pair = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(pair, Sequence)
        or len(pair) != 2
        or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair)
    ):
        raise ValueError(f"{name}: expected (height, width), each at least 1, got {value!r}")
    return int(pair[0]), int(pair[1])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
