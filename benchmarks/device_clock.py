"""Time on a device by its own events; on the CPU by the wall clock, so that tests can run it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_FLUSH_BYTES = 256 << 20  # several times any L2
_SLEEP_CYCLES = 2_000_000  # about a millisecond: the host has queued a call's launches by then


class Clock:
    """Median seconds of a call, with the caches of the device cold.

    The device sleeps before each timed call, so that a call that waits for nothing is queued as a
    whole when its time begins: gaps between launches that the host alone makes do not count.
    """

    def __init__(self, device: str, runs: int) -> None:
        self.device, self.runs = device, max(runs, 1)
        self.flush: torch.Tensor | None = None

    def __call__(self, call: Callable[[], Any]) -> float:
        call()  # loads modules, makes handles
        return statistics.median(self._once(call) for _ in range(self.runs))

    def _once(self, call: Callable[[], Any]) -> float:
        if self.device == "cpu":
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        if self.flush is None:
            self.flush = torch.empty(_FLUSH_BYTES, dtype=torch.uint8, device=self.device)
        self.flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(_SLEEP_CYCLES)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return 1e-3 * begin.elapsed_time(end)


def on(device: str, value: Any) -> Any:
    """The same with all tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list | tuple):
        return type(value)(on(device, v) for v in value)
    return value
