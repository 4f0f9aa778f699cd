"""Weights from torchvision's servers, which a folder stands in for."""

import pytest
import torch

from labelpenet.config import BackboneName, ModelConfig
from labelpenet.files import OutputError
from labelpenet.models import download
from labelpenet.models.backbones import build_backbone
from labelpenet.models.download import sha256, weights_file
from labelpenet.models.weights import WeightsError

ASKED = ModelConfig(backbone=BackboneName.SQUEEZENET1_0, weights="torchvision")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with SqueezeNet's weights under a name with their digits; an empty cache."""
    from torch import nn

    folder = tmp_path / "server"
    folder.mkdir()
    torch.manual_seed(3)
    backbone = build_backbone(ModelConfig(backbone=BackboneName.SQUEEZENET1_0))
    state = {f"features.{k}": v for k, v in backbone.trunk.state_dict().items()}
    fire9 = backbone.make_stage5()[1].state_dict()
    state |= {f"features.12.{k}": v for k, v in fire9.items()}
    state |= {f"classifier.1.{k}": v for k, v in nn.Conv2d(512, 1000, 1).state_dict().items()}
    torch.save(state, folder / "new")
    path = folder / f"squeezenet1_0-{sha256(folder / 'new')[:8]}.pth"
    (folder / "new").rename(path)
    monkeypatch.setattr(download, "_SERVER", folder.as_uri())
    monkeypatch.setitem(download._FILES, BackboneName.SQUEEZENET1_0, path.name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return path


def cached(server):
    return server.parents[1] / "home" / "hub" / "checkpoints" / server.name


def test_published_names():
    """torchvision.models: VGG16_Weights and SqueezeNet1_0_Weights, IMAGENET1K_V1."""
    assert download._SERVER == "https://download.pytorch.org/models"
    assert download._FILES == {
        BackboneName.VGG16: "vgg16-397923af.pth",
        BackboneName.SQUEEZENET1_0: "squeezenet1_0-b66bff10.pth",
    }


def test_sha256(tmp_path):
    """Of "abc", from FIPS 180-2, appendix B.1."""
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_downloaded_once(server):
    backbone = build_backbone(ASKED)
    state = torch.load(server, weights_only=True)
    assert torch.equal(backbone.trunk[0].weight, state["features.0.weight"])
    assert cached(server).read_bytes() == server.read_bytes()
    server.unlink()  # from here on, the server has nothing
    assert weights_file(ASKED) == cached(server)


def test_only_by_name(server, tmp_path):
    assert weights_file(ModelConfig(backbone=BackboneName.SQUEEZENET1_0)) is None
    other = ModelConfig(backbone=BackboneName.SQUEEZENET1_0, weights=tmp_path / "w.pth")
    assert weights_file(other) == tmp_path / "w.pth"
    assert not cached(server).parent.exists()


def test_another_checksum(server):
    server.write_bytes(server.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsError, match=r"squeezenet1_0-.*\.pth: invalid hash value"):
        weights_file(ASKED)
    assert not cached(server).exists()


def test_a_damaged_copy(server):
    weights_file(ASKED)
    cached(server).write_bytes(b"cut off")
    with pytest.raises(WeightsError, match=r"SHA-256 does not start with .*: remove the file"):
        weights_file(ASKED)
    cached(server).unlink()
    assert weights_file(ASKED) == cached(server)


def test_no_server(server):
    server.unlink()
    with pytest.raises(WeightsError, match=r"cannot be downloaded: .*; give a file"):
        weights_file(ASKED)
    assert not cached(server).exists()


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "home").write_text("a file where a folder is wanted")
    with pytest.raises(OutputError, match="cannot write"):
        weights_file(ASKED)


def test_a_network_that_torchvision_has_not():
    with pytest.raises(WeightsError, match="torchvision has none of tiny, only of vgg16"):
        weights_file(ModelConfig(backbone=BackboneName.TINY, weights="torchvision"))
