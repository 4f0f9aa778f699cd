"""One photo end to end with the tiny backbone: the peers agree, and every stage shows."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if "benchmarks" not in sys.modules:  # the package beside the tests, which is on no import path
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
stages = importlib.import_module("benchmarks.stages")


def test_every_moment_has_one_stage(monkeypatch):
    """The outer stage's clock stands still within the inner one."""
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])  # made, outer, inner, inner's end, outer's end
    monkeypatch.setattr(stages, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    clock = stages.Clock()
    with clock.stage(stages.MAPS):
        clock.timed(stages.CRF, lambda: None)()
    seconds = clock.stop()
    assert (seconds[stages.REST], seconds[stages.MAPS], seconds[stages.CRF]) == (6, 6, 3)
    assert sum(seconds.values()) == 15


def test_wrappers_are_taken_off():
    from labelpenet import calibration, classify

    before = classify.calibrate, calibration.refine_masks, torch.nn.Sequential.forward
    with stages.clocked(stages.Clock()):
        assert classify.calibrate is not before[0]
    assert before == (classify.calibrate, calibration.refine_masks, torch.nn.Sequential.forward)


@pytest.fixture
def command():
    for peer in ("torchvision", "pydensecrf.densecrf", "cv2.ximgproc"):
        pytest.importorskip(
            peer, reason=f"{peer} is a peer of the benchmarks", exc_type=ImportError
        )
    return importlib.import_module("benchmarks.end_to_end")


TINY = ["--backbone", "tiny", "--shorter", "120", "--proposals", "60", "--repeat", "1"]


@pytest.fixture
def small_photo(tmp_path):
    import cv2

    path = tmp_path / "photo.png"
    scenes = importlib.import_module("benchmarks.scenes")
    cv2.imwrite(str(path), scenes.photo(96, 128).numpy())
    return path


def test_tiny(command, small_photo, tmp_path, capsys):
    out = tmp_path / "out" / "run.json"
    arguments = [*TINY, "--photo", str(small_photo), "--fill", "--members", "--json", str(out)]
    assert command.main(arguments) == 0
    shown = capsys.readouterr().out
    runs = json.loads(out.read_text())["runs"]
    assert [run["precision"] for run in runs] == ["fp32", "bf16"]
    for run in runs:
        assert run["proposals"] == 60
        assert set(run["pipelines"]) == {"ours", "plain", "tuned"}
        assert set(run["checks"]) >= {stages.POOLING, stages.GROUPING, stages.CRF, stages.BOXES}
        for name, pipeline in run["pipelines"].items():
            used = [s for s, ms in pipeline["stages_ms"].items() if ms > 0]
            assert used == list(stages.STAGES), name
            total = sum(pipeline["stages_ms"].values())
            assert total == pytest.approx(pipeline["total_ms"])  # one run: medians add up
        assert list(run["by_members_ms"]) == ["10", "25", "50", "60"]
    assert shown.count("| **total** |") == 2
    assert "ours in bf16 against plain in fp32: x" in shown


def test_a_difference_is_found(command, small_photo, monkeypatch, capsys):
    check = importlib.import_module("benchmarks.peer_pipeline")
    real = check.PeerPipeline.project
    monkeypatch.setattr(
        check.PeerPipeline, "project", lambda *arguments: real(*arguments)[::-1].copy()
    )
    assert command.main([*TINY, "--photo", str(small_photo), "--precision", "fp32"]) == 1
    assert "nothing was timed: projection, heat-maps" in capsys.readouterr().err


def test_a_missing_peer_is_named(monkeypatch, small_photo, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for name in ("peer_pipeline", "end_to_end_check"):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
    command = importlib.import_module("benchmarks.end_to_end")
    assert command.main([*TINY, "--photo", str(small_photo)]) == 2
    assert "a peer is missing: " in capsys.readouterr().err  # whichever is sought first
