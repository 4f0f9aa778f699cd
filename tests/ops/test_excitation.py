"""Excitation Backprop against hand-worked heads, the float64 reference, and its own invariants."""

import doctest
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_near

from labelpenet import _C, reference
from labelpenet.ops import PositiveWeights, excitation, excitation_maps, positive_weights

# the ceiling that the op promises for bfloat16, relative to the largest value of a map
BFLOAT16_ERROR = 2e-3


def head(proposals, channels, cells, hidden, classes, dtype=torch.float32, dead=0.3):
    """Random weights and the activations that they give, some of them 0 as after a ReLU."""
    widths = [channels * cells[0] * cells[1], *hidden, classes]
    weights = [torch.randn(b, a) * (2 / a) ** 0.5 for a, b in itertools.pairwise(widths)]
    pooled = torch.rand(proposals, channels, *cells)
    pooled[torch.rand_like(pooled) < dead] = 0
    activations = [pooled]
    for weight in weights[:-1]:
        activations.append((activations[-1].flatten(1) @ weight.T).relu())
    return [a.to(dtype) for a in activations], [w.to(dtype) for w in weights]


def double(tensors):
    return [t.double() for t in tensors]


def expected(activations, weights, classes, start=None, contrastive=False):
    start = None if start is None else start.double()
    return reference.excitation_maps(
        double(activations), double(weights), classes, start, contrastive=contrastive
    )


# pooled [C][h][w] of one proposal, hidden activations, weights, class, start, contrastive, map
HAND_WORKED = {
    "classifier only": ([[[1, 3]]], [], [[[2, 2]]], 0, 1, False, [[0.25, 0.75]]),
    "negative weights hand nothing down": ([[[1, 3]]], [], [[[2, -2]]], 0, 1, False, [[1, 0]]),
    "the class picks the row": ([[[1, 3]]], [], [[[2, 2], [3, 1]]], 1, 1, False, [[0.5, 0.5]]),
    "channels add up": ([[[1, 3]], [[2, 2]]], [], [[[1, 1, 1, 1]]], 0, 8, False, [[3, 5]]),
    "a dead class": ([[[1, 3]]], [], [[[-2, -2]]], 0, 1, False, [[0, 0]]),
    # unit 0 takes 2 * 1, unit 1 takes 1 * 2: half each; unit 1 sees both cells, 1 to 3
    "two layers": (
        [[[1, 3]]],
        [[2, 1]],
        [[[1, 0], [1, 1]], [[1, 2]]],
        0,
        1,
        False,
        [[0.5 + 0.125, 0.375]],
    ),
    # unit 1 has no positive input: its half is lost
    "a dead unit": (
        [[[1, 3]]],
        [[2, 1]],
        [[[1, 0], [-1, -1]], [[1, 2]]],
        0,
        1,
        False,
        [[0.5, 0]],
    ),
    # signs turned, all of it would go to the second cell: 1/4 - 0 and 3/4 - 1, clamped
    "contrastive": ([[[1, 3, 1]]], [], [[[3, 3, -1]]], 0, 1, True, [[0.25, 0.75, 0]]),
    "contrastive, then down": (
        [[[1, 3]]],
        [[2, 1]],
        [[[1, 0], [1, 1]], [[1, -1]]],
        0,
        1,
        True,
        # +1 at unit 0, -1 at unit 1: 1 - 1/4 and -3/4
        [[0.75, 0]],
    ),
}


@pytest.mark.parametrize("case", HAND_WORKED.values(), ids=HAND_WORKED.keys())
def test_hand_worked(case):
    pooled, hidden, weights, label, start, contrastive, expected_map = case
    activations = [torch.tensor([pooled], dtype=torch.float32)]
    activations += [torch.tensor([h], dtype=torch.float32) for h in hidden]
    weights = [torch.tensor(w, dtype=torch.float32) for w in weights]
    arguments = (torch.tensor([label]), torch.tensor([float(start)]))
    got = excitation_maps(activations, weights, *arguments, contrastive=contrastive)
    assert got.tolist() == [expected_map]
    by_reference = reference.excitation_maps(
        activations, weights, *arguments, contrastive=contrastive
    )
    assert torch.allclose(by_reference, got)


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("hidden", [[], [33], [70, 41]])
def test_against_reference(hidden, contrastive, isa):
    activations, weights = head(6, 19, (3, 5), hidden, 4)
    classes, start = torch.tensor([0, 3, 1, 1, 2, 0]), torch.rand(6)
    got = excitation_maps(activations, weights, classes, start, contrastive=contrastive)
    assert got.dtype == torch.float32
    assert_near(got, expected(activations, weights, classes, start, contrastive), torch.float32)


@pytest.mark.parametrize("contrastive", [False, True])
def test_emulated(emulated, contrastive):
    activations, weights = head(3, 40, (3, 5), [70], 4)  # 17 groups of threads share 40 channels
    classes, start = torch.tensor([3, 0, 1]), torch.rand(3)
    for dtype, tolerance in ((torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)):
        a, w = [[t.to(dtype) for t in ts] for ts in (activations, weights)]
        got = excitation_maps(a, w, classes, start, contrastive=contrastive)
        assert_near(got, expected(a, w, classes, start, contrastive), tolerance)


def test_emulated_wide_maps(emulated):
    activations, weights = head(1, 3, (18, 17), [], 2)  # more cells than a block has threads
    got = excitation_maps(activations, weights, torch.tensor([1]))
    assert_near(got, expected(activations, weights, torch.tensor([1])), torch.float32)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda(dtype):
    activations, weights = head(50, 64, (7, 7), [256, 128], 20, dtype)
    classes, start = torch.randint(20, (50,)), torch.rand(50)
    got = excitation_maps(
        [a.cuda() for a in activations], [w.cuda() for w in weights], classes.cuda(), start.cuda()
    )
    assert_near(got.cpu(), expected(activations, weights, classes, start), dtype)


def test_bfloat16(isa):
    activations, weights = head(4, 64, (7, 7), [512, 512], 20, torch.bfloat16)
    classes = torch.randint(20, (4,))
    got = excitation_maps(activations, weights, classes)
    assert got.dtype == torch.float32
    # sums of many rounded terms: the errors of 2^-9 average out
    reference_maps = expected(activations, weights, classes)
    error = (got - reference_maps).abs().amax((1, 2)) / reference_maps.amax((1, 2))
    assert float(error.max()) < BFLOAT16_ERROR


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_isas_change_no_bit_of_the_kernels(dtype, isa):
    activations, weights = head(5, 21, (3, 3), [], 4, dtype)
    classes = torch.tensor([0, 3, 1, 1, 2])
    maps = excitation_maps(activations, weights, classes)
    _C.force_isa("baseline")
    assert torch.equal(maps, excitation_maps(activations, weights, classes))


def test_threads_do_not_change_the_kernels():
    activations, weights = head(300, 64, (7, 7), [], 4)
    classes = torch.randint(4, (300,))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = excitation_maps(activations, weights, classes)
        torch.set_num_threads(3)
        three = excitation_maps(activations, weights, classes)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, three)


def test_chunks_do_not_change_the_result(monkeypatch):
    activations, weights = head(11, 8, (3, 3), [32], 4)
    classes = torch.randint(4, (11,))
    whole = excitation_maps(activations, weights, classes)
    monkeypatch.setattr(excitation, "_CHUNK_BYTES", 4 * 72 * 4)
    assert_near(excitation_maps(activations, weights, classes), whole, torch.float32)
    monkeypatch.setattr(excitation, "_CHUNK_BYTES", 1)
    assert_near(excitation_maps(activations, weights, classes), whole, torch.float32)


@settings(max_examples=25)
@given(
    proposals=st.integers(1, 4),
    channels=st.integers(1, 40),
    cells=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    hidden=st.lists(st.integers(1, 40), max_size=2),
    seed=st.integers(0, 1000),
)
def test_probability_is_kept_where_all_units_live(proposals, channels, cells, hidden, seed):
    torch.manual_seed(seed)
    activations, weights = head(proposals, channels, cells, hidden, 3, dead=0)
    activations = [a + 0.01 for a in activations]
    weights = [w.abs() + 0.01 for w in weights]
    start = torch.rand(proposals)
    maps = excitation_maps(activations, weights, torch.randint(3, (proposals,)), start)
    assert (maps >= 0).all()
    assert torch.allclose(maps.sum((1, 2)), start, rtol=1e-4)


def test_prepared_weights_and_other_layouts():
    activations, weights = head(4, 6, (2, 3), [10], 3)
    classes = torch.tensor([0, 1, 2, 1])
    maps = excitation_maps(activations, weights, classes)
    assert torch.equal(maps, excitation_maps(activations, positive_weights(weights), classes))
    strided = [
        activations[0].permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
        torch.stack([activations[1], activations[1]], 2)[:, :, 1],
    ]
    turned = [w.T.contiguous().T for w in weights]
    assert torch.equal(maps, excitation_maps(strided, turned, classes))
    wanting = [w.clone().requires_grad_() for w in weights]
    assert not excitation_maps(activations, wanting, classes).requires_grad


def test_under_autocast():
    activations, weights = head(3, 6, (2, 3), [10], 3)
    classes = torch.tensor([0, 1, 2])
    maps = excitation_maps(activations, weights, classes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(maps, excitation_maps(activations, weights, classes))


def test_under_another_default_dtype():
    activations, weights = head(3, 6, (2, 3), [10], 3)
    classes = torch.tensor([0, 1, 2])
    want = excitation_maps(activations, weights, classes)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(excitation_maps(activations, weights, classes), want)
    finally:
        torch.set_default_dtype(torch.float32)


def test_under_compile():
    activations, weights = head(3, 6, (2, 3), [10], 3)
    prepared, classes = positive_weights(weights), torch.tensor([0, 1, 2])

    @torch.compile(backend="aot_eager", fullgraph=True)
    def doubled(pooled, hidden, classes):
        return 2 * excitation_maps([pooled, hidden], prepared, classes)

    maps = excitation_maps(activations, prepared, classes)
    assert torch.equal(doubled(*activations, classes), 2 * maps)


def test_empty():
    activations, weights = head(0, 6, (2, 3), [10], 3)
    maps = excitation_maps(activations, weights, torch.zeros(0, dtype=torch.long))
    assert maps.shape == (0, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_out_of_range_are_dropped(dtype):
    """Denominators near the smallest float: nothing that is not finite comes out."""
    tiny = torch.finfo(dtype).tiny
    for small in (tiny, tiny / 64):
        pooled = torch.full((1, 2, 1, 2), small).to(dtype)
        hidden = torch.full((1, 2), small).to(dtype)
        for size in (1.0, 1e3, 1e-3):
            weights = [torch.full((2, 4), size).to(dtype), torch.full((1, 2), size).to(dtype)]
            for contrastive in (False, True):
                maps = excitation_maps(
                    [pooled, hidden], weights, torch.tensor([0]), contrastive=contrastive
                )
                assert torch.isfinite(maps).all()
                assert (maps >= 0).all()


def _arguments():
    activations, weights = head(2, 3, (1, 2), [4], 3)
    return {
        "activations": activations,
        "weights": weights,
        "classes": torch.tensor([0, 2]),
        "start": torch.tensor([0.5, 1.0]),
    }


def _with(tensor, value):
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


A, W = "activations", "weights"
BAD_INPUT = {
    "negative": (lambda a: {A: [_with(a[A][0], -1), a[A][1]]}, ValueError, r"activations\[0\].*>="),
    "nan": (lambda a: {A: [a[A][0], _with(a[A][1], torch.nan)]}, ValueError, r"activations\[1\]"),
    "infinite": (lambda a: {A: [_with(a[A][0], torch.inf), a[A][1]]}, ValueError, "finite"),
    "bad weight": (lambda a: {W: [a[W][0], _with(a[W][1], torch.nan)]}, ValueError, r"weights\[1"),
    "class": (lambda a: {"classes": torch.tensor([0, 3])}, ValueError, r"classes.*\[0, 3\)"),
    "minus": (lambda a: {"classes": torch.tensor([0, -1])}, ValueError, "classes"),
    "class dtype": (lambda a: {"classes": torch.tensor([0.0, 1.0])}, TypeError, "classes"),
    "start": (lambda a: {"start": torch.tensor([-0.1, 1.0])}, ValueError, "start"),
    "start nan": (lambda a: {"start": torch.tensor([torch.nan, 1.0])}, ValueError, "start"),
    "start length": (lambda a: {"start": torch.ones(3)}, ValueError, "start"),
    "too few": (lambda a: {A: a[A][:1]}, ValueError, "activations: expected one per layer, 2"),
    "one tensor": (lambda a: {A: a[A][0]}, TypeError, "activations: expected a sequence"),
    "dtype": (lambda a: {A: [t.double() for t in a[A]]}, TypeError, r"activations\[0\]"),
    "mixed": (lambda a: {A: [a[A][0], a[A][1].bfloat16()]}, TypeError, r"activations\[1\]"),
    "width": (lambda a: {A: [torch.ones(2, 3, 2, 2), a[A][1]]}, ValueError, r"C \* h \* w = 6"),
    "dims": (lambda a: {A: [torch.ones(2, 6), a[A][1]]}, ValueError, r"activations\[0\]"),
    "chain": (lambda a: {W: [a[W][0], torch.ones(3, 5)]}, ValueError, r"weights\[1\]"),
    "no weights": (lambda a: {W: []}, ValueError, "weights"),
    "half": (lambda a: {W: [w.half() for w in a[W]]}, TypeError, r"weights\[0\]"),
    "no inputs": (lambda a: {W: [torch.ones(3, 0)]}, ValueError, r"weights\[0\].*at least one"),
    "one weight": (lambda a: {W: torch.ones(3, 6)}, TypeError, "weights: expected a sequence"),
}


@pytest.mark.parametrize("case", BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input(case):
    change, error, message = case
    arguments = _arguments()
    arguments.update(change(arguments))
    with pytest.raises(error, match=message):
        excitation_maps(**arguments)


def test_opcheck():
    activations, weights = head(2, 3, (2, 2), [5], 3)
    prepared = positive_weights(weights)
    assert isinstance(prepared, PositiveWeights)
    arguments = (
        activations,
        list(prepared.hidden),
        prepared.classifier,
        torch.tensor([0, 2]),
        torch.ones(2),
        True,
    )
    torch.library.opcheck(torch.ops.labelpenet.excitation_maps.default, arguments)


def test_examples():
    assert doctest.testmod(excitation).failed == 0
