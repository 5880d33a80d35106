"""What to say when a GPU's memory is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import TooBigError
from common.finetune_config import FinetuneConfig


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
