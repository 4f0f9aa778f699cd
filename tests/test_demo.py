"""The demo as a user runs it: from nothing to masks that are mostly right, on one page."""

import pytest
from labeling.scenes import read_labels

from labelpenet.config import load_config
from labelpenet.demo import run_demo


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo_learns_the_scenes(tmp_path):
    result = run_demo(tmp_path / "demo", load_config("demo"))
    assert result.mask_ap_50 >= 0.5
    classes, found, _ = read_labels(tmp_path / "demo" / "labels.json")
    assert classes == ("box", "disk", "star")
    assert len(found) == 40
    assert (tmp_path / "demo" / "errors.jsonl").read_text() == ""
    page = result.page.read_text(encoding="utf-8")
    for title in ("attention", "heat-map", "CRF mask", "mask confidence"):
        assert title in page
    for name in found:  # every held-out scene is pictured, with what was found in it
        assert name in page
