"""The region proposal network: where anchors lie, what is proposed, what is learned."""

import math

import pytest
import torch
from torch.nn import functional as F

from labelpenet.config import BackboneName, DetectionConfig, ModelConfig
from labelpenet.models.backbones import Grid, build_backbone
from labelpenet.models.rpn import Rpn, RpnOutput

GRIDS = {
    BackboneName.VGG16: (Grid(8), Grid(16)),
    BackboneName.TINY: (Grid(8), Grid(16)),
    # its first convolution has no padding: cell 0 is centred on pixel 9, pooled again on 17
    BackboneName.SQUEEZENET1_0: (Grid(8, 5.5), Grid(16, 9.5)),
}


def rpn(grid: Grid = Grid(8), **config: object) -> Rpn:  # noqa: B008 - frozen
    values = {"anchor_sizes": (32.0,), "anchor_ratios": (1.0,)} | config
    return Rpn(4, grid, 6, DetectionConfig(**values))


@pytest.mark.parametrize("name", list(BackboneName))
def test_grids(name):
    backbone = build_backbone(ModelConfig(backbone=name))
    assert (backbone.grid, backbone.pool4_grid) == GRIDS[name]


@pytest.mark.parametrize(
    ("grid", "first", "second"),
    [
        # centres of cell (0, 0) and of the next one to the right, (x, y)
        (Grid(8), (4.0, 4.0), (12.0, 4.0)),
        (Grid(16), (8.0, 8.0), (24.0, 8.0)),
        (Grid(8, 5.5), (9.5, 9.5), (17.5, 9.5)),
        (Grid(16, 9.5), (17.5, 17.5), (33.5, 17.5)),
    ],
)
def test_anchors_are_centred_on_their_cells(grid, first, second):
    anchors = rpn(grid).anchors(3, 2)
    assert anchors.shape == (6, 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[0].tolist() == list(first)
    assert centres[1].tolist() == list(second)
    down = centres[2] - centres[0]  # rows of cells follow each other
    assert down.tolist() == [0.0, grid.stride]
    assert (anchors[:, 2:] - anchors[:, :2] == 32).all()


def test_anchor_shapes():
    net = rpn(anchor_sizes=(10.0, 20.0), anchor_ratios=(0.25, 1.0, 4.0))
    anchors = net.anchors(1, 1)
    shapes = (anchors[:, 2:] - anchors[:, :2]).tolist()  # ratio = height over width, area kept
    assert shapes == [[20, 5], [10, 10], [5, 20], [40, 10], [20, 20], [10, 40]]


def test_output_order_matches_the_anchors():
    """What the network says of a cell is said of that cell's anchors."""
    net = rpn(anchor_sizes=(8.0, 16.0), anchor_ratios=(1.0,))
    with torch.no_grad():
        for layer in (net.conv, net.objectness, net.offsets):
            layer.weight.zero_()
        net.conv.weight[0, 0, 1, 1] = 1
        net.objectness.weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0])
        net.offsets.weight[:, 0, 0, 0] = torch.arange(8.0)
    features = torch.zeros(1, 4, 3, 5)
    features[0, 0, 2, 1] = 1  # row 2, column 1
    output = net(features)
    lit = output.objectness.nonzero().flatten().tolist()
    place = (2 * 5 + 1) * 2
    assert lit == [place, place + 1]
    assert output.objectness[lit].tolist() == [1, 2]
    assert output.offsets[lit].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    centre = (output.anchors[place, :2] + output.anchors[place, 2:]) / 2
    assert centre.tolist() == [1 * 8 + 4, 2 * 8 + 4]


def output_of(anchors: list[list[float]], scores: list[float]) -> RpnOutput:
    boxes = torch.tensor(anchors)
    return RpnOutput(boxes, torch.tensor(scores), torch.zeros(len(boxes), 4))


def test_propose():
    output = output_of(
        [
            [-10.0, -10.0, 30.0, 30.0],  # clipped
            [0.0, 0.0, 30.0, 30.0],  # the same box then: suppressed
            [40.0, 10.0, 80.0, 60.0],  # clipped on the right
            [0.0, 30.0, 3.0, 50.0],  # thinner than 4 pixels
            [10.0, 10.0, 20.0, 20.0],
        ],
        [0.5, 0.4, 0.9, 5.0, 0.1],
    )
    boxes = rpn().propose(output, (50, 60), 10)
    assert boxes.tolist() == [[40, 10, 60, 50], [0, 0, 30, 30], [10, 10, 20, 20]]
    assert rpn().propose(output, (50, 60), 2).tolist() == boxes[:2].tolist()
    few = rpn(rpn_pre_nms=2).propose(output, (50, 60), 10)  # the two best before any is dropped
    assert few.tolist() == [[40, 10, 60, 50]]


def test_propose_in_a_thin_image():
    boxes = rpn().propose(output_of([[0.0, 0.0, 9.0, 9.0]], [1.0]), (50, 1), 10)
    assert boxes.shape == (0, 4)


def test_propose_applies_the_offsets():
    output = RpnOutput(
        torch.tensor([[10.0, 10.0, 30.0, 30.0]]),
        torch.zeros(1),
        torch.tensor([[0.5, 0.0, math.log(2), 0.0]]),
    )
    (box,) = rpn().propose(output, (100, 100), 5).tolist()
    assert box == pytest.approx([10, 10, 50, 30])


ANCHORS = [[0.0, 0.0, 20.0, 20.0], [20.0, 0.0, 40.0, 20.0], [0.0, 20.0, 20.0, 40.0]]


def loss(net, output, targets, weights, size=(40, 40)):
    targets = torch.tensor(targets).reshape(-1, 4)
    return net.loss(output, targets, torch.tensor(weights), size, torch.Generator().manual_seed(0))


def test_loss_by_hand():
    output = output_of(ANCHORS, [2.0, -1.0, 0.5])
    found = loss(rpn(), output, [[0.0, 0.0, 20.0, 22.0]], [0.25])
    # anchor 0 is the object (IoU 10/11); 1 is background; 2 overlaps by 2 / 49, background too
    truth = torch.tensor([1.0, 0.0, 0.0])
    expected = F.binary_cross_entropy_with_logits(output.objectness, truth)
    assert found["rpn_objectness"].item() == pytest.approx(expected.item())
    # the target's centre is 1 lower, its height 1.1 times: smooth L1 with beta 1/9 below it
    dy, dh = 1 / 20, math.log(1.1)
    by_hand = 0.25 * (0.5 * dy * dy * 9 + 0.5 * dh * dh * 9) / 3
    assert found["rpn_box"].item() == pytest.approx(by_hand, rel=1e-4)


def test_weights_scale_the_box_loss_alone():
    output = output_of(ANCHORS, [2.0, -1.0, 0.5])
    one = loss(rpn(), output, [[1.0, 1.0, 22.0, 20.0]], [1.0])
    half = loss(rpn(), output, [[1.0, 1.0, 22.0, 20.0]], [0.5])
    assert one["rpn_box"].item() > 0
    assert half["rpn_box"].item() == pytest.approx(one["rpn_box"].item() / 2)
    assert half["rpn_objectness"].item() == one["rpn_objectness"].item()


def test_the_best_anchor_of_every_target_is_an_object():
    output = output_of(ANCHORS, [0.0, 0.0, 0.0])
    found = loss(rpn(), output, [[30.0, 10.0, 34.0, 14.0]], [1.0])  # IoU far below 0.7
    assert found["rpn_box"].item() > 0


def test_no_targets():
    net = rpn()
    output = net(torch.rand(1, 4, 5, 5))
    found = loss(net, output, [], [])
    expected = F.binary_cross_entropy_with_logits(output.objectness, torch.zeros(25))
    assert found["rpn_box"].item() == 0
    # of the 25 anchors of side 32 in an image of 40 x 40 those inside count: one
    inside = output.objectness[12]
    expected = F.binary_cross_entropy_with_logits(inside, torch.tensor(0.0))
    assert found["rpn_objectness"].item() == pytest.approx(expected.item())
    sum(found.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_an_image_smaller_than_every_anchor():
    net = rpn()
    output = net(torch.rand(1, 4, 1, 1))
    found = loss(net, output, [[1.0, 1.0, 6.0, 6.0]], [0.5], size=(8, 8))
    assert torch.isfinite(sum(found.values()))
    assert found["rpn_box"].item() > 0


def test_batch_size():
    net = rpn(rpn_batch=4)
    output = net(torch.rand(1, 4, 10, 10))
    (gradient,) = torch.autograd.grad(
        loss(net, output, [[20.0, 20.0, 52.0, 52.0]], [1.0], size=(80, 80))["rpn_objectness"],
        output.objectness,
    )
    assert int((gradient != 0).sum()) == 4
