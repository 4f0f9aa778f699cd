"""Greedy non-maximum suppression."""

import torch

from benchmarks import scenes
from benchmarks.compare import equal
from benchmarks.harness import Case, Peer, adapt, find, small

_reference = find("labelpenet.reference.nms", "nms_groups")


def _same_kept(got, want):
    equal(got[0] if isinstance(got, tuple) else got, want[0] if isinstance(want, tuple) else want)


def _inputs(count):
    return scenes.boxes(count, 600, 800), scenes.scores(count), 0.3


def _group_inputs(count):
    boxes, scores, threshold = _inputs(count)
    return boxes, scores, scenes.labels(count, 20), threshold


CASES = [
    Case(
        op="nms",
        name=f"{count:,} boxes at 0.3",
        inputs=lambda count=count: _inputs(count),
        check_inputs=lambda: _inputs(200),
        ours=find("labelpenet.ops", "nms"),
        reference=adapt(
            _reference,
            lambda f: (
                lambda boxes, scores, threshold: f(
                    boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), threshold
                )[0]
            ),
        ),
        peer=Peer("torchvision", find("torchvision.ops", "nms"), cuda=True),
        compare=equal,
    )
    for count in (1_600, 12_000)
] + [
    Case(
        op="nms_groups",
        name=f"{count:,} boxes of 20 labels at 0.3",
        inputs=lambda count=count: _group_inputs(count),
        check_inputs=lambda: _group_inputs(200),
        ours=find("labelpenet.ops", "nms_groups"),
        reference=_reference,
        # keeps the same boxes, and does not say which one suppressed which
        peer=Peer("torchvision", find("torchvision.ops", "batched_nms"), cuda=True),
        compare=_same_kept,
    )
    for count in (1_600, 12_000)
]
CASES = [small(CASES[0], "200 boxes at 0.3"), *CASES]


def test_nms(case, column, measure):
    measure(case, column)
