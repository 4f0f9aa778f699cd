"""What `labelpenet info` prints: versions, how the kernels were built, the device found."""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.table import Table

import labelpenet
from labelpenet.ops import _extension

_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "pyarrow", "pycocotools", "safetensors")


def describe() -> dict[str, str]:
    """Every line of the report by its title."""
    compiled = _extension.kernels()
    build = compiled.build_info()
    count, why = compiled.cuda_device_count()
    kernels = f"yes, {build['cuda_detail']} for {build['cuda_archs'].replace(' ', ', ')}"
    lines = {
        "labelpenet": labelpenet.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__} ({torch.get_num_threads()} threads)",
        "compiler": build["compiler"],
        "CUDA kernels": kernels if build["cuda"] else f"no ({build['cuda_detail']})",
        "SIMD": f"{build['simd_active']} in use; built: {build['simd_built'].replace(' ', ', ')}",
        "OpenMP": str(build["openmp"]) if build["openmp"] else "no: kernels run on one thread",
        "device": _device(count, why),
        "CPU precision": _products(),
    }
    for name in _PACKAGES:
        lines[name] = _version(name)
    return lines


def table() -> Table:
    """The report for a terminal."""
    shown = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for title, text in describe().items():
        shown.add_row(f"[bold]{title}", text)
    return shown


def _device(count: int, why: str) -> str:
    if count == 0:
        return f"cpu ({why})"
    if not torch.cuda.is_available():
        return f"cpu (the driver shows {count} GPU, but this torch has no CUDA)"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(count))


def _products() -> str:
    """The faster `train.precision` on this CPU: not each that knows bfloat16 gains by it."""
    single, half = _rate(torch.float32), _rate(torch.bfloat16)
    faster = "bf16" if half > single else "fp32"
    return f"{single:.0f} GFLOP/s float32, {half:.0f} bfloat16: {faster} is faster"


def _rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a product of the shape that the heads compute: some ROIs by a wide layer."""
    rois, inputs, outputs = 256, 8192, 1024
    x, weight = torch.ones(rois, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    seconds = []
    for _ in range(4):  # the first one sets things up
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * rois * inputs * outputs / min(seconds)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
