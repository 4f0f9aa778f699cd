"""ICN on a CUDA device, or on one that is not there: as on the CPU."""

import dataclasses

import pytest
import torch
from icn_scenes import icn_config
from pretend_device import is_pretended
from tiny_cascade import random_cascade

from labelpenet.data import load_dataset, load_image
from labelpenet.icn.labeler import IcnLabeler
from labelpenet.icn.model import load_icn
from labelpenet.icn.training import train_icn
from labelpenet.labeler import Labeler
from labelpenet.models.cascade import save_checkpoint


@pytest.mark.parametrize("settings", [{}, {"taught": True}, {"precision": "bf16"}])
def test_training_and_labels(settings, device, scenes, tmp_path):
    config = icn_config(saliency=str(scenes)) if settings.get("taught") else icn_config()
    precision = settings.get("precision", "fp32")
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, precision=precision)
    )
    image = load_image(load_dataset(scenes, split="train").records[0].path)
    weights, answers = [], []
    for where in ("cpu", str(device)):
        path = train_icn(config, scenes, tmp_path / where[:4], split="train", device=where)
        weights.append(load_icn(path)[0].state_dict())
        answers.append(
            [IcnLabeler(path, device=where)(image, tags).instances for tags in ((0, 1), ())]
        )
    assert all(torch.isfinite(value).all() for value in weights[1].values())
    assert all(type(one.masks) is torch.Tensor and not one.masks.is_cuda for one in answers[1])
    if is_pretended(device) and precision == "fp32":
        here, there = weights
        assert not [key for key in here if not torch.equal(here[key], there[key])]
        for a, b in zip(*answers, strict=True):
            assert torch.equal(a.masks, b.masks)
            assert torch.equal(a.scores, b.scores)


@pytest.mark.parametrize("kind", ["prm", "icn"])
def test_attention_of_the_cascade(kind, device, scenes, tmp_path):
    icn = train_icn(icn_config(), scenes, tmp_path / "run", split="train")
    path = tmp_path / "module1.pt"
    overrides = (f"calibration.attention={kind}", f"icn.attention_checkpoint={icn}")
    save_checkpoint(path, random_cascade(), 1)
    image = load_image(load_dataset(scenes, split="train").records[0].path)
    found = [Labeler(path, one, overrides=overrides)(image, (0, 1)) for one in ("cpu", str(device))]
    here, there = (one.instances for one in found)
    assert not there.masks.is_cuda
    if is_pretended(device):
        assert torch.equal(here.masks, there.masks)
        assert torch.equal(here.scores, there.scores)
