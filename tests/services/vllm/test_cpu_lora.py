"""The operations against the plain sum over tokens that they stand for."""

import pytest
import torch

from services.vllm import cpu_lora

SLOTS, RANK, WIDTH = 3, 4, 6


def _inputs(tokens: int, width: int) -> torch.Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(tokens))


def _weights(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(SLOTS, 1, rows, columns, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("slots", [[0, 0, 0], [2, 0, 2, 1], [1, -1, 0], [-1, -1]])
def test_each_token_gets_its_own_adapter_and_a_token_without_one_gets_nothing(slots: list[int]) -> None:
    x, a, b = _inputs(len(slots), WIDTH), _weights(RANK, WIDTH), _weights(5, RANK)
    expected = torch.zeros(len(slots), 5)
    for token, slot in enumerate(slots):
        if slot >= 0:
            expected[token] = b[slot, 0] @ (0.5 * (a[slot, 0] @ x[token]))
    buffer, out = torch.zeros(len(slots), RANK), torch.zeros(len(slots), 5)
    cpu_lora.bgmv_shrink(x, a, buffer, torch.tensor(slots), 0.5)
    cpu_lora.bgmv_expand(buffer, b, out, torch.tensor(slots))
    torch.testing.assert_close(out, expected)


def test_prompts_of_several_lengths_keep_their_adapters() -> None:
    lengths, slots = torch.tensor([2, 1, 3]), torch.tensor([1, -1, 0])
    x, a, b = _inputs(6, WIDTH), _weights(RANK, WIDTH), _weights(5, RANK)
    by_token = torch.tensor([1, 1, -1, 0, 0, 0])
    once, twice = torch.zeros(6, RANK), torch.zeros(6, RANK)
    cpu_lora.sgmv_shrink(x, a, once, None, lengths, slots, 3, 3, 6, 2.0)
    cpu_lora.bgmv_shrink(x, a, twice, by_token, 2.0)
    torch.testing.assert_close(once, twice)
    whole, slices = torch.ones(6, 5), torch.ones(6, 8)
    cpu_lora.sgmv_expand(once, b, whole, None, lengths, slots, 3, 3, 6, True)
    cpu_lora.sgmv_expand_slice(once, b, slices, None, lengths, slots, 3, 3, 6, 2, 5, True)
    torch.testing.assert_close(slices[:, 2:7], whole)
    assert torch.equal(slices[:, [0, 1, 7]], torch.ones(6, 3))


def test_rows_that_are_no_tokens_of_a_batch_are_left_alone() -> None:
    out = torch.ones(87, 5)
    cpu_lora.bgmv_expand(_inputs(87, RANK), _weights(5, RANK), out, torch.tensor([0, 1, 2]))
    assert torch.equal(out, torch.ones(87, 5))
