import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from labelpenet.rle import decode_mask, encode_masks, runs_of

STEADY = settings(max_examples=40)
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=20))


@STEADY
@given(MASKS)
def test_round_trip(masks):
    _, height, width = masks.shape
    rles = encode_masks(masks)
    assert [rle["size"] for rle in rles] == [[height, width]] * len(masks)
    for rle, mask in zip(rles, masks, strict=True):
        np.testing.assert_array_equal(decode_mask(rle["counts"], height, width), mask)


def test_long_runs_agree_with_pycocotools():
    """Runs of several digits, and differences that are negative."""
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(0, 4000, 60))
    flat = np.zeros(600 * 400, bool)
    for start, end in ends.reshape(-1, 2):
        flat[start:end] = True
    mask = flat.reshape(400, 600).T
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    np.testing.assert_array_equal(decode_mask(rle["counts"].decode(), 600, 400), mask)
    (ours,) = encode_masks(mask[None])
    assert ours["counts"] == rle["counts"].decode()


def test_no_masks():
    assert encode_masks(np.zeros((0, 3, 4), bool)) == []


@pytest.mark.parametrize(
    ("counts", "runs"), [([12], [12]), ([0, 12], [0, 12]), ([3, 4, 5], [3, 4, 5]), ("<", [12])]
)
def test_hand_worked(counts, runs):
    assert runs_of(counts, 3, 4).tolist() == runs


@pytest.mark.parametrize(
    "counts",
    ["", "P", "0", "é", "~", "PPPPPPPPPPPP0", "o" * 200, "\x00", "`0", [11], [13], [-1, 13], [],
     [1.0, 11], [True, 11], [2**70, 1], [0] * 20, None, 12, b"<", {}, ["12"]],
)  # fmt: skip
def test_bad_counts(counts):
    with pytest.raises(ValueError, match="counts: "):
        runs_of(counts, 3, 4)


@STEADY
@given(st.text(st.characters(min_codepoint=48, max_codepoint=112), max_size=40))
def test_any_text_fills_the_image_or_is_refused(counts):
    try:
        runs = runs_of(counts, 5, 7)
    except ValueError:
        return
    assert runs.min() >= 0
    assert runs.sum() == 35
