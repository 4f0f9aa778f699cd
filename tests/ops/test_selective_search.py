"""Selective search against its plain reference, on odd images and on real photos."""

from __future__ import annotations

import csv
import random
import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_image import noise, planes_of
from PIL import Image
from pycocotools import mask as coco_mask

from labelpenet import _C
from labelpenet.ops import selective_search, selective_search_regions
from labelpenet.reference import selective_search as reference


def decoded(rle):
    height, width = rle["size"]
    with warnings.catch_warnings():  # pycocotools wheels older than NumPy 2's __array__(copy=)
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return coco_mask.decode(coco_mask.frPyObjects(rle, height, width)).astype(bool)


# ---- the whole search ----------------------------------------------------------------------------


@given(
    st.integers(1, 18), st.integers(1, 18), st.integers(0, 1000), st.integers(1, 6), st.booleans()
)
@settings(max_examples=8)
def test_search_is_the_reference(height, width, seed, min_side, regions):
    image = noise(height, width, seed)
    ks, terms, min_size = [20.0, 100.0], [15, 14], 5
    spaces = [1, 4]
    boxes, counts, offsets = _C.selective_search(
        torch.from_numpy(image), spaces, ks, terms, min_size, min_side, seed, regions, 2
    )
    got = np.frombuffer(boxes, np.float32).reshape(-1, 4)
    expected = reference.selective_search(
        [planes_of(image, s) for s in spaces], ks, terms, min_size, min_side, seed
    )
    np.testing.assert_array_equal(got, expected)
    assert len(offsets) == (8 * (len(got) + 1) if regions else 0)
    assert bool(counts) == (regions and len(got) > 0)


@pytest.mark.parametrize("preset", ["fast", "quality"])
def test_same_on_every_thread_count_and_instruction_set(preset):
    image = noise(90, 120)
    threads = torch.get_num_threads()
    results = []
    try:
        for count, isa in [(1, "baseline"), (2, ""), (5, "")]:
            torch.set_num_threads(count)
            _C.force_isa(isa)
            boxes, regions = selective_search_regions(image, preset, seed=3)
            results.append((boxes, regions.counts, regions.offsets))
    finally:
        torch.set_num_threads(threads)
        _C.force_isa("")
    assert len(results[0][0]) > 20
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_same_on_this_instruction_set(isa):
    image = noise(60, 70)
    boxes = selective_search(image, min_side=1)
    _C.force_isa("baseline")
    assert torch.equal(boxes, selective_search(image, min_side=1))


def test_a_large_image_takes_its_color_spaces_in_turn():
    image = np.zeros((2050, 2050, 3), np.uint8)
    image[100:300, 500:900] = (255, 0, 0)
    image[1000:2000, 40:90] = (30, 200, 90)

    def boxes(spaces):
        args = torch.from_numpy(image), spaces, [100.0], [15], 100, 20, 0, False, 2
        data = np.frombuffer(_C.selective_search(*args)[0], np.float32)
        return {tuple(box) for box in data.reshape(-1, 4).tolist()}

    together = boxes([3, 4])
    assert {(500, 100, 900, 300), (40, 1000, 90, 2000), (0, 0, 2050, 2050)} <= together
    assert together == boxes([3]) | boxes([4])


def test_seed_changes_the_order_alone():
    image = noise(90, 120)
    first, again, other = (selective_search(image, seed=s).tolist() for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert sorted(first) == sorted(other)


def test_boxes_are_unique_inside_and_large_enough():
    image = noise(70, 100)
    boxes = selective_search(image, min_side=13)
    assert boxes.dtype == torch.float32
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes) > 0
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 13
    assert boxes[:, :2].min() >= 0
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 70
    assert [0.0, 0.0, 100.0, 70.0] in boxes.tolist()


# ---- regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(60, 75), (1, 40), (40, 1), (1, 1), (33, 2)])
def test_regions_are_masks_with_these_boxes(height, width):
    image = noise(height, width)
    boxes, regions = selective_search_regions(image, min_side=1)
    assert torch.equal(boxes, selective_search(image, min_side=1))
    assert len(regions) == len(boxes) > 0
    assert regions.counts.dtype == torch.int32
    assert regions.offsets.dtype == torch.int64
    for i, box in enumerate(boxes.tolist()):
        mask = decoded(regions[i])
        np.testing.assert_array_equal(mask, regions.mask(i).numpy())
        ys, xs = np.nonzero(mask)
        assert [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] == box
        runs = regions[i]["counts"]
        assert sum(runs) == height * width
        assert min(runs[1:]) > 0  # only the first run may be empty
    assert regions[-1] == regions[len(regions) - 1]
    with pytest.raises(IndexError, match="index: expected one of"):
        regions[len(regions)]


def test_a_region_is_the_shape_not_its_box():
    image = np.full((60, 80, 3), 255, np.uint8)
    image[10:50, 10:30] = image[30:50, 10:70] = (200, 30, 30)
    boxes, regions = selective_search_regions(image)
    index = boxes.tolist().index([10.0, 10.0, 70.0, 50.0])
    shape = image[:, :, 1] == 30
    assert (regions.mask(index).numpy() != shape).sum() <= 6  # the blur rounds its six corners


# ---- odd images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["fast", "quality"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30), (30, 1), (2, 3), (300, 200)])
def test_constant_image_is_one_region(height, width, preset):
    for value in (0, 255):
        image = np.full((height, width, 3), value, np.uint8)
        assert selective_search(image, preset, min_side=1).tolist() == [[0, 0, width, height]]
    assert len(selective_search(image)) == (height >= 20 and width >= 20)


@pytest.mark.parametrize(("height", "width"), [(1, 10_000), (10_000, 1), (3, 10_000), (10_000, 30)])
def test_long_images(height, width):
    boxes, regions = selective_search_regions(noise(height, width), min_side=1)
    assert [0.0, 0.0, width, height] in boxes.tolist()
    assert int(regions.counts.sum()) == len(boxes) * height * width


def test_no_proposals_below_the_smallest_side():
    boxes, regions = selective_search_regions(noise(19, 50))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == torch.float32
    assert len(regions) == 0
    assert regions.counts.shape == (0,)


def test_accepts_arrays_tensors_views_and_read_only_memory():
    image = noise(50, 60)
    expected = selective_search(image)
    read_only = image.copy()
    read_only.flags.writeable = False
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    planar = torch.from_numpy(image).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    for same in (torch.from_numpy(image), read_only, bgr[:, :, ::-1], planar):
        assert torch.equal(selective_search(same), expected)


IMAGE = torch.zeros(8, 9, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": IMAGE.float()}, TypeError, r"image: expected \[H, W, 3\] uint8.*float32"),
        ({"image": IMAGE[:, :, :1]}, ValueError, r"image: expected \[H, W, 3\].*\[8, 9, 1\]"),
        ({"image": IMAGE[0]}, ValueError, "image: expected"),
        ({"image": IMAGE[:0]}, ValueError, "image: expected 1 to"),
        (
            {"image": IMAGE[:1].expand(1 << 20, 9, 3)[:, :1].expand(-1, 1 << 9, 3)},
            ValueError,
            "1 to",
        ),
        ({"image": "photo.jpg"}, TypeError, "image: expected.*got str"),
        ({"image": None}, TypeError, "image: expected.*got NoneType"),
        ({"preset": "best"}, ValueError, "preset: expected fast or quality, got 'best'"),
        ({"preset": None}, ValueError, "preset: expected fast or quality, got None"),
        ({"min_side": 0}, ValueError, "min_side: expected an int in"),
        ({"min_side": 2.0}, TypeError, "min_side: expected an int, got float"),
        ({"seed": -1}, ValueError, "seed: expected an int in"),
        ({"seed": 1 << 63}, ValueError, "seed: expected an int in"),
        ({"seed": True}, TypeError, "seed: expected an int, got bool"),
    ],
)
@pytest.mark.parametrize("function", [selective_search, selective_search_regions])
def test_bad_input(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(**({"image": IMAGE} | arguments))


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("regions", [False, True])
def test_opcheck(regions):
    image = torch.from_numpy(noise(40, 50))
    args = (image, [0, 4], [100.0], [15], 20, 5, 0, regions)
    torch.library.opcheck(torch.ops.labelpenet.selective_search.default, args)


def test_compiles():
    image = torch.from_numpy(noise(40, 50))
    function = torch.compile(
        lambda x: selective_search(x, min_side=5) * 2, backend="eager", fullgraph=True
    )
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        assert torch.equal(function(image), selective_search(image, min_side=5) * 2)


# ---- real photos ---------------------------------------------------------------------------------


def best_overlaps(truth, boxes):
    low = np.maximum(truth[:, None, :2], boxes[None, :, :2])
    high = np.minimum(truth[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (truth, boxes)]
    return (shared / (areas[0][:, None] + areas[1][None] - shared)).max(1)


def opencv_boxes(cv2, image):
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[:, :, ::-1]))
    search.switchToSelectiveSearchFast()
    boxes = search.process()
    boxes = boxes[(boxes[:, 2:] >= 20).all(1)].astype(np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def test_recall_on_photos_is_that_of_opencv(shared):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2, "ximgproc"):
        pytest.skip("no cv2.ximgproc: opencv-contrib is not installed")
    folder = shared / "data" / "voc12-mini"
    with (folder / "dev.csv").open() as file:
        paths = [folder / row["image"] for row in csv.DictReader(file)]
    ours, theirs = [], []
    for path in random.Random(0).sample(paths, 10):
        image = np.array(Image.open(path).convert("RGB"))
        annotation = path.parents[1] / "Annotations" / f"{path.stem}.xml"
        truth = np.array(
            [
                [float(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")]
                for box in ElementTree.parse(annotation).iter("bndbox")
            ]
        ) - [1, 1, 0, 0]
        peer, boxes = opencv_boxes(cv2, image), selective_search(image).numpy()
        count = min(len(peer), len(boxes))
        ours.append(best_overlaps(truth, boxes[:count]))
        theirs.append(best_overlaps(truth, peer[:count]))
    assert np.concatenate(ours).mean() > 0.995 * np.concatenate(theirs).mean()
