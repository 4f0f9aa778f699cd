"""Targets on disk: what is written comes back, what is damaged is refused."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelpenet.training.targets import TargetsError, TargetStore, keep_for_training
from labelpenet.types import Instances

numbers = st.floats(-1e4, 1e4, width=32)


@st.composite
def found(draw):
    """Instances in an image of some size, with any masks, empty ones included."""
    count = draw(st.integers(0, 3))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    instances = Instances(
        torch.from_numpy(draw(hnp.arrays(np.float32, (count, 4), elements=numbers))),
        torch.tensor(draw(st.lists(st.integers(0, 19), min_size=count, max_size=count))).long(),
        torch.from_numpy(draw(hnp.arrays(np.float32, count, elements=st.floats(0, 1, width=32)))),
        torch.from_numpy(draw(hnp.arrays(np.bool_, (count, *size)))),
    )
    return instances, size


def same(a: Instances, b: Instances) -> bool:
    pairs = ((a.boxes, b.boxes), (a.labels, b.labels), (a.scores, b.scores), (a.masks, b.masks))
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


@settings(max_examples=40)
@given(st.lists(found(), max_size=4))
def test_round_trip(items):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "targets.parquet"
        rows = [(f"images/{i} ä", instances, size) for i, (instances, size) in enumerate(items)]
        assert TargetStore.write(path, rows) == len(rows)
        store = TargetStore.open(path)
    assert store.names() == [name for name, _, _ in rows]
    for name, instances, _ in rows:
        assert name in store
        assert same(store[name], instances)
    assert "other" not in store


@pytest.fixture
def path(tmp_path) -> Path:
    masks = torch.zeros((1, 20, 30), dtype=torch.bool)
    masks[0, 3:9, 4:20] = True
    instances = Instances(
        torch.tensor([[4.0, 3.0, 20.0, 9.0]]), torch.tensor([2]), torch.tensor([0.25]), masks
    )
    path = tmp_path / "targets.parquet"
    TargetStore.write(path, [(f"{i}", instances, (20, 30)) for i in range(3)])
    return path


def read_all(path: Path) -> list[Instances]:
    store = TargetStore.open(path)
    return [store[name] for name in store.names()]


def test_truncated(path):
    content = path.read_bytes()
    for length in (0, 3, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(TargetsError, match=r"targets\.parquet: cannot be read as"):
            read_all(path)


def test_flipped_bits_are_never_taken_for_targets(path):
    """Bytes all over the file: refused, or of no effect on what is read."""
    content = bytearray(path.read_bytes())
    expected = read_all(path)
    refused = 0
    for place in range(0, len(content), 23):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        path.write_bytes(bytes(damaged))
        try:
            again = read_all(path)
        except TargetsError:
            refused += 1
            continue
        except Exception as error:
            pytest.fail(f"byte {place}: {type(error).__name__}: {error}")
        assert len(again) == len(expected)
        assert all(same(a, b) for a, b in zip(again, expected, strict=True)), place
    assert refused > len(content) // 23 // 4


def test_other_files_are_refused(path):
    with pytest.raises(TargetsError, match=r"none\.parquet"):
        TargetStore.open(path.with_name("none.parquet"))
    pq.write_table(pa.table({"name": ["a"]}), path)
    with pytest.raises(TargetsError, match="has the columns name"):
        TargetStore.open(path)


def test_a_failed_write_leaves_the_old_file(path):
    before = path.read_bytes()

    def items():
        yield "a", Instances.empty(4, 4), (4, 4)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        TargetStore.write(path, items())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_masks_are_needed(tmp_path):
    with pytest.raises(ValueError, match="a: expected instances with masks"):
        TargetStore.write(tmp_path / "t.parquet", [("a", Instances.empty(), (4, 4))])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scores", "labels", "score", "tags", "empty", "thin", "kept"),
    [
        ([0.9, 0.6, 0.2], [0, 0, 0], 0.5, (0,), [], [], [0, 1]),  # the sure ones
        ([0.3, 0.2, 0.1], [0, 0, 1], 0.5, (0, 1), [], [], [0, 2]),  # the best one of every tag
        ([0.3, 0.2], [0, 0], 0.5, (), [], [], []),  # no tags, none sure
        ([0.9, 0.8], [0, 1], 0.5, (0, 1), [0], [], [1]),  # an empty mask teaches nothing
        ([0.9, 0.8], [0, 1], 0.5, (0, 1), [], [1], [0]),  # nor does a box of no width
        ([0.5], [2], 0.5, (0,), [], [], [0]),  # at the score
        ([], [], 0.5, (0,), [], [], []),
    ],
)
def test_keep_for_training(scores, labels, score, tags, empty, thin, kept):
    count = len(scores)
    masks = torch.ones((count, 4, 5), dtype=torch.bool)
    masks[empty] = False
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).repeat(count, 1)
    boxes[thin, 2] = 0.5
    instances = Instances(boxes, torch.tensor(labels).long(), torch.tensor(scores).float(), masks)
    found = keep_for_training(instances, score, tags)
    assert found.scores.tolist() == [pytest.approx(scores[i]) for i in kept]
    assert found.labels.tolist() == [labels[i] for i in kept]
