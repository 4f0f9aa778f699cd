"""What dense_crf takes and refuses, and unaries from probabilities."""

from __future__ import annotations

import pytest
import torch
from crf_photo import assert_close

from labelpenet.ops.dense_crf import (
    BILATERAL,
    BilateralKernel,
    GaussianKernel,
    dense_crf,
    unary_from_probability,
)

IMAGE, UNARY = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(1, 2, 4, 5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": IMAGE.float()}, TypeError, "image: expected .* uint8, got .* float32"),
        ({"image": IMAGE[..., :1]}, ValueError, r"image: expected \[H, W, 3\]"),
        ({"image": IMAGE.numpy()}, TypeError, "image: expected .* got ndarray"),
        ({"unary": UNARY[0]}, ValueError, "unary: expected"),
        ({"unary": UNARY[..., :4]}, ValueError, r"unary: expected \[K, L, 4, 5\]"),
        ({"unary": UNARY.double()}, TypeError, "unary: expected .* float32"),
        ({"unary": UNARY[:, :1]}, ValueError, "unary: expected at least 2 labels"),
        ({"unary": UNARY + float("nan")}, ValueError, "unary: expected finite"),
        ({"unary": UNARY + float("inf")}, ValueError, "unary: expected finite"),
        ({"unary": UNARY.clone().requires_grad_()}, ValueError, "unary: needs a gradient"),
        ({"iterations": -1}, ValueError, "iterations: expected 0 to"),
        ({"iterations": 10**6}, ValueError, "iterations: expected 0 to"),
        ({"iterations": 1.5}, TypeError, "iterations: expected an int"),
        ({"iterations": True}, TypeError, "iterations: expected an int"),
        ({"gaussian": GaussianKernel(sxy=0)}, ValueError, "gaussian.sxy: expected"),
        ({"gaussian": GaussianKernel(sxy=-1)}, ValueError, "gaussian.sxy: expected"),
        ({"gaussian": GaussianKernel(compat=float("nan"))}, ValueError, "gaussian.compat"),
        ({"gaussian": BILATERAL}, TypeError, "gaussian: expected GaussianKernel"),
        ({"gaussian": GaussianKernel(sxy=1e-30)}, ValueError, "too small"),
        ({"gaussian": GaussianKernel(sxy=1e-320)}, ValueError, "sxy"),
        ({"gaussian": GaussianKernel(compat=1e300)}, ValueError, "gaussian.compat"),
        ({"bilateral": BilateralKernel(sxy=1e300)}, ValueError, "bilateral.sxy"),
        ({"bilateral": BilateralKernel(srgb=0)}, ValueError, "bilateral.srgb: expected"),
        ({"bilateral": BilateralKernel(srgb=1e-9)}, ValueError, "too small"),
        ({"bilateral": BilateralKernel(srgb=1e-50)}, ValueError, "bilateral.srgb: expected"),
        ({"bilateral": (80, 13, 10)}, TypeError, "bilateral: expected BilateralKernel"),
        ({"normalization": 3}, TypeError, "normalization: expected Normalization"),
    ],
)  # fmt: skip
def test_bad_input(change, error, message):
    arguments = {"image": IMAGE, "unary": UNARY} | change
    image, unary = arguments.pop("image"), arguments.pop("unary")
    with pytest.raises(error, match=message):
        dense_crf(image, unary, **arguments)


@pytest.mark.parametrize("energy", [1e31, -1e31, torch.finfo(torch.float32).max])
@pytest.mark.parametrize("labels", [2, 3, 8, 11])
@pytest.mark.parametrize("iterations", [0, 2])
def test_large_energies(energy, labels, iterations):
    found = dense_crf(IMAGE, torch.full((1, labels, 4, 5), energy), iterations=iterations)
    torch.testing.assert_close(found, torch.full((1, labels, 4, 5), 1 / labels))


# ---- unaries -----------------------------------------------------------------------------------
def test_unary_from_probability():
    p = torch.tensor([[0.2, 0.0], [0.8, 1.0]]).reshape(1, 2, 1, 2)
    assert_close(unary_from_probability(p).neg().exp(), p.clamp_min(1e-5), 1e-6)
    three = torch.tensor([0.2, 0.5, 0.3]).reshape(1, 3, 1, 1)
    got = unary_from_probability(three, gt_prob=0.7).neg().exp().flatten()
    assert_close(got, torch.tensor([0.15, 0.7, 0.15]), 1e-6)


@pytest.mark.parametrize(
    ("probability", "gt_prob", "error", "message"),
    [
        (torch.zeros(1, 2, dtype=torch.float64), None, TypeError, "probability: expected"),
        (torch.zeros(1, 1, 3), None, ValueError, "probability: expected .* L at least 2"),
        (torch.zeros(2), None, ValueError, "probability: expected"),
        (torch.zeros(1, 2), 1.0, ValueError, "gt_prob: expected"),
        (torch.zeros(1, 2), 0, ValueError, "gt_prob: expected"),
        (torch.zeros(1, 2), "a", TypeError, "gt_prob: expected"),
    ],
)
def test_unary_from_probability_refuses(probability, gt_prob, error, message):
    with pytest.raises(error, match=message):
        unary_from_probability(probability, gt_prob=gt_prob)
