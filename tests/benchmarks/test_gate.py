"""The regression gate on made-up runs."""

import importlib
import json

import pytest
from rich.console import Console

gate = importlib.import_module("benchmarks.gate")
report = importlib.import_module("benchmarks.report")
ABOUT = {"cpu": "Toy", "commit": "0123456789", "date": "2025-01-02"}


def columns(**numbers):
    """A case with these columns; `_` stands for a space."""
    found = {key.replace("_", " "): value for key, value in numbers.items()}
    return {"op": "op", "case": "a", "peer": "other", "columns": found}


def run(*cases):
    return {"machine": ABOUT, "ceilings": {}, "cases": list(cases)}


def verdict(before, now, tolerance=0.25):
    (found,) = gate.compare(run(before), run(now), tolerance)
    return found


@pytest.mark.parametrize(
    ("ours", "wanted"),
    [(10, "ok"), (5, "ok"), (13.2, "ok"), (13.5, "fell"), (100, "fell")],
)
def test_a_quarter_may_be_lost(ours, wanted):
    before = columns(ours_CPU={"median_ms": 10}, peer={"median_ms": 40})
    # another machine, ten times as slow: times say nothing
    now = columns(ours_CPU={"median_ms": 10 * ours}, peer={"median_ms": 400})
    found = verdict(before, now)
    assert (found.of, found.stored, found.now) == ("other", 4, pytest.approx(40 / ours))
    assert found.verdict == wanted


def test_the_reference_stands_in_for_a_peer_that_is_not_there():
    with_peer = columns(
        ours_CPU={"median_ms": 1}, peer={"median_ms": 9}, reference={"median_ms": 100}
    )
    without = columns(
        ours_CPU={"median_ms": 2}, peer={"absent": "gone"}, reference={"median_ms": 100}
    )
    found = verdict(with_peer, without)
    assert (found.of, found.stored, found.now, found.verdict) == ("reference", 100, 50, "fell")
    assert verdict(without, with_peer).verdict == "ok"


def test_then_the_ceiling():
    before = columns(ours_CPU={"median_ms": 1, "of_ceiling": 0.8})
    now = columns(ours_CPU={"median_ms": 1, "of_ceiling": 0.7})
    found = verdict(before, now)
    assert (found.of, found.stored, found.now, found.verdict) == ("ceiling", 0.8, 0.7, "ok")
    assert verdict(before, now, tolerance=0.1).verdict == "fell"


def test_a_wrong_result_and_a_new_case():
    before = columns(ours_CPU={"median_ms": 1}, reference={"median_ms": 2})
    assert verdict(before, columns(ours_CPU={"absent": "off", "wrong": True})).verdict == "wrong"
    new = before | {"case": "b"}
    assert verdict(before, new).verdict == "not stored"
    other_peer = before | {"peer": "else"}
    assert verdict(before, other_peer).verdict == "not stored"


def test_a_device_is_compared_where_there_is_one():
    both = columns(
        ours_CPU={"median_ms": 1}, reference={"median_ms": 8},
        ours_CUDA={"median_ms": 0.1}, peer_CUDA={"median_ms": 0.4},
    )  # fmt: skip
    slow = json.loads(json.dumps(both))
    slow["columns"]["ours CUDA"]["median_ms"] = 0.2
    cpu, cuda = gate.compare(run(both), run(slow), 0.25)
    assert (cpu.verdict, cuda.verdict, cuda.case) == ("ok", "fell", "op, a (CUDA)")
    assert [v.verdict for v in gate.compare(run(both), run(columns()), 0.25)] == ["not comparable"]


def test_what_passes():
    def of(*verdicts):
        return gate.passes([gate.Verdict("", "", None, None, v) for v in verdicts])

    assert of("ok", "not stored", "not comparable")
    assert not of("ok", "fell")
    assert not of("ok", "wrong")
    assert not of("not stored")  # nothing was compared
    assert not of()


def test_the_table():
    before = columns(ours_CPU={"median_ms": 1}, reference={"median_ms": 8})
    now = columns(ours_CPU={"median_ms": 4}, reference={"median_ms": 8})
    console = Console(record=True, width=100)
    assert not gate.passes(gate.show(run(before), run(now), 0.25, console))
    shown = " ".join(console.export_text().split())
    assert "op, a reference 8 2 fell" in shown
    assert "Toy, commit 0123456, 2025-01-02" in shown


@pytest.mark.parametrize("text", ["", "[1]", '{"cases": []}', "{"])
def test_a_file_that_is_no_run(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: not the JSON of a benchmark run"):
        report.load(path)
