"""No op holds a picture per proposal: peak memory of a call, read in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import labelpenet

ROOT = Path(__file__).resolve().parents[1]
PROPOSALS, HEIGHT, WIDTH = 400, 600, 800
DENSE = 4 * PROPOSALS * HEIGHT * WIDTH  # 768 MB: float32 [R, H, W]
BOUND = DENSE // 8

SCRIPT = """
import importlib.util, json, sys
import torch
from labelpenet.ops import accumulate_boxes, excitation_maps, positive_weights, project_attention

spec = importlib.util.spec_from_file_location("machine", sys.argv[1])
machine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(machine)
proposals, height, width = map(int, sys.argv[2:])
torch.manual_seed(0)
torch.set_num_threads(2)


def projected(count, size):
    boxes = torch.rand(count, 4) * min(size) / 2
    boxes[:, 2:] += boxes[:, :2]
    index = torch.zeros(count, dtype=torch.int64)
    maps, scores = torch.rand(count, 7, 7), torch.rand(count)
    return {
        "project_attention": lambda: project_attention(maps, boxes, index, 1, size),
        "mass": lambda: project_attention(maps, boxes, index, 1, size, mode="mass"),
        "accumulate_boxes": lambda: accumulate_boxes(scores, boxes, index, 1, size),
    }


def excited(count):
    layers = [25088, 64, 64]
    activations = [torch.rand(count, n) for n in layers]
    activations[0] = activations[0].view(count, 512, 7, 7)
    weights = positive_weights([torch.rand(64, 25088), torch.rand(64, 64), torch.rand(20, 64)])
    classes = torch.zeros(count, dtype=torch.int64)
    return {"excitation_maps": lambda: excitation_maps(activations, weights, classes)}


for call in (projected(2, (20, 20)) | excited(2)).values():
    call()  # threads and libraries are there before anything is measured
calls = projected(proposals, (height, width)) | excited(3 * proposals // 4)
calls["a dense one"] = lambda: torch.full((proposals // 4, height, width), 1.0)
print(json.dumps({name: machine.peak_memory(call, "cpu")[1] for name, call in calls.items()}))
"""


@pytest.fixture(scope="module")
def peaks():
    package = str(Path(labelpenet.__file__).parents[1])
    arguments = [str(ROOT / "benchmarks" / "machine.py"), PROPOSALS, HEIGHT, WIDTH]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True, text=True, timeout=250, env=os.environ | {"PYTHONPATH": package},
        cwd=package,  # not the checkout, whose folder of that name holds no kernels
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if None in found.values():
        pytest.skip("this system does not say how much memory a process had at most")
    return found


@pytest.mark.parametrize(
    "name", ["project_attention", "mass", "accumulate_boxes", "excitation_maps"]
)
def test_far_below_a_picture_per_proposal(peaks, name):
    assert peaks[name] < BOUND


def test_a_dense_tensor_would_be_seen(peaks):
    assert peaks["a dense one"] > BOUND  # a quarter of the pictures is enough
