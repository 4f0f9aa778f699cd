"""The device script's parts that a machine without a device can run."""

import math

import pytest
import torch
from tiny_cascade import OVERRIDES, one_thread

from benchmarks import device, resources
from benchmarks.device_clock import Clock, on
from benchmarks.device_stages import stages

__all__ = ["one_thread"]

LOG = """
ptxas info : Compiling entry function '_ZN10labelpenet12_GLOBAL__N_14poolIfLb1EEEvPKT_' for 'sm_90'
ptxas info    : Function properties for it
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 8320 bytes smem
ptxas info    : Compiling entry function 'own' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers
"""


def test_stages_of_a_tiny_cascade():
    found = stages(
        None, 64, 80, 25, "cpu", 1, overrides=[*OVERRIDES, "calibration.crf.iterations=1"]
    )
    assert found[-1].name == "module 1, whole image"
    assert all(s.seconds > 0 for s in found)
    by_name = {s.name: s for s in found}
    assert by_name["trunk"].flops > 0
    assert by_name["roi_pool"].bytes_moved >= 25 * 128 * 49 * 4


def test_clock_and_moving():
    calls = []
    assert Clock("cpu", 3)(lambda: calls.append(1)) >= 0
    assert len(calls) == 4
    moved = on("cpu", (torch.zeros(1), [torch.ones(2)], 3))
    assert moved[2] == 3
    assert isinstance(moved[1], list)


def test_cases_cover_what_is_wanted():
    names = [f"{case}, {dtype or 'float32'}" for case, dtype in device.cases()]
    for start in device.WANTED:
        assert start == "module 1" or any(name.startswith(start) for name in names), start
    assert any("bfloat16" in name for name in names)


def test_narrow_inputs():
    features, boxes = torch.zeros(1, 2, 9, 9), torch.zeros(4, 5)
    narrow = device._narrow((features, boxes, [features], 7), "bfloat16")
    assert narrow[0].dtype == narrow[2][0].dtype == torch.bfloat16
    assert narrow[1].dtype == torch.float32
    assert narrow[3] == 7
    assert device._narrow(features, "") is features


def test_rows():
    row = device.Row("op", 2e-3, 1e-3, peer=4e-3, wanted="fast")
    assert row.cells() == ["op", "2.000", "50 %", "2.0", "fast"]
    assert device.Row("op", math.inf, wrong="WRONG: no").cells()[-1] == "WRONG: no"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_device(capsys):
    assert device.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_resources(tmp_path, monkeypatch, capsys):
    page, log = tmp_path / "cuda.md", tmp_path / "log"
    page.write_text(f"before\n{resources.BEGIN}\nold\n{resources.END}\nafter\n")
    log.write_text(LOG)
    monkeypatch.setattr(resources, "PAGE", page)
    assert resources.main(["--log", str(log)]) == 1  # something spills
    assert "| `pool<float, true>` | 40 | 8 | 16 | 8320 |" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `own` | 12 | 0 | 0 | 0 |" in text
    assert "old" not in text
