"""Matching scores of an image's segments, from run lengths."""

import torch

from . import scenes
from .cases import Case, Peer, adapt, find, small
from .compare import near


def _masks(count, height, width):
    """Ellipses [count, height, width] bool, each in a box of its own."""
    boxes = scenes.boxes(count, height, width)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x = (torch.arange(width) + 0.5 - middle[:, :1]) / half[:, :1]
    y = (torch.arange(height) + 0.5 - middle[:, 1:]) / half[:, 1:]
    return y.square()[:, :, None] + x.square()[:, None] <= 1


def _runs(masks):
    """Run lengths down the columns, zeros first: [N] int32, offsets [R + 1] int64."""
    counts, offsets = [], [0]
    for mask in masks:
        flat = torch.cat((torch.tensor([False]), mask.T.flatten()))
        edges = (flat[1:] != flat[:-1]).nonzero().flatten()
        ends = torch.cat((edges, torch.tensor([mask.numel()])))
        counts.append(ends.diff(prepend=torch.zeros(1, dtype=torch.int64)))
        offsets.append(offsets[-1] + len(ends))
    return torch.cat(counts).int(), torch.tensor(offsets)


def _inputs(maps, regions, height, width):
    masks = _masks(regions, height, width)
    shapes = _masks(maps, height, width).float()
    return shapes, *_runs(masks), torch.tensor([height, width])


def _ours(function):
    def scores(maps, counts, offsets, size):
        from labelpenet.ops import RegionMasks

        return function(maps, RegionMasks(counts, offsets, tuple(size.tolist())))

    return scores


def _dense(function):
    """The same from masks: they are drawn first, as the peer's are, which is not timed."""

    def scores(maps, counts, offsets, size):
        return function(maps.double(), _drawn(counts, offsets, size))

    return scores


def _drawn(counts, offsets, size):
    from labelpenet.ops import RegionMasks

    regions = RegionMasks(counts, offsets, tuple(size.tolist()))
    return torch.stack([regions.mask(i) for i in range(len(regions))])


def _product(function):
    """A matrix product of maps and masks, a hundred masks at a time."""

    def scores(maps, counts, offsets, size):
        edges = maps + torch.nn.functional.max_pool2d(-maps, 3, 1, 1)
        both = torch.cat((maps, edges)).flatten(1)
        found = []
        for first in range(0, len(offsets) - 1, 100):
            part = offsets[first : first + 101]
            masks = _drawn(counts, part, size).flatten(1).float()
            area = masks.sum(1)
            inside, outline = function(both, masks.T).chunk(2)
            found.append(0.95 * inside / area + 0.1 * outline - 0.8 * (area - inside))
        return torch.cat(found, 1)

    return scores


def case(maps, regions, height, width):
    """Scores of all pairs."""
    return Case(
        op="matching_scores",
        name=f"{regions:,} segments, {maps} maps of {height} x {width}",
        inputs=lambda: _inputs(maps, regions, height, width),
        check_inputs=lambda: _inputs(3, 20, 60, 80),
        ours=adapt(find("labelpenet.ops", "matching_scores"), _ours),
        reference=adapt(find("labelpenet.reference", "matching_scores"), _dense),
        peer=Peer("torch.mm on masks", adapt(find("torch", "mm"), _product)),
        compare=lambda got, want: near(got, want, 1e-4),
        cuda=False,  # the sizes travel as a tensor here
        dense_bytes=lambda shapes, counts, offsets, size: 4 * (len(offsets) - 1) * height * width,
    )


_photo = case(20, 2_000, 375, 500)
CASES = [small(_photo, "20 segments, 3 maps of 60 x 80"), _photo]


def test_matching(case, column, measure):
    measure(case, column)
