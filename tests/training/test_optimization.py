"""Groups of parameters, the schedule, and what a bad gradient does."""

import math

import pytest
import torch
from tiny_cascade import random_cascade, tiny_config, with_values
from torch import nn

from labelpenet.config import Optimizer, TrainConfig
from labelpenet.training.optimization import Stepper, parameter_groups

RATES = {"rate": 0.1, "fc6_rate": 0.5, "fc7_rate": 0.25, "stage5_rate": 0.125}


def stepper_of(module: nn.Module, config: TrainConfig, steps: int) -> Stepper:
    return Stepper(parameter_groups(module, config, config.rate), config, steps)


class Layers(nn.Module):
    """One layer of each name that has a rate of its own, and one that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.stage5 = nn.Sequential(nn.Linear(2, 2))
        self.fc = nn.Module()
        self.fc.fc6 = nn.Linear(2, 2)
        self.fc.fc7 = nn.Linear(2, 2)
        self.fc8c = nn.Linear(2, 2)


def test_rates_by_layer():
    module = Layers()
    config = TrainConfig(**RATES, weight_decay=0.01)
    rates = {}
    for group in parameter_groups(module, config, config.rate):
        for parameter in group["params"]:
            rates[id(parameter)] = (group["lr"], group["weight_decay"])
    factors = {"stage5.0": 0.125, "fc.fc6": 0.5, "fc.fc7": 0.25, "fc8c": 1.0}
    for name, factor in factors.items():
        layer = module.get_submodule(name)
        assert rates[id(layer.weight)] == (0.1 * factor, 0.01)
        assert rates[id(layer.bias)] == (0.1 * factor, 0.0)  # biases do not decay


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_module_has_the_named_layers(number):
    """The names that the rates go by are the modules' own: a renamed layer would lose its rate."""
    cascade = random_cascade()
    config = with_values(tiny_config(), "train", **RATES).train
    groups = parameter_groups(cascade.module(number), config, config.rate)
    assert {group["lr"] for group in groups} == {0.1, 0.05, 0.025, 0.0125}
    count = sum(len(group["params"]) for group in groups)
    assert count == len(list(cascade.module(number).parameters()))


def test_frozen_parameters_are_left_out():
    module = Layers()
    module.stage5.requires_grad_(False)
    parameters = [p for g in parameter_groups(module, TrainConfig(), 1.0) for p in g["params"]]
    assert len(parameters) == 6


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_schedule(optimizer):
    """Warm-up over a tenth of the steps at most, then the full rate, then a tenth of it."""
    config = TrainConfig(optimizer=optimizer, rate=1.0, warmup=4, decay_at=0.8)
    stepper = stepper_of(nn.Linear(1, 1), config, 100)
    rates = []
    for _ in range(100):
        rates.append(stepper.optimizer.param_groups[0]["lr"])
        for parameter in stepper.parameters:
            parameter.grad = torch.ones_like(parameter)
        stepper.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:80] == [1.0] * 75
    assert rates[80:] == pytest.approx([0.1] * 20)


def test_warmup_is_short_in_a_short_run():
    stepper = stepper_of(nn.Linear(1, 1), TrainConfig(rate=1.0, warmup=200), 2)
    assert stepper.optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


@pytest.mark.parametrize("optimizer", list(Optimizer))
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_gradient_changes_nothing(optimizer, bad, first):
    module = nn.Linear(3, 2)
    stepper = stepper_of(module, TrainConfig(optimizer=optimizer, rate=0.1), 20)
    if not first:
        module(torch.ones(1, 3)).sum().backward()
        stepper.step()
    before = [p.detach().clone() for p in module.parameters()]
    module(torch.full((1, 3), bad)).sum().backward()
    norm = stepper.step()
    assert not math.isfinite(norm)
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
    assert all(p.grad is None for p in module.parameters())
    module(torch.ones(1, 3)).sum().backward()  # and the next good one does
    assert math.isfinite(stepper.step())
    assert not any(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_gradients_are_clipped():
    module = nn.Linear(1, 1, bias=False)
    config = TrainConfig(optimizer=Optimizer.SGD, rate=1.0, clip=0.5, momentum=0, weight_decay=0)
    stepper = stepper_of(module, config, 5)
    before = float(module.weight.detach())
    module.weight.grad = torch.full((1, 1), 100.0)
    rate = stepper.optimizer.param_groups[0]["lr"]
    assert stepper.step() == 100.0
    assert before - float(module.weight.detach()) == pytest.approx(0.5 * rate, rel=1e-4)


@pytest.mark.parametrize("optimizer", list(Optimizer))
def test_going_on_from_a_state(optimizer):
    """Stopped after any step and taken up again: the same weights, the same rates."""
    config = TrainConfig(optimizer=optimizer, rate=0.1, warmup=3, decay_at=0.5)

    def course(stop: int) -> list[float]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        stepper = stepper_of(module, config, 10)
        for step in range(10):
            if step == stop:
                kept = {k: v.clone() for k, v in module.state_dict().items()}, stepper.state()
                module = nn.Linear(3, 2)
                stepper = stepper_of(module, config, 10)
                module.load_state_dict(kept[0])
                stepper.load_state(kept[1])
            module(torch.full((1, 3), float(step))).square().sum().backward()
            stepper.step()
        return [*module.weight.flatten().tolist(), stepper.rate]

    undisturbed = course(-1)
    assert all(course(stop) == undisturbed for stop in (0, 1, 4, 5, 9))
