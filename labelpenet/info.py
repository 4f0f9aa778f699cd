"""What `labelpenet info` prints: versions, how the kernels were built, the device found."""

from __future__ import annotations

import platform
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


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
