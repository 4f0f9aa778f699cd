import base64
import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from labeling.scenes import STEADY, from_masks
from PIL import Image
from report.page_parser import EVIL, Page

from labelpenet.files import OutputError
from labelpenet.labeling import LabelledImage, LabelledObject
from labelpenet.labeling.coco import write_labels
from labelpenet.report import gallery_data
from labelpenet.report.gallery import write_report
from labelpenet.report.gallery_data import image_quality, overall, pick
from labelpenet.report.outlines import mask_path
from labelpenet.report.pictures import find_pictures, save_pictures, save_thumbnail, thumbnail_size
from labelpenet.types import Instances, Labelling, Quality

CLASSES = ("cat", "dog")


def photo(height=60, width=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def found(height=60, width=80, quality=0.5):
    masks = np.zeros((2, height, width), bool)
    masks[0, : height // 2] = masks[1, height // 2 :] = True
    one = from_masks(masks, [1, 0], [0.91, 0.25])
    figures = Quality.of(2, crf_change=torch.tensor([quality, 1.0]))
    return Instances(one.boxes, one.labels, one.scores, one.masks, figures)


def label_file(folder: Path, every=None, classes=CLASSES) -> Path:
    every = {"a/b": found()} if every is None else every
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: tuple(one.masks.shape[1:]) for name, one in every.items()}
    write_labels(folder / "labels.json", classes, every, sizes)
    return folder / "labels.json"


def read(page: Path) -> tuple[Page, dict]:
    text = page.read_text("utf-8")
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1]
    return Page(text), json.loads(data)


def test_data_of_an_image(tmp_path):
    path = label_file(tmp_path)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    Image.fromarray(photo()).save(tmp_path / "photos" / "a" / "b.jpg")
    page, data = read(write_report(path, images=tmp_path / "photos"))
    assert data["classes"] == list(CLASSES)
    (image,) = data["images"]
    assert (image["n"], image["z"], image["v"], image["m"]) == ("a/b", [60, 80], [120, 160], 4)
    assert image["q"] == 0.5
    assert [row[:3] for row in image["o"]] == [[1, 0.91, 0.5], [0, 0.25, 1.0]]
    assert image["o"][0][3] == [None, 0.5, None, None]
    assert image["o"][0][4] == "M0 0l+0+60+160+0+0-60z"
    with Image.open(tmp_path / image["t"]) as thumbnail:
        assert thumbnail.size == (80, 60)
    assert image["p"] is None
    assert [b["data-class"] for b in page.all("button") if "data-class" in b] == ["0", "1"]
    assert "2" in [text.strip() for text in page.texts]  # objects


def test_boxes_alone(tmp_path):
    boxes = Instances(torch.tensor([[100.0, 50, 640, 450]]), torch.tensor([1]), torch.tensor([0.5]))
    write_labels(tmp_path / "l.json", CLASSES, {"a": boxes}, {"a": (480, 640)})
    _, data = read(write_report(tmp_path / "l.json"))
    (image,) = data["images"]
    assert (image["v"], image["q"]) == ([480, 640], None)
    assert image["o"] == [[1, 0.5, None, [None] * 4, "M100 50l+0+400+540+0+0-400z"]]


def test_stages(tmp_path):
    path = label_file(tmp_path)
    maps = {"attention": torch.zeros(60, 80), EVIL: torch.ones(60, 80)}
    save_pictures(tmp_path, "a/b", photo(), Labelling(found(), 4, maps))
    _, data = read(write_report(path))
    (image,) = data["images"]
    assert [title for title, _ in image["s"]] == ["attention", EVIL]
    for file in (image["t"], image["p"], *(file for _, file in image["s"])):
        assert re.fullmatch(r"pictures/[0-9a-f]{2}/[0-9a-f]{18}(-\w+)?\.webp", file)
        assert (tmp_path / file).is_file()
    values = [np.array(Image.open(tmp_path / file)).mean() for _, file in image["s"]]
    assert values[0] < values[1]


def test_a_second_call_makes_the_same_page_without_the_photos(tmp_path):
    path = label_file(tmp_path)
    (tmp_path / "a").mkdir()
    Image.fromarray(photo()).save(tmp_path / "a" / "b.jpg")
    before = write_report(path, images=tmp_path).read_bytes()
    (tmp_path / "a" / "b.jpg").unlink()
    assert write_report(path).read_bytes() == before


def test_photos_that_cannot_be_shown(tmp_path):
    path = label_file(tmp_path, {"missing": found(), "other": found(), "broken": found()})
    Image.fromarray(photo(80, 60)).save(tmp_path / "other.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    _, data = read(write_report(path, images=tmp_path))
    assert all("t" not in image and len(image["o"]) == 2 for image in data["images"])


def test_untrusted_names_stay_text(tmp_path):
    pages = []
    for name in ("cat", EVIL):
        path = label_file(tmp_path / hashlib.md5(name.encode()).hexdigest(),
                          {f"../{name}": found()}, (name, "dog"))  # fmt: skip
        pages.append(
            read(write_report(path, figures={name: 1, "table": {name: name}, f"{name}2": {}}))
        )
    (plain, _), (evil, data) = pages
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert [set(a) for _, a in evil.tags] == [set(a) for _, a in plain.tags]
    assert sum(EVIL in text for text in evil.texts) >= 4
    assert data["images"][0]["n"] == f"../{EVIL}"
    assert data["classes"][0] == EVIL


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\x00b", "\ud800", "x" * 5000, "..\\x"])
def test_files_stay_in_the_folder(tmp_path, name):
    path = label_file(tmp_path / "out", {name: found()})
    save_pictures(path.parent, name, photo(), Labelling(found(), 1, {"x": torch.zeros(60, 80)}))
    _, data = read(write_report(path, images=tmp_path / "none"))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["index.html", "labels.json", "pictures"]
    assert data["images"][0]["n"] == name


def test_no_external_resources_and_only_our_script_runs(tmp_path):
    page_path = write_report(label_file(tmp_path))
    page, _ = read(page_path)
    text = page_path.read_text("utf-8")
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href")]
    assert links == ["data:,"]
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)|@import|url\(", text)
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def objects(*qualities):
    box = (0.0, 0.0, 1.0, 1.0)
    return tuple(
        LabelledObject(0, 0.5, box, None, {} if q is None else {"crf_change": q}) for q in qualities
    )


class Listed(list):
    classes = ("cat",)


def listed(count, quality=lambda i: i / 1000):
    return Listed(
        LabelledImage(f"{i}", f"{i}.jpg", 2, 2, objects=objects(quality(i))) for i in range(count)
    )


def test_pick_takes_all_where_they_are_few(tmp_path):
    figures, chosen = pick(listed(30), tmp_path, 30)
    assert [image.name for image in chosen] == [str(i) for i in range(30)]
    assert (figures.images, figures.objects, figures.scores[10]) == (30, 30, 30)


def test_pick_keeps_pictured_worst_and_best(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_data, "EXTREMES", 3)
    save_pictures(tmp_path, "777", photo(), Labelling(Instances.empty(60, 80), 1))
    save_thumbnail(tmp_path, "778", photo())
    images = listed(1000, lambda i: None if i < 10 else i / 1000)
    figures, chosen = pick(images, tmp_path, 20)
    names = [int(image.name) for image in chosen]
    assert names == sorted(set(names))
    assert len(names) <= 20
    assert {777, 10, 11, 12, 997, 998} <= set(names)
    assert figures.images == 1000
    assert sum(figures.qualities) == 990
    middle = [n for n in names if 12 < n < 997 and n != 777]
    assert len(middle) >= 10
    assert max(np.diff(middle)) < 200


def test_pick_of_a_few_cuts_the_least_important(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery_data, "EXTREMES", 3)
    for name in ("777", "555"):
        save_pictures(tmp_path, name, photo(), Labelling(Instances.empty(60, 80), 1))
    ranks = [{555}, {777}, {0}, {999}, {1}, {998}, {2}, {997}]
    for most in range(len(ranks) + 1):
        _, chosen = pick(listed(1000), tmp_path, most)
        names = [int(image.name) for image in chosen]
        assert names == sorted(set().union(*ranks[:most]))
    _, chosen = pick(listed(1000), tmp_path, 10)
    assert len(chosen) == 10


@pytest.mark.parametrize("most", [1, 7, 100, 250, 999])
def test_pick_without_qualities_is_even(tmp_path, most):
    _, chosen = pick(listed(1000, lambda i: None), tmp_path, most)
    names = [int(image.name) for image in chosen]
    assert len(names) == most
    assert max(np.diff([-1, *names, 1000])) <= 2 * 1000 / most


@STEADY
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=3), st.floats(-1, 1))
def test_overall_is_that_of_quality(known, margin):
    names = ("peak_support", "crf_change", "agreement")
    figures = dict(zip(names, known, strict=False)) | {"score_margin": margin}
    one = LabelledObject(0, 0.5, (0, 0, 1, 1), None, figures)
    tensors = {k: torch.tensor([v]) for k, v in figures.items() if v is not None}
    assert overall(one) == pytest.approx(Quality.of(1, **tensors).overall().item(), abs=1e-6)


def test_quality_of_an_image_is_the_least():
    image = LabelledImage("a", "a.jpg", 2, 2, objects=objects(0.7, None, 0.2))
    assert image_quality(image) == 0.2
    assert image_quality(LabelledImage("a", "a.jpg", 2, 2, objects=objects(None))) is None


def corners(path: str) -> list[np.ndarray]:
    """The rings of a path [N, 2], in pixels of the drawing."""
    numbers = [[int(v) for v in re.findall(r"[-+]?\d+", ring)] for ring in path.split("z") if ring]
    return [np.cumsum(np.reshape(ring, (-1, 2)), 0) / 2 for ring in numbers]


def painted(path: str, size: tuple[int, int], scale: int = 8) -> np.ndarray:
    """What a browser fills, at `scale` samples a pixel."""
    canvas = np.zeros((size[0] * scale, size[1] * scale), np.uint8)
    for ring in corners(path):
        one = np.zeros_like(canvas)
        cv2.fillPoly(one, [np.round(ring * scale).astype(np.int32)], 1)
        canvas ^= one
    return canvas.astype(bool)


@STEADY
@given(hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_outline_of_any_mask(mask):
    path = mask_path(mask, thumbnail_size(*mask.shape))
    assert bool(path) == bool(mask.any())
    for ring in corners(path):
        assert len(ring) >= 3
        assert ring.min() >= 0
        assert (ring <= mask.shape[::-1]).all()


def test_outline_of_a_large_mask_with_parts_and_a_hole():
    y, x = np.mgrid[:900, :1200]
    mask = (np.hypot(y - 400, x - 500) < 300) & (np.hypot(y - 400, x - 500) > 120)
    mask[850:880, 1000:1190] = True
    size = thumbnail_size(900, 1200)
    path = mask_path(mask, size)
    got = cv2.resize(painted(path, size).astype(np.float32), (1200, 900)) > 0.5
    assert (got & mask).sum() / (got | mask).sum() > 0.98
    assert len(path) < 1000
    dot = np.zeros((900, 1200), bool)
    dot[450, 600] = True
    assert mask_path(dot, size) != ""


def test_pictures_count_when_they_are_whole(tmp_path, monkeypatch):
    one = Labelling(
        Instances.empty(60, 80), 1, {"a": torch.zeros(60, 80), "b": torch.zeros(60, 80)}
    )
    save_pictures(tmp_path, "x", photo(), one)
    assert len(find_pictures(tmp_path, "x").stages) == 2
    assert find_pictures(tmp_path, "y") is None

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labelpenet.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_pictures(tmp_path, "x", photo(), one)
    assert find_pictures(tmp_path, "x").stages == ()
    with pytest.raises(OutputError, match="No space left"):
        save_pictures(tmp_path, "y", photo(), one)
    assert find_pictures(tmp_path, "y") is None


def test_pictures_of_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"maps\['CRF'\]: expected \[60, 80\], got \[30, 80\]"):
        save_pictures(
            tmp_path, "a", photo(), Labelling(Instances.empty(), 1, {"CRF": torch.zeros(30, 80)})
        )
    with pytest.raises(TypeError, match="image: expected"):
        save_thumbnail(tmp_path, "a", photo().astype(np.float32))
    with pytest.raises(ValueError, match=r"got \[60, 80\]"):
        save_thumbnail(tmp_path, "a", photo()[:, :, 0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2), (500, 400)])
def test_thumbnails_of_any_size(tmp_path, size):
    save_thumbnail(tmp_path, "a", photo(*size))
    with Image.open(tmp_path / find_pictures(tmp_path, "a").thumbnail) as picture:
        assert picture.size[::-1] == thumbnail_size(*size)


def test_empty_job_and_bad_arguments(tmp_path):
    path = label_file(tmp_path, {}, ())
    page, data = read(write_report(path))
    assert data["images"] == []
    assert any("No objects were found" in text for text in page.texts)
    with pytest.raises(ValueError, match="most: expected at least 0, got -1"):
        write_report(path, most=-1)
    with pytest.raises(ValueError, match="nowhere"):
        write_report(tmp_path / "nowhere")
