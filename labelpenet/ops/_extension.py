"""The compiled kernels, and how they are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    import labelpenet._C as _C
except ImportError as error:
    raise ImportError(
        "labelpenet's kernels are not built here: in a clone run `make build`, or leave the "
        f"folder of the sources to use the installed package ({error})"
    ) from None

# Tests put the emulated CUDA kernels here; everything in ops calls through kernels().
_active: Any = _C


def kernels() -> Any:
    """The compiled module whose functions take tensors, a thread count and a stream."""
    return _active


def without_cuda() -> str:
    """Why the kernels cannot run on a CUDA device; empty where they can."""
    build = _C.build_info()
    return "" if build["cuda"] else str(build["cuda_detail"])


def launch(tensor: Tensor) -> tuple[int, int]:
    """How a kernel on `tensor` runs: (CPU threads, CUDA stream handle; 0 on the CPU).

    The device's current stream, as torch sees it, so that a kernel is ordered with torch's own.
    """
    if tensor.is_cuda:
        return 1, torch.cuda.current_stream(tensor.device).cuda_stream
    return torch.get_num_threads(), 0


def wants_device_kernel(tensor: Tensor) -> bool:
    """Whether kernels() will run its CUDA code for `tensor` (on a device, or emulated)."""
    return tensor.is_cuda or _active is not _C
