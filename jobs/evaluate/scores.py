"""Losses of rows: how surprised base and adapter are by the answers that people wrote, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.chat import Example, encode_rows
from common.rows import ChatRow, read_rows
from jobs.evaluate.vllm_client import Floats, Vllm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rows:
    """The rows of one file, read and encoded."""

    rows: list[ChatRow]
    examples: list[Example]

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(self.rows + other.rows, self.examples + other.examples)

    def spread(self, count: int) -> "Rows":
        """``count`` of the rows (or all, where there are fewer), evenly spread over the file."""
        chosen = np.unique(np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).round().astype(int))
        return Rows([self.rows[i] for i in chosen], [self.examples[i] for i in chosen])


class Models(NamedTuple):
    """The names by which vLLM serves the two models that are compared."""

    base: str
    adapter: str


@dataclass(frozen=True)
class Losses:
    """Summed loss in nats of each row (n,) by base and by adapter, over ``tokens`` (n,) supervised tokens."""

    keys: list[str]
    tokens: Floats
    base: Floats
    adapter: Floats

    def mean(self, which: Floats) -> float:
        """Nats per supervised token of ``self.base`` or ``self.adapter``."""
        return float(which.sum() / self.tokens.sum())


def load_rows(path: Path, tokenizer: "PreTrainedTokenizerBase", *, max_length: int, truncate: bool) -> Rows:
    """Read and encode the chat rows at ``path``.

    Raises:
        UserError: rows that cannot be used, by line and reason.
    """
    rows = read_rows(path).chat_rows()
    examples = encode_rows(tokenizer, rows, source=str(path), max_length=max_length, truncate=truncate)
    return Rows(rows, examples)


def supervised_logprobs(vllm: Vllm, model: str, examples: Sequence[Example]) -> list[Floats]:
    """For each example, ``model``'s log-probabilities at its supervised tokens, in nats."""

    return vllm.map(lambda example: _score(vllm, model, example), examples)


def measure(vllm: Vllm, rows: Rows, models: Models) -> Losses:
    """Losses of ``rows`` by both ``models``, in one pass that keeps vLLM busy."""
    pairs = [(model, example) for example in rows.examples for model in models]

    scored = vllm.map(lambda pair: -_score(vllm, *pair).sum(), pairs)
    sums = np.array(scored, dtype=np.float64).reshape(-1, 2)
    tokens = np.array([sum(example.supervised) for example in rows.examples], dtype=np.float64)
    return Losses([row.key for row in rows.rows], tokens, sums[:, 0], sums[:, 1])


def _score(vllm: Vllm, model: str, example: Example) -> Floats:
    found: Floats = vllm.logprobs(model, example.input_ids)[np.array(example.supervised)]
    return found
