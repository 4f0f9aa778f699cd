"""Large photos: looked at as copies, answered in their own frame."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_cascade import random_cascade

from labelpenet.config import ConfigError, load_config
from labelpenet.copies import boxes_in, copy_of, enlarged
from labelpenet.inference import Predictor
from labelpenet.labeler import propose
from labelpenet.types import Instances, Labelling

SMALL = ("longest=64", "test_longest=64", "train.longest=64", "proposals.min_side=4")
sides = st.integers(1, 90)


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(sides, sides, st.integers(1, 100))
def test_copies_are_no_larger_and_never_empty(height, width, longest):
    image = photo(height, width)
    copy = copy_of(image, longest)
    assert max(copy.shape[:2]) <= longest or copy is image
    assert min(copy.shape[:2]) >= 1
    assert (copy is image) == (max(height, width) <= longest)


@given(sides, sides, st.integers(1, 100))
def test_answers_come_back(height, width, longest):
    """A box and a mask over all of the copy are over all of the image; half of it, over half."""
    size = copy_of(photo(height, width), longest).shape[:2]
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[0] = True
    masks[1, :, : size[1] // 2] = True
    boxes = torch.tensor([[0.0, 0, size[1], size[0]]] * 3)
    found = Instances(boxes, torch.tensor([0, 1, 2]), torch.ones(3), masks)
    picture = torch.linspace(0, 1, size[0] * size[1]).reshape(size)
    laid = enlarged(Labelling(found, 4, {"a": picture}), (height, width), size)
    assert laid.instances.masks.shape == (3, height, width)
    assert laid.instances.masks[0].all()
    assert not laid.instances.masks[2].any()
    share = float(laid.instances.masks[1].float().mean())
    assert share == pytest.approx(size[1] // 2 / size[1], abs=0.5 / width + 1e-6)
    torch.testing.assert_close(laid.instances.boxes[0], torch.tensor([0.0, 0, width, height]))
    assert laid.maps["a"].shape == (height, width)
    assert 0 <= laid.maps["a"].min() <= laid.maps["a"].max() <= 1
    if size == (height, width):
        assert laid.instances is found


def test_proposals_are_those_of_the_copy():
    image = photo(96, 128)
    config = load_config(None, SMALL)
    boxes = propose(image, config)
    copy = copy_of(image, 64)
    assert copy.shape == (48, 64, 3)
    np.testing.assert_array_equal(boxes, 2 * propose(copy, config))
    np.testing.assert_array_equal(boxes, boxes_in(propose(copy, config), (48, 64), (96, 128)))


@pytest.mark.parametrize("module", [1, 2, 3, 4])
def test_a_large_photo_has_the_labels_of_its_copy(module):
    predictor = Predictor(random_cascade(*SMALL))
    image = photo(96, 128)
    copy = copy_of(image, 64)
    boxes = propose(image, predictor.config)
    for tags in (None, (0, 1)):
        large = predictor(image, boxes, module, tags)
        small = predictor(copy, boxes / 2, module, tags)
        expected = enlarged(small, (96, 128), (48, 64))
        assert len(large.instances)
        assert large.instances.masks.shape[1:] == (96, 128)
        torch.testing.assert_close(large.instances.boxes, expected.instances.boxes)
        assert torch.equal(large.instances.masks, expected.instances.masks)
        assert torch.equal(large.instances.scores, small.instances.scores)
        if tags is None:
            assert torch.equal(large.presence, small.presence)
        assert all(one.shape == (96, 128) for one in large.maps.values())


@pytest.mark.parametrize("setting", ["train.longest=1300", "test_longest=1201", "longest=1199"])
def test_networks_see_no_more_than_the_copy(setting):
    with pytest.raises(ConfigError, match=r"longest is at least train\.longest and test_longest"):
        load_config(None, [setting])
