"""ImageNet weights from torchvision's servers, for who asks for them by name."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
from filelock import FileLock  # which torch brings

from labelpenet.config import BackboneName, ModelConfig
from labelpenet.files import writing
from labelpenet.models.weights import WeightsError

TORCHVISION = Path("torchvision")
"""The value of `model.weights` that asks for a download."""

# torchvision publishes each file under a name that ends in the first digits of its SHA-256
_SERVER = "https://download.pytorch.org/models"
_FILES = {
    BackboneName.VGG16: "vgg16-397923af.pth",
    BackboneName.SQUEEZENET1_0: "squeezenet1_0-b66bff10.pth",
}


def weights_file(config: ModelConfig) -> Path | None:
    """The file that `model.weights` names; downloaded first where that is `torchvision`.

    It is kept in torch.hub's folder (TORCH_HOME moves it), where torchvision itself would put it,
    and used from there the next time. Its checksum is verified each time.

    Raises:
        WeightsError: torchvision has no such weights, they cannot be downloaded, or the checksum is
            not the published one.
        OutputError: The folder cannot be written.
    """
    if config.weights != TORCHVISION:
        return config.weights
    if config.backbone not in _FILES:
        known = ", ".join(name.value for name in _FILES)
        raise WeightsError(
            f"model.weights: torchvision has none of {config.backbone.value}, only of {known}"
        )
    name = _FILES[config.backbone]
    digits = Path(name).stem.rpartition("-")[2]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # one of several processes downloads
        if not path.exists():
            _download(f"{_SERVER}/{name}", path, digits)
        elif not sha256(path).startswith(digits):
            raise WeightsError(f"{path}: SHA-256 does not start with {digits}: remove the file")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _download(url: str, path: Path, digits: str) -> None:
    """Downloads whole or not at all; a file of another checksum is not kept."""
    try:
        torch.hub.download_url_to_file(url, str(path), digits, progress=sys.stderr.isatty())
    except RuntimeError as error:  # torch's, for a checksum
        raise WeightsError(f"{url}: {error}") from None
    except OSError as error:  # urllib's errors are OSErrors too
        reason = getattr(error, "reason", None) or error
        raise WeightsError(
            f"{url}: cannot be downloaded: {reason}; give a file: model.weights={path.name}"
        ) from None
