"""Files are written whole or not at all, whoever writes them."""

import resource
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from labelpenet.config import Config
from labelpenet.data import Proposals, write_proposals
from labelpenet.files import OutputError, atomic_write
from labelpenet.models.cascade import save_checkpoint
from labelpenet.training.targets import TargetStore
from labelpenet.types import Instances


@contextmanager
def full_disk(room=1000):
    """Lets no file of this process grow beyond `room` bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_text(path):
    with atomic_write(path) as file:
        file.write("x" * 100_000)


def write_targets(path):
    noise = torch.rand(4, 99, 99) > 0.5
    found = Instances(torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64), torch.ones(4), noise)
    TargetStore.write(path, [("a", found, (99, 99))])


def write_boxes(path):
    boxes = np.random.default_rng(0).random((5000, 4)).astype(np.float32)
    write_proposals(path, [Proposals("a", 1, 1, boxes)], {})


def write_checkpoint(path):
    weights = {"a": torch.rand(5000), "b": torch.rand(5000)}
    cascade = SimpleNamespace(config=Config(), classes=("cat",), state_dict=lambda: weights)
    save_checkpoint(path, cascade, 0)


@pytest.mark.parametrize("write", [write_text, write_targets, write_boxes, write_checkpoint])
def test_a_full_disk(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    with full_disk(), pytest.raises(OutputError, match=f"cannot write {path}: File too large"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_text, write_targets, write_boxes, write_checkpoint])
def test_a_folder_that_is_not_there(tmp_path, write):
    path = tmp_path / "none" / "file"
    with pytest.raises(OutputError, match=f"cannot write {path}: No such file or directory"):
        write(path)
