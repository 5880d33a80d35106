"""Fine-tune a LoRA or QLoRA adapter on chat rows, on a GPU or a CPU.

    python -m jobs.finetune --base SmolLM2-135M-Instruct --data rows.jsonl --output out
    python -m jobs.finetune --config jobs/recipes/tiny.yaml --data rows.jsonl --output out --bot support-bot

Killed at any moment, the same command goes on from the last checkpoint and, on a CPU, ends with the very
same weights. Exit codes: 0 done, 2 configuration or data, 3 needs a bigger GPU; others are worth a retry.
Several processes, on one machine or many, train together when ``jobs.finetune.torchrun`` starts them.
"""

import os
import sys
from typing import Any, cast

from common import errors, logging
from common.finetune_config import FinetuneConfig
from common.job_config import parse


def main() -> None:
    """Read the configuration and fine-tune."""
    config = parse(FinetuneConfig, sys.argv[1:], prog="python -m jobs.finetune")
    logging.configure("finetune")
    _yield_waiting_cores()
    _let_segments_grow()
    if config.method == "lora":
        _leave_out_quantization()

    from jobs.finetune.job import finetune
    from jobs.finetune.world import joined

    with joined(config.peer_timeout) as world:
        finetune(config, world)


def _yield_waiting_cores() -> None:
    """Threads that wait for each other must not spin: on a shared machine vLLM needs those cores.

    OpenMP reads this when torch loads it, so it has to be set before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _let_segments_grow() -> None:
    """Batches have different lengths, and segments of fixed size would leave gaps between them.

    torch reads it with its first allocation on a GPU; the planner counts on it.
    """
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def _leave_out_quantization() -> None:
    """PEFT imports bitsandbytes, and with it torch's compiler, wherever it is installed: seconds for nothing.

    ``None`` is how Python marks a module as not to be imported, so PEFT finds none.
    """
    sys.modules.setdefault("bitsandbytes", cast(Any, None))


if __name__ == "__main__":
    errors.run(main)
