"""The training loop: from one step to the next, and nothing else.

A step's loss is the sum over all its rows divided by all their supervised tokens, so gradient accumulation
gives the gradient of one large batch, however long its rows. Processes that train together share a step's
rows, add up their gradients and make the same update: the same rows make the same step however many they are.
"""

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.chat import Example
from common.errors import UserError
from common.finetune_config import FinetuneConfig
from jobs.finetune.batches import Step, collate, plan_epoch, share, steps_per_epoch, supervised_tokens
from jobs.finetune.loss import summed_nll
from jobs.finetune.memory import explaining_out_of_memory
from jobs.finetune.metrics import StepMetrics, now
from jobs.finetune.model import Trainable, torch_dtype
from jobs.finetune.optimizer import MasterAdamW, scheduled_rate
from jobs.finetune.world import World


@dataclass
class Trainer:
    """A model, its rows and its optimizer, ``step`` steps into a run."""

    config: FinetuneConfig
    trainable: Trainable
    examples: Sequence[Example]
    pad_id: int
    world: World
    step: int = 0
    optimizer: MasterAdamW = field(init=False)
    _lengths: list[int] = field(init=False)
    _plan: tuple[int, list[Step]] = field(init=False, default=(-1, []))

    def __post_init__(self) -> None:
        self._lengths = [len(example.input_ids) for example in self.examples]
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

    def run_to_end(self) -> None:
        """Do the steps that are left, where another process writes down their metrics."""
        for _ in self.run():
            pass

    def tensors(self) -> dict[str, Any]:
        """Everything that the next step depends on besides its number, exact."""
        return self.optimizer.tensors()

    def load(self, step: int, tensors: dict[str, Any]) -> None:
        """Go on after ``step`` steps from what ``tensors`` returned then."""
        self.optimizer.load(tensors)
        self.step = step

    def share(self) -> None:
        """Make every process go on from where the leader is."""
        tensors = self.tensors()
        for tensor in tensors.values():
            self.world.copy_from_leader(tensor)
        self.load(self.world.told(self.step), tensors)

    def _do_step(self) -> StepMetrics:
        started = time.perf_counter()
        epoch, index = divmod(self.step, self.epoch_steps)
        planned = self._steps_of(epoch)[index]
        rows = [self.examples[row] for batch in planned for row in batch]
        supervised = supervised_tokens(rows)
        loss = self._gradient(planned, supervised)
        if not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self.step + 1}: lower learning_rate")
        rate = self._rate()
        norm = self.optimizer.step(rate, self.config.max_grad_norm)
        self.step += 1
        tokens = sum(len(example.input_ids) for example in rows)
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

    def _gradient(self, planned: Step, supervised: int) -> float:
        """Put the whole step's gradient into the optimizer, in every process; returns the step's loss."""
        config, world = self.config, self.world
        with world.agreement(), explaining_out_of_memory(config):
            _seed_dropout(config.seed, self.step, world.rank)
            mine = share(planned, self._lengths, config.batch_size, world.rank, world.size)
            loss = sum(self._backward([self.examples[row] for row in rows], supervised) for rows in mine)
        world.add_up(self.optimizer.gradient)
        return world.sum(loss)

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
            config = self.config
            sizes = config.batch_size, config.gradient_accumulation
            self._plan = (epoch, plan_epoch(self._lengths, *sizes, config.seed, epoch))
        return self._plan[1]

    def _rate(self) -> float:
        return scheduled_rate(
            self.step,
            total=self.total_steps,
            warmup=round(self.config.warmup_fraction * self.total_steps),
            peak=self.config.learning_rate,
        )


def make_deterministic(threads: int) -> None:
    """Make equal CPU runs equal to the bit; how many ``threads`` a sum is split over decides its order."""
    import torch

    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_num_threads(threads)


def _gpu_memory(device: Any) -> int | None:
    import torch

    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else None


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    """Dropout differs by step and by process, and needs no state of its own to be resumed."""
    import torch

    torch.manual_seed(random.Random(f"{seed}/{step}/{rank}").getrandbits(63))  # noqa: S311 - not a secret
