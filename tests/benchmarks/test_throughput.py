"""The throughput benchmark on tiny scenes: every pipeline runs, and the figures hang together."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if "benchmarks" not in sys.modules:  # the package beside the tests, which is on no import path
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
throughput = importlib.import_module("benchmarks.throughput")

TINY = (
    "--backbone", "tiny", "--shorter", "100", "--proposals", "40", "--count", "12", "--ours-only"
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_figures(tmp_path, capsys):
    assert throughput.main([*TINY, "--json", str(tmp_path / "run.json")]) == 0
    assert "2 workers against 1: x" in capsys.readouterr().out
    run = json.loads((tmp_path / "run.json").read_text())
    assert len(run["pipelines"]) == 3
    for one in run["pipelines"].values():
        assert set(one["stages_ms"]) == {"decode", "proposals", "network", "encode"}
        assert set(one["waits_ms"]) == {"photos", "rows"}
        assert min(one["stages_ms"].values()) > 0
    assert "dense CRF" in run["network_ms"]


def test_too_few_photos(capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--count", "4"])
    assert "--count: expected at least 8" in capsys.readouterr().err


def test_photos_that_are_not_there(tmp_path, capsys):
    assert throughput.main([*TINY, "--photos", str(tmp_path)]) == 2
    assert f"--photos: expected 12 in {tmp_path}, got 0" in capsys.readouterr().err
