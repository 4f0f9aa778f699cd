"""Examples: image, boxes and masks are scaled and flipped alike."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_cascade import tiny_config

from labelpenet.training.examples import Example, endless, load_example
from labelpenet.types import Dataset, ImageRecord, Instances

HEIGHT, WIDTH = 40, 60
BOX = torch.tensor([[10.0, 5.0, 30.0, 25.0]])


@pytest.fixture
def record(tmp_path) -> ImageRecord:
    """A bright box on black."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[5:25, 10:30] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    return ImageRecord("a", tmp_path / "a.png", (0,))


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
    example = Example(torch.zeros((3, 20, 30), dtype=torch.uint8), 0.5, True)
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
    example = Example(torch.zeros((3, HEIGHT, WIDTH), dtype=torch.uint8), 1.0, False)
    instances = Instances(BOX, torch.tensor([1]), torch.tensor([0.25]), mask())
    targets = example.targets(instances, weighted)
    assert targets.boxes.tolist() == BOX.tolist()
    assert targets.labels.tolist() == [1]
    assert targets.weights.tolist() == [0.25 if weighted else 1.0]
    assert torch.equal(targets.masks, mask())


def test_endless_shows_every_image_once_a_round(tmp_path):
    records = tuple(ImageRecord(f"{i}", tmp_path / f"{i}.png") for i in range(5))
    dataset = Dataset(("a",), records)
    names = endless(dataset, torch.Generator().manual_seed(0))
    rounds = [[next(names).name for _ in range(5)] for _ in range(4)]
    assert all(sorted(one) == list("01234") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
