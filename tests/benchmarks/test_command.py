"""The benchmark suite as a command and under pytest, on a toy file."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

cases = importlib.import_module("benchmarks.cases")
harness = importlib.import_module("benchmarks.harness")
machine = importlib.import_module("benchmarks.machine")
report = importlib.import_module("benchmarks.report")
tables = importlib.import_module("benchmarks.tables")
Absent = cases.Absent

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
