"""The loss equals the plain one over all positions, at a fraction of its logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.chat import Example
from jobs.finetune.batches import collate
from jobs.finetune.loss import SupervisedHead, summed_nll, total_nll

EXAMPLES = [
    Example([5, 6, 7, 8, 9, 10, 11], [False] * 4 + [True] * 3),
    Example([12, 13, 14, 15], [False, True, False, True]),
    Example([16, 17, 18], [False, False, True]),
]


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32, attn_implementation="sdpa")


def plain_nll(model: Any, example: Example) -> float:
    """Each row alone, all logits, no padding."""
    ids = torch.tensor([example.input_ids])
    with torch.no_grad():
        chances = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    each = -chances.gather(1, ids[0, 1:, None])[:, 0]
    return float(each[torch.tensor(example.supervised[1:])].sum())


def test_a_padded_batch_has_the_loss_of_its_rows_one_by_one(model: Any) -> None:
    head = SupervisedHead(model)
    with torch.no_grad():
        total = summed_nll(model, head, *collate(EXAMPLES, pad_id=1))
    assert float(total) == pytest.approx(sum(plain_nll(model, example) for example in EXAMPLES), rel=1e-5)


def test_the_padding_token_does_not_matter(model: Any) -> None:
    head = SupervisedHead(model)
    with torch.no_grad():
        losses = [summed_nll(model, head, *collate(EXAMPLES, pad_id=pad)) for pad in (1, 2, 777)]
    assert losses[0] == losses[1] == losses[2]


def test_logits_are_made_at_supervised_positions_only(model: Any) -> None:
    head = SupervisedHead(model)
    seen: list[torch.Size] = []
    hook = model.lm_head.register_forward_hook(lambda _, inputs, output: seen.append(output.shape))
    total_nll(model, head, [EXAMPLES], pad_id=1)
    hook.remove()
    assert seen == [torch.Size([6, 49152])]


def test_the_sum_does_not_depend_on_how_rows_are_put_into_batches(model: Any) -> None:
    head = SupervisedHead(model)
    ways = ([EXAMPLES], [EXAMPLES[:2], EXAMPLES[2:]], [[example] for example in EXAMPLES])
    sums = [total_nll(model, head, batches, pad_id=1) for batches in ways]
    assert sums == pytest.approx([sum(plain_nll(model, example) for example in EXAMPLES)] * 3, rel=1e-5)


def test_outside_of_training_the_model_gives_all_its_logits(model: Any) -> None:
    SupervisedHead(model)
    assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, 49152)
