"""Muon: momentum made orthogonal, for hidden matrices (Jordan et al., 2024); knows no network."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315  # quintic that drives singular values towards 1 in five steps


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearest (semi-)orthogonal matrices, roughly, by Newton-Schulz.

    Args:
        matrices: `[N, rows, columns]` float.
        steps: of the iteration.

    Returns:
        As `matrices`; singular values between about 0.7 and 1.2.
    """
    flat = matrices.bfloat16()
    tall = flat.shape[-2] > flat.shape[-1]
    if tall:
        flat = flat.transpose(-2, -1)
    flat = flat / (flat.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = flat @ flat.transpose(-2, -1)
        flat = _A * flat + (_B * gram + _C * gram @ gram) @ flat
    if tall:
        flat = flat.transpose(-2, -1)
    result: Tensor = flat.to(matrices.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Steps matrices along orthogonal directions.

    A parameter whose rows are several matrices stacked (`parts`) is taken apart first.

    Args:
        params: groups of matrices; each group may set `parts`.
        lr: length of a step, relative to the root of rows / columns where there are more rows.
        momentum: of the running mean of gradients.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        params: Iterable[dict[str, object]],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for parameters in shapes.values():
                self._step_alike(group, parameters)

    def _step_alike(self, group: dict[str, float], parameters: list[Tensor]) -> None:
        looked_ahead = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "mean" not in state:
                state["mean"] = torch.zeros_like(parameter)
            mean: Tensor = state["mean"]
            mean.lerp_(parameter.grad, 1 - group["momentum"])
            looked_ahead.append(parameter.grad.lerp(mean, group["momentum"]))
        parts, columns = int(group["parts"]), parameters[0].shape[1]
        stacked = torch.stack(looked_ahead).reshape(len(parameters) * parts, -1, columns)
        scale = max(1.0, stacked.shape[1] / columns) ** 0.5
        updates = orthogonal(stacked).reshape(len(parameters), -1, columns)
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * scale)
