"""The one harness: the columns that cases are run in, checks and timing."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .cases import Absent, Case, Function, Peer, Prepared, Wrong
from .device_clock import on
from .machine import peak_memory

COLUMNS = ("reference", "ours CPU", "ours CUDA", "peer", "peer CUDA")


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one column.

    Attributes:
        best: Seconds of the fastest run.
        median: Seconds.
        runs: How many were timed.
        bytes_moved: The least memory traffic, or 0.
        flops: Floating-point operations, or 0.
        peak: Bytes allocated beyond the inputs at the highest point, or None where unknown.
        dense: Bytes of the [R, H, W] tensor that was done without, or 0.
    """

    best: float
    median: float
    runs: int
    bytes_moved: int = 0
    flops: float = 0.0
    peak: int | None = None
    dense: int = 0


Outcome = Measurement | Absent
Timer = Callable[[Callable[[], Any], int], tuple[float, float, int]]


@dataclass
class Row:
    """What one case gave, by column."""

    case: Case
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def wall_clock(call: Callable[[], Any], runs: int) -> tuple[float, float, int]:
    """(best, median, runs) in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times), float(np.median(times)), runs


def run_column(
    case: Case, column: str, timer: Timer = wall_clock, *, seconds: float = 1.0
) -> Outcome:
    """Checks one column of a case, then times it for about `seconds`.

    A device is waited for in every run, and inputs are there before: what a caller sees.

    Raises:
        AssertionError: The result is wrong; nothing was timed.
    """
    function, device = _implementation(case, column)
    if isinstance(function, Absent):
        return function
    if column == "reference" and case.check_inputs is not None:
        return Absent("too slow for these inputs; checked on smaller ones")
    unchecked = _check(case, column, function, device)
    if unchecked is not None:
        return unchecked
    inputs = on(device, _inputs(case))
    timed = function.prepare(*inputs) if isinstance(function, Prepared) else None

    def call() -> Any:
        output = function(*inputs) if timed is None else timed()
        if device == "cuda":
            torch.cuda.synchronize()
        return output

    start = time.perf_counter()
    output, peak = peak_memory(call, device)  # the first run warms up, too
    first = time.perf_counter() - start
    runs = int(np.clip(seconds / max(first, 1e-9), 1 if first > 5 else 3, 1000))
    moved = case.bytes_moved(inputs, output) if case.bytes_moved is not None else 0
    del output
    best, median, runs = timer(call, runs)
    flops = case.flops(*inputs) if case.flops is not None else 0.0
    dense = case.dense_bytes(*inputs) if case.dense_bytes is not None else 0
    return Measurement(best, median, runs, moved, flops, peak, dense)


def run(cases: Iterable[Case], *, seconds: float = 1.0) -> Iterator[Row]:
    """All columns of every case; a wrong result stands as Wrong."""
    for case in cases:
        row = Row(case)
        for column in COLUMNS:
            row.outcomes[column] = _outcome(case, column, seconds)
        yield row


def _outcome(case: Case, column: str, seconds: float) -> Outcome:
    try:
        return run_column(case, column, seconds=seconds)
    except AssertionError as error:
        return Wrong(str(error))


def _implementation(case: Case, column: str) -> tuple[Function | Absent, str]:
    """The function of a column and the device that it runs on."""
    device = "cuda" if column.endswith("CUDA") else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return Absent("no CUDA device"), device
    if column == "reference":
        return case.reference, device
    if column.startswith("ours"):
        if device == "cuda" and not case.cuda:
            return Absent("runs on the CPU alone"), device
        return case.ours, device
    if isinstance(case.peer, Absent):
        return case.peer, device
    if device == "cuda" and not case.peer.cuda:
        return Absent(f"{case.peer.name} runs on the CPU alone"), device
    return case.peer.function, device


def _check(case: Case, column: str, function: Function, device: str) -> Absent | None:
    """Holds a column against the reference, and at full size against another column.

    Returns:
        None where the result is right, or where it is to be another one by design; why not, where
        there is nothing to hold it against.
    """
    peer_agrees = isinstance(case.peer, Peer) and case.peer.agrees
    if column == "reference" or (column.startswith("peer") and not peer_agrees):
        return None
    want = _reference(case)
    exact = case.compare
    loose = (isinstance(case.peer, Peer) and case.peer.compare) or exact
    if not isinstance(want, Absent):
        allowed = loose if column.startswith("peer") else exact
        _compare(allowed, function(*on(device, _check_inputs(case))), want, "the reference")
        if case.check_inputs is None:
            return None
    others = ["ours CPU", "peer"] if peer_agrees else ["ours CPU"]
    for other in others:
        if other != column and not isinstance(_implementation(case, other)[0], Absent):
            got = function(*on(device, _inputs(case)))
            allowed = loose if "peer" in column + other else exact
            _compare(allowed, got, _full_size(case, other), f"{other} on the full inputs")
            return None
    return Absent("nothing to check the result against") if isinstance(want, Absent) else None


def _compare(compare: Callable[[Any, Any], None], got: Any, want: Any, of: str) -> None:
    try:
        compare(got, want)
    except AssertionError as error:
        raise AssertionError(f"differs from {of}: {error}") from error


# One case at a time is at work: what its columns share is kept until the next one comes.
@functools.lru_cache(maxsize=1)
def _inputs(case: Case) -> tuple[Any, ...]:
    return case.inputs()


@functools.lru_cache(maxsize=1)
def _check_inputs(case: Case) -> tuple[Any, ...]:
    return _inputs(case) if case.check_inputs is None else case.check_inputs()


@functools.lru_cache(maxsize=1)
def _reference(case: Case) -> Any:
    if isinstance(case.reference, Absent):
        return case.reference
    return case.reference(*_check_inputs(case))


@functools.lru_cache(maxsize=2)
def _full_size(case: Case, column: str) -> Any:
    function, _ = _implementation(case, column)
    assert not isinstance(function, Absent)
    return function(*_inputs(case))
