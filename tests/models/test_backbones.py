"""Backbones: shapes, frames, weights files."""

import pytest
import torch
from safetensors.torch import save_file

from labelpenet.config import BackboneName, ModelConfig
from labelpenet.models.backbones import build_backbone
from labelpenet.models.weights import WeightsError, read_weights


@pytest.mark.parametrize("name", list(BackboneName))
def test_shapes_and_signs(name):
    backbone = build_backbone(ModelConfig(backbone=name)).eval()
    with torch.no_grad():
        trunk = backbone.trunk(torch.randn(1, 3, 96, 128))
        stage5 = backbone.make_stage5()(trunk)
        pool4 = backbone.make_pool4()(trunk)
    assert trunk.shape[1] == backbone.channels
    assert stage5.shape[1] == backbone.stage5_channels
    assert stage5.shape[2:] == trunk.shape[2:]  # stride 8 is kept
    assert pool4.shape[1] == backbone.pool4_channels
    assert abs(pool4.shape[2] - trunk.shape[2] / 2) <= 1
    for features in (trunk, stage5, pool4):  # Excitation BP needs activations >= 0
        assert float(features.min()) >= 0


@pytest.mark.parametrize("name", list(BackboneName))
def test_grid_is_where_the_cells_look(name):
    """The gradient of one trunk cell is centred on the pixels that the grid names."""
    backbone = build_backbone(ModelConfig(backbone=name)).eval()
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    trunk = backbone.trunk(image)
    row, column = 13, 15
    trunk[0, :, row, column].sum().backward()
    weight = image.grad.abs().sum((0, 1))
    for axis, cell in ((1, row), (0, column)):
        profile = weight.sum(axis)
        support = (profile > 0).nonzero().flatten()
        # the receptive field is symmetric around the cell's centre, in continuous coordinates
        middle = (float(support[0]) + float(support[-1]) + 1) / 2
        grid = backbone.grid
        expected = grid.offset + grid.stride * (cell + 0.5)
        if name is BackboneName.TINY:  # group norms look at the whole image: take the mass instead
            middle = float((profile * (torch.arange(256) + 0.5)).sum() / profile.sum())
            assert abs(middle - expected) < 20
        else:
            assert abs(middle - expected) <= 4.0


def test_smallest_image_passes():
    for name in BackboneName:
        backbone = build_backbone(ModelConfig(backbone=name))
        side = backbone.smallest
        trunk = backbone.trunk(torch.randn(1, 3, side, side))
        assert backbone.make_pool4()(trunk).numel() > 0


def test_every_bad_key_is_named(tmp_path):
    backbone = build_backbone(ModelConfig(backbone=BackboneName.TINY))
    state = {f"trunk.{k}": v for k, v in backbone.trunk.state_dict().items()}
    del state["trunk.0.weight"]
    state["trunk.1.weight"] = torch.zeros(7)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError) as error:
        build_backbone(ModelConfig(backbone=BackboneName.TINY, weights=path))
    assert "0.weight: missing" in str(error.value)
    assert "1.weight: expected [32], got [7]" in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(path)
    for content in (b"", b"not weights at all", b"\x80\x04K\x01."):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"cannot be read as weights|expected a state dict"):
            read_weights(path)


def test_code_in_a_pickle_is_not_run(tmp_path):
    import os
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(WeightsError):
        read_weights(path)
    assert not (tmp_path / "pwned").exists()


def test_squeezenet_weights(shared):
    """ImageNet weights load, and fc6 starts as a tenth of conv10's mean over the cells."""
    config = ModelConfig(
        backbone=BackboneName.SQUEEZENET1_0,
        weights=shared / "weights" / "squeezenet1_0.safetensors",
        fc_width=1024,
    )
    backbone = build_backbone(config)
    head = backbone.make_fc(512, 1024, 0.0)
    pooled = torch.rand(3, 512, 7, 7)
    rows = read_weights(config.weights)["classifier.1.weight"].flatten(1)
    bias = read_weights(config.weights)["classifier.1.bias"]
    expected = 0.1 * torch.relu(32 * pooled.mean((2, 3)) @ rows.T + bias)
    assert torch.allclose(head(pooled)[0][:, :1000], expected, rtol=1e-4, atol=1e-3)
