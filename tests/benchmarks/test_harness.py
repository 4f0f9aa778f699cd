"""The benchmark harness on a toy op: the running sum of a tensor."""

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

cases = importlib.import_module("benchmarks.cases")
compare = importlib.import_module("benchmarks.compare")
harness = importlib.import_module("benchmarks.harness")
machine = importlib.import_module("benchmarks.machine")
report = importlib.import_module("benchmarks.report")
tables = importlib.import_module("benchmarks.tables")
Absent, Case, Peer, Wrong = (getattr(cases, n) for n in ("Absent", "Case", "Peer", "Wrong"))
Measurement = harness.Measurement
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about a machine without")


def by_loop(x):
    total, sums = 0.0, []
    for value in x.tolist():
        total += value
        sums.append(total)
    return sums


def toy(**changes):
    options = {
        "op": "running_sum",
        "name": "100 numbers",
        "inputs": lambda: (torch.arange(100.0),),
        "ours": lambda x: x.cumsum(0),
        "reference": by_loop,
        "peer": Peer("numpy", lambda x: x.cpu().numpy().cumsum()),
        "flops": lambda x: len(x),
    }
    return Case(**(options | changes))


def wrong(x):
    return x.cumsum(0) + 1


def never(call, runs):
    raise RuntimeError("timed")


@NO_GPU
def test_all_columns():
    (row,) = harness.run([toy()], seconds=0.01)
    assert list(row.outcomes) == list(harness.COLUMNS)
    for column in ("reference", "ours CPU", "peer"):
        found = row.outcomes[column]
        assert 0 < found.best <= found.median
        assert found.runs >= 3
        assert found.flops == 100
    # 100 float32 in, 100 float32 out
    assert row.outcomes["ours CPU"].bytes_moved == 800
    assert row.outcomes["ours CUDA"] == row.outcomes["peer CUDA"] == Absent("no CUDA device")


@pytest.mark.cuda
def test_columns_on_a_device():
    case = toy(peer=Peer("torch", lambda x: x.cumsum(0), cuda=True))
    (row,) = harness.run([case], seconds=0.01)
    assert isinstance(row.outcomes["ours CUDA"], Measurement)
    assert isinstance(row.outcomes["peer CUDA"], Measurement)
    assert row.outcomes["ours CUDA"].peak >= 400


def test_wrong_results_are_not_timed():
    with pytest.raises(AssertionError, match=r"the reference: relative error 2\.02e-04"):
        harness.run_column(toy(ours=wrong), "ours CPU", never)
    with pytest.raises(AssertionError, match="differs from the reference"):
        harness.run_column(toy(peer=Peer("bad", wrong)), "peer", never)
    (row,) = harness.run([toy(ours=wrong)], seconds=0.01)
    assert isinstance(row.outcomes["ours CPU"], Wrong)
    assert isinstance(row.outcomes["peer"], Measurement)


def test_right_results_are_timed():
    with pytest.raises(RuntimeError, match="timed"):
        harness.run_column(toy(), "ours CPU", never)


def test_full_inputs_are_checked_too():
    # right on ten numbers, wrong on a hundred
    def breaks(x):
        return x.cumsum(0) if len(x) == 10 else wrong(x)

    case = toy(check_inputs=lambda: (torch.arange(10.0),), ours=breaks)
    with pytest.raises(AssertionError, match="differs from peer on the full inputs"):
        harness.run_column(case, "ours CPU", never)
    with pytest.raises(AssertionError, match="differs from ours CPU on the full inputs"):
        harness.run_column(case, "peer", never)
    assert harness.run_column(case, "reference", never) == Absent(
        "too slow for these inputs; checked on smaller ones"
    )


def test_small_inputs_give_the_reference_its_column():
    case = toy(check_inputs=lambda: (torch.arange(10.0),))
    found = cases.small(case, "10 numbers")
    assert (found.name, found.inputs()[0].tolist()) == ("10 numbers", list(range(10)))
    assert isinstance(harness.run_column(found, "reference", seconds=0.01), Measurement)


def test_without_a_reference_the_peer_is_held_against():
    gone = Absent("no reference")
    with pytest.raises(AssertionError, match="differs from peer"):
        harness.run_column(toy(ours=wrong, reference=gone), "ours CPU", never)
    with pytest.raises(RuntimeError, match="timed"):
        harness.run_column(toy(reference=gone), "ours CPU", never)


@pytest.mark.parametrize("peer", [Absent("gone"), Peer("other", wrong, agrees=False)])
def test_nothing_to_check_against_is_not_timed(peer):
    case = toy(reference=Absent("gone"), peer=peer)
    found = harness.run_column(case, "ours CPU", never)
    assert found == Absent("nothing to check the result against")


def test_a_peer_that_differs_by_design_is_timed():
    case = toy(peer=Peer("other", wrong, agrees=False))
    assert isinstance(harness.run_column(case, "peer", seconds=0.01), Measurement)


def test_a_peer_may_be_less_exact():
    def rough(x):
        return x.cumsum(0) + 1  # 2e-4 of the largest

    peer = Peer("rough", rough, compare=lambda got, want: compare.near(got, want, 1e-3))
    assert isinstance(harness.run_column(toy(peer=peer), "peer", seconds=0.01), Measurement)
    with pytest.raises(AssertionError, match="the reference"):
        harness.run_column(toy(peer=peer, ours=rough), "ours CPU", never)


def test_what_is_prepared_is_not_timed():
    prepared = []

    def prepare(x):
        prepared.append(len(x))
        return lambda: x.cumsum(0)

    found = harness.run_column(toy(ours=cases.Prepared(prepare)), "ours CPU", seconds=0.01)
    assert found.runs >= 3
    assert prepared == [100, 100]  # once for the check, once for all that is timed


def test_a_peer_that_cannot_be_loaded_is_absent(tmp_path, monkeypatch):
    (tmp_path / "made_for_another_torch.py").write_text("raise RuntimeError('no operator')")
    monkeypatch.syspath_prepend(tmp_path)
    assert cases.find("made_for_another_torch", "f").reason.endswith("no operator")


def test_absent_functions_say_why():
    gone = cases.find("no.such.module", "f")
    assert gone == Absent("no.such.module: No module named 'no'")
    assert cases.find("math", "nothing") == Absent("math has no nothing")
    assert cases.find("math", "pi") == Absent("math has no pi")  # not callable
    assert cases.find("math", "sqrt") is math.sqrt
    assert cases.adapt(gone, lambda f: f) is gone
    assert cases.adapt(math.sqrt, lambda f: lambda x: f(x) + 1)(4) == 3
    assert harness.run_column(toy(ours=gone), "ours CPU", never) is gone


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (torch.tensor([1.0, 2.01]), "relative error 5.00e-03, allowed 1.00e-04"),
        (torch.tensor([1.0, math.nan]), "NaN or infinite"),
        (torch.ones(3), r"shape \[3\], expected \[2\]"),
        ((torch.ones(2), torch.ones(2)), "2 results, expected 1"),
    ],
)
def test_comparison_can_fail(got, message):
    compare.near(torch.tensor([1.0, 2.00001]), torch.tensor([1.0, 2.0]))
    with pytest.raises(AssertionError, match=message):
        compare.near(got, torch.tensor([1.0, 2.0]))


def test_equal_allows_nothing():
    compare.equal((torch.tensor([2**40]), [3]), ([2**40], torch.tensor([3])))
    with pytest.raises(AssertionError):
        compare.equal(torch.tensor([2**40 + 1]), torch.tensor([2**40]))


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


BENCH = """
from benchmarks import machine
from benchmarks.cases import Case, Peer, find

machine.ceilings = lambda device: {"copy": 1e9, "float32": 1e9, "bfloat16": 1e9}  # saves seconds


def case(name, ours):
    peer = Peer("nobody", find("no.such.module", "twice"))
    return Case("twice", name, lambda: ([1.0, 2.0],), ours, lambda x: [1 * v + v for v in x], peer)


CASES = [
    case("right", lambda x: [2 * v for v in x]),
    case("broken", lambda x: [3 * v for v in x]),
]


def test_twice(case, column, measure):
    measure(case, column)
"""


def check_run(folder, shown):
    """The table was shown and the JSON written; one result was right and one wrong."""
    (path,) = folder.glob("*.json")
    right, broken = (case["columns"] for case in json.loads(path.read_text())["cases"])
    assert right["ours CPU"]["best_ms"] > 0
    assert right["peer"]["absent"] == "no.such.module: No module named 'no'"
    assert "differs from the reference" in broken["ours CPU"]["absent"]
    assert re.search(r"\| twice, right \| [\d.]+ \| [\d.]+ \| – \|", shown)
    assert re.search(r"\| twice, broken \| [\d.]+ \| wrong \| – \|", shown)
    assert path.name in shown


def test_pytest_benchmarks(tmp_path):
    """In a copy of the folder with one toy file."""
    pytest.importorskip("pytest_benchmark")
    copy = tmp_path / "benchmarks"
    copy.mkdir()
    for path in FOLDER.glob("*.py"):
        if not path.name.startswith("bench_"):
            shutil.copy(path, copy)
    (copy / "bench_twice.py").write_text(BENCH)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    arguments = ["benchmarks", "-p", "no:cacheprovider", "--results", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    check_run(tmp_path / "out", shown)


@pytest.fixture
def toys(monkeypatch):
    """The suite has the toy file's cases and no others."""
    monkeypatch.setattr(machine, "ceilings", machine.ceilings)  # undoes what the file changes
    found = {}
    exec(BENCH, found)
    command = importlib.import_module("benchmarks.command")
    monkeypatch.setattr(command, "cases", lambda: found["CASES"])


def test_python_m_benchmarks(tmp_path, toys, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    command = importlib.import_module("benchmarks.__main__")
    options = ["--seconds", "0.01", "--results", str(tmp_path)]
    assert command.main(["twice", *options]) == 1
    (path,) = tmp_path.glob("*.json")
    shown = " ".join(capsys.readouterr().out.split())
    check_run(tmp_path, tables.markdown(report.load(path)) + path.name)
    assert re.search(r"right \(nobody\) [\d.]+ [\d.]+ –", shown)
    assert "wrong" in shown
    assert command.main(["thrice", *options]) == 2
    assert "no op named thrice" in capsys.readouterr().err


def test_every_file_has_cases():
    command = importlib.import_module("benchmarks.command")
    known = command.cases()
    ops = {case.op for case in known}
    assert {"nms", "nms_groups", "roi_pool", "roi_pool_backward", "excitation_maps"} <= ops
    assert {"project_attention", "accumulate_boxes", "selective_search", "dense_crf"} <= ops
    keys = [(case.op, case.name, case.beside) for case in known]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("op", ["roi_pool_backward", "excitation_maps", "project_attention"])
def test_small_cases_are_right(op):
    """Ours and every peer that needs nothing installed, on the inputs for checking."""
    command = importlib.import_module("benchmarks.command")
    for case in command.cases():
        if case.op == op and case.name.startswith(("10 x", "5 prop", "20 maps", "1,600 maps")):
            checked = case if case.check_inputs is None else cases.small(case, case.name)
            for column in ("ours CPU", "peer"):
                found = harness._implementation(checked, column)[0]
                if not isinstance(found, Absent):
                    harness._check(checked, column, found, "cpu")
