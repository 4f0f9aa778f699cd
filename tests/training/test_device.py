"""Training on a CUDA device, or on one that is not there: what it learns is what the CPU learns."""

import pytest
import torch
from pretend_device import is_pretended
from tiny_cascade import CLASS_MAPS, saved_state, tiny_config

from labelpenet.training.engine import Engine
from labelpenet.training.optimization import Stepper
from labelpenet.training.trainer import Trainer

STAGES = (*(f"module{number}.pt" for number in range(5)), "forward_backward.pt")


def train(config, data, out, device):
    Trainer(config, *data, out, engine=Engine(config, str(device))).run()
    return [saved_state(out / name) for name in STAGES]


def assert_finite(weights):
    for name, state in zip(STAGES, weights, strict=True):
        assert all(torch.isfinite(value).all() for value in state.values()), name


def assert_learned(ours, theirs, exact):
    """The same bits where the CPU computes both; else as many finite numbers."""
    assert_finite(ours)
    for name, a, b in zip(STAGES, ours, theirs, strict=True):
        assert a.keys() == b.keys()
        if exact:
            assert not [key for key in a if not torch.equal(a[key], b[key])], name


@pytest.mark.parametrize("settings", [(), CLASS_MAPS, ("train.optimizer=sgd", "model.dropout=0")])
def test_every_stage(settings, device, data, tmp_path):
    config = tiny_config(*settings)
    ours = train(config, data, tmp_path / "there", device)
    theirs = train(config, data, tmp_path / "here", "cpu")
    assert_learned(ours, theirs, exact=is_pretended(device))


def test_mixed_precision(device, data, tmp_path):
    """Autocast has lists of its own on CUDA, so that dtypes meet that do not on the CPU."""
    config = tiny_config(*CLASS_MAPS, "train.precision=bf16")
    assert_finite(train(config, data, tmp_path, device))


def test_stopped_and_resumed(device, data, tmp_path, monkeypatch):
    config = tiny_config("train.checkpoint_every=1", "train.forward_backward_steps=2")
    whole = train(config, data, tmp_path / "whole", device)
    trainer = Trainer(config, *data, tmp_path / "broken", engine=Engine(config, str(device)))
    steps, step = 0, Stepper.step

    def stopping(stepper):
        nonlocal steps
        steps += trainer.done == 4
        if steps == 3:  # a forward and a backward step are behind it, and kept
            raise KeyboardInterrupt
        return step(stepper)

    monkeypatch.setattr(Stepper, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    monkeypatch.undo()
    assert (tmp_path / "broken" / "state.pt").exists()
    resumed = train(config, data, tmp_path / "broken", device)
    assert_learned(resumed, whole, exact=is_pretended(device))
