"""Which rows go into which step: batches of rows of like length, in an order that only seed and epoch decide.

A step is a list of micro-batches, each a list of row numbers. ``share`` spreads a step's rows over processes
that train together; anything that packs rows into one sequence takes ``plan_epoch``'s place.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

from common.chat import Example

MicroBatch = list[int]
Step = list[MicroBatch]

# Rows are sorted by length within pools of so many batches: enough that little of a batch is padding, and
# small enough that in a large dataset the batches differ between epochs.
POOL = 32

IGNORED = -100
"""The target of a position whose prediction is not supervised, as torch's cross entropy knows it."""


def plan_epoch(
    lengths: Sequence[int], batch_size: int, accumulation: int, seed: int, epoch: int
) -> list[Step]:
    """Every row once, as steps of at most ``accumulation`` micro-batches of at most ``batch_size`` rows."""
    generator = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    rows = list(range(len(lengths)))
    generator.shuffle(rows)
    batches = []
    for pool in _slices(rows, POOL * batch_size):
        batches += _slices(sorted(pool, key=lambda row: lengths[row]), batch_size)
    generator.shuffle(batches)
    return _slices(batches, accumulation)


def steps_per_epoch(rows: int, batch_size: int, accumulation: int) -> int:
    """How many steps ``plan_epoch`` makes."""
    return math.ceil(math.ceil(rows / batch_size) / accumulation)


def share(step: Step, lengths: Sequence[int], batch_size: int, rank: int, size: int) -> Step:
    """What process ``rank`` of ``size`` does of ``step``; nothing where there are more processes than rows.

    Every ``size``-th row by length, so that all have about as much to do.
    """
    rows = sorted((row for batch in step for row in batch), key=lambda row: lengths[row])
    return _slices(rows[rank::size], batch_size)


def by_length(examples: Sequence[Example], batch_size: int) -> list[MicroBatch]:
    """Every row once, longest first, so that a batch that does not fit shows at once."""
    rows = sorted(range(len(examples)), key=lambda row: -len(examples[row].input_ids))
    return _slices(rows, batch_size)


def supervised_tokens(examples: Sequence[Example]) -> int:
    """How many tokens of ``examples`` the loss is over: a row's first token is never predicted."""
    return sum(sum(example.supervised[1:]) for example in examples)


def collate(examples: Sequence[Example], pad_id: int) -> tuple[Any, Any]:
    """Token ids and targets, both int64 of shape (rows, longest row).

    Position i's target is token i + 1 where that one is supervised, else ``IGNORED``. Rows are padded on the
    right, where causal attention lets no real token see the padding, so no attention mask is needed.
    """
    import torch

    longest = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), longest), pad_id, dtype=torch.int64)
    targets = torch.full((len(examples), longest), IGNORED, dtype=torch.int64)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.input_ids)
        ids[row, : len(tokens)] = tokens
        supervised = torch.tensor(example.supervised[1:], dtype=torch.bool)
        targets[row, : len(tokens) - 1] = torch.where(supervised, tokens[1:], IGNORED)
    return ids, targets


def _slices(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
