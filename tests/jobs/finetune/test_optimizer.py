"""AdamW over float32 masters, and the schedule."""

import pytest
import torch

from jobs.finetune.optimizer import MasterAdamW, scheduled_rate


def weights(dtype: torch.dtype = torch.float32) -> list[tuple[str, torch.nn.Parameter]]:
    torch.manual_seed(0)
    return [(name, torch.nn.Parameter(torch.randn(4, 3).to(dtype))) for name in ("a", "b")]


def test_in_float32_it_is_torchs_adamw_with_clipping() -> None:
    ours, theirs = weights(), [parameter for _, parameter in weights()]
    optimizer = MasterAdamW(ours, weight_decay=0.1, dtype=torch.float32)
    reference = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for _ in range(5):
        for (_, mine), other in zip(ours, theirs, strict=True):
            mine.square().sum().backward()
            other.square().sum().backward()
        optimizer.collect()
        norm = optimizer.step(0.01, max_norm=1.0)
        assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)), rel=1e-6)
        reference.step()
        reference.zero_grad()
    for (_, mine), other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_updates_below_bf16s_spacing_add_up() -> None:
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float32))
    optimizer = MasterAdamW([("w", parameter)], weight_decay=0.0, dtype=torch.bfloat16)
    for _ in range(100):
        parameter.grad = torch.ones_like(parameter)
        optimizer.collect()
        optimizer.step(1e-4, max_norm=1.0)
    assert parameter.dtype == torch.bfloat16
    assert optimizer.master.item() == pytest.approx(0.99, abs=1e-4)
    assert parameter.item() == pytest.approx(0.99, abs=0.004), "plain bf16 would have stayed at 1"


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = MasterAdamW([("w", parameter)], weight_decay=0.0, dtype=torch.bfloat16)
    for gradient in (1.0, 2.0**-10):
        parameter.grad = torch.tensor([gradient], dtype=torch.bfloat16)
        optimizer.collect()
    assert parameter.grad is None
    assert optimizer.step(0.0, max_norm=10.0) == 1.0 + 2.0**-10


def test_loaded_state_goes_on_as_if_nothing_had_been() -> None:
    first, second = weights(torch.bfloat16), weights(torch.bfloat16)
    ours = MasterAdamW(first, weight_decay=0.0, dtype=torch.bfloat16)
    for _ in range(3):
        _update(ours, first)
    later = MasterAdamW(second, weight_decay=0.0, dtype=torch.bfloat16)
    later.load({name: tensor.clone() for name, tensor in ours.tensors().items()})
    _update(ours, first)
    _update(later, second)
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(first, second, strict=True))
    left, right = ours.tensors(), later.tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_rate_warms_up_linearly_and_falls_to_zero() -> None:
    rates = [scheduled_rate(step, total=100, warmup=9, peak=1.0) for step in range(101)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[100] == pytest.approx(0.0)
    assert rates[99] > 0, "the last step still learns"


def _update(optimizer: MasterAdamW, parameters: list[tuple[str, torch.nn.Parameter]]) -> None:
    for _, parameter in parameters:
        parameter.float().square().sum().backward()
    optimizer.collect()
    optimizer.step(0.01, max_norm=1.0)
