"""Kernels and threads: torch's number is followed, no bit depends on it, and forks do not hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import labelpenet
from labelpenet import ops
from labelpenet.ops import _extension


def every_op(boxes_count: int, height: int, width: int) -> dict[str, tuple[torch.Tensor, ...]]:
    """All ops on one scene."""
    random = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    low = rand(boxes_count, 2) * torch.tensor([width, height]) / 2
    boxes = torch.cat([low, low + 1 + rand(boxes_count, 2) * torch.tensor([width, height]) / 2], 1)
    scores, labels = rand(boxes_count), torch.arange(boxes_count) % 3
    image = (255 * rand(height, width, 3)).to(torch.uint8)
    features = rand(1, 16, height // 4 + 1, width // 4 + 1).requires_grad_()
    indexed = torch.cat([torch.zeros(boxes_count, 1), boxes], 1)
    pooled = ops.roi_pool(features, indexed, 7, 1 / 4)
    (gradient,) = torch.autograd.grad(pooled, features, rand(*pooled.shape))
    maps, size = rand(boxes_count, 7, 7), (height, width)
    unary = 5 * rand(2, 3, height, width)  # torch.softmax depends on the number of threads
    return {
        "roi_pool": (pooled.detach(), gradient),
        "nms": (ops.nms(boxes, scores, 0.4), *ops.nms_groups(boxes, scores, labels, 0.4)),
        "project": tuple(
            ops.project_attention(maps, boxes, labels, 3, size, mode)
            for mode in ("bilinear", "mass")
        ),
        "accumulate": (ops.accumulate_boxes(scores, boxes, labels, 3, size),),
        "dense_crf": (ops.dense_crf(image, unary, iterations=3),),
        "selective_search": (ops.selective_search(image, "fast"),),
        "excitation": (
            ops.excitation_maps(
                [rand(boxes_count, 16, 7, 7), rand(boxes_count, 32)],
                [rand(32, 784) - 0.5, rand(5, 32) - 0.5],
                labels,
            ),
        ),
    }


def assert_same(got: dict[str, tuple[torch.Tensor, ...]], want: dict[str, object]) -> None:
    for name, tensors in want.items():
        for a, b in zip(got[name], tensors, strict=True):
            if name == "excitation":  # torch.mm may add in another order
                torch.testing.assert_close(a, b)
            else:
                assert torch.equal(a, b), name


@pytest.fixture
def threads():
    """torch.set_num_threads, undone at the end."""
    usual = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(usual)


@pytest.mark.parametrize("scene", [(1, 1, 1), (2, 5, 7), (40, 33, 47), (300, 120, 160)])
def test_threads_change_no_bit(threads, scene):
    threads(1)
    want = every_op(*scene)
    for count in (2, 5):
        threads(count)
        assert_same(every_op(*scene), want)


def test_kernels_take_the_number_from_torch(threads):
    for count in (1, 2):
        threads(count)
        assert _extension.launch(torch.zeros(1)) == (count, 0)


WORKERS = """
import sys
import torch
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, sys.argv[1])
from test_threads import assert_same, every_op

SCENE = (300, 120, 160)


class Scenes(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return every_op(*SCENE)


if __name__ == "__main__":
    torch.set_num_threads(3)
    want = every_op(*SCENE)  # threads are running when the workers are forked
    loader = DataLoader(
        Scenes(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=100
    )
    for _ in range(2):
        count = 0
        for got in loader:
            assert_same(got, want)
            count += 1
        assert count == 4
    assert_same(every_op(*SCENE), want)  # and the parent still works
    print("same")
"""

THREADED_CHILD = """
import os, sys
import torch
from labelpenet.ops import nms

torch.manual_seed(0)
boxes = 100 * torch.rand(3000, 4)
boxes[:, 2:] += boxes[:, :2]
scores = torch.rand(3000)
torch.set_num_threads(3)
want = nms(boxes, scores, 0.4)
child = os.fork()
if child == 0:  # torch's count is still 3 here, unlike in a worker of DataLoader
    os._exit(0 if torch.equal(nms(boxes, scores, 0.4), want) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def in_a_process(script: str, *arguments: str) -> str:
    """What it prints; a hang ends in subprocess.TimeoutExpired."""
    package = str(Path(labelpenet.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        capture_output=True, text=True, timeout=250, env=os.environ | {"PYTHONPATH": package},
        cwd=package,  # not the checkout, whose folder of that name holds no kernels
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FAILING_LOOPS = """
import torch
from labelpenet import ops

torch.set_num_threads(2)
boxes = torch.rand(200, 4).cumsum(1)
calls = {
    "find_peaks": lambda: ops.find_peaks(torch.rand(64, 40, 40), 1.0),
    "nms_groups": lambda: ops.nms_groups(boxes, torch.rand(200), torch.arange(200) % 4, 0.5),
    "roi_pool": lambda: ops.roi_pool(torch.rand(2, 64, 40, 40), [boxes, boxes], 7),
}
for name, call in calls.items():
    try:
        call()
    except RuntimeError as error:
        print(name, error)
"""


def test_what_a_thread_throws_is_raised(monkeypatch):
    monkeypatch.setenv("LABELPENET_SIMD", "avx")
    told = in_a_process(FAILING_LOOPS).splitlines()
    assert [line.split()[0] for line in told] == ["find_peaks", "nms_groups", "roi_pool"]
    assert all("LABELPENET_SIMD: expected baseline, avx2 or avx512" in line for line in told)


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_forked_workers_of_a_loader():
    assert in_a_process(WORKERS, str(Path(__file__).parent)) == "same"


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_a_forked_child_with_threads():
    assert in_a_process(THREADED_CHILD) == "0"
