"""The store of proposals: a file that holds what was put in, or says what is wrong."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelpenet.data import (
    ProposalError,
    Proposals,
    ProposalStore,
    write_proposals,
)

SETTINGS = {"sigma": 0.8, "k": (50, 100), "spaces": ["hsv", "lab"]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "proposals.parquet"


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        hnp.arrays(
            np.float32,
            st.tuples(st.integers(0, 5), st.just(4)),
            elements=st.floats(0, 2000, width=32),
        ),
        max_size=40,
    )
)
def test_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("store") / "p.parquet"
    write_proposals(path, [Proposals(n, 3, 4, b) for n, b in rows.items()], SETTINGS)
    store = ProposalStore.open(path)
    assert list(store) == list(rows)
    assert len(store) == len(rows)
    for name in reversed(list(rows)):  # across row groups, backwards
        np.testing.assert_array_equal(store[name], rows[name])
        assert (store[name].dtype, store[name].shape) == (np.float32, rows[name].shape)
        assert store.size(name) == (3, 4)
    assert store.settings == {"sigma": 0.8, "k": [50, 100], "spaces": ["hsv", "lab"]}


@pytest.fixture
def store(path):
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    rows = [Proposals(f"i{n}", 9, 8, rng.random((50, 4), np.float32)) for n in range(40)]
    write_proposals(path, rows, SETTINGS)
    return ProposalStore.open(path)


def test_a_store_is_a_mapping(store):
    assert "i3" in store
    assert "j" not in store
    assert 3 not in store
    with pytest.raises(KeyError, match="has no proposals of 'j'"):
        store["j"]
    with pytest.raises(KeyError, match="has no proposals of 'j'"):
        store.size("j")
    first = store["i0"]
    first[:] = -1  # a copy
    assert store["i0"].min() >= 0
    assert "40 images" in repr(store)


def test_pickled(store):
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy["i39"], store["i39"])


def test_read_by_threads(store):
    wanted = {name: store[name] for name in store}
    names = [f"i{n}" for n in np.random.default_rng(0).integers(0, 40, 400)]
    with ThreadPoolExecutor(8) as pool:
        for name, found in zip(names, pool.map(store.__getitem__, names), strict=True):
            np.testing.assert_array_equal(found, wanted[name])


def test_other_tools_read_it(store):
    table = pq.read_table(store.path)
    assert table.column_names == ["name", "height", "width", "boxes"]
    assert table["boxes"][0].as_py() == store["i0"].ravel().tolist()


def test_a_write_that_fails_leaves_the_old_file(store):
    def rows():
        yield Proposals("new", 1, 1, np.zeros((1, 4), np.float32))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_proposals(store.path, rows(), {})
    with pytest.raises(ValueError, match=r"boxes of 'x': expected \[R, 4\], got \[4\]"):
        write_proposals(store.path, [Proposals("x", 1, 1, np.zeros(4, np.float32))], {})
    assert len(ProposalStore.open(store.path)) == 40
    assert list(store.path.parent.iterdir()) == [store.path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-200],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4] + b"oops",
        lambda data: b"name,boxes\n",
        lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:],
    ],
)
def test_damaged_file(store, damage):
    """Without its end nothing tells that it was a store: it may be a checkpoint."""
    store.path.write_bytes(damage(store.path.read_bytes()))
    with pytest.raises(ProposalError, match="is no proposal store: ") as error:
        ProposalStore.open(store.path)
    assert "delete" not in str(error.value)


def test_a_changed_byte_is_noticed(store):
    data = bytearray(store.path.read_bytes())
    offset = pq.read_metadata(store.path).row_group(0).column(3).data_page_offset
    data[offset + 200] ^= 1
    other = store.path.with_name("other.parquet")
    other.write_bytes(bytes(data))
    with pytest.raises(ProposalError, match="delete the file"):
        ProposalStore.open(other)["i0"]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"name": ["a"], "labels": ["b"]}),
        pa.table({"name": ["a"], "height": [1], "width": [1], "boxes": [[1.0]]}),
    ],
)
def test_other_parquet_files(tmp_path, table):
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ProposalError, match="no proposal store: expected the columns name, heig"):
        ProposalStore.open(tmp_path / "x.parquet")


def test_a_store_of_which_something_is_wrong(tmp_path, store):
    table = pq.read_table(store.path)
    for wrong, says in (
        (table.drop_columns(["width"]), "expected the columns"),
        (pa.concat_tables([table, table]), "'i0' is there twice"),
    ):
        pq.write_table(wrong, tmp_path / "x.parquet")
        with pytest.raises(ProposalError, match=f"{says}.*; delete the file to compute it again"):
            ProposalStore.open(tmp_path / "x.parquet")


def test_a_parquet_file_without_settings(tmp_path, store):
    pq.write_table(pq.read_table(store.path).replace_schema_metadata(None), tmp_path / "x.parquet")
    with pytest.raises(ProposalError, match="is no proposal store: has no settings"):
        ProposalStore.open(tmp_path / "x.parquet")


def test_no_file(tmp_path):
    for name in ("absent.parquet", "."):
        with pytest.raises(ProposalError, match="no such file"):
            ProposalStore.open(tmp_path / name)
