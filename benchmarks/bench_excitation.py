"""Excitation Backprop of all proposals through the head, the positive weights made before."""

from itertools import pairwise

import torch

from .cases import Case, Peer, adapt, find, small
from .compare import near

HEADS = {
    "VGG-16 head (512 x 7 x 7, 4096, 4096)": (512, 7, 4096),
    "SqueezeNet head (512 x 7 x 7, 1024, 1024)": (512, 7, 1024),
}
VGG, SQUEEZENET = HEADS
FLOAT, BFLOAT = torch.float32, torch.bfloat16


def _inputs(proposals, channels, side, width, dtype=FLOAT, classes=20):
    """Activations, max(W, 0) of the hidden layers, the classifier, classes and probabilities."""
    random = torch.Generator().manual_seed(0)
    sizes = [channels * side * side, width, width]
    activations = [torch.randn(proposals, n, generator=random).relu() for n in sizes]
    activations[0] = activations[0].reshape(proposals, channels, side, side)
    hidden = [
        (torch.randn(n, m, generator=random) / m**0.5).clamp(min=0).to(dtype)
        for m, n in pairwise(sizes)
    ]
    classifier = (torch.randn(classes, width, generator=random) / width**0.5).to(dtype)
    labels = torch.randint(classes, (proposals,), generator=random)
    start = torch.rand(proposals, generator=random)
    return [a.to(dtype) for a in activations], hidden, classifier, labels, start


def _with_prepared_weights(excitation_maps):
    """Calibration makes the positive weights of a checkpoint once, too."""
    prepared = find("labelpenet.ops", "PositiveWeights")

    def maps(activations, hidden, classifier, labels, start):
        return excitation_maps(activations, prepared(tuple(hidden), classifier), labels, start)

    return maps


def _in_float32(reference):
    """The specification on the same values, whatever dtype they come in."""

    def maps(activations, hidden, classifier, labels, start):
        weights = [w.float() for w in (*hidden, classifier)]
        return reference([a.float() for a in activations], weights, labels, start)

    return maps


def _batched(activations, hidden, classifier, labels, start):
    """The equations as matrix products over all proposals: what one would write in torch."""
    weights = [*hidden, classifier.clamp(min=0)]
    p = classifier.new_zeros(len(start), len(classifier))
    p[torch.arange(len(start), device=start.device), labels] = start.to(p.dtype)
    for x, weight in zip(reversed(activations), reversed(weights), strict=True):
        flat = x.flatten(1)
        denominator = flat @ weight.T
        p = flat * (torch.where(denominator == 0, 0, p / denominator) @ weight)
    return p.reshape(activations[0].shape).sum(dim=1, dtype=torch.float32)


def _products(activations, hidden, classifier, labels, start):
    """Two bare products with the weights of every hidden layer: what no implementation saves."""
    out = []
    for x, weight in zip(activations, hidden, strict=False):  # the classifier's input has none
        down = torch.mm(x.flatten(1), weight.T)
        out.append(torch.mm(down, weight))
    return tuple(out)


def _flops(activations, hidden, classifier, labels, start):
    return 4 * len(start) * sum(w.numel() for w in hidden)


PEERS = {
    FLOAT: Peer("batched torch", _batched, cuda=True),
    # rounds every product and quotient, where ours rounds between layers alone
    BFLOAT: Peer(
        "batched torch", _batched, cuda=True, compare=lambda got, want: near(got, want, 2e-2)
    ),
}
BARE = Peer("bare torch.mm", _products, cuda=True, agrees=False)


def case(proposals, head=VGG, dtype=FLOAT, peer=None):
    """All proposals through a head in a dtype; by default beside the same in batched torch."""
    suffix = "" if dtype == FLOAT else ", bfloat16"
    return Case(
        op="excitation_maps",
        name=f"{proposals:,} proposals, {head}{suffix}",
        inputs=lambda: _inputs(proposals, *HEADS[head], dtype),
        # bfloat16 errors are those of the real width: channels average them out
        check_inputs=lambda: _inputs(5, *((8, 3, 16) if dtype == FLOAT else (512, 7, 256)), dtype),
        ours=adapt(find("labelpenet.ops", "excitation_maps"), _with_prepared_weights),
        reference=adapt(find("labelpenet.reference", "excitation_maps"), _in_float32),
        peer=PEERS[dtype] if peer is None else peer,
        compare=lambda got, want: near(got, want, 1e-4 if dtype == FLOAT else 2e-3),
        flops=_flops,
        flop_dtype=str(dtype).removeprefix("torch."),
    )


CASES = [
    small(case(300), "5 proposals, toy head (8 x 3 x 3, 16, 16)"),
    *(case(n, head, dtype) for dtype in (FLOAT, BFLOAT) for head in HEADS for n in (300, 1_600)),
    *(case(1_600, VGG, dtype, BARE) for dtype in (FLOAT, BFLOAT)),
]


def test_excitation(case, column, measure):
    measure(case, column)
