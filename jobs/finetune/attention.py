"""Attention on a CPU, where short rows are faster in float32.

torch 2.13's fused kernel takes several times as long for bf16 as for float32 on rows of a hundred tokens, and
its backward pass above all: 15 ms against 4.5 ms for SmolLM2's heads, 4 rows of 114 tokens and one core. They
meet at 256 tokens; beyond, bf16 wins.
"""

from typing import Any

SHORT = 256
"""Tokens up to which rows count as short."""

_NAME = "sdpa_short_rows_in_float32"


def fused(device: Any, precision: str) -> str:
    """The name under which transformers finds torch's fused attention, as fast as it is on ``device``."""
    if device.type != "cpu" or precision != "bf16":
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    return _NAME


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    states = query, key, value
    if query.shape[2] <= SHORT:
        states = query.float(), key.float(), value.float()
    output, _ = sdpa_attention_forward(module, *states, mask, **options)
    return output.to(query.dtype), None
