import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labeling.scenes import STEADY, from_masks, instances

from labelpenet.report.overlay import PALETTE, draw_instances, draw_map, instance_color
from labelpenet.types import Instances

CLASSES = ("cat", "dog", "sheep")


def disc(height=120, width=160):
    y, x = np.mgrid[:height, :width]
    return (y - 70) ** 2 + (x - 80) ** 2 < 30**2


def test_object_is_tinted_and_the_rest_untouched():
    image = np.full((120, 160, 3), 200, np.uint8)
    found = from_masks(disc()[None], scores=[0.9])
    picture = draw_instances(image, found, CLASSES)
    assert (image == 200).all()
    mixed = 0.58 * 200 + 0.42 * np.array(instance_color(0))
    np.testing.assert_allclose(picture[70, 80], mixed, atol=1)
    assert (picture[110:] == 200).all()
    assert (picture[:, :20] == 200).all()


def test_name_is_written_above_and_in_the_colour_of_the_object():
    image = np.zeros((120, 160, 3), np.uint8)
    picture = draw_instances(image, from_masks(disc()[None], scores=[0.9]), CLASSES)
    above = picture[20:38, 50:110].reshape(-1, 3)
    assert (above == instance_color(0)).all(axis=1).mean() > 0.3
    assert (above == (16, 16, 16)).all(axis=1).any()  # the letters
    other = draw_instances(image, from_masks(disc()[None], [1], scores=[0.9]), CLASSES)
    assert (other != picture).any()


def test_best_object_is_on_top():
    image = np.zeros((120, 160, 3), np.uint8)
    two = from_masks(np.stack([disc(), disc()]))
    top, below = draw_instances(image, two, CLASSES)[70, 80], np.array(instance_color(0)) * 0.42
    assert np.abs(top - below).sum() < np.abs(top - np.array(instance_color(1)) * 0.42).sum()


def test_box_without_mask():
    image = np.zeros((120, 160, 3), np.uint8)
    box = Instances(torch.tensor([[20.0, 40.0, 90.0, 100.0]]), torch.tensor([0]), torch.ones(1))
    picture = draw_instances(image, box, CLASSES)
    assert picture[70, 20].any()
    assert picture[70, 90].any()
    assert not picture[70, 55].any()


@STEADY
@given(instances(max_side=40))
def test_any_instances(found):
    height, width = found.masks.shape[1:]
    picture = draw_instances(np.zeros((height, width, 3), np.uint8), found, CLASSES)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8


@settings(STEADY, max_examples=20)
@given(st.text(max_size=300))
def test_any_name(name):
    found = from_masks(np.ones((1, 60, 90), bool))
    draw_instances(np.zeros((60, 90, 3), np.uint8), found, [name])


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "\n\n", "x" * 10**6, "猫", "\u202egnp"])
def test_odd_name(name):
    found = from_masks(np.ones((1, 60, 90), bool))
    draw_instances(np.zeros((60, 90, 3), np.uint8), found, [name])


def test_many_objects_of_one_place():
    found = from_masks(np.ones((40, 80, 90), bool))
    draw_instances(np.zeros((80, 90, 3), np.uint8), found, CLASSES)


def test_not_finite_boxes():
    boxes = torch.tensor([[float("nan"), -1e30, float("inf"), 1e30]])
    box = Instances(boxes, torch.tensor([0]), torch.ones(1))
    draw_instances(np.zeros((50, 60, 3), np.uint8), box, CLASSES)


def test_palette():
    assert len({instance_color(i) for i in range(len(PALETTE))}) == len(PALETTE)
    assert instance_color(len(PALETTE)) == instance_color(0)


def test_map():
    image = np.full((2, 3, 3), 100, np.uint8)
    values = torch.tensor([[0.0, 0.5, 1.0], [-3.0, 0.2, 9.0]])
    picture = draw_map(image, values).astype(int)
    assert picture[0].sum(axis=1).tolist() == sorted(picture[0].sum(axis=1))
    np.testing.assert_array_equal(picture[0, 0], picture[1, 0])  # clipped
    np.testing.assert_array_equal(picture[0, 2], picture[1, 2])
    assert picture[0, 2, 0] > picture[0, 2, 2]  # yellow, not blue: RGB
    np.testing.assert_array_equal(draw_map(image, values.double().numpy()), picture)


def test_errors():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(TypeError, match=r"image: expected \[H, W, 3\] uint8 array, got float64"):
        draw_map(image.astype(float), np.zeros((4, 5)))
    with pytest.raises(TypeError, match=r"image: expected .* got list"):
        draw_map([[0]], np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"image: expected .* got \[4, 5\]"):
        draw_map(image[:, :, 0], np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"image: expected .* got \[0, 5, 3\]"):
        draw_map(image[:0], np.zeros((0, 5)))
    with pytest.raises(ValueError, match=r"map: expected \[4, 5\], got \[5, 4\]"):
        draw_map(image, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="map: expected finite"):
        draw_map(image, np.full((4, 5), np.nan))
    with pytest.raises(ValueError, match=r"masks: expected \[1, 4, 5\], got \[1, 5, 4\]"):
        draw_instances(image, from_masks(np.ones((1, 5, 4), bool)), CLASSES)
    with pytest.raises(ValueError, match=r"labels: expected values in \[0, 3\), got \[3\]"):
        draw_instances(image, from_masks(np.ones((1, 4, 5), bool), [3]), CLASSES)
