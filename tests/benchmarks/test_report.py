"""What a benchmark run leaves: tables, JSON, the machine described."""

import importlib
import json
import re

import pytest
import torch
from running_sum import toy

cases = importlib.import_module("benchmarks.cases")
harness = importlib.import_module("benchmarks.harness")
machine = importlib.import_module("benchmarks.machine")
report = importlib.import_module("benchmarks.report")
tables = importlib.import_module("benchmarks.tables")
Absent, Wrong = cases.Absent, cases.Wrong
Measurement = harness.Measurement

ABOUT = {
    "date": "2025-01-02T03:04:05+00:00", "commit": "0123456789", "cpu": "Toy (R) 9", "isa": "X",
    "cores": 2, "threads": 1, "torch": "2.0",
}  # fmt: skip
CEILINGS = {"cpu": {"copy": 1e10, "float32": 1e11, "bfloat16": 1e12}}


def rows():
    row = harness.Row(toy())
    row.outcomes = {
        "reference": Measurement(0.4, 0.5, 3),
        # 4 MB in 1 ms: 4 GB/s of 10; 2 MFLOP in 1 ms: 2 GFLOP/s of 100
        "ours CPU": Measurement(5e-4, 1e-3, 9, 4_000_000, 2e6, 3 << 20, 30 << 20),
        "ours CUDA": Absent("no CUDA device"),
        "peer": Measurement(0.01, 0.0123, 5),
        "peer CUDA": Absent("no CUDA device"),
    }
    bad = harness.Row(toy(name="other"), {"reference": Absent("gone"), "ours CPU": Wrong("off")})
    return [row, bad]


def test_markdown():
    table, about, notes = tables.markdown(report.content(rows(), ABOUT, CEILINGS)).split("\n\n")
    header, rule, first, second = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]
    assert header[:4] == ["CPU, ms", "reference", "ours", "peer"]
    assert "CUDA" not in "".join(header)
    assert len(header) == len(rule) == len(first) == len(second)
    assert first[1:4] == ["500", "1", "12.3 (numpy)"]
    assert first[4:] == ["500", "12.3", "40 %", "3 (30)"]
    assert second[1:] == ["–", "wrong", "–", "–", "–", "–", "–"]
    assert "Toy (R) 9" in about
    assert "copy 10.0 GB/s, matrix product 100 GFLOP/s float32, 1,000 bfloat16" in about
    assert notes.splitlines() == [
        "- running_sum, other: reference: gone",
        "- running_sum, other: ours CPU: off",
    ]


def test_the_tighter_ceiling_counts():
    found = Measurement(1e-3, 1e-3, 1, 4_000_000, 6e7)  # 40 % of copy, 60 % of float32
    assert report.of_ceiling(found, "float32", CEILINGS["cpu"]) == pytest.approx(0.6)
    assert report.of_ceiling(found, "bfloat16", CEILINGS["cpu"]) == pytest.approx(0.4)


def test_json(tmp_path):
    path = report.save_dated(report.content(rows(), ABOUT, CEILINGS), tmp_path / "results")
    assert path.name == "20250102T030405-0123456-toy-r-9.json"
    run = json.loads(path.read_text())
    assert report.load(path) == run
    assert run["machine"] == ABOUT
    assert run["ceilings"] == CEILINGS
    columns = run["cases"][0]["columns"]
    assert run["cases"][0]["peer"] == "numpy"
    assert columns["ours CPU"] == {
        "best_ms": 0.5, "median_ms": 1.0, "runs": 9, "gb_per_s": pytest.approx(4),
        "gflop_per_s": pytest.approx(2), "of_ceiling": pytest.approx(0.4), "peak_bytes": 3 << 20,
        "dense_bytes": 30 << 20,
    }  # fmt: skip
    assert columns["ours CUDA"] == {"absent": "no CUDA device", "wrong": False}
    assert columns["reference"]["of_ceiling"] is None


def test_machine_is_described():
    about = machine.describe()
    assert about["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?|unknown)", about["commit"])
    assert all(about[key] for key in ("date", "cpu", "cores", "torch", "python", "isa"))


def test_ceilings_are_measured():
    found = machine.ceilings("cpu", copy_bytes=1 << 20)
    assert set(found) == {"copy", "float32", "bfloat16"}
    assert all(1e6 < value < 1e16 for value in found.values())


def test_peak_memory_sees_what_a_call_takes():
    size = 64 << 20

    def call():
        return torch.full((size // 4,), 3.0).max()  # freed at the end

    result, peak = machine.peak_memory(call, "cpu")
    assert result == 3
    if peak is None:
        pytest.skip("no /proc/self/clear_refs")
    assert 0.9 * size <= peak <= 1.5 * size
