"""The demo as a user runs it: from nothing to masks that are mostly right."""

import pytest
from labeling.scenes import read_labels

from labelpenet.config import load_config
from labelpenet.demo import run_demo
from labelpenet.report.pictures import find_pictures


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_demo_learns_the_scenes(tmp_path):
    result = run_demo(tmp_path / "demo", load_config("demo"))
    assert result.mask_ap_50 >= 0.5
    assert result.labels == tmp_path / "demo" / "labels"
    classes, found, _ = read_labels(result.labels)
    assert classes == ("box", "disk", "star")
    assert len(found) == 40
    assert (result.labels / "errors.jsonl").read_text() == ""
    for name in found:  # every held-out scene is pictured, with the way to its masks
        stages = find_pictures(result.labels, name).stages
        assert {"attention", "heat-map", "CRF mask"} <= {title for title, _ in stages}
    page = result.page.read_text("utf-8")
    assert result.page == result.labels / "index.html"
    assert all(name in page for name in found)
