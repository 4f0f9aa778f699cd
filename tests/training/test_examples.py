"""Examples: image, boxes and masks are scaled and flipped alike."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cascade import tiny_config

from labelpenet.training.examples import Example, Order, load_example, seed_for
from labelpenet.types import ImageRecord, Instances

HEIGHT, WIDTH = 40, 60
BOX = torch.tensor([[10.0, 5.0, 30.0, 25.0]])


@pytest.fixture
def record(tmp_path) -> ImageRecord:
    """A bright box on black."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[5:25, 10:30] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    return ImageRecord("a", tmp_path / "a.png", (0,))


def example_of(size, scale, flipped) -> Example:
    image = torch.zeros((3, *size), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    return Example(ImageRecord("a", "a.png", (0,)), image, scale, flipped, generator)


def mask() -> torch.Tensor:
    masks = torch.zeros((1, HEIGHT, WIDTH), dtype=torch.bool)
    masks[0, 5:25, 10:30] = True
    return masks


@pytest.mark.parametrize("side", [20, 40, 80])
def test_boxes_and_masks_stay_on_the_object(record, side):
    config = tiny_config(f"train.scales=[{side}]", "train.longest=1000")
    flips = set()
    for seed in range(8):
        example = load_example(record, config, torch.Generator().manual_seed(seed))
        assert example.size == (side, side * 3 // 2)
        assert example.scale == side / 40
        bright = example.image.float().mean(0) > 127
        ys, xs = bright.nonzero(as_tuple=True)
        tight = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        assert (example.boxes(BOX)[0] - torch.tensor(tight)).abs().max() <= 1
        found = example.masks(mask())[0]
        assert found.shape == bright.shape
        union = (found | bright).sum()
        assert (found & bright).sum() / union > 0.9
        flips.add(example.flipped)
    assert flips == {True, False}


def test_by_hand():
    example = example_of((20, 30), 0.5, True)
    assert example.boxes(BOX).tolist() == [[15.0, 2.5, 25.0, 12.5]]
    assert example.boxes(torch.zeros((0, 4))).shape == (0, 4)
    left = torch.zeros((1, 20, 30), dtype=torch.bool)
    left[0, :, :3] = True
    assert example.masks(left)[0].any(0).nonzero().flatten().tolist() == [27, 28, 29]
    assert example.masks(left[:0]).shape == (0, 20, 30)


def test_no_flip(record):
    config = tiny_config("train.flip=false", "train.scales=[40]")
    for seed in range(8):
        assert not load_example(record, config, torch.Generator().manual_seed(seed)).flipped


def test_the_longer_side_is_capped(record):
    config = tiny_config("train.scales=[200]", "train.longest=90")
    example = load_example(record, config, torch.Generator().manual_seed(0))
    assert example.size == (60, 90)
    assert example.scale == 1.5


@pytest.mark.parametrize("weighted", [True, False])
def test_targets(weighted):
    example = example_of((HEIGHT, WIDTH), 1.0, False)
    instances = Instances(BOX, torch.tensor([1]), torch.tensor([0.25]), mask())
    targets = example.targets(instances, weighted)
    assert targets.boxes.tolist() == BOX.tolist()
    assert targets.labels.tolist() == [1]
    assert targets.weights.tolist() == [0.25 if weighted else 1.0]
    assert torch.equal(targets.masks, mask())


def test_order_shows_every_image_once_a_round(tmp_path):
    records = [ImageRecord(f"{i}", tmp_path / f"{i}.png") for i in range(5)]
    order = Order(records, (0, 1))
    names = [order[i].name for i in range(20)]
    rounds = [names[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(one) == list("01234") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    again = Order(records, (0, 1))  # from any place, without those before it
    assert [again[i].name for i in (13, 2, 19)] == [names[i] for i in (13, 2, 19)]
    assert [Order(records, (0, 2))[i].name for i in range(20)] != names
    assert [r.name for r in order.first(3)] == names[:3]
    assert [r.name for r in order.first(12)] == names[:5]


def test_seeds_differ():
    keys = [(a, b, c) for a in range(3) for b in range(3) for c in range(30)]
    assert len({seed_for(*key) for key in keys}) == len(keys)
    assert seed_for(1, 2) == seed_for(1, 2)
