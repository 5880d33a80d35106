"""AdamW over float32 copies of the adapter's weights, and the learning rate's schedule.

The model computes with the copies' bf16 cast: its matrix products are the fast ones, and updates that are
smaller than bf16's spacing are not lost, for they add up in the copies.
"""

import math
from collections.abc import Iterable
from typing import Any


def scheduled_rate(step: int, *, total: int, warmup: int, peak: float) -> float:
    """Linear warm-up over ``warmup`` steps, then half a cosine down to zero after the last of ``total``."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class MasterAdamW:
    """AdamW on named parameters, each with a float32 master copy.

    ``collect`` after each micro-batch's backward pass, ``step`` after the last.
    """

    def __init__(self, parameters: Iterable[tuple[str, Any]], *, weight_decay: float, dtype: Any) -> None:
        """Take the parameters' present values as masters, and cast the parameters to ``dtype``."""
        import torch

        self._parameters = dict(parameters)
        self.masters = {
            name: torch.nn.Parameter(parameter.detach().float().clone())
            for name, parameter in self._parameters.items()
        }
        for parameter in self._parameters.values():
            parameter.data = parameter.data.to(dtype)
        self._adam = torch.optim.AdamW(self.masters.values(), weight_decay=weight_decay, fused=True)

    def collect(self) -> None:
        """Add the parameters' gradients to the masters', in float32, and clear them."""
        for name, parameter in self._parameters.items():
            master = self.masters[name]
            if parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, rate: float, max_norm: float) -> float:
        """One update at learning rate ``rate``; returns the gradients' norm before clipping."""
        import torch

        for group in self._adam.param_groups:
            group["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.masters.values(), max_norm)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        self._publish()
        return float(norm)

    def tensors(self) -> dict[str, Any]:
        """Everything that the next update depends on, by a flat name, exact."""
        tensors = {f"master.{name}": master.detach() for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for part, value in self._adam.state.get(master, {}).items():
                tensors[f"{part}.{name}"] = value
        return tensors

    def load(self, tensors: dict[str, Any]) -> None:
        """Go on from what ``tensors`` returned."""
        import torch

        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"master.{name}"])
                self._adam.state[master] = {
                    part: tensors[f"{part}.{name}"].to(master.device, copy=True)
                    for part in ("step", "exp_avg", "exp_avg_sq")
                    if f"{part}.{name}" in tensors
                }
        self._publish()

    def _publish(self) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self.masters[name])
