import errno
import json
import re

import numpy as np
import pytest
import torch
from labeling.scenes import from_masks
from PIL import Image
from report.page_parser import EVIL, Page

from labelpenet.files import OutputError
from labelpenet.labeling.summary import LabelSummary
from labelpenet.report.page import ReportBuilder
from labelpenet.types import Instances, Labelling

SUMMARY = LabelSummary(3, 4, 1, 2.5, 0, (3, 1), (0,) * 15 + (1, 0, 0, 0, 3))


def photo(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labelling(height=60, width=80, titles=("attention", "heat-map", "CRF mask")):
    masks = np.zeros((2, height, width), bool)
    masks[0, : height // 2] = masks[1, height // 2 :] = True
    maps = {title: torch.linspace(0, 1, height * width).view(height, width) for title in titles}
    return Labelling(from_masks(masks, [1, 0], [0.91, 0.25]), 4, maps)


def build(out, name="a/b", classes=("cat", "dog"), one=None, summary=SUMMARY, evaluation=None):
    report = ReportBuilder(out, classes)
    one = labelling() if one is None else one
    report.add(name, photo(), one)
    path = report.finish(summary, evaluation)
    assert path == out / "index.html"
    return Page(path.read_text("utf-8"))


def test_row(tmp_path):
    page = build(tmp_path / "deep" / "out")
    images = page.all("img")
    captions = ["photo", "attention", "heat-map", "CRF mask", "result"]
    assert [i["alt"] for i in images] == [f"{caption} of a/b" for caption in captions]
    assert all(i["loading"] == "lazy" for i in images)
    for image in images:
        with Image.open(tmp_path / "deep" / "out" / image["src"]) as picture:
            assert picture.size == (320, 240) == (int(image["width"]), int(image["height"]))
    texts = [text.strip() for text in page.texts]
    for text in ["a/b", "dog", "0.91", "0.25", "80 × 60, module 4", *captions]:
        assert text in texts
    (row,) = page.all("article")
    assert row["data-classes"].split() == ["1", "0"]


def test_pictures_show_what_they_say(tmp_path):
    images = build(tmp_path).all("img")
    opened = [Image.open(tmp_path / image["src"]).convert("RGB") for image in images]
    pictures = [np.array(picture, int) for picture in opened]
    assert np.abs(pictures[0] - np.array(Image.fromarray(photo()).resize((320, 240)))).mean() < 30
    left, right = pictures[1][:40].mean(), pictures[1][-40:].mean()
    assert left < right  # the map grows from top to bottom
    assert np.abs(pictures[4] - pictures[0]).mean() > 10


def test_counts_and_histogram(tmp_path):
    page = build(tmp_path)
    buttons = page.all("button")
    assert [b["data-class"] for b in buttons if "data-class" in b] == ["0", "1"]
    heights = [float(rect["height"]) for rect in page.all("rect")]
    assert len(heights) == 20
    assert heights[19] == max(heights)
    assert heights[15] == pytest.approx(max(heights) / 3, abs=0.01)
    assert sum(h > 0 for h in heights) == 2


def test_untrusted_names_stay_text(tmp_path):
    plain, evil = [
        build(
            tmp_path / str(i),
            f"../{name}",
            (name, "dog"),
            labelling(titles=(name,)),
            evaluation={name: 1, "table": {name: name}, f"{name}2": {}},
        )
        for i, name in enumerate(["cat", EVIL])
    ]
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) for _, a in evil.tags] == [set(a) for _, a in plain.tags]
    assert sum(EVIL in text for text in evil.texts) >= 6
    assert [i["alt"] for i in evil.all("img")][1] == f"{EVIL} of ../{EVIL}"
    assert len(evil.all("script")) == 1


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\x00b", "\ud800", "x" * 5000, "..\\x", ""])
def test_files_stay_in_the_folder(tmp_path, name):
    page = build(tmp_path / "out", name)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["index.html", "pictures"]
    for image in page.all("img"):
        assert re.fullmatch(r"pictures/[0-9a-f]{16}-\d\.webp", image["src"])


def test_no_external_resources(tmp_path):
    page = build(tmp_path)
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href")]
    assert len(links) > 5
    assert all(
        re.match(r"(pictures/|labels\.json$|errors\.jsonl$|data:,$)", link) for link in links
    )
    text = (tmp_path / "index.html").read_text()
    assert not re.search(r"https?:|@import|url\(", text)
    assert len(text) < 30_000


def test_rows_survive_json(tmp_path):
    report = ReportBuilder(tmp_path / "a", ("cat", "dog"))
    row = report.make_row("a/b", photo(), labelling())
    report.add_row(json.loads(json.dumps(row)))
    report.finish(SUMMARY)
    build(tmp_path / "b")
    assert (tmp_path / "a/index.html").read_text() == (tmp_path / "b/index.html").read_text()


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (500, 400)])
def test_sizes(tmp_path, size):
    report = ReportBuilder(tmp_path, ("cat", "dog"))
    row = report.make_row("a", photo(*size), labelling(*size))
    assert max(row["pictures"][0]["width"], row["pictures"][0]["height"]) == 320
    assert (row["height"], row["width"]) == size


def test_nothing_found(tmp_path):
    page = build(
        tmp_path, one=Labelling(Instances.empty(60, 80), 1), summary=LabelSummary(1, 0, 0, 0.1)
    )
    assert len(page.all("img")) == 2
    assert any("No objects were found" in text for text in page.texts)
    assert not any("errors.jsonl" in link.get("href", "") for link in page.all("a"))


def test_mask_of_another_size(tmp_path):
    with pytest.raises(ValueError, match=r"masks: expected \[60, 80\], got \[30, 40\]"):
        build(tmp_path, one=Labelling(from_masks(np.ones((1, 30, 40), bool)), 1))


def test_summary_of_other_classes(tmp_path):
    with pytest.raises(ValueError, match="class_counts: expected 1 classes, got 2"):
        ReportBuilder(tmp_path, ("cat",)).finish(SUMMARY)


def test_empty_job(tmp_path):
    path = ReportBuilder(tmp_path, ()).finish(LabelSummary(0, 0, 0, 0.0))
    assert "Labels of 0 images" in path.read_text()


def test_map_of_another_size(tmp_path):
    one = Labelling(Instances.empty(60, 80), 1, {"CRF": torch.zeros(30, 80)})
    with pytest.raises(ValueError, match=r"maps\['CRF'\]: expected \[60, 80\], got \[30, 80\]"):
        build(tmp_path, one=one)


def test_page_that_cannot_be_written(tmp_path, monkeypatch):
    report = ReportBuilder(tmp_path, ("cat", "dog"))
    (tmp_path / "index.html").write_text("old")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labelpenet.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"index.html: No space left"):
        report.finish(SUMMARY)
    assert (tmp_path / "index.html").read_text() == "old"
