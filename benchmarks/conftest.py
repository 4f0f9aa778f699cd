"""`python -m pytest benchmarks`: a test per case and column, table and JSON at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import report, tables
from .cases import Absent, Wrong
from .harness import COLUMNS, Row, run_column

ROWS = pytest.StashKey[dict[object, Row]]()


def pytest_addoption(parser):
    parser.addoption(
        "--results", type=Path, default=report.RESULTS, help="folder for the JSON of this run"
    )


def pytest_configure(config):
    config.stash[ROWS] = {}


def pytest_collect_file(file_path, parent):
    if file_path.name.startswith("bench_") and file_path.suffix == ".py":
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_generate_tests(metafunc):
    """A test that takes `case` and `column` runs for all CASES of its file."""
    if {"case", "column"} <= set(metafunc.fixturenames):
        pairs = [(case, column) for case in metafunc.module.CASES for column in COLUMNS]
        ids = [f"{case.op}-{case.name}-{case.beside}-{column}" for case, column in pairs]
        metafunc.parametrize(("case", "column"), pairs, ids=ids)


@pytest.fixture
def measure(request, benchmark):
    """Checks and times a column of a case through pytest-benchmark."""

    def timer(call, runs):
        benchmark.pedantic(call, rounds=runs)
        if benchmark.stats is None:  # --benchmark-disable: checked, not timed
            pytest.skip("timing is disabled")
        stats = benchmark.stats.stats
        return stats.min, stats.median, stats.rounds

    def run(case, column):
        row = request.config.stash[ROWS].setdefault(case, Row(case))
        benchmark.group = str(case)
        try:
            outcome = run_column(case, column, timer)
        except AssertionError as error:
            row.outcomes[column] = Wrong(str(error))
            raise
        row.outcomes[column] = outcome
        if isinstance(outcome, Absent):
            pytest.skip(outcome.reason)

    return run


def pytest_terminal_summary(terminalreporter, config):
    rows = list(config.stash[ROWS].values())
    if all(isinstance(o, Absent) for row in rows for o in row.outcomes.values()):
        return  # nothing was timed
    found = report.publish(rows)
    path = report.save_dated(found, config.getoption("results"))
    terminalreporter.section("benchmarks")
    terminalreporter.write(tables.markdown(found))
    terminalreporter.write_line(f"written to {path}")
