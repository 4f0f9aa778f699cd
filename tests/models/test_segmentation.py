"""The mask part: crops by hand, and that it learns a shape."""

import pytest
import torch
from tiny_cascade import random_cascade

from labelpenet.models.detection import Samples, Targets
from labelpenet.models.segmentation import MASK_SIZE, Aspp, crop_masks

HALF = MASK_SIZE // 2


def left_half() -> torch.Tensor:
    masks = torch.zeros((2, 40, 60), dtype=torch.bool)
    masks[0, :, :30] = True
    masks[1] = True
    return masks


def test_crop_the_whole_image():
    (crop,) = crop_masks(left_half(), torch.tensor([[0.0, 0.0, 60.0, 40.0]]), torch.tensor([0]))
    assert crop.shape == (MASK_SIZE, MASK_SIZE)
    assert (crop[:, :HALF] == 1).all()
    assert (crop[:, HALF:] == 0).all()


def test_crop_by_hand():
    boxes = torch.tensor(
        [
            [10.0, 10.0, 30.0, 30.0],  # inside
            [30.0, 10.0, 50.0, 30.0],  # right beside it
            [29.0, 0.0, 31.0, 28.0],  # one pixel in, one out
            [3.5, 3.5, 3.5, 3.5],  # a point
        ]
    )
    crops = crop_masks(left_half(), boxes, torch.zeros(4, dtype=torch.int64))
    assert (crops[0] == 1).all()
    assert (crops[1] == 0).all()
    assert (crops[2][:, :HALF] == 1).all()
    assert (crops[2][:, HALF:] == 0).all()
    assert (crops[3] == 1).all()


def test_crop_takes_the_named_mask():
    box = torch.tensor([[40.0, 0.0, 60.0, 20.0]]).repeat(3, 1)
    crops = crop_masks(left_half(), box, torch.tensor([0, 1, 0]))
    assert [float(crop.mean()) for crop in crops] == [0, 1, 0]


def test_crop_gives_shares():
    """A box of 28 pixels: each cell has four samples of one pixel or of its neighbours."""
    masks = torch.zeros((1, 56, 56), dtype=torch.bool)
    masks[0, ::2] = True  # every other row
    (crop,) = crop_masks(masks, torch.tensor([[0.0, 0.0, 56.0, 56.0]]), torch.tensor([0]))
    assert (crop == 0.5).all()


def test_crop_outside_repeats_the_border():
    (crop,) = crop_masks(left_half(), torch.tensor([[-60.0, 0.0, 0.0, 40.0]]), torch.tensor([0]))
    assert (crop == 1).all()


def test_aspp_keeps_size_and_sign():
    out = Aspp(5, 3)(torch.randn(1, 5, 4, 9))
    assert out.shape == (1, 3, 4, 9)
    assert (out >= 0).all()


def disk() -> Targets:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    mask = (y - 32) ** 2 + (x - 32) ** 2 < 18**2
    box = torch.tensor([[14.0, 14.0, 51.0, 51.0]])
    return Targets(box, torch.tensor([1]), torch.tensor([1.0]), mask[None])


def picture(targets: Targets) -> torch.Tensor:
    return targets.masks[0].float().expand(3, -1, -1) * 200 + 20


def test_mask_loss_falls_on_one_example():
    cascade = random_cascade("model.dropout=0", "model.mask_channels=16")
    module = cascade.segmentation
    targets = disk()
    with torch.no_grad():
        trunk = cascade.trunk(picture(targets))
    samples = Samples(targets.boxes, targets.labels, targets.weights, torch.tensor([0]))
    optimizer = torch.optim.AdamW(module.parameters(), lr=8e-3)
    course = []
    for _ in range(30):
        loss = module._mask_loss(trunk, targets, samples)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    assert course[0] == pytest.approx(0.693, abs=0.02)  # log 2: it starts from knowing nothing
    assert course[-1] < 0.35
    with torch.no_grad():
        features = module.mask_features(trunk)
        logits = module.mask_logits(features, targets.boxes, targets.labels)
    truth = crop_masks(targets.masks, targets.boxes, torch.tensor([0])) > 0.5
    found = logits > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_mask_loss_is_weighted_by_w():
    cascade = random_cascade()
    targets = disk()
    trunk = cascade.trunk(picture(targets))
    losses = []
    for weight in (1.0, 0.25):
        samples = Samples(targets.boxes, targets.labels, torch.tensor([weight]), torch.tensor([0]))
        losses.append(cascade.segmentation._mask_loss(trunk, targets, samples).item())
    assert losses[1] == pytest.approx(losses[0] / 4, rel=1e-5)


def test_logits_are_of_the_roi_class():
    cascade = random_cascade()
    module = cascade.refinement
    features = module.mask_features(cascade.trunk(torch.rand(3, 64, 64) * 255))
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0]]).repeat(3, 1)
    each = module.mask_logits(features, boxes, torch.arange(3))
    swapped = module.mask_logits(features, boxes, torch.tensor([2, 1, 0]))
    assert each.shape == (3, MASK_SIZE, MASK_SIZE)
    assert torch.equal(each.flip(0), swapped)
    assert not torch.equal(each[0], each[2])
    assert module.mask_logits(features, boxes[:0], torch.arange(0)).shape == (0, 28, 28)


def test_no_masks_no_loss():
    cascade = random_cascade()
    targets = disk()
    trunk = cascade.trunk(picture(targets))
    generator = torch.Generator().manual_seed(0)
    goal = targets._replace(masks=None)
    losses = cascade.refinement.loss([trunk], [goal], [(64, 64)], [generator])
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()
