"""Optimiser, learning rate schedule and one step of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from labelpenet.config import Optimizer, TrainConfig
from labelpenet.training.engine import Engine

Groups = list[dict[str, Any]]


def parameter_groups(module: nn.Module, config: TrainConfig, rate: float) -> Groups:
    """Parameters by rate (trunk and stage 5, each layer of a head); biases do not decay."""
    factors = {
        "backbone": config.stage5_rate,
        "stage5": config.stage5_rate,
        "fc6": config.fc6_rate,
        "fc7": config.fc7_rate,
        "fc8c": config.classifier_rate,
        "tags": config.classifier_rate,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((factors[part] for part in name.split(".") if part in factors), 1.0)
        decay = 0.0 if parameter.dim() == 1 else config.weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


class Stepper:
    """Accumulates the gradients of a batch and steps, with warm-up, one drop and clipping.

    Args:
        groups: Parameters with their rates.
        config: Optimiser and schedule.
        steps: Length of the schedule.
        engine: Averages the gradients of several processes; None where there is one alone.
        decay_at: Share of the steps after which the rate drops; None is the settings'.
    """

    def __init__(
        self,
        groups: Groups,
        config: TrainConfig,
        steps: int,
        engine: Engine | None = None,
        *,
        decay_at: float | None = None,
    ) -> None:
        self.config = config
        self.engine = engine
        decay_at = config.decay_at if decay_at is None else decay_at
        self.parameters = [p for g in groups for p in _parameters(g)]
        self.optimizer: torch.optim.Optimizer
        if config.optimizer is Optimizer.SGD:
            self.optimizer = torch.optim.SGD(groups, lr=config.rate, momentum=config.momentum)
        else:
            self.optimizer = torch.optim.AdamW(groups, lr=config.rate, fused=True)
        drop = max(round(steps * decay_at), 1)
        warmup = min(config.warmup, max(steps // 10, 1))

        def factor(step: int) -> float:
            return min((step + 1) / (warmup + 1), 1.0) * (0.1 if step >= drop else 1.0)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def step(self) -> float:
        """Applies the gradients gathered so far; returns their norm before clipping."""
        if self.engine is not None:
            self.engine.average_gradients(self.parameters)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip))
        if math.isfinite(norm):  # a NaN step would destroy the weights for good
            self.optimizer.step()
            self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    @property
    def rate(self) -> float:
        """The present learning rate of new layers."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def state(self) -> dict[str, Any]:
        """What load_state takes to go on from here."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes on where state() was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]


def _parameters(group: dict[str, Any]) -> Iterable[nn.Parameter]:
    params = group["params"]
    assert isinstance(params, list)
    return params
