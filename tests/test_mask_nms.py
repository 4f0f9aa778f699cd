"""NMS on masks: which stay, and how much memory it takes."""

import pytest
import torch
from labeling.scenes import from_masks
from largest_result import LargestResult

from labelpenet.mask_nms import mask_nms


def greedy(found, threshold):
    """The definition, mask by mask."""
    kept = []
    for i in found.scores.argsort(descending=True, stable=True).tolist():
        for j in kept:
            shared = int((found.masks[i] & found.masks[j]).sum())
            union = int((found.masks[i] | found.masks[j]).sum())
            same_class = found.labels[i] == found.labels[j]
            if same_class and torch.tensor(shared) / max(union, 1) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_many_pixels_are_taken_part_by_part(threshold):
    """More than a part of them, so that every pixel has to be counted once."""
    draw = torch.Generator().manual_seed(0)
    small = torch.rand((40, 1, 4, 5), generator=draw)
    masks = torch.nn.functional.interpolate(small, (301, 503), mode="bilinear")[:, 0] > 0.5
    labels = torch.randint(0, 2, (40,), generator=draw)
    found = from_masks(masks, labels, torch.rand(40, generator=draw))
    with LargestResult() as largest:
        kept = mask_nms(found, threshold).tolist()
    assert kept == greedy(found, threshold)
    assert 2 < len(kept) < 40
    assert largest.bytes < 4 * masks.numel() / 2


def test_no_masks():
    assert mask_nms(from_masks(torch.zeros(0, 3, 4)), 0.5).tolist() == []
