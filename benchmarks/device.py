"""Everything that needs a CUDA device, in one command: `make cuda-check`.

That builds the kernels for the device that is there. This module runs the tests marked `cuda`,
NVIDIA's memory and race checkers where they are installed, then times every op and module 1 stage
by stage, and prints one short table last. Exits with 1 where a test, a checker or a result fails;
times fail nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from labelpenet.ops._extension import without_cuda

from . import bench_attention, bench_dense_crf, bench_excitation, bench_nms, bench_roi_pool, scenes
from .cases import Absent, Case, Function, Peer, Prepared, find
from .device_clock import Clock, on
from .device_stages import stages
from .machine import FOLDER, ceilings, describe

# Enough for every kernel, at sizes that an instrumented run gets through in minutes.
_SANITIZED = "against_the_cpu or dtypes or roi_pool_backward or (test_counts and (63 or 65))"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--skip", nargs="*", default=[], help="test, sanitize, ops, stages")
    parser.add_argument("--runs", type=int, default=50, help="timed calls of each op")
    parser.add_argument("--images", type=int, default=20, help="timed images of module 1")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to do", file=sys.stderr)
        return 2
    if why := without_cuda():
        print(f"no CUDA kernels: {why}; `make cuda-check` builds them", file=sys.stderr)
        return 2
    verdicts: list[tuple[str, str]] = []
    if "test" not in options.skip:
        verdicts.append(_command("tests", [*_PYTEST, "-m", "cuda"]))
    if "sanitize" not in options.skip:
        verdicts += sanitize()
    rows: list[Row] = []
    if "ops" not in options.skip:
        rows += ops(options.runs)
    if "stages" not in options.skip:
        rows += module_1(options.images)
    return _report(verdicts, rows, options.results)


_PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def _command(
    title: str, command: Sequence[str], environment: dict[str, str] | None = None
) -> tuple[str, str]:
    print(f"\n== {title}: {' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=FOLDER.parent, env=environment, check=False)
    return title, "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"


def sanitize() -> list[tuple[str, str]]:
    """memcheck and racecheck on a part of the tests."""
    tool = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    if tool is None:
        return [("compute-sanitizer", "not installed")]
    tests = [*_PYTEST, "-m", "cuda", "tests/ops/test_device.py", "-k", _SANITIZED, "--timeout=3000"]
    # every tensor its own allocation: a cached block would hide what lies outside a tensor
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return [
        _command(check, [tool, "--tool", check, "--error-exitcode", "99", *tests], environment)
        for check in ("memcheck", "racecheck")
    ]


# ---- ops ---------------------------------------------------------------------------------------
class Row:
    """A line of the last table: what was timed, against which floor, and what is asked of it."""

    def __init__(self, name: str, seconds: float, floor: float = 0.0, **more: Any) -> None:
        self.name, self.seconds, self.floor = name, seconds, floor
        self.peer: float | None = more.get("peer")
        self.wanted: str = more.get("wanted", "")
        self.wrong: str = more.get("wrong", "")

    def cells(self) -> list[str]:
        share = f"{100 * self.floor / self.seconds:.0f} %" if self.floor else "–"
        peer = f"{self.peer / self.seconds:.1f}" if self.peer else "–"
        return [self.name, f"{1e3 * self.seconds:.3f}", share, peer, self.wrong or self.wanted]


# What the kernels are to reach on an H200-class device, by the beginning of a row's name.
WANTED = {
    "roi_pool, 1,600 x 512 x 7 x 7": "60 % of copying, 5 x torchvision",
    "nms_groups, 1,600": "3 x torchvision",
    "nms_groups, 12,000": "3 x torchvision",
    "excitation_maps, 1,600 proposals, VGG-16": "60 % of the matrix rate in bf16, 15 ms in fp32",
    "project_attention, 1,600 maps to 600 x 800, bilinear": "0.2 ms with accumulate_boxes",
    "accumulate_boxes, 1,600": "0.2 ms with project_attention",
    "dense_crf, 10 maps of 2 labels": "5 ms",
    "dense_crf, 1 maps of 21 labels": "5 ms",
    "module 1": "10 ms",
}


def _wanted(name: str) -> str:
    return next((text for start, text in WANTED.items() if name.startswith(start)), "")


def cases() -> Iterable[tuple[Case, str]]:
    """The cases of the benchmark with a CUDA kernel, and those in 16 bits."""
    for module in (bench_roi_pool, bench_nms, bench_excitation, bench_attention, bench_dense_crf):
        for case in module.CASES:
            if case.cuda and ("1,600" in case.name or "12,000" in case.name or "375" in case.name):
                yield case, ""
                if case.op == "roi_pool":
                    yield case, "bfloat16"
                    yield case, "float16"


def ops(runs: int) -> list[Row]:
    """Every case on the device: checked against the CPU, timed by events."""
    ceiling = ceilings("cuda")
    clock = Clock("cuda", runs)
    rows = [_row(case, dtype, clock, ceiling) for case, dtype in cases()]
    owners = find("labelpenet.ops", "nms_owners")
    for count in (1_600, 12_000):
        if not isinstance(owners, Absent):
            boxes, scores = scenes.boxes(count, 600, 800).cuda(), scenes.scores(count).cuda()
            labels = scenes.labels(count, 20).cuda()
            rows.append(
                Row(f"nms_owners, {count:,} boxes of 20 labels at 0.3",
                    clock(lambda a=(boxes, scores, 0.3, labels): owners(*a)))
            )  # fmt: skip
    return rows


def _row(case: Case, dtype: str, clock: Clock, ceiling: dict[str, float]) -> Row:
    print(f"{case} {dtype}", flush=True)
    name = f"{case}, {dtype or case.flop_dtype}"
    if isinstance(case.ours, Absent):
        return Row(name, float("nan"), wrong=case.ours.reason)
    inputs = _narrow(case.inputs(), dtype)
    device = on("cuda", inputs)
    function: Function = case.ours
    wrong = _compare(case, function, inputs, device)
    output = function(*device)
    seconds = clock(_timed(function, device))
    moved = case.bytes_moved(inputs, output) if case.bytes_moved is not None else 0
    flops = case.flops(*inputs) if case.flops is not None else 0.0
    rate = ceiling[case.flop_dtype]
    floor = max(moved / ceiling["copy"], flops / rate)
    peer = None
    if isinstance(case.peer, Peer) and case.peer.cuda and (not dtype or case.op == "roi_pool"):
        other = case.peer.function
        theirs = [
            a.to(output.dtype) if dtype and isinstance(a, torch.Tensor) else a for a in inputs
        ]
        theirs = on("cuda", theirs)  # theirs wants boxes in the features' dtype
        peer = None if isinstance(other, Absent) else clock(_timed(other, theirs))
    return Row(name, seconds, floor, peer=peer, wanted=_wanted(name), wrong=wrong)


def _timed(function: Function, inputs: Sequence[Any]) -> Callable[[], Any]:
    """What is timed of a function: all of it, unless a part is prepared before."""
    if isinstance(function, Prepared):
        return function.prepare(*inputs)
    return lambda: function(*inputs)


def _compare(case: Case, function: Function, inputs: Any, device: Any) -> str:
    try:
        case.compare(function(*device), function(*inputs))
    except AssertionError as error:
        return f"WRONG: {error}"
    return ""


def _narrow(value: Any, dtype: str) -> Any:
    """Matrices, maps and features in 16 bits; boxes and vectors stay."""
    if not dtype:
        return value
    if isinstance(value, torch.Tensor):
        wide = value.dtype == torch.float32 and value.dim() > 1 and value.shape[-1] > 5
        return value.to(getattr(torch, dtype)) if wide else value
    if isinstance(value, list | tuple):
        return type(value)(_narrow(v, dtype) for v in value)
    return value


# ---- module 1 ----------------------------------------------------------------------------------
def module_1(images: int) -> list[Row]:
    """VGG-16 at 600 x 800 with 1,600 stored proposals: each stage, then the whole."""
    ceiling = ceilings("cuda")
    rows = []
    for precision in ("fp32", "bf16"):
        rate = ceiling["bfloat16" if precision == "bf16" else "float32"]
        for stage in stages("voc-vgg16", 600, 800, 1_600, "cuda", images, precision):
            floor = max(stage.flops / rate, stage.bytes_moved / ceiling["copy"])
            name = f"{stage.name}, {precision}"
            rows.append(Row(name, stage.seconds, floor, wanted=_wanted(name)))
    return rows


def _report(verdicts: list[tuple[str, str]], rows: list[Row], results: Path | None) -> int:
    about = describe()
    print(f"\n{about.get('gpu')}, torch {about['torch']}, commit {about['commit'][:7]}")
    if rows:
        ceiling = ceilings("cuda")
        rates = [ceiling[dtype] / 1e12 for dtype in ("float32", "bfloat16")]
        print(
            f"ceilings: copy {ceiling['copy'] / 1e9:,.0f} GB/s, matrix product"
            f" {rates[0]:,.1f} TFLOP/s fp32, {rates[1]:,.1f} bf16"
        )
    for title, verdict in verdicts:
        print(f"{title}: {verdict}")
    for cells in [
        ["median, cold L2", "ms", "of floor", "x peer", "wanted"],
        *(r.cells() for r in rows),
    ]:
        print(f"{cells[0]:<72.72} {cells[1]:>9} {cells[2]:>8} {cells[3]:>7}  {cells[4]}")
    if results is not None:
        content = {"machine": about, "verdicts": dict(verdicts), "rows": [vars(r) for r in rows]}
        results.write_text(json.dumps(content, indent=1) + "\n")
    failed = any(v.startswith("FAILED") for _, v in verdicts) or any(r.wrong for r in rows)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
