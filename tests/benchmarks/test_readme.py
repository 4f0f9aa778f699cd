"""README's table of figures is what the stored runs render to."""

import importlib
import json

import pytest

readme = importlib.import_module("benchmarks.readme")
RUN = {
    "machine": {
        "cpu": "Toy", "isa": "X", "cores": 2, "threads": 2, "torch": "2.0", "commit": "0123456789",
        "date": "2025-01-02", "versions": {"numpy": "3.0"},
    },
    "ceilings": {"cpu": {"copy": 1e10, "float32": 1e11, "bfloat16": 1e12}},
    "cases": [
        {
            "op": "nms", "case": "5 boxes", "peer": "other",
            "columns": {"ours CPU": {"median_ms": 2.0}, "peer": {"median_ms": 9.0}},
        }
    ],
}  # fmt: skip


def test_readme_has_what_is_stored():
    text = readme.README.read_text(encoding="utf-8")
    assert readme.rendered(text) == text, "run `python -m benchmarks.readme`"


def test_a_stored_run_is_rendered(tmp_path):
    (tmp_path / "cpu.json").write_text(json.dumps(RUN))
    (tmp_path / "other.json").write_text("{}")  # no run of this kind
    text = readme.rendered(f"before\n{readme.BEGIN}\nold 7.7\n{readme.END}\nafter\n", tmp_path)
    assert text.startswith(f"before\n{readme.BEGIN}\n| CPU, ms |")
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "| nms, 5 boxes | – | 2 | 9 (other) | – | 4.5 |" in text
    for word in ("Toy", "2 threads", "torch 2.0", "numpy 3.0", "Commit 0123456", "2025-01-02"):
        assert word in text
    assert "old" not in text
    assert readme.rendered(text, tmp_path) == text


def test_no_run_is_said(tmp_path):
    assert "No run is stored yet" in readme.rendered(f"{readme.BEGIN}{readme.END}", tmp_path)


@pytest.mark.parametrize(
    "text", ["", readme.BEGIN, readme.END, readme.END + readme.BEGIN, 2 * readme.BEGIN + readme.END]
)
def test_markers_must_be_there(text):
    with pytest.raises(ValueError, match="once each"):
        readme.rendered(text)
