"""Sweeps: the fit, the points and the picture."""

import dataclasses
import importlib

import pytest
import torch

scaling = importlib.import_module("benchmarks.scaling")
cases = importlib.import_module("benchmarks.cases")


def toy(count):
    def numbers():
        return (torch.arange(float(count)),)

    return cases.Case(
        "twice", f"{count} numbers", numbers, lambda x: 2 * x, lambda x: x + x,
        cases.Peer("addition", lambda x: x + x), check_inputs=numbers, cuda=False,
    )  # fmt: skip


SWEEP = scaling.Sweep("twice", "numbers", (10, 20, 40), toy)


def test_exponent():
    assert scaling.exponent((1, 2, 4), [3, 12, 48]) == pytest.approx(2)
    assert scaling.exponent((1, 2, 4), [3, None, 6]) == pytest.approx(0.5)
    assert scaling.exponent((1, 2), [3, None]) is None
    assert scaling.exponent((1, 1), [3, 4]) is None


def test_a_sweep_is_measured_and_drawn(tmp_path):
    found = scaling.measure(SWEEP, 0.001)
    assert list(found["columns"]) == ["ours CPU", "peer"]
    ours = found["columns"]["ours CPU"]
    assert len(ours["median_ms"]) == len(ours["peak_bytes"]) == 3
    assert all(time > 0 for time in ours["median_ms"])
    title, first, second = scaling.lines(found)
    assert title == "twice over numbers"
    assert first.startswith("  ours CPU, exponent ")
    assert second.startswith("  peer (addition), exponent ")
    pytest.importorskip("matplotlib")
    path = tmp_path / "docs" / "scaling.svg"
    scaling.plot({"sweeps": [found] * 5}, path)
    text = path.read_text()
    assert text.count(">twice<") == 5
    assert "addition" in text
    assert len(text) < 200_000


def test_threads_are_set_and_put_back():
    seen, usual = [], torch.get_num_threads()

    def case(count):
        def ours(x):
            seen.append(torch.get_num_threads())
            return 2 * x

        return dataclasses.replace(toy(count), ours=ours)

    (sweep,) = scaling.thread_sweeps([dataclasses.replace(SWEEP, case=case)], 3)
    assert sweep.values == (1, 2, 3)
    assert len(scaling.measure(sweep, 0.001)["columns"]["ours CPU"]["median_ms"]) == 3
    assert set(seen) == {1, 2, 3}
    assert seen == sorted(seen)
    assert torch.get_num_threads() == usual


def test_wrong_results_are_noted_not_timed():
    def wrong(count):
        return dataclasses.replace(toy(count), ours=lambda x: 3 * x)

    found = scaling.measure(dataclasses.replace(SWEEP, case=wrong), 0.001)
    assert "ours CPU" not in found["columns"]
    assert "differs from the reference" in found["notes"]["ours CPU at 10"]


def test_sweeps_are_geometric_and_cover_the_ops():
    known = scaling.sweeps()
    for sweep in known:
        steps = {b / a for a, b in zip(sweep.values, sweep.values[1:], strict=False)}
        assert steps == {2}
        assert sweep.case(sweep.values[0]).op == sweep.op
    assert {s.axis for s in known if s.op == "dense_crf"} == {"pixels", "maps", "labels"}
    assert len(scaling.thread_sweeps(known, 2)) == len({s.op for s in known})
