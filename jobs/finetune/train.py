"""The training loop: from one step to the next, and nothing else.

A step's loss is the sum over all its micro-batches divided by all their supervised tokens, so gradient
accumulation gives the gradient of one large batch, however long its rows.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.chat import Example
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from jobs.finetune.batches import Step, collate, plan_epoch, steps_per_epoch, supervised_tokens
from jobs.finetune.loss import summed_nll
from jobs.finetune.metrics import StepMetrics, now
from jobs.finetune.model import Trainable, torch_dtype
from jobs.finetune.optimizer import MasterAdamW, scheduled_rate


@dataclass
class Trainer:
    """A model, its rows and its optimizer, ``step`` steps into a run."""

    config: FinetuneConfig
    trainable: Trainable
    examples: Sequence[Example]
    pad_id: int
    step: int = 0
    optimizer: MasterAdamW = field(init=False)
    _plan: tuple[int, list[Step]] = field(init=False, default=(-1, []))

    def __post_init__(self) -> None:
        self.optimizer = MasterAdamW(
            self.trainable.adapter_parameters(),
            weight_decay=self.config.weight_decay,
            dtype=torch_dtype(self.trainable.precision),
        )

    @property
    def epoch_steps(self) -> int:
        """Steps in one pass over the rows."""
        return steps_per_epoch(len(self.examples), self.config.batch_size, self.config.gradient_accumulation)

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        steps = max(1, round(self.config.epochs * self.epoch_steps))
        return min(steps, self.config.max_steps or steps)

    def run(self) -> Iterator[StepMetrics]:
        """Do the steps that are left, giving each one's metrics once its update is made."""
        self.trainable.peft.train()
        while self.step < self.total_steps:
            yield self._do_step()

    def tensors(self) -> dict[str, Any]:
        """Everything that the next step depends on, exact."""
        return self.optimizer.tensors() | _random_states()

    def load(self, step: int, tensors: dict[str, Any]) -> None:
        """Go on after ``step`` steps from what ``tensors`` returned then."""
        self.optimizer.load(tensors)
        _set_random_states(tensors)
        self.step = step

    def _do_step(self) -> StepMetrics:
        started = time.perf_counter()
        epoch, index = divmod(self.step, self.epoch_steps)
        batches = [[self.examples[row] for row in rows] for rows in self._steps_of(epoch)[index]]
        supervised = sum(supervised_tokens(batch) for batch in batches)
        loss = sum(self._backward(batch, supervised) for batch in batches)
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self.step + 1}: lower learning_rate")
        rate = self._rate()
        norm = self.optimizer.step(rate, self.config.max_grad_norm)
        self.step += 1
        tokens = sum(len(example.input_ids) for batch in batches for example in batch)
        return StepMetrics(
            step=self.step,
            epoch=round(self.step / self.epoch_steps, 4),
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            tokens=tokens,
            supervised_tokens=supervised,
            tokens_per_second=round(tokens / (time.perf_counter() - started), 1),
            gpu_memory=_gpu_memory(self.trainable.device),
            time=now(),
        )

    def _backward(self, batch: Sequence[Example], supervised: int) -> float:
        """Add one micro-batch's share of the step's gradient; returns its share of the loss."""
        device = self.trainable.device
        ids, targets = (tensor.to(device) for tensor in collate(batch, self.pad_id))
        loss = summed_nll(self.trainable.peft, self.trainable.head, ids, targets) / supervised
        loss.backward()
        self.optimizer.collect()
        return float(loss.detach())

    def _steps_of(self, epoch: int) -> list[Step]:
        if self._plan[0] != epoch:
            lengths = [len(example.input_ids) for example in self.examples]
            config = self.config
            plan = plan_epoch(lengths, config.batch_size, config.gradient_accumulation, config.seed, epoch)
            self._plan = (epoch, plan)
        return self._plan[1]

    def _rate(self) -> float:
        return scheduled_rate(
            self.step,
            total=self.total_steps,
            warmup=round(self.config.warmup_fraction * self.total_steps),
            peak=self.config.learning_rate,
        )


def make_deterministic(threads: int | None) -> int:
    """Make equal CPU runs equal to the bit; returns the threads that its sums are split over.

    A resumed run gets the threads it began with, for their number decides the order of the sums.
    """
    import torch

    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False
    if threads:
        torch.set_num_threads(threads)
    return int(torch.get_num_threads())


def _gpu_memory(device: Any) -> int | None:
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _random_states() -> dict[str, Any]:
    import torch

    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(tensors: dict[str, Any]) -> None:
    import torch

    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
