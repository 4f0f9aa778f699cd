"""Linear classifiers on features that stay as they are: convex problems, solved in one go."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def fit_linear(
    features: Tensor, classes: int, loss: Callable[[Tensor], Tensor], *, steps: int, decay: float
) -> tuple[Tensor, Tensor]:
    """The weight [classes, D] and bias [classes] that minimise a convex loss.

    Args:
        features: [N, D] float32, of about unit scale.
        classes: Outputs.
        loss: Of the logits [N, classes]; a scalar.
        steps: Of L-BFGS (Liu and Nocedal, 1989), at most.
        decay: Weight of the squared norm of the weight.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> fit = lambda z: torch.nn.functional.cross_entropy(z, torch.tensor([0, 1]))
        >>> weight, bias = fit_linear(x, 2, fit, steps=20, decay=1e-3)
        >>> (x @ weight.T + bias).argmax(1).tolist()
        [0, 1]
    """
    weight = torch.zeros(features.shape[1], classes, device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        value = loss(features @ weight + bias) + decay * weight.square().sum()
        value.backward()
        return value

    # a line search needs the digits that autocast would take
    with torch.enable_grad(), torch.autocast(features.device.type, enabled=False):
        solver.step(objective)
    return weight.detach().T.contiguous(), bias.detach()
