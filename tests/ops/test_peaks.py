"""Peaks against hand-worked maps, the reference and cv2."""

import doctest

import cv2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_near

from labelpenet import _C, reference
from labelpenet.ops import _extension, find_peaks, peaks

# map, window, threshold -> peaks as (row, column). The Gaussian's deviation is 3 cells: it takes an
# eighth of a lonely cell away from it, and the mean a tenth of them all.
HAND_WORKED = {
    "one": ([[0, 0, 0], [0, 9, 0], [0, 0, 0]], 3, 0.0, [(1, 1)]),
    "flat": ([[5, 5], [5, 5]], 3, 0.0, []),
    "a negative mean": ([[-1, -1], [-1, -1]], 3, 0.0, [(0, 0)]),
    "two apart": ([[0, 0, 9, 0, 0, 0, 0, 8, 0, 0]], 3, 0.0, [(0, 2), (0, 7)]),
    "one window holds both": ([[0, 0, 9, 0, 0, 0, 0, 8, 0, 0]], 11, 0.0, [(0, 2)]),
    "the first of equal ones": ([[0, 0, 0, 7, 0, 7, 0, 0, 0, 0]], 5, 0.0, [(0, 3)]),
    "a window of one cell": ([[0, 0, 9, 8, 0, 0, 0, 0, 0, 0]], 1, 0.0, [(0, 2), (0, 3)]),
    "above the threshold alone": ([[0, 0, 90, 0, 0, 0, 0, 40, 0, 0]], 3, 30.0, [(0, 2)]),
}


@pytest.mark.parametrize("case", HAND_WORKED.values(), ids=HAND_WORKED.keys())
def test_hand_worked(case):
    cells, window, threshold, want = case
    maps = torch.tensor([cells], dtype=torch.float32)
    for function in (find_peaks, reference.find_peaks):
        _, found = function(maps, 3.0, window, threshold)
        assert [tuple(p) for p in found[0].nonzero().tolist()] == want


def test_response_is_the_equation():
    """One bright cell in a row of nine: its neighbours' blur is the Gaussian's own weights."""
    maps = torch.zeros(1, 1, 9)
    maps[0, 0, 4] = 1
    response, _ = find_peaks(maps, 1.0)
    near = torch.exp(-torch.arange(4.0).square() / 2)
    weight = near / (near[0] + 2 * near[1:].sum())
    # a single row: the blur along the columns leaves it as it is
    assert response[0, 0, 4] == pytest.approx(1 - float(weight[0]) - 1 / 9, abs=1e-6)
    assert (response[0, 0, [3, 5]] == 0).all()


@pytest.mark.parametrize("shape", [(3, 9, 13), (1, 1, 1), (2, 1, 40), (4, 31, 5)])
@pytest.mark.parametrize("sigma", [0.5, 2.0, 11.0])
def test_against_reference(shape, sigma, isa):
    maps = torch.randn(shape)
    got, found = find_peaks(maps, sigma, 5)
    want, peaks = reference.find_peaks(maps.double(), sigma, 5)
    # the equation's differences cancel: exact to the size of what they are of
    assert (got - want).abs().max() <= 2e-6 * (1 + float(maps.abs().max()))
    assert torch.equal(found, peaks)  # random numbers have no ties


def test_against_cv2():
    maps = torch.randn(2, 30, 40)
    got, _ = find_peaks(maps, 2.0)
    for one, map_ in zip(got, maps, strict=True):
        blurred = cv2.GaussianBlur(map_.numpy(), (13, 13), 2.0, borderType=cv2.BORDER_REPLICATE)
        want = (map_ - torch.from_numpy(blurred) - map_.mean()).clamp(min=0)
        assert_near(one, want, torch.float32)


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    sigma=st.floats(0.3, 5),
    window=st.sampled_from([1, 3, 9]),
    seed=st.integers(0, 999),
    levels=st.integers(2, 5),
)
def test_every_peak_rules_its_window(size, sigma, window, seed, levels):
    """Few levels make many ties; exactly one cell of equal ones in reach is a peak."""
    torch.manual_seed(seed)
    maps = torch.randint(levels, (1, *size)).float()
    response, found = find_peaks(maps, sigma, window)
    reach = window // 2
    for _, y, x in found.nonzero().tolist():
        rows, columns = (
            slice(max(y - reach, 0), y + reach + 1),
            slice(max(x - reach, 0), x + reach + 1),
        )
        assert response[0, y, x] > 0
        assert response[0, rows, columns].max() == response[0, y, x]
        assert found[0, rows, columns].sum() == 1 or reach == 0
    assert bool(found.any()) == bool((response > 0).any())


def test_mirrored_maps_have_mirrored_responses():
    maps = torch.randn(3, 17, 23)
    response, _ = find_peaks(maps, 1.7)
    flipped, _ = find_peaks(maps.flip(2), 1.7)
    assert_near(flipped.flip(2), response, torch.float32)


def test_threads_and_isas_change_no_bit(isa):
    maps = torch.randn(40, 37, 41)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        got = find_peaks(maps, 3.0)
    finally:
        torch.set_num_threads(threads)
    _C.force_isa("baseline")
    for a, b in zip(got, find_peaks(maps, 3.0), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(3, 11, 14), (2, 3, 300), (1, 1, 1)])
def test_emulated(shape, emulated, monkeypatch):
    maps = torch.randn(shape).mul(3).round().div(3)  # with ties
    got = find_peaks(maps, 1.3, 5, 0.1)
    monkeypatch.setattr(_extension, "_active", _C)  # the same maths, in the same order
    for a, b in zip(got, find_peaks(maps, 1.3, 5, 0.1), strict=True):
        assert torch.equal(a, b)


@pytest.mark.cuda
def test_cuda():
    maps = torch.randn(20, 61, 83)
    for a, b in zip(find_peaks(maps.cuda(), 4.0), find_peaks(maps, 4.0), strict=True):
        assert torch.equal(a.cpu(), b)


@pytest.mark.parametrize("shape", [(0, 5, 5), (2, 0, 5), (2, 5, 0)])
def test_empty(shape):
    response, found = find_peaks(torch.zeros(shape), 1.0)
    assert response.shape == found.shape == torch.Size(shape)


def test_layouts_and_gradients():
    maps = torch.randn(3, 8, 9)
    want = find_peaks(maps, 1.0)
    strided = maps.permute(2, 0, 1).contiguous().permute(1, 2, 0).requires_grad_()
    got = find_peaks(strided, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert not got[0].requires_grad


BAD_INPUT = {
    "nan": ({"maps": torch.full((1, 2, 2), torch.nan)}, ValueError, "maps"),
    "huge": ({"maps": torch.full((1, 2, 2), 1e30)}, ValueError, "maps"),
    "shape": ({"maps": torch.zeros(2, 2)}, ValueError, r"maps: expected \[M, H, W\]"),
    "dtype": ({"maps": torch.zeros(1, 2, 2).double()}, TypeError, "maps"),
    "array": ({"maps": [[1.0]]}, TypeError, "maps.*got list"),
    "no sigma": ({"sigma": 0.0}, ValueError, "sigma"),
    "tiny sigma": ({"sigma": 1e-200}, ValueError, "sigma"),
    "wide sigma": ({"sigma": 43.0}, ValueError, "sigma"),
    "sigma type": ({"sigma": "1"}, TypeError, "sigma"),
    "even window": ({"window": 4}, ValueError, "window"),
    "no window": ({"window": -1}, ValueError, "window"),
    "window type": ({"window": 3.0}, TypeError, "window"),
    "threshold": ({"threshold": -1.0}, ValueError, "threshold"),
}


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input(case):
    change, error, message = case
    with pytest.raises(error, match=message):
        find_peaks(**({"maps": torch.zeros(1, 2, 2), "sigma": 1.0} | change))


def test_opcheck():
    torch.library.opcheck(
        torch.ops.labelpenet.find_peaks.default, (torch.randn(2, 5, 6), 1.0, 3, 0.0)
    )


def test_under_compile():
    compiled = torch.compile(
        lambda m: find_peaks(m, 1.0)[0] * 2, backend="aot_eager", fullgraph=True
    )
    maps = torch.randn(2, 5, 6)
    assert torch.equal(compiled(maps), find_peaks(maps, 1.0)[0] * 2)


def test_doctest():
    assert doctest.testmod(peaks).failed == 0
