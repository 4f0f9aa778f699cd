"""The machine that figures come from: what it is, its ceilings, and the memory a call takes."""

from __future__ import annotations

import ctypes
import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent
PEERS = ("labelpenet", "torchvision", "opencv-contrib-python-headless", "pydensecrf2", "numpy")


def describe() -> dict[str, Any]:
    """CPU, cores, threads, versions, commit and date."""
    description: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": _cpu_model(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "versions": {name: v for name in PEERS if (v := _version(name)) is not None},
    }
    if torch.cuda.is_available():
        description["gpu"] = torch.cuda.get_device_name()
        description["cuda"] = torch.version.cuda
    return description


def commit() -> str:
    """The checkout's commit hash, with -dirty where files were changed; "unknown" elsewhere.

    An installed copy inside a checkout, as `make bench` makes one, counts as that checkout's.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        if not (Path(git("rev-parse", "--show-toplevel")) / "labelpenet" / "_C.pyi").is_file():
            return "unknown"  # somebody else's repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@functools.cache
def ceilings(device: str, copy_bytes: int | None = None) -> dict[str, float]:
    """What the machine can do at most, measured once in a run, through torch.

    Args:
        device: "cpu" or "cuda".
        copy_bytes: Of the copied tensor; by default far more than any cache holds.

    Returns:
        copy: Bytes per second of a large copy, read and written bytes both counted.
        float32, bfloat16: Floating-point operations per second of a large matrix product.
    """
    size = copy_bytes or 1 << (30 if device == "cuda" else 28)
    found = {"copy": 2 * size / _copy_seconds(size, device)}
    for dtype in (torch.float32, torch.bfloat16):
        side, seconds, rates = 512, 0.0, []
        # the best of several sizes, since others may be at work on this machine
        while side <= 1024 or (seconds < 0.05 and side <= 16384):
            a = torch.randn(side, side, device=device).to(dtype)  # zeros can run faster than data
            seconds = _best(lambda a=a: a @ a, device)
            rates.append(2 * side**3 / seconds)
            side *= 2
        found[str(dtype).removeprefix("torch.")] = max(rates)
    return found


def peak_memory(call: Callable[[], Any], device: str) -> tuple[Any, int | None]:
    """Runs `call` and returns its result and the bytes that it held at the highest point.

    On a device, what torch's allocator gave out. On the CPU, growth of the resident memory (Linux;
    None elsewhere): pages that the process already holds and uses again are not seen, so small
    figures are lower bounds.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        return result, torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: hand free pages back, so that new use shows
        Path("/proc/self/clear_refs").write_text("5")  # Linux: restart the high-water mark
        resident = _status("VmRSS")
    except (OSError, AttributeError):
        return call(), None
    result = call()
    return result, max(0, _status("VmHWM") - resident)


def _copy_seconds(size: int, device: str) -> float:
    source = torch.full((size,), 3, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _best(lambda: target.copy_(source), device)


def _best(call: Callable[[], Any], device: str, runs: int = 5) -> float:
    best = float("inf")
    for i in range(runs + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if i:  # the first one warms up
            best = min(best, time.perf_counter() - start)
    return best


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _status(key: str) -> int:
    """A field of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "unknown"
    )
