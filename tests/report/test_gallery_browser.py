"""The gallery in a real browser, opened from the disk as a user does."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from labeling.scenes import from_masks
from PIL import Image
from report.page_parser import EVIL

from labelpenet.labeling.coco import write_labels
from labelpenet.report.gallery import write_report
from labelpenet.report.pictures import save_pictures
from labelpenet.types import Instances, Labelling, Quality

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CLASSES = ("cat", "dog", EVIL)
COUNT = 200
TWO = 20  # has two objects, and pictures of the way
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """COUNT photos: image i has class i % 3, score i / COUNT, quality 1 - i / COUNT."""
    out = tmp_path_factory.mktemp("gallery")
    found = {}
    for i in range(COUNT):
        masks = np.zeros((2, 48, 64), bool)
        masks[0, 8:24, 8 : 16 + i // 8] = True
        masks[1, 30:40, 40:60] = True
        one = from_masks(masks, [i % 3, 0], [i / COUNT, 0.01])
        quality = Quality.of(2, crf_change=torch.tensor([1 - i / COUNT, 1.0]))
        count = 2 if i == TWO else 1
        found[f"photo/{i}"] = Instances(
            one.boxes, one.labels, one.scores, one.masks, quality
        ).select(range(count))
    found[EVIL] = Instances.empty(48, 64)
    write_labels(out / "labels.json", CLASSES, found, {name: (48, 64) for name in found})
    (out / "photos" / "photo").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(out / "photos" / "photo" / f"{i}.jpg")
        if i == TWO:
            maps = {"attention": torch.rand(48, 64), EVIL: torch.ones(48, 64)}
            save_pictures(out, f"photo/{i}", pixels, Labelling(found[f"photo/{i}"], 4, maps))
    write_report(out / "labels.json", images=out / "photos")
    return out


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        pytest.skip("no Chromium or no chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1400,1000", f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(chromedriver, log_output=os.devnull)
    driver = webdriver.Chrome(options, service)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, folder):
    driver.get(Path(folder / "index.html").as_uri())
    yield driver
    assert driver.get_log("browser") == []


def run(page, script):
    return page.execute_script(f"return {script}")


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def fill(page, name, value):
    """Sets a field of the filters as a user's hand would."""
    page.execute_script(
        "const field = document.querySelector(`[name=${arguments[0]}]`);"
        "field.value = arguments[1]; field.dispatchEvent(new Event('input', {bubbles: true}));",
        name,
        value,
    )


def found(page):
    return int(run(page, "document.getElementById('found').textContent"))


def names(page, count=5):
    every = "[...document.querySelectorAll('.photo bdi')].map(b => b.textContent)"
    return run(page, f"{every}.slice(0, {count})")


def test_first_sight(page):
    assert found(page) == COUNT + 1
    assert run(page, "document.querySelectorAll('.photo').length") < COUNT
    assert run(page, "document.querySelectorAll('.photo svg path').length") > 10
    loaded = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
    assert run(page, loaded) >= 12  # the policy lets thumbnails in, the layout shows some at once
    assert run(page, "document.documentElement.scrollWidth <= innerWidth")


def test_scrolling_makes_the_rest(page):
    script = """
    const done = arguments[0];
    (function down() {
      scrollTo(0, document.body.scrollHeight);
      const count = document.querySelectorAll('.photo').length;
      count > 200 ? done(count) : setTimeout(down, 20);
    })();
    """
    assert page.execute_async_script(script) == COUNT + 1


def test_class_filter(page):
    page.find_element("css selector", ".class[data-class='1']").click()
    assert found(page) == len(range(1, COUNT, 3))
    page.find_element("css selector", ".class[data-class='2']").click()
    assert found(page) == len(range(1, COUNT, 3)) + len(range(2, COUNT, 3))
    page.find_element("css selector", "button[type=reset]").click()
    run(page, "new Promise(done => setTimeout(done, 50))")
    assert found(page) == COUNT + 1
    assert run(page, "document.querySelectorAll('.class[aria-pressed=true]').length") == 0


def test_score_quality_and_name_filters(page):
    fill(page, "low", "0.9")
    assert found(page) == COUNT // 10
    fill(page, "high", "0.95")
    assert found(page) == COUNT // 20 + 1
    fill(page, "low", "0")
    fill(page, "high", "1")
    fill(page, "quality", "0.25")
    assert found(page) == COUNT // 4
    fill(page, "quality", "1")
    fill(page, "name", "SCRIPT")
    assert names(page) == [EVIL]


def test_orders(page):
    fill(page, "order", "worst")
    assert names(page, 2) == [f"photo/{COUNT - 1}", f"photo/{COUNT - 2}"]
    fill(page, "order", "best")
    assert names(page, 2) == ["photo/0", "photo/1"]
    fill(page, "order", "many")
    assert names(page, 1) == [f"photo/{TWO}"]
    fill(page, "order", "unsure")
    assert names(page, 1) == ["photo/0"]
    fill(page, "order", "sure")
    assert names(page, 1) == [f"photo/{COUNT - 1}"]


def test_details_and_switching_objects(page):
    page.find_elements("css selector", ".photo")[TWO].click()
    assert run(page, "document.getElementById('name').textContent") == f"photo/{TWO}"
    assert run(page, "document.getElementById('facts').textContent").startswith("64 × 48, module 4")
    captions = "[...document.querySelectorAll('figcaption')].map(c => c.textContent)"
    assert run(page, captions) == ["attention", EVIL, "final"]
    visible = "document.querySelectorAll('#large path:not(.off)').length"
    assert run(page, visible) == 2
    page.find_elements("css selector", "#objects input")[1].click()
    assert run(page, visible) == 1
    press(page, "1")
    assert run(page, visible) == 0
    press(page, "0")
    assert run(page, visible) == 2
    shown = "getComputedStyle(document.querySelector('#large svg')).visibility"
    assert run(page, shown) == "visible"
    press(page, "m")
    assert run(page, shown) == "hidden"


def test_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    focused = "document.activeElement.querySelector('bdi')?.textContent"
    title = "document.getElementById('name').textContent"
    press(page, Keys.HOME)
    assert run(page, focused) == "photo/0"
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert run(page, focused) == "photo/2"
    press(page, Keys.ARROW_DOWN)
    columns = int(run(page, focused).split("/")[1]) - 2
    assert 3 <= columns <= 9
    press(page, Keys.ARROW_UP, Keys.ENTER)
    assert run(page, title) == "photo/2"
    press(page, Keys.ARROW_RIGHT)
    assert run(page, title) == "photo/3"
    press(page, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert run(page, title) == "photo/1"
    press(page, Keys.ESCAPE)
    assert run(page, "document.getElementById('detail').open") is False
    assert run(page, focused) == "photo/1"
    press(page, "/", "1", "9", "9")
    assert names(page) == ["photo/199"]


def test_names_and_classes_are_text(page):
    assert run(page, "document.querySelectorAll('img[src=x], main script').length") == 0
    fill(page, "name", "onerror")
    page.find_element("css selector", ".photo").click()
    assert run(page, "document.getElementById('name').textContent") == EVIL


def test_a_filter_dims_what_it_leaves_out(page):
    fill(page, "low", "0.05")
    fill(page, "name", f"photo/{TWO}")
    page.find_element("css selector", ".photo").click()
    assert run(page, "[...document.querySelectorAll('#objects input')].map(b => b.checked)") == [
        True,
        False,
    ]


def test_five_thousand_images(driver, tmp_path):
    mask = np.zeros((1, 6, 8), bool)
    mask[0, 2:4, 2:6] = True
    found_each = {f"{i}": from_masks(mask, [i % 3], [i % 100 / 100]) for i in range(5000)}
    write_labels(tmp_path / "l.json", CLASSES, found_each, dict.fromkeys(found_each, (6, 8)))
    driver.get(write_report(tmp_path / "l.json").as_uri())
    assert run(driver, "document.getElementById('found').textContent") == "5,000"
    assert run(driver, "document.querySelectorAll('*').length") < 3000
    fill(driver, "low", "0.5")
    assert run(driver, "document.getElementById('found').textContent") == "2,500"
    assert driver.get_log("browser") == []
