"""The benchmark harness on a toy op: the running sum of a tensor."""

import importlib
import math

import pytest
import torch
from running_sum import toy

cases = importlib.import_module("benchmarks.cases")
compare = importlib.import_module("benchmarks.compare")
harness = importlib.import_module("benchmarks.harness")
Absent, Peer, Wrong = cases.Absent, cases.Peer, cases.Wrong
Measurement = harness.Measurement
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about a machine without")


def wrong(x):
    return x.cumsum(0) + 1


def never(call, runs):
    raise RuntimeError("timed")


@NO_GPU
def test_all_columns():
    (row,) = harness.run([toy()], seconds=0.01)
    assert list(row.outcomes) == list(harness.COLUMNS)
    for column in ("reference", "ours CPU", "peer"):
        found = row.outcomes[column]
        assert 0 < found.best <= found.median
        assert found.runs >= 3
        assert found.flops == 100
    # 100 float32 in, 100 float32 out
    assert row.outcomes["ours CPU"].bytes_moved == 800
    assert row.outcomes["ours CUDA"] == row.outcomes["peer CUDA"] == Absent("no CUDA device")


@pytest.mark.cuda
def test_columns_on_a_device():
    case = toy(peer=Peer("torch", lambda x: x.cumsum(0), cuda=True))
    (row,) = harness.run([case], seconds=0.01)
    assert isinstance(row.outcomes["ours CUDA"], Measurement)
    assert isinstance(row.outcomes["peer CUDA"], Measurement)
    assert row.outcomes["ours CUDA"].peak >= 400


def test_wrong_results_are_not_timed():
    with pytest.raises(AssertionError, match=r"the reference: relative error 2\.02e-04"):
        harness.run_column(toy(ours=wrong), "ours CPU", never)
    with pytest.raises(AssertionError, match="differs from the reference"):
        harness.run_column(toy(peer=Peer("bad", wrong)), "peer", never)
    (row,) = harness.run([toy(ours=wrong)], seconds=0.01)
    assert isinstance(row.outcomes["ours CPU"], Wrong)
    assert isinstance(row.outcomes["peer"], Measurement)


def test_right_results_are_timed():
    with pytest.raises(RuntimeError, match="timed"):
        harness.run_column(toy(), "ours CPU", never)


def test_full_inputs_are_checked_too():
    # right on ten numbers, wrong on a hundred
    def breaks(x):
        return x.cumsum(0) if len(x) == 10 else wrong(x)

    case = toy(check_inputs=lambda: (torch.arange(10.0),), ours=breaks)
    with pytest.raises(AssertionError, match="differs from peer on the full inputs"):
        harness.run_column(case, "ours CPU", never)
    with pytest.raises(AssertionError, match="differs from ours CPU on the full inputs"):
        harness.run_column(case, "peer", never)
    assert harness.run_column(case, "reference", never) == Absent(
        "too slow for these inputs; checked on smaller ones"
    )


def test_small_inputs_give_the_reference_its_column():
    case = toy(check_inputs=lambda: (torch.arange(10.0),))
    found = cases.small(case, "10 numbers")
    assert (found.name, found.inputs()[0].tolist()) == ("10 numbers", list(range(10)))
    assert isinstance(harness.run_column(found, "reference", seconds=0.01), Measurement)


def test_without_a_reference_the_peer_is_held_against():
    gone = Absent("no reference")
    with pytest.raises(AssertionError, match="differs from peer"):
        harness.run_column(toy(ours=wrong, reference=gone), "ours CPU", never)
    with pytest.raises(RuntimeError, match="timed"):
        harness.run_column(toy(reference=gone), "ours CPU", never)


@pytest.mark.parametrize("peer", [Absent("gone"), Peer("other", wrong, agrees=False)])
def test_nothing_to_check_against_is_not_timed(peer):
    case = toy(reference=Absent("gone"), peer=peer)
    found = harness.run_column(case, "ours CPU", never)
    assert found == Absent("nothing to check the result against")


def test_a_peer_that_differs_by_design_is_timed():
    case = toy(peer=Peer("other", wrong, agrees=False))
    assert isinstance(harness.run_column(case, "peer", seconds=0.01), Measurement)


def test_a_peer_may_be_less_exact():
    def rough(x):
        return x.cumsum(0) + 1  # 2e-4 of the largest

    peer = Peer("rough", rough, compare=lambda got, want: compare.near(got, want, 1e-3))
    assert isinstance(harness.run_column(toy(peer=peer), "peer", seconds=0.01), Measurement)
    with pytest.raises(AssertionError, match="the reference"):
        harness.run_column(toy(peer=peer, ours=rough), "ours CPU", never)


def test_what_is_prepared_is_not_timed():
    prepared = []

    def prepare(x):
        prepared.append(len(x))
        return lambda: x.cumsum(0)

    found = harness.run_column(toy(ours=cases.Prepared(prepare)), "ours CPU", seconds=0.01)
    assert found.runs >= 3
    assert prepared == [100, 100]  # once for the check, once for all that is timed


def test_a_peer_that_cannot_be_loaded_is_absent(tmp_path, monkeypatch):
    (tmp_path / "made_for_another_torch.py").write_text("raise RuntimeError('no operator')")
    monkeypatch.syspath_prepend(tmp_path)
    assert cases.find("made_for_another_torch", "f").reason.endswith("no operator")


def test_absent_functions_say_why():
    gone = cases.find("no.such.module", "f")
    assert gone == Absent("no.such.module: No module named 'no'")
    assert cases.find("math", "nothing") == Absent("math has no nothing")
    assert cases.find("math", "pi") == Absent("math has no pi")  # not callable
    assert cases.find("math", "sqrt") is math.sqrt
    assert cases.adapt(gone, lambda f: f) is gone
    assert cases.adapt(math.sqrt, lambda f: lambda x: f(x) + 1)(4) == 3
    assert harness.run_column(toy(ours=gone), "ours CPU", never) is gone


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (torch.tensor([1.0, 2.01]), "relative error 5.00e-03, allowed 1.00e-04"),
        (torch.tensor([1.0, math.nan]), "NaN or infinite"),
        (torch.ones(3), r"shape \[3\], expected \[2\]"),
        ((torch.ones(2), torch.ones(2)), "2 results, expected 1"),
    ],
)
def test_comparison_can_fail(got, message):
    compare.near(torch.tensor([1.0, 2.00001]), torch.tensor([1.0, 2.0]))
    with pytest.raises(AssertionError, match=message):
        compare.near(got, torch.tensor([1.0, 2.0]))


def test_equal_allows_nothing():
    compare.equal((torch.tensor([2**40]), [3]), ([2**40], torch.tensor([3])))
    with pytest.raises(AssertionError):
        compare.equal(torch.tensor([2**40 + 1]), torch.tensor([2**40]))
