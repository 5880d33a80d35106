"""LoRA on vLLM for CPU: the same sums as vLLM's PyTorch operations, by adapter instead of by token.

vLLM 0.32 copies an adapter's matrices once for every token of a batch and multiplies token by token
(``vllm.lora.ops.torch_ops``). Here the rows of each adapter are multiplied at once, which makes reading a
prompt with an adapter about as fast as without. Two mistakes go with it:

- a request without an adapter (slot -1) got, when it shared a batch with one that has an adapter, whatever
  the last slot held: it gets nothing;
- ``prompt_logprobs`` hands over one row for each token of a prompt but one slot for each request, which ended
  the engine. That happens only at the language-model head, which no adapter of ours trains.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def install() -> None:
    """Put these operations in the place of vLLM's in this process; done twice, it changes nothing."""
    from vllm.lora.punica_wrapper import punica_cpu

    for operation in (
        bgmv_shrink,
        bgmv_expand,
        bgmv_expand_slice,
        sgmv_shrink,
        sgmv_expand,
        sgmv_expand_slice,
    ):
        setattr(punica_cpu, operation.__name__, operation)


def bgmv_shrink(x: Tensor, a: Tensor, out: Tensor, slots: Tensor, scaling: float = 1.0) -> None:
    """``out[t, :rank] = scaling * a[slots[t]] @ x[t]``; x (tokens, in), a (slots, [1,] rank, in)."""
    for slot, rows in _by_slot(slots, x):
        weight = _matrix(a, slot, out.dtype)
        out[rows, : weight.shape[0]] = scaling * (x[rows].to(out.dtype) @ weight.T)


def bgmv_expand(x: Tensor, b: Tensor, out: Tensor, slots: Tensor, add_inputs: bool = True) -> None:
    """``out[t] += b[slots[t]] @ x[t]``; x (tokens, rank), b (slots, [1,] out, rank); paddings may differ."""
    width = min(b.shape[-2], out.shape[-1])
    _expand(x, b, out[:, :width], slots, add_inputs)


def bgmv_expand_slice(
    x: Tensor, b: Tensor, out: Tensor, slots: Tensor, offset: int, size: int, add_inputs: bool = True
) -> None:
    """``bgmv_expand`` into the columns of ``out`` from ``offset`` on."""
    _expand(x, b, out[:, offset : offset + size], slots, add_inputs)


def sgmv_shrink(x: Tensor, a: Tensor, out: Tensor, *metadata: Any) -> None:
    """``bgmv_shrink`` for prompts: the metadata is vLLM's, with one slot for each request."""
    bgmv_shrink(x, a, out, _slot_of_tokens(metadata), metadata[-1])


def sgmv_expand(x: Tensor, b: Tensor, out: Tensor, *metadata: Any) -> None:
    """``bgmv_expand`` for prompts."""
    bgmv_expand(x, b, out, _slot_of_tokens(metadata), metadata[-1])


def sgmv_expand_slice(x: Tensor, b: Tensor, out: Tensor, *metadata: Any) -> None:
    """``bgmv_expand_slice`` for prompts."""
    offset, size, add_inputs = metadata[-3:]
    bgmv_expand_slice(x, b, out, _slot_of_tokens(metadata), offset, size, add_inputs)


def _expand(x: Tensor, b: Tensor, out: Tensor, slots: Tensor, add_inputs: bool) -> None:
    if not add_inputs:
        out.zero_()
    for slot, rows in _by_slot(slots, x):
        weight = _matrix(b, slot, out.dtype)[: out.shape[-1]]
        out[rows] += x[rows].to(out.dtype) @ weight.T


def _slot_of_tokens(metadata: tuple[Any, ...]) -> Tensor:
    """vLLM's prefill metadata begins with (start of each request, tokens of each request, slot of each)."""
    _, lengths, slots = metadata[:3]
    return torch.repeat_interleave(slots, lengths)


def _by_slot(slots: Tensor, x: Tensor) -> Iterator[tuple[int, Any]]:
    """The slots in use, each with its rows of ``x``."""
    if slots.shape[0] != x.shape[0]:
        return  # prompt_logprobs at the head: see above
    used = torch.unique(slots).tolist()
    if len(used) == 1 and used[0] >= 0:
        yield used[0], slice(None)
        return
    for slot in used:
        if slot >= 0:
            yield slot, (slots == slot).nonzero(as_tuple=True)[0]


def _matrix(stacked: Tensor, slot: int, dtype: torch.dtype) -> Tensor:
    weight = stacked[slot]
    matrix: Tensor = weight.squeeze(0) if weight.dim() == 3 else weight
    return matrix.to(dtype)
