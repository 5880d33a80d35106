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
    """AdamW on named parameters, over a float32 master copy of them all.

    ``collect`` after each micro-batch's backward pass, ``step`` after the last. ``master`` and ``gradient``
    are one flat tensor each, in the parameters' order: processes that train together add up one buffer, and
    the update is one kernel instead of one for each of hundreds of small matrices.
    """

    def __init__(self, parameters: Iterable[tuple[str, Any]], *, weight_decay: float, dtype: Any) -> None:
        """Take the parameters' present values as masters, and cast the parameters to ``dtype``."""
        import torch

        self._parameters = [parameter for _, parameter in parameters]
        flat = [parameter.detach().float().flatten() for parameter in self._parameters]
        self.master = torch.nn.Parameter(torch.cat(flat))
        self.gradient = torch.zeros_like(self.master)
        self.master.grad = self.gradient
        for parameter in self._parameters:
            parameter.data = parameter.data.to(dtype)
        self._adam = torch.optim.AdamW([self.master], weight_decay=weight_decay, fused=True)
        self._adam.state[self.master] = {
            "step": torch.zeros((), device=self.master.device),
            "exp_avg": torch.zeros_like(self.master),
            "exp_avg_sq": torch.zeros_like(self.master),
        }

    def collect(self) -> None:
        """Add the parameters' gradients to ``gradient``, in float32, and clear them."""
        for parameter, part in zip(self._parameters, self._parts(self.gradient), strict=True):
            if parameter.grad is not None:
                part.add_(parameter.grad)
                parameter.grad = None

    def step(self, rate: float, max_norm: float) -> float:
        """One update at learning rate ``rate``; returns the gradient's norm before clipping."""
        import torch

        self._adam.param_groups[0]["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_([self.master], max_norm)
        self._adam.step()
        self.gradient.zero_()
        self._publish()
        return float(norm)

    def tensors(self) -> dict[str, Any]:
        """Everything that the next update depends on: not copies, and exact."""
        return {"master": self.master.detach(), **self._adam.state[self.master]}

    def load(self, tensors: dict[str, Any]) -> None:
        """Go on from what ``tensors`` returned."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self._publish()

    def _publish(self) -> None:
        import torch

        with torch.no_grad():
            for parameter, part in zip(self._parameters, self._parts(self.master), strict=True):
                parameter.copy_(part)

    def _parts(self, flat: Any) -> list[Any]:
        """Views of ``flat`` in the parameters' shapes."""
        parts = flat.detach().split([parameter.numel() for parameter in self._parameters])
        return [part.view_as(parameter) for part, parameter in zip(parts, self._parameters, strict=True)]
