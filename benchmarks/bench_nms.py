"""Greedy non-maximum suppression."""

import torch

from . import scenes
from .cases import Case, Peer, adapt, find, small
from .compare import equal

_reference = find("labelpenet.reference.nms", "nms_groups")
_torchvision = find("torchvision.ops", "nms")


def _same_kept(got, want):
    equal(got[0] if isinstance(got, tuple) else got, want[0] if isinstance(want, tuple) else want)


def _inputs(count):
    return scenes.boxes(count, 600, 800), scenes.scores(count), 0.3


def _one_label_each(count, labels=20):
    boxes, scores, threshold = _inputs(count)
    return boxes, scores, scenes.labels(count, labels), threshold


def _every_label(count, labels=20):
    """Each box once for every label, with a score of its own: what a detector hands over."""
    boxes = scenes.boxes(count, 600, 800).repeat(labels, 1)
    index = torch.arange(labels).repeat_interleave(count)
    return boxes, scenes.scores(labels * count), index, 0.3


def _one_group(reference):
    def nms(boxes, scores, threshold):
        return reference(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), threshold)[0]

    return nms


def _label_loop(nms):
    """A call for every label, as people write it; the kept ones are then put in order of score."""

    def kept(boxes, scores, labels, threshold):
        found = []
        for label in labels.unique():
            of_label = (labels == label).nonzero()[:, 0]
            found.append(of_label[nms(boxes[of_label], scores[of_label], threshold)])
        keep = torch.cat(found)
        return keep[scores[keep].argsort(descending=True)]

    return kept


def plain(count):
    """One group of boxes."""
    return Case(
        op="nms",
        name=f"{count:,} boxes at 0.3",
        inputs=lambda: _inputs(count),
        check_inputs=lambda: _inputs(200),
        ours=find("labelpenet.ops", "nms"),
        reference=adapt(_reference, _one_group),
        peer=Peer("torchvision", _torchvision, cuda=True),
        compare=equal,
    )


def _groups(name, inputs, check_inputs, peer):
    return Case(
        op="nms_groups",
        name=name,
        inputs=inputs,
        check_inputs=check_inputs,
        ours=find("labelpenet.ops", "nms_groups"),
        reference=_reference,
        # peers keep the same boxes, and do not say which one suppressed which
        peer=peer,
        compare=_same_kept,
    )


_batched = Peer("torchvision", find("torchvision.ops", "batched_nms"), cuda=True)
CASES = [
    small(plain(1_600), "200 boxes at 0.3"),
    plain(1_600),
    plain(12_000),
    *(
        _groups(
            f"{count:,} boxes of 20 labels at 0.3",
            lambda count=count: _one_label_each(count),
            lambda: _one_label_each(200),
            _batched,
        )
        for count in (1_600, 12_000)
    ),
    _groups(
        "1,600 boxes under each of 20 labels at 0.3",
        lambda: _every_label(1_600),
        lambda: _every_label(20),
        Peer("torchvision, label by label", adapt(_torchvision, _label_loop), cuda=True),
    ),
]


def test_nms(case, column, measure):
    measure(case, column)
