"""The `bench` command on a suite that takes no time."""

import json
import sys

import pytest
import torch
from cli.commands import run


@pytest.fixture
def toy_suite(monkeypatch):
    """The suite with one case that takes no time."""
    from labelpenet.bench import suite

    command = suite()
    modules = {n: sys.modules[f"{command.__package__}.{n}"] for n in ("cases", "machine")}
    cases = modules["cases"]
    case = cases.Case(
        op="twice",
        name="numbers",
        inputs=lambda: (torch.arange(1000.0),),
        ours=lambda x: 2 * x,
        reference=lambda x: x + x,
        peer=cases.Peer("addition", lambda x: x + x),
        cuda=False,
    )
    monkeypatch.setattr(command, "cases", lambda: [case])
    ceilings = {"copy": 1e9, "float32": 1e9, "bfloat16": 1e9}
    monkeypatch.setattr(modules["machine"], "ceilings", lambda device: ceilings)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_bench(toy_suite, tmp_path):
    """The command, then against figures that it surpasses, then on some that it cannot reach."""
    path = tmp_path / "run[" / "x]" / "run.json"  # no markup of rich
    path.parent.mkdir(parents=True)
    words = ("bench", "twice", "--seconds", "0.001", "--threads", 1)
    done = run(*words, "--json", path)
    assert done.exit_code == 0, done.output
    assert "numbers" in done.output
    assert str(path) in done.output
    stored = json.loads(path.read_text())
    assert stored["machine"]["threads"] == 1
    columns = stored["cases"][0]["columns"]
    assert columns["ours CPU"]["median_ms"] >= columns["ours CPU"]["best_ms"] > 0
    peer = columns["peer"]["median_ms"]
    for factor, status in ((1e-3, 0), (1e3, 1)):
        columns["peer"]["median_ms"] = factor * peer
        path.write_text(json.dumps(stored))
        done = run(*words, "--against", path)
        assert done.exit_code == status, done.output
        assert ("fell" in done.output) == bool(status)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["thrice"], "no op named thrice; there are "),
        (["--against", "none.json"], "none.json"),
        (["--seconds", "0"], "seconds: expected a number above 0"),
        (["--photo", "none.jpg"], "none.jpg"),
    ],
)
def test_bench_says_what_is_wrong(words, message, main):
    status, lines = main("bench", *words)
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]
