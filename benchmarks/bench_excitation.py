"""Excitation Backprop of all proposals through the head."""

import torch

from benchmarks.compare import near
from benchmarks.harness import Case, Peer, find, small

HEADS = {
    "VGG-16 head (512 x 7 x 7, 4096, 4096)": (512, 7, 4096),
    "SqueezeNet head (512 x 7 x 7, 1024, 1024)": (512, 7, 1024),
}


def _inputs(proposals, channels, side, width, classes=20):
    random = torch.Generator().manual_seed(0)
    sizes = [channels * side * side, width, width]
    activations = [torch.randn(proposals, n, generator=random).relu() for n in sizes]
    activations[0] = activations[0].reshape(proposals, channels, side, side)
    weights = [
        torch.randn(n, m, generator=random) / m**0.5
        for m, n in zip(sizes, [width, width, classes], strict=True)
    ]
    labels = torch.randint(classes, (proposals,), generator=random)
    return activations, weights, labels, torch.rand(proposals, generator=random)


def _batched(activations, weights, classes, start):
    """The equations as matrix products over all proposals: what one would write in torch."""
    p = torch.zeros(len(start), len(weights[-1]), device=start.device)
    p[torch.arange(len(start), device=start.device), classes] = start
    for x, weight in zip(reversed(activations), reversed(weights), strict=True):
        positive, flat = weight.clamp(min=0), x.flatten(1)
        denominator = flat @ positive.T
        p = flat * (torch.where(denominator == 0, 0, p / denominator) @ positive)
    return p.reshape(activations[0].shape).sum(dim=1)


def _flops(activations, weights, classes, start):
    """Two products with every layer's weights."""
    return 4 * len(start) * sum(w.numel() for w in weights)


CASES = [
    Case(
        op="excitation_maps",
        name=f"{proposals:,} proposals, {head}",
        inputs=lambda proposals=proposals, sizes=sizes: _inputs(proposals, *sizes),
        check_inputs=lambda: _inputs(5, 8, 3, 16),
        ours=find("labelpenet.ops", "excitation_maps"),
        reference=find("labelpenet.reference", "excitation_maps"),
        peer=Peer("batched torch", _batched, cuda=True),
        # products may run in bfloat16
        compare=lambda got, want: near(got, want, 3e-2),
        flops=_flops,
    )
    for head, sizes in HEADS.items()
    for proposals in (300, 1_600)
]
CASES = [small(CASES[0], "5 proposals, toy head (8 x 3 x 3, 16, 16)"), *CASES]


def test_excitation(case, column, measure):
    measure(case, column)
