"""Whether our kernels have fallen back: ratios of a run against those of a stored one.

Times of two runs say little: the machine, its load and its clock differ. How many times faster ours
is than somebody else's code in the same run says more, so that is what is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from .tables import DASH, Case, Run, commit, devices, peer_column, ratio

OK, FELL, WRONG, NEW, UNMEASURED = "ok", "fell", "wrong", "not stored", "not comparable"


@dataclass(frozen=True)
class Verdict:
    """One case on one device.

    Attributes:
        case: Its name.
        of: What the ratio is of, such as "torchvision".
        stored: The ratio of the stored run; None where there is none.
        now: That of this run.
        verdict: OK, FELL, WRONG, NEW or UNMEASURED.
    """

    case: str
    of: str
    stored: float | None
    now: float | None
    verdict: str


def compare(stored: Run, now: Run, tolerance: float) -> list[Verdict]:
    """A verdict for every case of `now`; cases that were not run again are left out."""
    known = {_key(case): case for case in stored["cases"]}
    return [
        _verdict(known.get(_key(case)), case, device, tolerance)
        for device in devices(now)
        for case in now["cases"]
    ]


def passes(verdicts: Sequence[Verdict]) -> bool:
    """Nothing fell and nothing is wrong, and something was compared at all."""
    found = {v.verdict for v in verdicts}
    return OK in found and not found & {FELL, WRONG}


def show(stored: Run, now: Run, tolerance: float, console: Console) -> list[Verdict]:
    """Prints the verdicts and returns them."""
    verdicts = compare(stored, now, tolerance)
    about = stored["machine"]
    title = f"against {about['cpu']}, commit {commit(stored)}, {about['date']}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("case")
    table.add_column("ratio to")
    for heading in ("stored", "now"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for v in verdicts:
        ratios = [DASH if x is None else f"{x:.3g}" for x in (v.stored, v.now)]
        style = "bold red" if v.verdict in (FELL, WRONG) else ""
        table.add_row(v.case, v.of, *ratios, v.verdict, style=style)
    console.print(table)
    if not any(v.verdict in (OK, FELL, WRONG) for v in verdicts):
        console.print("nothing in the stored run to compare with")
    return verdicts


def _key(case: Case) -> tuple[str, str, str | None]:
    return case["op"], case["case"], case["peer"]


def _verdict(before: Case | None, case: Case, device: str, tolerance: float) -> Verdict:
    """Beside the peer where both runs have it, else the reference, else the machine's ceiling."""
    ours = f"ours {device}"
    name = f"{case['op']}, {case['case']}" + ("" if device == "CPU" else f" ({device})")
    if case["columns"].get(ours, {}).get("wrong"):
        return Verdict(name, DASH, None, None, WRONG)
    if before is None:
        return Verdict(name, DASH, None, None, NEW)
    for of, column in ((case["peer"], peer_column(device)), ("reference", "reference")):
        a, b = ratio(before, column, ours), ratio(case, column, ours)
        if a is not None and b is not None:
            return _judged(name, str(of), a, b, tolerance)
    a, b = (c["columns"].get(ours, {}).get("of_ceiling") for c in (before, case))
    if a and b:
        return _judged(name, "ceiling", a, b, tolerance)
    return Verdict(name, DASH, None, None, UNMEASURED)


def _judged(name: str, of: str, stored: float, now: float, tolerance: float) -> Verdict:
    return Verdict(name, of, stored, now, FELL if now < stored * (1 - tolerance) else OK)
