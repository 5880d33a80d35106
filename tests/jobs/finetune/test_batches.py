"""Which rows go into which step."""

import random

import torch

from common.chat import Example
from jobs.finetune.batches import (
    IGNORED,
    POOL,
    by_length,
    collate,
    plan_epoch,
    steps_per_epoch,
    supervised_tokens,
)

LENGTHS = [random.Random(7).randint(5, 200) for _ in range(301)]


def example(*tokens: int, supervised: int) -> Example:
    return Example(list(tokens), [False] * (len(tokens) - supervised) + [True] * supervised)


def test_an_epoch_has_every_row_once() -> None:
    steps = plan_epoch(LENGTHS, 4, 2, seed=1, epoch=0)
    rows = [row for step in steps for batch in step for row in batch]
    assert sorted(rows) == list(range(len(LENGTHS)))
    assert len(steps) == steps_per_epoch(len(LENGTHS), 4, 2)
    assert all(len(step) <= 2 and all(len(batch) <= 4 for batch in step) for step in steps)


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    assert plan_epoch(LENGTHS, 4, 1, seed=1, epoch=3) == plan_epoch(LENGTHS, 4, 1, seed=1, epoch=3)
    assert plan_epoch(LENGTHS, 4, 1, seed=1, epoch=3) != plan_epoch(LENGTHS, 4, 1, seed=1, epoch=4)
    assert plan_epoch(LENGTHS, 4, 1, seed=1, epoch=3) != plan_epoch(LENGTHS, 4, 1, seed=2, epoch=3)


def test_batches_hold_rows_of_like_length_so_that_little_is_padding() -> None:
    steps = plan_epoch(LENGTHS, 8, 1, seed=0, epoch=0)
    assert len(LENGTHS) > POOL * 8, "more than one pool"
    padded = sum(len(batch) * max(LENGTHS[row] for row in batch) for step in steps for batch in step)
    assert padded < 1.1 * sum(LENGTHS)


def test_targets_are_the_next_tokens_where_those_are_supervised() -> None:
    ids, targets = collate([example(5, 6, 7, 8, supervised=2), example(9, 10, supervised=1)], pad_id=1)
    assert ids.tolist() == [[5, 6, 7, 8], [9, 10, 1, 1]]
    assert targets.tolist() == [[IGNORED, 7, 8, IGNORED], [10, IGNORED, IGNORED, IGNORED]]
    assert ids.dtype == targets.dtype == torch.int64


def test_a_first_token_is_never_predicted_and_so_not_counted() -> None:
    assert supervised_tokens([example(5, 6, 7, supervised=3), example(5, 6, supervised=1)]) == 3


def test_measuring_begins_with_the_longest_rows() -> None:
    examples = [example(*range(2, 2 + length), supervised=1) for length in (3, 9, 5, 7)]
    assert by_length(examples, 2) == [[1, 3], [2, 0]]
