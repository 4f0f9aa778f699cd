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


SECTIONS = {"benchmarks": readme.kernels}
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_pages_have_what_is_stored(page):
    text = page.read_text(encoding="utf-8")
    shown = readme.rendered(text, readme.PAGES[page])
    assert shown == text, "run `python -m benchmarks.readme`"


def test_no_details_stored(tmp_path):
    for section in readme.PAGES[readme.DETAILS].values():
        assert section(tmp_path) == "Not measured yet.\n"


def test_a_stored_run_is_rendered(tmp_path):
    (tmp_path / "cpu.json").write_text(json.dumps(RUN))
    (tmp_path / "other.json").write_text("{}")  # no run of this kind
    text = readme.rendered(f"before\n{BEGIN}\nold 7.7\n{END}\nafter\n", SECTIONS, tmp_path)
    assert text.startswith(f"before\n{BEGIN}\n| CPU, ms |")
    assert text.endswith(f"{END}\nafter\n")
    assert "| nms, 5 boxes | – | 2 | 9 (other) | – | 4.5 |" in text
    for word in ("Toy", "2 threads", "torch 2.0", "numpy 3.0", "Commit 0123456", "2025-01-02"):
        assert word in text
    assert "old" not in text
    assert readme.rendered(text, SECTIONS, tmp_path) == text


def test_no_run_is_said(tmp_path):
    assert "No run is stored yet" in readme.rendered(f"{BEGIN}{END}", SECTIONS, tmp_path)


@pytest.mark.parametrize("text", ["", BEGIN, END, END + BEGIN, 2 * BEGIN + END])
def test_markers_must_be_there(text):
    with pytest.raises(ValueError, match="once each"):
        readme.rendered(text, SECTIONS)
