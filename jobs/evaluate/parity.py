"""Train/serve parity: does the vLLM that people talk to run this adapter as it was trained?

Token ids must be equal. Then teacher-forced log-probabilities of the same answers, by the trainer's own
forward pass (transformers and peft in bf16) and by vLLM, may differ by rounding only: their mean absolute
difference stays under ``BOUND`` and far under what the adapter changes against the base. An adapter that vLLM
did not load differs by exactly that change, so it fails however small the change is.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.chat import Example
from common.errors import UserError
from common.models import BaseModel
from common.rows import ChatRow
from jobs.evaluate.gate import Finding
from jobs.evaluate.scores import Models, Rows, supervised_logprobs
from jobs.evaluate.vllm_client import Floats, Vllm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOUND = 0.1
"""Nats a token. Measured with SmolLM2 in bf16 on a CPU, 8 held-out and 8 regression rows: rounding in
another order gives 0.001 to 0.05 (the base alone 0.05), an adapter that was not loaded 2.0 to 3.9. A wrong
scale shows as far as it changes answers: half or twice the scale gave 0.15 and more for one adapter, and
0.06 and 0.08 for one that knows its rows by heart."""
SHARE = 0.25
"""Of the change that the adapter makes: the difference must stay under this share of it (measured: 0.03)."""


def compare(vllm: Vllm, rows: Rows, models: Models, trained: Future[list[Floats]]) -> Finding:
    """Compare on ``rows`` what vLLM serves with the trainer's log-probabilities ``trained``."""
    differs = first_different_prompt(vllm, rows.rows, rows.examples, models.reference)
    if differs is not None:
        words = f"vLLM makes other token ids of line {differs} than training did: the chat templates differ"
        return Finding("refused", words)
    with_adapter = supervised_logprobs(vllm, models.adapter, rows.examples)
    without = supervised_logprobs(vllm, models.reference, rows.examples)
    parts = (np.concatenate(part) for part in (trained.result(), with_adapter, without))
    return judge_parity(*parts, rows=len(rows.rows))


def judge_parity(trained: Floats, served: Floats, base: Floats, *, rows: int) -> Finding:
    """The rule, on log-probabilities of the same tokens (n,) by the trainer, by vLLM and by vLLM's base."""
    difference = float(np.abs(trained - served).mean())
    effect = float(np.abs(trained - base).mean())
    figures = {"parity_difference": difference, "parity_effect": effect, "parity_rows": rows}
    pair = f"{difference:.3f} nats a token, where the adapter itself changes {effect:.3f}"
    if difference <= BOUND and difference < SHARE * effect:
        return Finding("passed", f"trainer and vLLM differ by {pair}", figures)
    return Finding("refused", f"vLLM does not answer as this adapter does: they differ by {pair}", figures)


def first_different_prompt(
    vllm: Vllm, rows: Sequence[ChatRow], examples: Sequence[Example], model: str
) -> int | None:
    """The line of the first row whose prompt vLLM's chat endpoint turns into other ids than training saw."""

    def same(pair: tuple[ChatRow, Example]) -> bool:
        row, example = pair
        prompt = vllm.prompt_ids(model, row.messages[:-1], row.tools)
        return example.input_ids[: len(prompt)] == prompt

    equal = vllm.map(same, zip(rows, examples, strict=True))
    return next((row.line for row, fine in zip(rows, equal, strict=True) if not fine), None)


def load_tokenizer(base: BaseModel) -> "PreTrainedTokenizerBase":
    """The base's tokenizer; ``AutoTokenizer`` would import torch, which costs seconds and is not needed."""
    from transformers import PreTrainedTokenizerFast

    if not (base.path / "tokenizer.json").is_file():
        raise UserError(f"{base.path} has no tokenizer.json: fetch the model again with jobs.download")
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(base.path)
    return tokenizer


def start_trainer(base: Path, adapter: Path, examples: Sequence[Example]) -> Future[list[Floats]]:
    """Begin ``trainer_logprobs`` in a thread of its own."""
    with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="trainer")
    started = with_one_thread.submit(trainer_logprobs, base, adapter, examples)
    with_one_thread.shutdown(wait=False)
    return started


def trainer_logprobs(base: Path, adapter: Path, examples: Sequence[Example]) -> list[Floats]:
    """For each example, log-probabilities at its supervised tokens by base and adapter as training runs them.

    In bf16 like serving, and row by row: padding would add rounding of its own.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).to(torch.bfloat16)
    model = model.to(device).eval()
    return [_logprobs(model, example, device) for example in examples]


def _logprobs(model: object, example: Example, device: str) -> Floats:
    import torch

    ids = torch.tensor([example.input_ids], device=device)
    supervised = torch.tensor(example.supervised[1:], device=device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, :-1][supervised]  # type: ignore[operator]
        scores = logits.float().log_softmax(-1).gather(1, ids[0, 1:][supervised, None])[:, 0]
    found: Floats = scores.double().cpu().numpy()
    return found
