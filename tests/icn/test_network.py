"""The cue-propagation network: shapes, what each ablation leaves out, gradients, enhancement."""

import dataclasses

import pytest
import torch

from labelpenet.config import BackboneName, IcnConfig, ModelConfig
from labelpenet.icn.network import CueNetwork, Fusion, enhance, scaled
from labelpenet.models.backbones import build_backbone

SMALL = IcnConfig(channels=8)


def network(name="tiny", config=SMALL):
    torch.manual_seed(0)
    return CueNetwork(build_backbone(ModelConfig(backbone=BackboneName(name))), config).eval()


@pytest.mark.parametrize("name", ["tiny", "squeezenet1_0", "vgg16"])
@pytest.mark.parametrize("size", [(48, 64), (33, 70), (20, 20)])
def test_full_resolution(name, size):
    with torch.no_grad():
        logits = network(name)(torch.rand(2, 3, *size) * 255, torch.rand(2, *size))
    assert logits.shape == (2, *size)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "levels"), [("tiny", 4), ("squeezenet1_0", 4), ("vgg16", 5)])
def test_levels(name, levels):
    """One of every resolution of the trunk, and stage 5."""
    one = network(name)
    assert len(one.laterals) == levels
    assert len(one.context) == len(one.detail) == levels - 1


def test_fusion_is_equation_3():
    fusion = Fusion(8)
    small, large = torch.rand(1, 8, 3, 4), torch.rand(1, 8, 6, 8)
    up = torch.nn.functional.interpolate(small, (6, 8), mode="bilinear")
    want = torch.relu(fusion.second(torch.relu(fusion.first(torch.cat((up, large), 1)))))
    assert torch.equal(fusion(small, large), want)


def test_the_cue_matters_unless_it_is_left_out():
    image, cue = torch.rand(1, 3, 40, 40) * 255, torch.zeros(1, 40, 40)
    other = cue.clone()
    other[0, 10:20, 10:20] = 1
    for kept in (True, False):
        one = network(config=dataclasses.replace(SMALL, prm_input=kept))
        with torch.no_grad():
            assert torch.equal(one(image, cue), one(image, other)) != kept


def test_without_fusion():
    one = network(config=dataclasses.replace(SMALL, fusion=False))
    assert len(one.laterals) == 1
    assert not len(one.context)
    assert one(torch.rand(1, 3, 40, 48), torch.rand(1, 40, 48)).shape == (1, 40, 48)


def test_every_parameter_learns():
    one = network().train()
    one(torch.rand(2, 3, 32, 40) * 255, torch.rand(2, 32, 40)).square().mean().backward()
    without = [n for n, p in one.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("binary", [True, False])
def test_enhance(steps, binary):
    config = dataclasses.replace(SMALL, steps=steps, binary=binary)
    image, cues = torch.rand(3, 32, 40) * 255, torch.rand(3, 32, 40)
    with torch.no_grad():
        got = enhance(network(), image, cues, config)
    assert got.shape == cues.shape
    assert got.min() >= 0
    assert got.max() <= 1
    if steps == 0:
        assert torch.equal(got, cues)
    elif binary:
        assert set(got.unique().tolist()) <= {0.0, 1.0}
        assert got.flatten(1).any(1).all()
    with torch.no_grad():
        assert enhance(network(), image, cues[:0], config).shape == (0, 32, 40)


def test_scaled():
    maps = torch.stack((torch.arange(6.0).reshape(2, 3) - 2, torch.full((2, 3), 7.0)))
    got = scaled(maps)
    assert got[0].flatten().tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert not got[1].any()
    assert scaled(torch.zeros(0, 2, 3)).shape == (0, 2, 3)
