"""Whether a GPU's memory is enough, before anything is loaded; and what to say when it was not after all."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from common.chat import Example
from common.errors import TooBigError, UserError
from common.finetune_config import FinetuneConfig
from common.models import BaseModel
from common.vram import Training, from_folder, of_config
from common.vram.cards import DRIVER_BYTES

_log = logging.getLogger(__name__)


def check_fits(config: FinetuneConfig, base: BaseModel, rows: Sequence[Example], world_size: int = 1) -> None:
    """Refuse a run on ``rows`` in ``world_size`` processes that the planner finds too big for this GPU.

    Raises:
        TooBigError: with the plan and what would fit.
    """
    memory = card_memory()
    if memory is None or not rows:
        return
    try:
        plan = training_of(config, base, rows, world_size).plan()
    except UserError as error:
        _log.warning("the memory is not planned: %s", error)
        return
    if not plan.fits(memory):
        raise plan.too_big(memory, "this card")


def training_of(
    config: FinetuneConfig, base: BaseModel, rows: Sequence[Example], world_size: int = 1
) -> Training:
    """The run as the planner sees it, with the longest micro-batch that these rows can make."""
    share = math.ceil(config.batch_size * config.gradient_accumulation / world_size)
    batch = min(config.batch_size, share, len(rows))
    supervised = sorted((sum(row.supervised[1:]) for row in rows), reverse=True)
    return replace(
        of_config(config, from_folder(base.path, base.name)),
        batch=batch,
        length=max(len(row.input_ids) for row in rows),
        supervised=sum(supervised[:batch]),
    )


def card_memory() -> int | None:
    """The whole memory of the GPU at hand as its driver states it; None without one.

    Not what is free just now: a server that was preempted for this run may still be leaving.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    seen = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return int(seen) + DRIVER_BYTES


@contextmanager
def explaining_out_of_memory(config: FinetuneConfig) -> Iterator[None]:
    """Turn torch's out-of-memory error into one that says what was tried and what to try."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TooBigError(_what_was_tried(config, str(error).splitlines()[0])) from None


def _what_was_tried(config: FinetuneConfig, reason: str) -> str:
    ways = ["--method qlora"] if config.method == "lora" else []
    if config.batch_size > 1:
        half = config.batch_size // 2
        ways.append(f"--batch-size {half} --gradient-accumulation {config.gradient_accumulation * 2}")
    ways += ["a smaller --max-length", "a GPU with more memory"]
    sizes = f"rank {config.rank}, batch_size {config.batch_size} and max_length {config.max_length}"
    return (
        f"the GPU's memory is not enough for {config.base} with method {config.method}, {sizes} "
        f"({reason}): try {', or '.join(ways)}"
    )
