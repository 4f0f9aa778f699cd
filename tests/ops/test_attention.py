"""Projected attention and heat-maps against hand-worked images, the reference, cv2 and torch."""

import doctest

import cv2
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_near

from labelpenet import _C, reference
from labelpenet.ops import _extension, accumulate_boxes, attention, project_attention

MODES = ["bilinear", "mass"]


def scene(proposals, cells, size, num_maps, spread=0.3):
    """Random maps and boxes, some of which leave the image."""
    height, width = size
    corner = torch.rand(proposals, 2) * (1 + spread) - spread
    extent = torch.rand(proposals, 2)
    scale = torch.tensor([width, height])
    boxes = torch.cat([corner * scale, (corner + extent) * scale], 1)
    return torch.rand(proposals, *cells), boxes, torch.randint(num_maps, (proposals,))


def project_exactly(maps, boxes, index, num_maps, size, mode):
    return reference.project_attention(maps.double(), boxes, index, num_maps, size, mode)


def zeros(n):
    return torch.zeros(n, dtype=torch.long)


# maps, boxes, size, mode, picture (all drawn into map 0)
HAND_WORKED = {
    "one cell": ([[[2]]], [[1, 0, 3, 2]], (2, 4), "bilinear", [[0, 2, 2, 0], [0, 2, 2, 0]]),
    "interpolated": ([[[0, 4]]], [[0, 0, 4, 1]], (1, 5), "bilinear", [[0, 1, 3, 4, 0]]),
    "cells are pixels": ([[[1, 2], [3, 4]]], [[0, 0, 2, 2]], (2, 2), "bilinear", [[1, 2], [3, 4]]),
    "clipped on the left": ([[[0, 4]]], [[-2, 0, 2, 1]], (1, 3), "bilinear", [[3, 4, 0]]),
    "clipped below": ([[[0], [4]]], [[0, 0, 1, 4]], (3, 1), "bilinear", [[0], [1], [3]]),
    "first edge counts only": ([[[1]]], [[0.5, 0, 2.5, 1]], (1, 4), "bilinear", [[1, 1, 0, 0]]),
    "between centres": ([[[1]]], [[0.6, 0, 1.4, 1]], (1, 3), "bilinear", [[0, 0, 0]]),
    "boxes add up": ([[[1]], [[2]]], [[0, 0, 2, 1], [1, 0, 3, 1]], (1, 3), "bilinear", [[1, 3, 2]]),
    "outside": ([[[1]]], [[5, 5, 9, 9]], (2, 2), "bilinear", [[0, 0], [0, 0]]),
    "turned over": ([[[1]]], [[2, 1, 0, 0]], (1, 2), "bilinear", [[0, 0]]),
    "no width": ([[[1]]], [[0.5, 0, 0.5, 1]], (1, 2), "bilinear", [[0, 0]]),
    "mass of one cell": ([[[2]]], [[0, 0, 4, 1]], (1, 5), "mass", [[0.5, 0.5, 0.5, 0.5, 0]]),
    "mass when clipped": ([[[2]]], [[-2, 0, 2, 1]], (1, 3), "mass", [[1, 1, 0]]),
    "mass unseen": ([[[1, 0]]], [[-4, 0, 2, 1]], (1, 2), "mass", [[0, 0]]),
    "mass of nothing": ([[[0, 0]]], [[0, 0, 2, 1]], (1, 2), "mass", [[0, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("case", HAND_WORKED.values(), ids=HAND_WORKED.keys())
def test_hand_worked(case):
    maps, boxes, size, mode, picture = case
    maps = torch.tensor(maps, dtype=torch.float32)
    boxes = torch.tensor(boxes, dtype=torch.float32)
    arguments = (maps, boxes, zeros(len(maps)), 1, size, mode)
    assert project_attention(*arguments).tolist() == [picture]
    assert reference.project_attention(*arguments).tolist() == [picture]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cells", [(7, 7), (1, 1), (14, 14), (3, 20), (40, 2)])
def test_project_against_reference(cells, mode, isa):
    maps, boxes, index = scene(25, cells, (61, 83), 3)
    got = project_attention(maps, boxes, index, 3, (61, 83), mode)
    assert_near(got, project_exactly(maps, boxes, index, 3, (61, 83), mode), torch.float32)


@pytest.mark.parametrize("mode", MODES)
def test_small_boxes_against_reference(mode):
    """Boxes of a few pixels: several cells fall between two centres."""
    maps, boxes, index = scene(100, (7, 7), (30, 40), 2)
    boxes[:, 2:] = boxes[:, :2] + torch.rand(100, 2) * 6
    got = project_attention(maps, boxes, index, 2, (30, 40), mode)
    # a cell that hardly any pixel sees makes the mass sensitive to where exactly the pixel lies
    factor = 1 if mode == "bilinear" else 20
    exact = project_exactly(maps, boxes, index, 2, (30, 40), mode)
    assert_near(got, exact, torch.float32, factor)


def test_far_away_edges():
    """A box far larger than the image, and coordinates where float32 has few digits left."""
    maps = torch.rand(3, 7, 7)
    boxes = torch.tensor(
        [[-1e6, -1e6, 1e6, 1e6], [-3e38, -3e38, 3e38, 3e38], [4000.3, 0.2, 4009.7, 8.9]]
    )
    got = project_attention(maps, boxes, torch.tensor([0, 1, 2]), 3, (9, 4010))
    exact = project_exactly(maps, boxes, torch.tensor([0, 1, 2]), 3, (9, 4010), "bilinear")
    assert_near(got, exact, torch.float32)


def test_project_against_cv2_and_torch():
    maps = torch.rand(2, 7, 7)
    boxes = torch.tensor([[3.0, 4.0, 60.0, 41.0], [0.0, 0.0, 70.0, 50.0]])
    got = project_attention(maps, boxes, torch.tensor([0, 1]), 2, (50, 70))
    by_cv2 = torch.zeros(2, 50, 70)
    by_cv2[0, 4:41, 3:60] = torch.from_numpy(cv2.resize(maps[0].numpy(), (57, 37)))
    by_cv2[1] = torch.from_numpy(cv2.resize(maps[1].numpy(), (70, 50)))
    assert_near(got, by_cv2, torch.float32)
    by_torch = torch.nn.functional.interpolate(maps[1:, None], (50, 70), mode="bilinear")[0, 0]
    assert_near(got[1], by_torch, torch.float32)


@settings(max_examples=50)
@given(
    cells=st.tuples(st.integers(1, 9), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corners=st.lists(
        st.tuples(*[st.floats(-50, 80, width=32)] * 4), min_size=1, max_size=5
    ),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_mass_is_kept(cells, size, corners, seed):
    torch.manual_seed(seed)
    maps = torch.rand(len(corners), *cells) + 0.1
    boxes = torch.tensor(corners)
    index = torch.arange(len(corners))
    got = project_attention(maps, boxes, index, len(corners), size, "mass")
    ones = torch.ones(len(corners))
    covered = reference.accumulate_boxes(ones, boxes, index, len(corners), size)
    assert torch.equal(got > 0, covered > 0)
    total = torch.where(covered.sum((1, 2)) > 0, maps.sum((1, 2)), 0)
    assert torch.allclose(got.double().sum((1, 2)), total.double(), rtol=1e-3)


def test_mass_of_barely_visible_cells_stays_finite():
    maps = torch.tensor([[[7e19, 1e-20]], [[7e19, 0.0]], [[7e19, 1.0]]])
    boxes = torch.tensor([[-7.0, 0.0, 1.0, 1.0], [-7.0, 0.0, 1.0, 1.0], [-4.999, 0.0, 4.0, 1.0]])
    got = project_attention(maps, boxes, torch.tensor([0, 1, 2]), 3, (1, 4), "mass")
    assert torch.isfinite(got).all()


def test_mass_of_a_cell_beside_all_pixels_is_nothing():
    """The last pixel is on the centre of column 5: column 6 is seen by rounding alone."""
    maps = torch.zeros(1, 7, 7)
    maps[0, 1, 6] = 1
    box = torch.tensor([[-14.75, -1.5, 9.75, 32.0]])
    got = project_attention(maps, box, torch.tensor([0]), 1, (5, 5), "mass")
    want = reference.project_attention(maps, box, torch.tensor([0]), 1, (5, 5), "mass")
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_accumulate_hand_worked():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 9, 9], [-5, -5, 1, 1], [2, 2, 1, 1], [0, 0, 1, 1]])
    scores = torch.tensor([1.0, 0.1, -0.5, 7.0, 3.0])
    got = accumulate_boxes(scores, boxes, torch.tensor([0, 0, 0, 0, 2]), 3, (3, 3))
    picture = torch.tensor([[0.5, 1, 0], [1, 1.1, 0.1], [0, 0.1, 0.1]])
    assert got[0].tolist() == picture.tolist()
    assert got[1].tolist() == torch.zeros(3, 3).tolist()
    assert got[2].tolist() == [[3, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("largest", [1.0, 7e19, 1e-40])
def test_accumulate_against_reference(isa, largest):
    _, boxes, index = scene(200, (1, 1), (61, 183), 4)
    scores = (torch.rand(200) - 0.3) * largest
    got = accumulate_boxes(scores, boxes, index, 4, (61, 183))
    exact = reference.accumulate_boxes(scores.double(), boxes, index, 4, (61, 183))
    assert_near(got, exact, torch.float32, factor=0.01)
    assert torch.equal(got == 0, exact == 0)  # no residue outside the boxes


def test_accumulate_order_does_not_matter():
    _, boxes, index = scene(500, (1, 1), (40, 30), 2)
    scores = torch.randn(500)
    one = accumulate_boxes(scores, boxes, index, 2, (40, 30))
    order = torch.randperm(500)
    assert torch.equal(
        one, accumulate_boxes(scores[order], boxes[order], index[order], 2, (40, 30))
    )


def test_tall_images_span_tiles():
    """More rows than a tile has: boxes are drawn across the seam."""
    maps, boxes, index = scene(12, (7, 7), (900, 700), 1)
    got = project_attention(maps, boxes, index, 1, (900, 700))
    assert_near(got, project_exactly(maps, boxes, index, 1, (900, 700), "bilinear"), torch.float32)
    heat = accumulate_boxes(maps[:, 0, 0], boxes, index, 1, (900, 700))
    exact = reference.accumulate_boxes(maps[:, 0, 0].double(), boxes, index, 1, (900, 700))
    assert_near(heat, exact, torch.float32, factor=0.01)


def test_threads_change_no_bit():
    maps, boxes, index = scene(60, (7, 7), (300, 400), 3)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(
                [project_attention(maps, boxes, index, 3, (300, 400), mode) for mode in MODES]
                + [accumulate_boxes(maps[:, 0, 0], boxes, index, 3, (300, 400))]
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("cells", [(7, 7), (3, 13), (3, 20)])
def test_isas_change_no_bit(cells, isa):
    maps, boxes, index = scene(50, cells, (61, 83), 2)

    def everything():
        yield from (project_attention(maps, boxes, index, 2, (61, 83), mode) for mode in MODES)
        yield accumulate_boxes(maps[:, 0, 0], boxes, index, 2, (61, 83))

    got = list(everything())
    _C.force_isa("baseline")
    assert all(torch.equal(a, b) for a, b in zip(got, everything(), strict=True))


@pytest.mark.parametrize("cells", [(7, 7), (2, 9)])
def test_emulated(cells, emulated, monkeypatch):
    maps, boxes, index = scene(30, cells, (37, 45), 2)
    boxes[3:6] = boxes[3:6].flip(1)
    got = [project_attention(maps, boxes, index, 2, (37, 45), mode) for mode in MODES]
    heat = accumulate_boxes(maps[:, 0, 0], boxes, index, 2, (37, 45))
    for g, mode in zip(got, MODES, strict=True):
        assert_near(g, project_exactly(maps, boxes, index, 2, (37, 45), mode), torch.float32)
    monkeypatch.setattr(_extension, "_active", _C)  # the same maths, in the same order
    for g, mode in zip(got, MODES, strict=True):
        assert torch.equal(g, project_attention(maps, boxes, index, 2, (37, 45), mode))
    assert torch.equal(heat, accumulate_boxes(maps[:, 0, 0], boxes, index, 2, (37, 45)))


def test_emulated_more_boxes_than_threads(emulated):
    maps, boxes, index = scene(600, (2, 2), (5, 6), 2)
    got = project_attention(maps, boxes, index, 2, (5, 6))
    assert_near(got, project_exactly(maps, boxes, index, 2, (5, 6), "bilinear"), torch.float32)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
def test_cuda(mode):
    maps, boxes, index = scene(500, (7, 7), (301, 405), 3)
    arguments = [maps, boxes, index]
    got = project_attention(*[a.cuda() for a in arguments], 3, (301, 405), mode)
    assert_near(
        got.cpu(), project_attention(*arguments, 3, (301, 405), mode), torch.float32, factor=0.1
    )
    heat = accumulate_boxes(maps[:, 0, 0].cuda(), boxes.cuda(), index.cuda(), 3, (301, 405))
    assert torch.equal(heat.cpu(), accumulate_boxes(maps[:, 0, 0], boxes, index, 3, (301, 405)))


def test_empty_and_one_pixel():
    nothing = (torch.zeros(0, 4), zeros(0))
    assert (
        project_attention(torch.zeros(0, 7, 7), *nothing, 2, (3, 4)).tolist()
        == [[[0.0] * 4] * 3] * 2
    )
    assert project_attention(torch.zeros(0, 7, 7), *nothing, 0, (3, 4), "mass").shape == (0, 3, 4)
    assert accumulate_boxes(torch.zeros(0), *nothing, 2, (3, 4)).tolist() == [[[0.0] * 4] * 3] * 2
    assert accumulate_boxes(torch.zeros(0), *nothing, 0, (3, 4)).shape == (0, 3, 4)
    strided = torch.zeros(0, 7, 7, 2)[..., 0]  # contiguous to torch, for it has no elements
    assert project_attention(strided, *nothing, 1, (3, 4)).eq(0).all()
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    got = project_attention(torch.rand(1, 3, 3), box, zeros(1), 1, (1, 1), "mass")
    assert got.shape == (1, 1, 1)


def test_other_layouts_and_gradients():
    maps, boxes, index = scene(20, (7, 5), (30, 40), 2)
    expected = project_attention(maps, boxes, index, 2, (30, 40))
    heat = accumulate_boxes(maps[:, 0, 0].contiguous(), boxes, index, 2, (30, 40))
    strided = maps.permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    columns = boxes.T.contiguous().T
    every_other = torch.stack([index, index], 1)[:, 0]
    got = project_attention(strided, columns, every_other, 2, (30, 40))
    assert torch.equal(expected, got)
    assert not got.requires_grad
    assert torch.equal(heat, accumulate_boxes(strided[:, 0, 0], columns, every_other, 2, (30, 40)))


def _arguments():
    maps, boxes, index = scene(3, (2, 2), (8, 9), 2)
    return {"maps": maps, "boxes": boxes, "index": index, "num_maps": 2, "size": (8, 9)}


BAD_INPUT = {
    "nan map": ({"maps": torch.full((3, 2, 2), torch.nan)}, ValueError, "maps"),
    "huge map": ({"maps": torch.full((3, 2, 2), 1e30)}, ValueError, "maps"),
    "negative mass": ({"maps": -torch.ones(3, 2, 2), "mode": "mass"}, ValueError, r"maps.*\[0, "),
    "no cells": ({"maps": torch.ones(3, 0, 2)}, ValueError, "maps"),
    "map dtype": ({"maps": torch.ones(3, 2, 2).double()}, TypeError, "maps"),
    "nan box": ({"boxes": torch.full((3, 4), torch.nan)}, ValueError, "boxes"),
    "infinite box": ({"boxes": torch.full((3, 4), torch.inf)}, ValueError, "boxes"),
    "box shape": ({"boxes": torch.ones(2, 4)}, ValueError, "boxes"),
    "box dtype": ({"boxes": torch.ones(3, 4, dtype=torch.int64)}, TypeError, "boxes"),
    "index": ({"index": torch.tensor([0, 1, 2])}, ValueError, r"index.*\[0, 2\)"),
    "minus": ({"index": torch.tensor([0, 1, -1])}, ValueError, "index"),
    "index dtype": ({"index": torch.zeros(3)}, TypeError, "index"),
    "count": ({"num_maps": -1}, ValueError, "num_maps"),
    "count type": ({"num_maps": 2.0}, TypeError, "num_maps"),
    "size": ({"size": (0, 9)}, ValueError, "size"),
    "long": ({"size": (8, 1 << 23)}, ValueError, "size"),
    "mode": ({"mode": "nearest"}, ValueError, "mode"),
}


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input(case):
    change, error, message = case
    arguments = _arguments() | change
    with pytest.raises(error, match=message):
        project_attention(**arguments)
    if "maps" in change or "mode" in change:
        return
    arguments["scores"] = arguments.pop("maps")[:, 0, 0]
    with pytest.raises(error, match=message):
        accumulate_boxes(**arguments)


@pytest.mark.parametrize("score", [torch.nan, torch.inf, 1e30])
def test_bad_scores(score):
    with pytest.raises(ValueError, match="scores"):
        accumulate_boxes(torch.tensor([score]), torch.ones(1, 4), zeros(1), 1, (2, 2))


def test_under_compile():
    @torch.compile(backend="aot_eager", fullgraph=True)
    def both(maps, boxes, index):
        attention_map = project_attention(maps, boxes, index, 2, (8, 9), "mass")
        return attention_map * accumulate_boxes(maps[:, 0, 0], boxes, index, 2, (8, 9))

    maps, boxes, index = scene(3, (2, 2), (8, 9), 2)
    drawn = project_attention(maps, boxes, index, 2, (8, 9), "mass")
    heat = accumulate_boxes(maps[:, 0, 0], boxes, index, 2, (8, 9))
    assert torch.equal(both(maps, boxes, index), drawn * heat)


def test_opcheck():
    maps, boxes, index = scene(3, (2, 2), (8, 9), 2)
    ops = torch.ops.labelpenet
    torch.library.opcheck(ops.project_attention.default, (maps, boxes, index, 2, 8, 9, True))
    scores = maps[:, 0, 0].contiguous()
    torch.library.opcheck(ops.accumulate_boxes.default, (scores, boxes, index, 2, 8, 9))


def test_examples():
    assert doctest.testmod(attention).failed == 0
