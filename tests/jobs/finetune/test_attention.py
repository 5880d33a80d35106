"""Short rows attend in float32, and give what long ones' kernel gives."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from jobs.finetune import attention

CPU = torch.device("cpu")


def test_only_bf16_on_a_cpu_needs_another_kernel() -> None:
    assert attention.fused(CPU, "fp32") == "sdpa"
    assert attention.fused(torch.device("cuda"), "bf16") == "sdpa"
    assert attention.fused(CPU, "bf16") != "sdpa"


def test_long_rows_are_left_to_torchs_own_choice_and_short_ones_come_no_further_from_float32(
    tiny_base: Path,
) -> None:
    ours = attention.fused(CPU, "bf16")
    for length in (40, attention.SHORT + 1):
        ids = torch.randint(0, 49152, (2, length), generator=torch.Generator().manual_seed(0))
        exact = _logits_and_gradient(tiny_base, "sdpa", torch.float32, ids)
        mine, other = (_logits_and_gradient(tiny_base, name, torch.bfloat16, ids) for name in (ours, "sdpa"))
        for truth, one, two in zip(exact, mine, other, strict=True):
            assert (one - truth).norm() < 1.05 * (two - truth).norm() or torch.equal(one, two)
            assert torch.equal(one, two) == (length > attention.SHORT)


def _logits_and_gradient(base: Path, name: str, dtype: torch.dtype, ids: Any) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation=name)
    logits = model(input_ids=ids, use_cache=False).logits.float()
    logits.square().mean().backward()
    return logits.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.float()
